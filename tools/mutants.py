"""``make mutants``: would the unit tests see a bug? Single-point mutants, and who kills them.

A seeded sample of the mutants of ``src/vggbook`` (``tools/mutations.py``). Each is put into a copy
of the package, never into the working tree, and meets the tests of its module: those of its name
(``data/crops.py``: ``test_data_crops*.py``), else those that import it. A test that fails, or takes
far longer than without the mutant, kills it. Verdicts are kept in ``_build/mutants.jsonl``, so a
run that was cut off goes on; a survivor is tried again once its tests have changed.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import math
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from .mutations import Mutant, mutants

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "vggbook"
RECORD = ROOT / "_build" / "mutants.jsonl"
EQUIVALENT = Path(__file__).with_name("mutants_equivalent.txt")
COUNTED = ("killed", "equivalent", "survived")


def modules(only: str = "") -> list[str]:
    """The package's modules, such as "data/crops"; ``only``: beginnings, separated by commas."""
    names = [p.relative_to(PACKAGE).with_suffix("").as_posix() for p in PACKAGE.rglob("*.py")]
    names = [name for name in names if not name.endswith("__init__")]
    begins = tuple(only.split(",")) if only else ("",)
    return sorted(name for name in names if name.startswith(begins))


def test_files(module: str, folder: Path = ROOT / "tests") -> list[Path]:
    """The unit tests that a change of the module concerns.

    By its name; else those that import it; else those of the modules beside it that import it.
    """
    name = module.replace("/", "_").replace("__", "")
    found = sorted(folder.glob(f"test_{name}.py")) + sorted(folder.glob(f"test_{name}_*.py"))
    if found:
        return found
    *package, last = module.split("/")
    dotted = ".".join(["vggbook", *package])
    imports = (f"{dotted}.{last} import", f"import {dotted}.{last}", f"{dotted} import {last}")
    found = [path for path in sorted(folder.glob("test_*.py")) if _has(path, imports)]
    if found:
        return found
    beside = sorted((PACKAGE / "/".join(package)).glob("[a-z]*.py"))
    users = [path.stem for path in beside if _has(path, (f"from .{last} import",))]
    names = ["_".join([*package, user]) for user in users]
    return [path for name in names if (path := folder / f"test_{name}.py").exists()]


def _has(path: Path, texts: tuple[str, ...]) -> bool:
    """Whether a file holds any of these texts."""
    source = path.read_text(encoding="utf-8")
    return any(text in source for text in texts)


def wilson(good: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95% interval of a share, after Wilson (1927)."""
    if count == 0:
        return 0.0, 1.0
    share = good / count
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return (middle - half) / scale, (middle + half) / scale


def equivalents(path: Path = EQUIVALENT) -> dict[tuple[str, str], str]:
    """(place, change) -> reason, from lines "place | change | reason"."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            place, rest = line.split(" | ", 1)
            change, reason = rest.rsplit(" | ", 1)
            found[place.strip(), change.strip()] = reason.strip()
    return found


def sample(only: str, count: int, seed: int) -> list[tuple[str, Mutant]]:
    """``count`` mutants of the chosen modules, each as likely as any other, by module."""
    every = [
        (module, mutant)
        for module in modules(only)
        for mutant in mutants((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    ]
    drawn = random.Random(seed).sample(range(len(every)), min(count, len(every)))
    print(f"{len(drawn)} of {len(every)} mutants, seed {seed}", flush=True)
    return [every[i] for i in sorted(drawn)]


def digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


class Copy:
    """A copy of the package beside the results that it reads; one module at a time is mutated."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.source = folder / "src"
        self.clock = 1_000_000_000  # bytecode is kept by time and size of its source
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(PACKAGE, self.source / "vggbook", ignore=shutil.ignore_patterns("*.pyc"))
        for name in ("pyproject.toml", "results"):
            (folder / name).symlink_to(ROOT / name)

    def write(self, module: str, text: str) -> None:
        path = self.source / "vggbook" / f"{module}.py"
        path.write_text(text, encoding="utf-8")
        self.clock += 1
        os.utime(path, (self.clock, self.clock))

    def test(self, files: list[Path], limit: float) -> tuple[int | None, float]:
        """Exit status of pytest in a process of its own, None at the limit; and its seconds."""
        start = time.monotonic()
        child = os.fork()  # what is imported already need not be imported again
        if child == 0:
            self._child(files)
        while time.monotonic() - start < limit:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status), time.monotonic() - start
            time.sleep(0.05)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return None, time.monotonic() - start

    def _child(self, files: list[Path]) -> None:
        """Run pytest on the copy and leave; nothing of this returns."""
        import pytest

        status = 99
        try:
            os.setsid()
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            os.environ["PYTHONPATH"] = os.pathsep.join([str(self.source), str(ROOT)])
            sys.path[:0] = [str(self.source), str(ROOT)]
            options = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
            status = int(pytest.main([*options, *map(str, files)]))
        finally:
            os._exit(status)


def judge(module: str, chosen: list[Mutant], copy: Copy, known: dict[str, dict]) -> list[dict]:
    """One verdict a mutant of a module; those known already are not run again."""
    path = PACKAGE / f"{module}.py"
    original = path.read_text(encoding="utf-8")
    files = test_files(module)
    if not files:
        print(f"{module}: no unit test imports it", flush=True)
    tests = digest(*(file.read_text(encoding="utf-8") for file in files))
    limit = None
    found = []
    for mutant in chosen:
        key = digest(module, mutant.source)
        old = known.get(key)
        if old and (old["verdict"] == "killed" or old["tests"] == tests):
            found.append({**old, "mutant": mutant})
            continue
        if files and limit is None:
            copy.write(module, original)
            status, seconds = copy.test(files, limit=900)
            if status != 0:
                names = ", ".join(file.name for file in files)
                print(f"{module}: {names} fail without a mutant: left out", flush=True)
                return found
            limit = 30 + 4 * seconds
        copy.write(module, mutant.source)
        status, seconds = copy.test(files, limit) if files else (0, 0.0)
        copy.write(module, original)
        verdict = "survived" if status == 0 else "killed"
        entry = {
            "key": key,
            "tests": tests,
            "verdict": verdict,
            "how": "timeout" if status is None else f"pytest {status}",
            "seconds": round(seconds, 1),
            "place": f"{module}.py, {mutant.place}",
            "line": mutant.line,
            "kind": mutant.kind,
            "change": mutant.change,
        }
        with RECORD.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        print(f"  {verdict:9} {entry['place']}:{mutant.line} {mutant.change}"[:150], flush=True)
        found.append({**entry, "mutant": mutant})
    return found


def difference(module: str, mutant: Mutant) -> str:
    """A mutant as a diff of its module."""
    name = f"src/vggbook/{module}.py"
    before = (PACKAGE / f"{module}.py").read_text(encoding="utf-8").splitlines()
    return "\n".join(
        difflib.unified_diff(before, mutant.source.splitlines(), name, name, lineterm="", n=1)
    )


def table(verdicts: dict[str, Counter]) -> str:
    """Killed, equivalent and surviving mutants by module, and the rate with its interval."""
    lines = [
        "| module | drawn | killed | equivalent | survived | rate |",
        "|---|---|---|---|---|---|",
    ]
    total = sum(verdicts.values(), Counter())
    for name, tally in [*sorted(verdicts.items()), ("all", total)]:
        count = tally["killed"] + tally["survived"]
        rate = f"{tally['killed'] / count:.0%}" if count else ""
        if name == "all":
            low, high = wilson(tally["killed"], count)
            rate += f" ({low:.0%} to {high:.0%})"
        numbers = " | ".join(str(tally[key]) for key in COUNTED)
        lines.append(f"| {name} | {sum(tally.values())} | {numbers} | {rate} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__)
    parser.add_argument("-n", type=int, default=60, help="how many mutants are drawn (60)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (1)")
    parser.add_argument("--only", default="", help="modules: data, or checks,train/recipe")
    given = parser.parse_args(argv)
    import hypothesis  # noqa: F401
    import torch

    torch.set_num_threads(1)
    RECORD.parent.mkdir(exist_ok=True)
    lines = RECORD.read_text(encoding="utf-8").splitlines() if RECORD.exists() else []
    known = {entry["key"]: entry for entry in map(json.loads, lines)}
    same = equivalents()
    copy = Copy(ROOT / "_build" / f"mutants-{os.getpid()}")
    drawn: dict[str, list[Mutant]] = {}
    for module, mutant in sample(given.only, given.n, given.seed):
        drawn.setdefault(module, []).append(mutant)
    verdicts: dict[str, Counter] = {}
    survivors = []
    for module, chosen in drawn.items():
        tally = verdicts.setdefault(module, Counter())
        for entry in judge(module, chosen, copy, known):
            verdict = entry["verdict"]
            if verdict == "survived" and (entry["place"], entry["change"]) in same:
                verdict = "equivalent"
            tally[verdict] += 1
            if verdict == "survived":
                survivors.append(f"{entry['place']}\n{difference(module, entry['mutant'])}")
    shutil.rmtree(copy.folder)
    print("\n" + "\n\n".join(survivors) + "\n\n" + table(verdicts))
    return 1 if survivors else 0


if __name__ == "__main__":
    raise SystemExit(main())
