"""Recorded grids of runs: one JSON a run, several seeds, one plan. What does not belong together,
or is missing, is named."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import recorded
from .recorded import ResultError

PARTS = ("run", "design", "errors", "seconds", "curve")  # what the recorded JSON of a run holds


@dataclass(frozen=True)
class Grid:
    """Runs of one plan: ``runs[name, seed]`` is the recorded JSON; ``design`` what all runs
    share."""

    runs: Mapping[tuple[str, int], dict]
    design: Mapping[str, object]

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds, ascending."""
        return tuple(sorted({seed for _, seed in self.runs}))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the runs."""
        return tuple(sorted({name for name, _ in self.runs}))

    @property
    def hours(self) -> float:
        """Hours that all runs took together, each on one core."""
        return sum(run["seconds"]["all"] for run in self.runs.values()) / 3600

    def complete(self, names: Collection[str]) -> tuple[int, ...]:
        """Seeds for which every run of ``names`` is there, ascending."""
        return tuple(s for s in self.seeds if all((name, s) in self.runs for name in names))

    def errors(self, name: str, test: str, seeds: Collection[int]) -> list[float]:
        """Top-1 errors of a run in per cent, one for each of ``seeds``. ResultError names a run or
        a test that is missing."""
        found = []
        for seed in seeds:
            if (name, seed) not in self.runs:
                raise ResultError(f"{name}, seed {seed}: this run is missing")
            tests = self.runs[name, seed]["errors"]
            if test not in tests:
                there = ", ".join(tests)
                raise ResultError(f"{name}, seed {seed}: no test {test!r}; there are {there}")
            found.append(tests[test]["top1"])
        return found


def load(folder: str | Path) -> Grid:
    """The runs of a folder under ``results/`` (or of any folder, given as a Path).

    ResultError for a damaged file, a folder without runs, one run recorded twice, and runs of
    different designs; it names the files.
    """
    where = folder if isinstance(folder, Path) else recorded.folder() / folder
    runs: dict[tuple[str, int], dict] = {}
    for path in sorted(where.glob("*_seed*.json")):
        record = {**recorded.read(path), "file": path.name}
        if lacks := [key for key in PARTS if key not in record]:
            missing = f"{', '.join(lacks)} is missing"
            raise ResultError(f"{path.name}: {missing}: expected a run of a grid")
        name, seed = key = (record["run"]["name"], record["run"]["seed"])
        if key in runs:
            raise ResultError(f"{path.name} and {runs[key]['file']} both hold {name}, seed {seed}")
        first = next(iter(runs.values()), record)
        for field in sorted({*record["design"], *first["design"]}):
            here, there = record["design"].get(field), first["design"].get(field)
            if here != there:
                both = f"{here!r} in {path.name}, {there!r} in {first['file']}"
                raise ResultError(f"runs of two plans: {field} is {both}")
        runs[key] = record
    if not runs:
        raise ResultError(f"no recorded run in {where}")
    return Grid(runs, first["design"])
