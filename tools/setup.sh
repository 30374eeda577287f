#!/bin/sh
# Make or update the virtual environment (VENV, default .venv): everything in requirements.txt at the versions of
# constraints.txt, and this package in editable form. Uses uv where it is present or pip can install it, else pip.
set -eu
cd "$(dirname "$0")/.."
VENV=${VENV:-.venv}
say() { printf '%s\n' "$*" >&2; }
fits() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }

UV=
if uv --version >/dev/null 2>&1; then UV=uv; fi

if ! { [ -x "$VENV/bin/python" ] && fits "$VENV/bin/python"; }; then
    if [ -n "${PYTHON:-}" ]; then
        command -v "$PYTHON" >/dev/null || { say "setup: PYTHON=$PYTHON does not exist"; exit 1; }
        fits "$PYTHON" || { say "setup: PYTHON=$PYTHON is $("$PYTHON" -V 2>&1); the book needs Python 3.10 to 3.13"; exit 1; }
        found=$PYTHON
    else
        found=
        for p in python3 python3.13 python3.12 python3.11 python3.10 python; do
            if command -v "$p" >/dev/null && fits "$p"; then found=$p; break; fi
        done
    fi
    rm -rf "$VENV"
    if [ -n "$UV" ]; then
        "$UV" venv --quiet --python "${found:-3.12}" "$VENV" || {
            say "setup: no Python 3.10 to 3.13 here ($(python3 -V 2>&1 || true)). Install one, or name it: make setup PYTHON=/path/to/python3.12"
            exit 1
        }
    else
        [ -n "$found" ] || {
            say "setup: no Python 3.10 to 3.13 here ($(python3 -V 2>&1 || echo 'no python3')). Install one (Debian, Ubuntu: apt install python3-venv;"
            say "       macOS: brew install python@3.12), or name it: make setup PYTHON=/path/to/python3.12"
            exit 1
        }
        "$found" -m venv "$VENV" || {
            rm -rf "$VENV"
            say "setup: $found cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv"
            exit 1
        }
        if "$VENV/bin/python" -m pip install --quiet uv; then UV="$VENV/bin/uv"; fi
    fi
fi

# Byte code is compiled now: otherwise each notebook would compile torch anew where PYTHONDONTWRITEBYTECODE is set.
if [ -n "$UV" ]; then
    "$UV" pip install --python "$VENV/bin/python" --compile-bytecode -r requirements.txt -c constraints.txt -e .
else
    "$VENV/bin/python" -m pip --version >/dev/null 2>&1 || "$VENV/bin/python" -m ensurepip >/dev/null
    "$VENV/bin/python" -m pip install --quiet -r requirements.txt -c constraints.txt -e .
fi
