"""The environment that notebooks and Sphinx see: what a list allows, and the book's own settings;
nothing else of the reader's.

A reader's matplotlib, IPython, Jupyter and Python settings, another installation's kernels and the
locale stay outside.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tools import BUILD, ROOT, files

# Where programs, libraries and temporary files lie, and how the network and a GPU are reached.
ALLOWED = (
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TMP", "TEMP", "SYSTEMROOT", "TZ"),
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH", "CUDA_VISIBLE_DEVICES"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "XDG_CACHE_HOME", "TORCH_HOME"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)
KERNEL = "python3"
WEIGHTS_FOLDER = "VGGBOOK_WEIGHTS"  # where a reader has released weights: vggbook.released


def own_kernel(folder: Path) -> None:
    """Describe this Python's kernel in a Jupyter data folder of the book's own, which is searched
    first.
    """
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3",
        "language": "python",
    }
    path = folder / "data" / "kernels" / KERNEL / "kernel.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, spec)  # in one piece: another process may be reading it


def clean(
    threads: int = 1, given: Mapping[str, str] = os.environ, build: Path = BUILD, root: Path = ROOT
) -> dict[str, str]:
    """Environment variables for a notebook's kernel: those of ``given`` that the list allows, and
    the book's own.
    """
    jupyter = build / "jupyter"
    own_kernel(jupyter)
    for name in ("matplotlib", "ipython"):
        (build / name).mkdir(parents=True, exist_ok=True)
    own = {
        "PYTHONPATH": str(root / "src"),  # this checkout's package, whatever else is installed
        "PYTHONUTF8": "1",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONNOUSERSITE": "1",
        "LC_ALL": "C.UTF-8",
        "LANG": "C.UTF-8",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MPLCONFIGDIR": str(build / "matplotlib"),
        "IPYTHONDIR": str(build / "ipython"),
        "JUPYTER_NO_CONFIG": "1",
        "JUPYTER_CONFIG_DIR": str(jupyter / "config"),
        "JUPYTER_DATA_DIR": str(jupyter / "data"),
        "JUPYTER_RUNTIME_DIR": str(jupyter / "runtime"),
        "JUPYTER_PREFER_ENV_PATH": "0",  # the book's own data folder before the environment's
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "OMP_NUM_THREADS": str(threads),
    }
    if sys.platform == "linux":  # processes of one machine, whether or not its name is known
        own["GLOO_SOCKET_IFNAME"] = "lo"
    if folder := given.get(WEIGHTS_FOLDER):  # a notebook runs in another folder than `make`
        own[WEIGHTS_FOLDER] = str(Path(folder).expanduser().absolute())
    return {name: given[name] for name in ALLOWED if name in given} | own


def for_sphinx() -> dict[str, str]:
    """The same for Sphinx, which draws nothing and imports the tools; deprecations inside docutils
    and click are not ours.
    """
    both = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return clean() | {"PYTHONPATH": both, "NO_COLOR": "1", "PYTHONWARNINGS": "ignore"}
