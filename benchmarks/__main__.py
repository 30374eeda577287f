"""Measure this machine: ``python -m benchmarks [--only nets,layouts] [--tiny] [--out results]``; a
few minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch

from .cpu import SECTIONS, Sizes
from .record import ROOT, Bench


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", help=f"sections, separated by commas: {', '.join(SECTIONS)}")
    parser.add_argument("--skip", default="", help="sections to leave out")
    parser.add_argument(
        "--tiny", action="store_true", help="rehearse every section with sizes that measure nothing"
    )
    parser.add_argument(
        "--short", action="store_true", help="less of everything, for a busy or slow machine"
    )
    parser.add_argument("--note", help="a remark for the provenance, for instance what else ran")
    parser.add_argument(
        "--out", type=Path, help="folder of the JSON (results; with --tiny: _build)"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
    )
    given = parser.parse_args(argv)
    names = (
        given.only.split(",")
        if given.only
        else [n for n in SECTIONS if n not in given.skip.split(",")]
    )
    names = ["ceilings", *(name for name in names if name != "ceilings")]  # every floor needs them
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        parser.error(f"no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    if given.threads:
        torch.set_num_threads(given.threads)
    if torch.cuda.is_available():
        print(
            "A GPU is here: python -m benchmarks.gpu measures it; this run measures the processor."
        )
    torch.manual_seed(0)
    folder = given.out or ROOT / ("_build" if given.tiny else "results")
    bench = Bench("cpu", folder / "bench-cpu.json")
    bench.sizes = Sizes.tiny() if given.tiny else Sizes.short() if given.short else Sizes()
    if given.note:
        bench.provenance["note"] = given.note
    bench.run({name: SECTIONS[name] for name in names})
    print(
        f"\n{len(bench.rows)} rows in {bench.path}"
        + "".join(f"\nskipped: {k}: {v}" for k, v in bench.skipped.items())
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
