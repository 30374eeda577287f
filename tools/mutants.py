"""``make mutants``: would the unit tests see a bug? Single-point mutants, and who kills them.

A seeded sample of the mutants of ``src/vggbook`` (``tools/mutations.py``). Each is put into a copy
of the package, never into the working tree, and meets the tests of its module: those of its name
(``data/crops.py``: ``test_data_crops*.py``), else those that import it; first the tests that run
the mutated statement. A test that fails, or takes far longer than without the mutant, kills it.
Verdicts are kept in ``_build/mutants.jsonl``, so a run that was cut off goes on; a survivor is
tried again once its tests have changed.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import json
import math
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FrameType

from .mutations import Mutant, Source

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "vggbook"
RECORD = ROOT / "_build" / "mutants.jsonl"
EQUIVALENT = Path(__file__).with_name("mutants_equivalent.txt")
COUNTED = ("killed", "equivalent", "survived")
OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0")
OPTIONS += ("-m", "not slow and not browser")
TESTED_BY = {  # where neither name nor imports lead to the tests that matter
    "__init__": "package",
    "book/__init__": "profiles",
    "book/bands": "profiles",
    "book/figures": "book_figures paper",
    "book/profiles/__init__": "profiles",
    "book/trained": "book_pictures",
    "book/recorded": "recorded",
    "data/__init__": "package",
    "data/painting": "data_shapes data_golden",
    "data/published": "data_published data_sets",
    "data/scenes": "data_shapes data_golden",
    "data/shapes": "data_shapes data_golden",
    "evaluate/__init__": "package evaluate_errors",
    "evaluate/__main__": "evaluate_command",
    "evaluate/errors": "evaluate_errors evaluate_command",
    "inputs": "inputs dense model",
    "kernels": "roofline",
    "roofline": "roofline package",
    "saved": "weights train_checkpoint",
    "train/__init__": "package train_main",
    "train/state": "train_machine train_resume",
    "weights": "weights package caffemodel train_transfer",
}


def modules(only: str = "") -> list[str]:
    """The package's modules, such as "data/crops"; ``only``: beginnings, separated by commas."""
    names = [p.relative_to(PACKAGE).with_suffix("").as_posix() for p in PACKAGE.rglob("*.py")]
    begins = tuple(only.split(",")) if only else ("",)
    return sorted(name for name in names if name.startswith(begins))


def test_files(module: str, folder: Path = ROOT / "tests") -> list[Path]:
    """The unit tests that a change of the module concerns.

    By its name; else those that import it; else those of the modules beside it that import it.
    """
    if module in TESTED_BY:
        return [folder / f"test_{name}.py" for name in TESTED_BY[module].split()]
    name = module.removesuffix("/__init__").replace("/", "_").replace("__", "")
    found = sorted(folder.glob(f"test_{name}.py")) + sorted(folder.glob(f"test_{name}_*.py"))
    if found:
        return found
    dotted = ".".join(["vggbook", *module.removesuffix("/__init__").split("/")])
    found = [path for path in sorted(folder.glob("test_*.py")) if dotted in _imports(path)]
    if found:
        return found
    *package, last = module.split("/")
    beside = sorted((PACKAGE / "/".join(package)).glob("[a-z]*.py"))
    users = [path.stem for path in beside if f".{last}" in _imports(path)]
    names = ["_".join([*package, user]) for user in users]
    return [path for name in names if (path := folder / f"test_{name}.py").exists()]


@cache
def _imports(path: Path) -> set[str]:
    """What a file imports, modules and the names from them, dotted."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = "." * node.level + (node.module or "")
            found |= {package, *(f"{package}.{alias.name}" for alias in node.names)}
    return found


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
    texts = {module: (PACKAGE / f"{module}.py") for module in modules(only)}
    sources = {name: Source(path.read_text(encoding="utf-8")) for name, path in texts.items()}
    every = [(name, i) for name, source in sources.items() for i in range(len(source.changes))]
    drawn: dict[str, tuple[int, str, Mutant]] = {}
    for at in random.Random(seed).sample(range(len(every)), len(every)):
        if len(drawn) == count:
            break
        name, i = every[at]
        if mutant := sources[name].mutant(i):
            drawn.setdefault(mutant.source, (at, name, mutant))
    print(f"{len(drawn)} of about {len(every)} mutants, seed {seed}", flush=True)
    return [(name, mutant) for _, name, mutant in sorted(drawn.values(), key=lambda d: d[0])]


def digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


class Copy:
    """A copy of the package beside all else of the checkout; one module at a time is mutated."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.source = folder / "src"
        self.clock = 1_000_000_000  # bytecode is kept by time and size of its source
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(PACKAGE, self.source / "vggbook", ignore=shutil.ignore_patterns("*.pyc"))
        for path in ROOT.iterdir():
            if path.name not in ("src", "_build") and not path.name.startswith("."):
                (folder / path.name).symlink_to(path)

    def write(self, module: str, text: str) -> Path:
        path = self.source / "vggbook" / f"{module}.py"
        path.write_text(text, encoding="utf-8")
        self.clock += 1
        os.utime(path, (self.clock, self.clock))
        return path

    def test(self, files: list[Path], plugin: object, limit: float) -> tuple[int | None, float]:
        """Exit status of pytest in a process of its own, None at the limit; and its seconds."""
        start = time.monotonic()
        child = os.fork()  # what is imported already need not be imported again
        if child == 0:
            self._child(files, plugin)
        while time.monotonic() - start < limit:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status), time.monotonic() - start
            time.sleep(0.05)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return None, time.monotonic() - start

    def _child(self, files: list[Path], plugin: object) -> None:
        """Run pytest on the copy and leave; nothing of this returns."""
        import pytest

        status = 99
        try:
            os.setsid()
            output = os.open(self.folder / "pytest.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.environ["PYTHONPATH"] = os.pathsep.join([str(self.source), str(ROOT)])
            sys.path[:0] = [str(self.source), str(ROOT)]
            status = int(pytest.main([*OPTIONS, *map(str, files)], plugins=[plugin]))
        finally:
            os._exit(status)


class Covered:
    """A pytest plugin for the run without a mutant: each test's seconds on the processor, and the
    lines of one file that it runs, written as JSON.
    """

    def __init__(self, source: Path, out: Path):
        self.source = str(source)
        self.out = out
        self.tests: dict[str, dict] = {}
        self.lines: set[int] = set()

    def pytest_runtest_protocol(self, item: object, nextitem: object) -> None:
        self.lines = set()
        self.start = time.process_time()
        sys.settrace(self._call)
        threading.settrace(self._call)

    def pytest_runtest_logfinish(self, nodeid: str, location: object) -> None:
        sys.settrace(None)
        threading.settrace(None)
        seconds = time.process_time() - self.start
        self.tests[nodeid] = {"seconds": seconds, "lines": sorted(self.lines)}

    def pytest_sessionfinish(self, session: object, exitstatus: int) -> None:
        self.out.write_text(json.dumps(self.tests), encoding="utf-8")

    def _call(self, frame: FrameType, event: str, arg: object) -> Callable | None:
        return self._line if frame.f_code.co_filename == self.source else None

    def _line(self, frame: FrameType, event: str, arg: object) -> Callable:
        self.lines.add(frame.f_lineno)
        return self._line


class Ordered:
    """A pytest plugin for the run with a mutant: the tests that run its statement come first, the
    quick ones before the long ones. A test that computes far longer than without it ends the run.
    """

    def __init__(self, tests: dict[str, dict], lines: range):
        self.tests = tests
        self.lines = lines

    def _seconds(self, nodeid: str) -> float:
        return self.tests[nodeid]["seconds"] if nodeid in self.tests else 10.0

    def pytest_collection_modifyitems(self, items: list) -> None:
        def rank(item: object) -> tuple[bool, float]:
            covered = self.tests.get(item.nodeid, {"lines": ()})["lines"]
            return not any(line in self.lines for line in covered), self._seconds(item.nodeid)

        items.sort(key=rank)

    def pytest_runtest_logstart(self, nodeid: str, location: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 10 + 5 * self._seconds(nodeid))

    def pytest_runtest_logfinish(self, nodeid: str, location: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)


def baseline(module: str, source: str, files: list[Path], copy: Copy) -> dict[str, dict] | None:
    """What the tests of a module run of it, and their seconds, without a mutant; known for as long
    as neither changes. None, and a word, where a test fails.
    """
    tests = [file.read_text(encoding="utf-8") for file in files]
    known = RECORD.parent / "mutants-covered" / f"{digest(module, source, *tests)}.json"
    if not known.exists():
        out = copy.folder / "covered.json"
        plugin = Covered(copy.write(module, source), out)
        status, _ = copy.test(files, plugin, limit=1800)
        if status != 0:
            names = ", ".join(file.name for file in files)
            print(f"{module}: {names} fail without a mutant: left out", flush=True)
            print((copy.folder / "pytest.log").read_text("utf-8", errors="replace")[-2000:])
            return None
        known.parent.mkdir(exist_ok=True)
        shutil.copy(out, known)
    return json.loads(known.read_text(encoding="utf-8"))


def judge(
    module: str, chosen: list[Mutant], copy: Copy, known: dict[str, dict], until: float
) -> list[dict]:
    """One verdict a mutant of a module; those known already are not run again, and none is begun
    after ``until`` by the clock.
    """
    path = PACKAGE / f"{module}.py"
    original = path.read_text(encoding="utf-8")
    files = test_files(module)
    if not files:
        print(f"{module}: no unit test imports it", flush=True)
    tests = digest(*(file.read_text(encoding="utf-8") for file in files))
    covered = None
    found = []
    for mutant in chosen:
        key = digest(module, mutant.source)
        old = known.get(key)
        if old and (old["verdict"] == "killed" or old["tests"] == tests):
            found.append({**old, "mutant": mutant})
            continue
        if time.monotonic() > until:
            continue
        if files and covered is None:
            covered = baseline(module, original, files, copy)
            if covered is None:
                return found
            # for what waits; what computes is stopped sooner
            limit = 120 + 20 * sum(test["seconds"] for test in covered.values())
        copy.write(module, mutant.source)
        order = Ordered(covered or {}, range(mutant.line, mutant.last + 1))
        status, seconds = copy.test(files, order, limit) if files else (0, 0.0)
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
    parser.add_argument("--minutes", type=float, default=1e6, help="then stop; again: it goes on")
    given = parser.parse_args(argv)
    until = time.monotonic() + 60 * given.minutes
    import hypothesis  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import torch
    import torchvision  # noqa: F401

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
    # in any order, so that a run that was cut off has judged a sample of the modules
    for module in random.Random(given.seed).sample(sorted(drawn), len(drawn)):
        tally = verdicts.setdefault(module, Counter())
        for entry in judge(module, drawn[module], copy, known, until):
            verdict = entry["verdict"]
            if verdict == "survived" and (entry["place"].strip(), entry["change"]) in same:
                verdict = "equivalent"
            tally[verdict] += 1
            if verdict == "survived":
                survivors.append(f"{entry['place']}\n{difference(module, entry['mutant'])}")
    shutil.rmtree(copy.folder)
    left = sum(map(len, drawn.values())) - sum(map(Counter.total, verdicts.values()))
    print("\n" + "\n\n".join(survivors) + "\n\n" + table(verdicts))
    if left:
        print(f"{left} not judged yet: the same command goes on")
    return 1 if survivors else 0


if __name__ == "__main__":
    raise SystemExit(main())
