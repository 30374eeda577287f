"""``make mutants``: would the unit tests see a bug? Single-point mutants, and who kills them.

A seeded sample of the mutants of ``src/vggbook`` (``tools/mutations.py``). Each is put into a copy
of the package, never into the working tree, and meets the tests of its module: those of its name
(``data/crops.py``: ``test_data_crops*.py``), else those that import it; first the tests that run
the mutated statement. What they let pass meets, of all other tests, those that enter the mutated
function, the quick ones first, for two minutes. A test that fails, or takes far longer than
without the mutant, kills it. Verdicts are kept in ``_build/mutants.jsonl``, so a run that was cut
off goes on; a survivor is tried again once the tests have changed. Which tests enter which
functions is measured once a test file (a quarter of an hour for all), and kept too.
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
from types import CodeType, FrameType

from .mutations import Mutant, Source

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "vggbook"
RECORD = ROOT / "_build" / "mutants.jsonl"
EQUIVALENT = Path(__file__).with_name("mutants_equivalent.txt")
COUNTED = ("killed", "equivalent", "survived")
OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0")
OPTIONS += ("-m", "not slow and not browser")
SEES_NOTHING = (0, 5)  # of pytest: all passed, no test was chosen
PATIENCE = 120.0  # seconds of other modules' tests for what a module's own tests let pass


def modules(only: str = "") -> list[str]:
    """The package's modules, such as "data/crops"; ``only``: beginnings, separated by commas."""
    names = [p.relative_to(PACKAGE).with_suffix("").as_posix() for p in PACKAGE.rglob("*.py")]
    begins = tuple(only.split(",")) if only else ("",)
    return sorted(name for name in names if name.startswith(begins))


def test_files(module: str, folder: Path = ROOT / "tests") -> list[Path]:
    """The unit tests that a change of the module concerns.

    By its name; else those that import it; else those of the modules beside it that import it;
    else all of the modules beside it. What a room's ``__init__`` offers, the package's tests see.
    """
    if module.endswith("__init__"):
        names = ("package", module.removesuffix("__init__").strip("/").replace("/", "_"))
        return [path for name in names if (path := folder / f"test_{name}.py").exists()]
    name = module.replace("/", "_").replace("__", "")
    found = sorted(folder.glob(f"test_{name}.py")) + sorted(folder.glob(f"test_{name}_*.py"))
    if found:
        return found
    dotted = ".".join(["vggbook", *module.split("/")])
    found = [path for path in sorted(folder.glob("test_*.py")) if dotted in _imports(path)]
    if found:
        return found
    *package, last = module.split("/")
    beside = sorted((PACKAGE / "/".join(package)).glob("[a-z]*.py"))
    users = [path.stem for path in beside if f".{last}" in _imports(path)]
    names = ["_".join([*package, user]) for user in users]
    found = [path for name in names if (path := folder / f"test_{name}.py").exists()]
    return found or sorted(folder.glob(f"test_{'_'.join(package)}_*.py"))


def other_files(folder: Path = ROOT / "tests") -> list[Path]:
    """All unit tests of the package: the files that import something of it."""
    return [
        path
        for path in sorted(folder.glob("test_*.py"))
        if any(name.split(".")[0] == "vggbook" for name in _imports(path))
    ]


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


class Traced:
    """A pytest plugin for the run without a mutant: of each test its seconds on the processor, and
    what ``found`` makes of the calls that it traced, written as JSON.
    """

    key: str  # what ``found`` is called in the file

    def __init__(self, out: Path):
        self.out = out
        self.tests: dict[str, dict] = {}
        self.seen: set = set()

    def pytest_runtest_protocol(self, item: object, nextitem: object) -> None:
        self.seen = set()
        self.start = time.process_time()
        sys.settrace(self.call)
        threading.settrace(self.call)

    def pytest_runtest_logfinish(self, nodeid: str, location: object) -> None:
        sys.settrace(None)
        threading.settrace(None)
        seconds = time.process_time() - self.start
        self.tests[nodeid] = {"seconds": seconds, self.key: self.found()}

    def pytest_sessionfinish(self, session: object, exitstatus: int) -> None:
        self.out.write_text(json.dumps(self.tests), encoding="utf-8")

    def call(self, frame: FrameType, event: str, arg: object) -> Callable | None:
        """Python's trace function: what it returns is called at each line of the frame."""
        raise NotImplementedError

    def found(self) -> list:
        return sorted(self.seen)


class Covered(Traced):
    """The lines of one file that each test runs."""

    key = "lines"

    def __init__(self, source: Path, out: Path):
        super().__init__(out)
        self.source = str(source)

    def call(self, frame: FrameType, event: str, arg: object) -> Callable | None:
        return self._line if frame.f_code.co_filename == self.source else None

    def _line(self, frame: FrameType, event: str, arg: object) -> Callable:
        self.seen.add(frame.f_lineno)
        return self._line


class Entered(Traced):
    """The package's functions that each test enters, as "data/crops.py, colour_shift"."""

    key = "enters"

    def __init__(self, package: Path, out: Path):
        super().__init__(out)
        self.package = f"{package}{os.sep}"

    def call(self, frame: FrameType, event: str, arg: object) -> None:
        if frame.f_code.co_filename.startswith(self.package):
            self.seen.add(frame.f_code)

    def found(self) -> list[str]:
        return sorted({self._place(code) for code in self.seen})

    def _place(self, code: CodeType) -> str:
        """A comprehension and a lambda belong to the function that they stand in."""
        names = [name for name in code.co_qualname.split(".") if not name.startswith("<")]
        return f"{code.co_filename.removeprefix(self.package)}, {'.'.join(names)}"


class Ordered:
    """A pytest plugin for the run with a mutant: the tests that run its statement come first, the
    quick ones before the long ones. A test that computes far longer than without it ends the run.

    tests: what is known of each test without a mutant, its ``seconds`` and the ``lines`` it runs.
    only: leave out what is not known.
    """

    def __init__(self, tests: dict[str, dict], lines: range, only: bool = False):
        self.tests = tests
        self.lines = lines
        self.only = only

    def _seconds(self, nodeid: str) -> float:
        return self.tests[nodeid]["seconds"] if nodeid in self.tests else 10.0

    def pytest_collection_modifyitems(self, items: list) -> None:
        def rank(item: object) -> tuple[bool, float]:
            covered = self.tests.get(item.nodeid, {}).get("lines", ())
            return not any(line in self.lines for line in covered), self._seconds(item.nodeid)

        items.sort(key=rank)
        if self.only:
            items[:] = [item for item in items if item.nodeid in self.tests]

    def pytest_runtest_logstart(self, nodeid: str, location: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 10 + 5 * self._seconds(nodeid))

    def pytest_runtest_logfinish(self, nodeid: str, location: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)


def entered(copy: Copy) -> dict[str, dict]:
    """Which functions of the package each unit test enters, and its seconds. Measured once for a
    test file; a file that fails without a mutant is left out.
    """
    found: dict[str, dict] = {}
    for file in other_files(ROOT / "tests"):
        kept = RECORD.parent / "mutants-entered" / f"{digest(file.read_text('utf-8'))}.json"
        if not kept.exists():
            out = copy.folder / "entered.json"
            status, seconds = copy.test([file], Entered(copy.source / "vggbook", out), limit=1800)
            print(f"{file.name}: {seconds:.0f} s, status {status}", flush=True)
            kept.parent.mkdir(exist_ok=True)
            kept.write_text(out.read_text("utf-8") if status == 0 else "{}", encoding="utf-8")
        found |= json.loads(kept.read_text(encoding="utf-8"))
    return found


def others(place: str, tests: dict[str, dict], own: list[Path]) -> dict[str, dict]:
    """The tests of other modules that enter a function ("data/crops.py, colour_shift"), or, for a
    statement outside functions, the module; the quick ones, as many as patience allows.
    """
    module, function = place.split(", ")
    names = {file.name for file in own}

    def enters(test: dict) -> bool:
        return any(
            name == place or (not function and name.startswith(module)) for name in test["enters"]
        )

    chosen: dict[str, dict] = {}
    patience = PATIENCE
    for nodeid, test in sorted(tests.items(), key=lambda named: named[1]["seconds"]):
        if Path(nodeid.split("::")[0]).name not in names and enters(test):
            patience -= test["seconds"]
            if patience < 0:
                break
            chosen[nodeid] = test
    return chosen


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
    module: str,
    chosen: list[Mutant],
    copy: Copy,
    known: dict[str, dict],
    tests: dict[str, dict],
    until: float,
) -> list[dict]:
    """One verdict a mutant of a module; those known already are not run again, and none is begun
    after ``until`` by the clock. ``tests`` as ``entered`` gives them.
    """
    path = PACKAGE / f"{module}.py"
    original = path.read_text(encoding="utf-8")
    files = test_files(module)
    state = digest(*(file.read_text("utf-8") for file in files), json.dumps(sorted(tests)))
    covered = None
    found = []
    for mutant in chosen:
        key = digest(module, mutant.source)
        old = known.get(key)
        if old and (old["verdict"] == "killed" or old["tests"] == state):
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
        place = f"{module}.py, {mutant.place}"
        by = "its own"
        if status in SEES_NOTHING and (users := others(place, tests, files)):
            homes = sorted({ROOT / nodeid.split("::")[0] for nodeid in users})
            every = Ordered(users, range(0), only=True)
            status, more = copy.test(homes, every, 2 * PATIENCE)
            seconds += more
            by = "others"
        copy.write(module, original)
        verdict = "survived" if status in SEES_NOTHING else "killed"
        entry = {
            "key": key,
            "tests": state,
            "by": by,
            "verdict": verdict,
            "how": "timeout" if status is None else f"pytest {status}",
            "seconds": round(seconds, 1),
            "place": place,
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
    tests = entered(copy)
    drawn: dict[str, list[Mutant]] = {}
    for module, mutant in sample(given.only, given.n, given.seed):
        drawn.setdefault(module, []).append(mutant)
    verdicts: dict[str, Counter] = {}
    survivors = []
    # in any order, so that a run that was cut off has judged a sample of the modules
    for module in random.Random(given.seed).sample(sorted(drawn), len(drawn)):
        tally = verdicts.setdefault(module, Counter())
        for entry in judge(module, drawn[module], copy, known, tests, until):
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
