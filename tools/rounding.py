"""Would the chapters hold on another processor? python -m tools.rounding 05 09

Processors add in other orders: wider registers, other kernels, more threads. The last bits differ,
and a training that starts alike ends elsewhere, as with another seed. So a chapter's statistical
bands and asserts must hold under every rounding. Each of these is this processor told to use fewer
of its instructions, or more threads.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from itertools import product
from pathlib import Path

import nbformat

from tools import BUILD, ROOT
from tools.environment import clean
from tools.execute import CELL_TIMEOUT, papermill, shows
from tools.notebook import pick
from tools.processes import lifeline
from vggbook.book.bands import MISSED

ONEDNN = ("ONEDNN_MAX_CPU_ISA", ("SSE41", "AVX", "DEFAULT"))  # convolutions, linear layers
ATEN = ("ATEN_CPU_CAPABILITY", ("default", "avx2"))  # PyTorch's own loops and sums
THREADS = (1, 2, 3)


def roundings() -> list[tuple[int, dict[str, str]]]:
    """(threads, variables) of every rounding that this processor can be made to show; the one that
    is farthest from a modern processor first."""
    (onednn, units), (aten, loops) = ONEDNN, ATEN
    return [(n, {onednn: x, aten: y}) for x, y, n in product(units, loops, THREADS)]


def missed(executed: Path) -> list[str]:
    """What a run that was not strict reports: bands that it missed, and the error that ended it."""
    found = []
    for cell in nbformat.read(executed, 4).cells:
        for output in cell.get("outputs", []):
            lines = output.get("text", "").splitlines()
            found += [line.removeprefix(MISSED) for line in lines if line.startswith(MISSED)]
            if output.output_type == "error":
                found.append(f"{output.ename}: {output.evalue}")
    return found


def walk(notebook: Path, threads: int, variables: dict[str, str], folder: Path) -> list[str]:
    """Execute a chapter with this rounding, into ``folder``; what it missed. RuntimeError where the
    run ended otherwise: a kernel that died, a cell that took too long."""
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / notebook.name
    output.unlink(missing_ok=True)
    command = papermill(notebook, output, "cpu", CELL_TIMEOUT, shows(notebook, None), strict=False)
    done = subprocess.run(
        command,
        env=clean(threads) | variables,
        stdin=lifeline(),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    found = missed(output) if output.exists() else []
    if done.returncode and not found:
        raise RuntimeError(f"{notebook.name} did not run to its end: {done.stderr[-2000:]}")
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("chapters", nargs="+", help="such as 05 09")
    a = parser.parse_args(argv)
    any_missed = False
    for chapter in a.chapters:
        notebook = pick(ROOT / "notebooks", chapter, ".ipynb")
        for threads, variables in roundings():
            found = walk(notebook, threads, variables, BUILD / "rounding")
            any_missed |= bool(found)
            how = ", ".join([f"{threads} thread(s)", *variables.values()])
            print(f"{notebook.stem}  {how}: {'; '.join(found) or 'holds'}", flush=True)
    return int(any_missed)


if __name__ == "__main__":
    sys.exit(main())
