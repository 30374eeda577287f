#!/bin/sh
# Make or update the virtual environment (VENV, default .venv): everything in requirements.txt at the versions of
# constraints.txt, and this package in editable form. Uses uv where it is present or pip can install it, else pip.
set -eu
cd "$(dirname "$0")/.."
VENV=${VENV:-.venv}
RANGE="3.11 to 3.14 (3.14.1 excepted, which torchvision excludes)"
say() { printf '%s\n' "$*" >&2; }
fits() {
    "$1" -c 'import sys; v = sys.version_info[:3]; sys.exit(not (3, 11) <= v[:2] <= (3, 14) or v == (3, 14, 1))' >/dev/null 2>&1
}
same() { # whether two Pythons are of one version
    [ "$("$1" -V 2>&1)" = "$("$2" -V 2>&1)" ]
}

UV=
if uv --version >/dev/null 2>&1; then UV=uv; fi

if [ -n "${PYTHON:-}" ]; then
    command -v "$PYTHON" >/dev/null || { say "setup: PYTHON=$PYTHON does not exist"; exit 1; }
    fits "$PYTHON" || { say "setup: PYTHON=$PYTHON is $("$PYTHON" -V 2>&1); the book needs Python $RANGE"; exit 1; }
fi

keep=
if [ -x "$VENV/bin/python" ] && fits "$VENV/bin/python"; then keep=yes; fi
if [ -n "$keep" ] && [ -n "${PYTHON:-}" ] && ! same "$PYTHON" "$VENV/bin/python"; then keep=; fi

if [ -z "$keep" ]; then
    found=${PYTHON:-}
    if [ -z "$found" ]; then
        for p in python3 python3.13 python3.12 python3.14 python3.11 python; do
            if command -v "$p" >/dev/null && fits "$p"; then found=$p; break; fi
        done
    fi
    rm -rf "$VENV"
    if [ -n "$UV" ]; then
        "$UV" venv --quiet --python "${found:-3.13}" "$VENV" || {
            say "setup: no Python $RANGE here ($(python3 -V 2>&1 || true)). Install one, or name it: make setup PYTHON=/path/to/python3.13"
            exit 1
        }
    else
        [ -n "$found" ] || {
            say "setup: no Python $RANGE here ($(python3 -V 2>&1 || echo 'no python3')). Install one (Debian, Ubuntu: apt install python3-venv;"
            say "       macOS: brew install python@3.13), or name it: make setup PYTHON=/path/to/python3.13"
            exit 1
        }
        "$found" -m venv "$VENV" || {
            rm -rf "$VENV"
            say "setup: $found cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv"
            exit 1
        }
    fi
fi
if [ -z "$UV" ] && [ -x "$VENV/bin/uv" ]; then UV="$VENV/bin/uv"; fi
if [ -z "$UV" ] && "$VENV/bin/python" -m pip install --quiet uv 2>/dev/null; then UV="$VENV/bin/uv"; fi

# Without NVIDIA's driver PyTorch's builds for the CPU do, a tenth of the size, where uv reaches their index; else the usual
# ones. Linux alone has two kinds.
gpu() { [ -e /proc/driver/nvidia/version ] || nvidia-smi >/dev/null 2>&1; }
if [ -n "$UV" ] && [ -z "${UV_TORCH_BACKEND:-}" ] && [ "$(uname -s)" = Linux ] && ! gpu; then
    probe() { # resolves as on an empty machine: what is installed already would hide that the index cannot be reached
        printf 'torch\ntorchvision\n' | UV_TORCH_BACKEND=auto UV_HTTP_TIMEOUT=5 UV_HTTP_CONNECT_TIMEOUT=5 UV_HTTP_RETRIES=0 \
            "$UV" pip compile --python "$VENV/bin/python" --quiet -c constraints.txt -
    }
    if probe >/dev/null 2>&1; then UV_TORCH_BACKEND=auto; export UV_TORCH_BACKEND; fi
fi

# Byte code is compiled now: otherwise each notebook would compile torch anew where PYTHONDONTWRITEBYTECODE is set.
if [ -n "$UV" ]; then
    "$UV" pip install --python "$VENV/bin/python" --compile-bytecode -r requirements.txt -c constraints.txt -e .
else
    "$VENV/bin/python" -m pip --version >/dev/null 2>&1 || "$VENV/bin/python" -m ensurepip >/dev/null
    "$VENV/bin/python" -m pip install --quiet -r requirements.txt -c constraints.txt -e .
fi
