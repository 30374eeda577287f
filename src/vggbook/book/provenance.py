"""Where a number comes from: the machine, the versions and the commit, read in one place for pages
and benchmarks.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from ..timing import cores


def _output(*command: str, environment: dict[str, str] | None = None) -> str | None:
    """What a program prints; None where it is absent or fails."""
    how: dict[str, Any] = {"capture_output": True, "encoding": "utf-8"}
    try:
        r = subprocess.run(command, **how, env=environment, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return r.stdout.strip() if r.returncode == 0 else None


def processor() -> str:
    """The processor's name and the cores that this process may use."""
    name = platform.processor() or platform.machine()
    table = Path("/proc/cpuinfo")
    if table.exists():
        lines = table.read_text(encoding="utf-8").splitlines()
        models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        name = next(models, name)
    elif sys.platform == "darwin":
        name = _output("sysctl", "-n", "machdep.cpu.brand_string") or name
    n = cores()
    return f"{name}, {n} core{'s' if n > 1 else ''}"


@cache
def device() -> str:
    """The machine in words: the GPU where the driver names one, else the processor. PyTorch is not
    imported.
    """
    names = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return names.splitlines()[0].strip() if names else processor()


def version(name: str) -> str:
    """A package's version; "absent" where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def versions(names: Iterable[str]) -> dict[str, str]:
    """Python's version and those of packages."""
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def git(root: Path, *words: str) -> str | None:
    """What git prints in the checkout ``root``; None without git, or where ``root`` is no checkout
    of its own.

    A folder inside somebody else's repository is none: that repository's commits say nothing about
    it. The caller's GIT_DIR and the like do not count.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}

    def run(*arguments: str) -> str | None:
        return _output("git", "-C", str(root), *arguments, environment=environment)

    top = run("rev-parse", "--show-toplevel")
    if not top or not Path(top).is_dir() or not os.path.samefile(top, root):
        return None
    return run(*words)


def commit(root: Path) -> str:
    """The short commit of the checkout ``root``, with a plus sign where it has changes; empty where
    there is none.
    """
    head = git(root, "rev-parse", "--short=7", "HEAD")
    if not head:
        return ""
    return head + ("+" if git(root, "status", "--porcelain") else "")


def of_run(command: str, kind: str = "cpu", seed: int | None = None) -> dict[str, object]:
    """The provenance of a run of ``command``, as :func:`vggbook.book.recorded.read` asks for it.

    kind: PyTorch's device, "cpu" or "cuda". seed: None where nothing was drawn.
    """
    return {
        "command": command,
        "commit": commit(Path(__file__).parents[3]),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "device": device() if kind.startswith("cuda") else processor(),
        "versions": versions(("torch", "torchvision", "numpy", "vggbook")),
        "seed": seed,
    }
