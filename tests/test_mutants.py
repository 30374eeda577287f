"""The mutants by hand, the interval against a published one, and one round on a toy package."""

import json
import os
import signal
import sys
from statistics import NormalDist

import pytest

from tools import mutants as tool
from tools.mutations import mutants

SOURCE = '''\
def clip(x: "int | None", low=0, mode="exact"):
    """A docstring with 1 + 1."""
    if x < low:
        return low
    return min(x, 9, key=None)
'''


def changes(source: str) -> set[str]:
    return {mutant.change for mutant in mutants(source)}


def test_each_kind_of_change_is_made_at_one_place():
    assert changes(SOURCE) == {
        "0 -> 1",
        "\"exact\" -> 'exact_'",
        "x < low -> (x <= low)",
        "x < low -> (not (x < low))",
        "return low -> return None",
        "return min(x, 9, key=None) -> return None",
        "min(x, 9, key=None) -> min(9, x, key=None)",
        "min(x, 9, key=None) -> min(x, key=None)",
        "min(x, 9, key=None) -> min(x, 9)",
        "9 -> 10",
    }
    for mutant in mutants(SOURCE):
        compile(mutant.source, "mutant", "exec")
        assert mutant.place == "clip"
        different = [a != b for a, b in zip(SOURCE.splitlines(), mutant.source.splitlines())]
        assert sum(different) == 1 and different[mutant.line - 1]


def test_arithmetic_statements_and_signs():
    assert changes("x = a + b * c") == {
        "a + b * c -> (a - (b * c))",
        "b * c -> (b / c)",
    }
    assert changes('open(max(a, b), "utf-8")') == {
        'open(max(a, b), "utf-8") -> pass',
        "open(max(a, b), \"utf-8\") -> open('utf-8', max(a, b))",
        'open(max(a, b), "utf-8") -> open(max(a, b))',
        "max(a, b) -> max(a)",
    }
    assert changes("é = -x if y and z else w; go(1)\nn += k") == {
        "-x -> x",
        "-x if y and z else w -> (w if (y and z) else (-x))",
        "y and z -> (y or z)",
        "go(1) -> pass",
        "1 -> 2",
        "n += k -> pass",
    }


def test_the_tests_of_a_module_by_name_and_by_import():
    def names(module):
        return [path.name for path in tool.test_files(module)]

    assert names("data/crops") == ["test_data_crops.py"]
    assert names("train/__main__") == ["test_train_main.py"]
    assert "test_paper.py" in names("book/claims")
    assert names("caffemodel") == ["test_caffemodel.py"]
    assert names("book/html") == ["test_paper.py"]  # by "from vggbook.book import html"
    assert names("data/__init__") == names("__init__") == ["test_package.py"]
    assert names("paper/__init__") == ["test_package.py", "test_paper.py"]


def test_every_module_has_tests_that_are_there():
    modules = tool.modules()
    assert {"dense", "configs", "book/claims", "train/__init__"} <= set(modules)
    for module in modules:
        files = tool.test_files(module)
        assert files and all(path.exists() for path in files), module
    files = {path.name for path in tool.other_files()}
    assert {"test_dense.py", "test_benchmarks.py"} <= files and "test_mutants.py" not in files


def test_the_interval_is_wilsons():
    """Its ends are the shares p with (good - n p)^2 = z^2 n p (1 - p)."""
    z = NormalDist().inv_cdf(0.975)
    for good, count in ((0, 5), (7, 9), (112, 125)):
        for p in tool.wilson(good, count):
            assert (good - count * p) ** 2 == pytest.approx(z**2 * count * p * (1 - p), abs=1e-3)
    assert tool.wilson(0, 0) == (0, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="mutants run in forked processes")
def test_a_run_counts_goes_on_and_knows_equivalents(tmp_path, monkeypatch, capsys):
    package = tmp_path / "src" / "vggbook"
    package.mkdir(parents=True)
    (package / "toy.py").write_text("def larger(a, b):\n    return a if a > b else b\n")
    (tmp_path / "tests").mkdir()
    test = tmp_path / "tests" / "test_toy.py"
    test.write_text("def test_it():\n    pass\n")
    (tmp_path / "results").mkdir()
    (tmp_path / "pyproject.toml").write_text("")
    same = tmp_path / "same.txt"
    same.write_text("toy.py, larger | a > b -> (a >= b) | equal numbers are one\n")
    names = {"ROOT": tmp_path, "PACKAGE": package, "EQUIVALENT": same}
    names["RECORD"] = tmp_path / "_build" / "mutants.jsonl"
    for name, value in names.items():
        monkeypatch.setattr(tool, name, value)
    monkeypatch.setattr(tool, "equivalents", lambda: _read(same))
    monkeypatch.setattr(tool, "test_files", lambda module: [test])
    verdicts = {}

    def told(self, files, plugin, limit):
        if isinstance(plugin, tool.Covered):
            plugin.out.write_text('{"a": {"seconds": 0.1, "lines": [2]}}')
            return 0, 0.1
        text = (self.source / "vggbook" / "toy.py").read_text()
        scope = {}
        exec(text, scope)
        verdicts[text] = verdicts.get(text, 0) + 1
        right = scope["larger"](2, 1) == 2 and scope["larger"](1, 3) == 3
        return int(not right), 0.1

    monkeypatch.setattr(tool.Copy, "test", told)
    assert tool.main(["-n", "50"]) == 0
    out = capsys.readouterr().out
    assert "| toy | 3 | 2 | 1 | 0 | 100% |" in out and set(verdicts.values()) == {1}
    assert tool.main(["-n", "50"]) == 0  # known by now
    assert set(verdicts.values()) == {1} and capsys.readouterr().out.count("| toy | 3 |") == 1
    verdicts.clear()
    tool.RECORD.unlink()
    assert tool.main(["-n", "50", "--minutes", "0"]) == 0
    assert "3 not judged yet" in capsys.readouterr().out and not verdicts
    assert tool.main(["-n", "50"]) == 0 and len(verdicts) == 3
    same.write_text("")
    assert tool.main(["-n", "50"]) == 1
    assert "+    return a if (a >= b) else b" in capsys.readouterr().out
    assert (package / "toy.py").read_text().startswith("def larger")


_read = tool.equivalents

NOTES = """
import pathlib, pytest
from vggbook import toy

HERE = pathlib.Path(__file__).parent

def note(name):
    with open(HERE / "order", "a") as file:
        file.write(name + " ")
"""

TOY = """
def test_slow():
    note("slow")
    assert sum(range(1_000_000)) and toy.first(1) == 2

def test_quick():
    note("quick")
    assert toy.first(2) == 3

def test_other():
    note("other")
    assert toy.second(1) == 1

@pytest.mark.slow
def test_left_out():
    note("left out")
"""


def toy(folder, monkeypatch, source, tests):
    """A package with one module and its test file; a copy of it; the file, and where it notes the
    order of its tests.
    """
    package = folder / "src" / "vggbook"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "toy.py").write_text(source)
    (folder / "pyproject.toml").write_text('[tool.pytest.ini_options]\nmarkers = ["slow: s"]\n')
    (folder / "tests").mkdir()
    file = folder / "tests" / "test_toy.py"
    file.write_text(tests)
    monkeypatch.setattr(tool, "ROOT", folder)
    monkeypatch.setattr(tool, "PACKAGE", package)
    monkeypatch.setattr(tool, "RECORD", folder / "_build" / "mutants.jsonl")
    for module in [name for name in sys.modules if name.split(".")[0] == "vggbook"]:
        monkeypatch.delitem(sys.modules, module)
    return tool.Copy(folder / "_build" / "copy"), file, folder / "tests" / "order"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="mutants run in forked processes")
def test_tests_of_the_statement_come_first_and_long_ones_are_stopped(tmp_path, monkeypatch):
    """A real pytest in a process of its own: order, the first failure, a loop without an end."""
    source = "def first(x):\n    return x + 1\n\n\ndef second(x):\n    return x\n"
    copy, file, order = toy(tmp_path, monkeypatch, source, NOTES + TOY)
    out = tmp_path / "covered.json"
    covered = tool.Covered(copy.write("toy", source), out)
    assert copy.test([file], covered, limit=60)[0] == 0
    assert order.read_text() == "slow quick other "
    found = {name.split("::")[1]: test for name, test in json.loads(out.read_text()).items()}
    assert {name: test["lines"] for name, test in found.items()} == {
        "test_slow": [2],
        "test_quick": [2],
        "test_other": [6],
    }
    order.write_text("")
    known = json.loads(out.read_text())
    copy.write("toy", source.replace("x + 1", "x - 1"))
    assert copy.test([file], tool.Ordered(known, range(2, 3)), limit=60)[0] == 1
    assert order.read_text() == "quick "
    order.write_text("")
    copy.write("toy", source.replace("return x\n", "return -x\n"))
    assert copy.test([file], tool.Ordered(known, range(6, 7)), limit=60)[0] == 1
    assert order.read_text() == "other "
    quick = {name: {**test, "seconds": -1.98} for name, test in known.items()}  # 0.1 s are allowed
    copy.write("toy", source.replace("return x + 1", "while True: pass"))
    assert copy.test([file], tool.Ordered(quick, range(2, 3)), limit=60)[0] == -signal.SIGPROF
    assert (tool.PACKAGE / "toy.py").read_text() == source


USER = """
def test_of_second():
    note("second")
    assert toy.Pair().second(1) == 1

@pytest.mark.parametrize("x", (1, 2))
def test_of_first(x):
    note(f"first{x}")
    assert sum(range(3_000_000 // x)) and toy.first([x]) == [x + 1]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="mutants run in forked processes")
def test_other_modules_tests_that_enter_the_function_come_after_its_own(tmp_path, monkeypatch):
    source = "def first(x):\n    return [n + 1 for n in x]\n\n\n"
    source += "class Pair:\n    def second(self, x):\n        return x\n"
    copy, file, order = toy(tmp_path, monkeypatch, source, "from vggbook import toy\n")
    user = file.with_name("test_user.py")
    user.write_text(NOTES + USER)
    broken = file.with_name("test_broken.py")
    broken.write_text("from vggbook import toy\n\n\ndef test_it():\n    toy.first([])\n    1 / 0\n")
    tests = tool.entered(copy)
    assert {name: test["enters"] for name, test in tests.items()} == {
        "tests/test_user.py::test_of_second": ["toy.py, Pair.second"],
        "tests/test_user.py::test_of_first[1]": ["toy.py, first"],
        "tests/test_user.py::test_of_first[2]": ["toy.py, first"],
    }
    order.write_text("")
    assert tool.entered(copy) == tests and order.read_text() == ""  # known by now
    chosen = tool.others("toy.py, first", tests, [file])
    assert [name[-3:] for name in chosen] == ["[2]", "[1]"]
    assert not tool.others("toy.py, first", tests, [user])
    assert next(iter(tool.others("toy.py, ", tests, []))).endswith("second")  # quickest first
    monkeypatch.setattr(tool, "PATIENCE", sum(test["seconds"] for test in tests.values()) - 0.001)
    assert len(tool.others("toy.py, ", tests, [])) == 2
    copy.write("toy", source.replace("n + 1", "n - 1"))
    plugin = tool.Ordered(chosen, range(0), only=True)
    assert copy.test([user], plugin, limit=60)[0] == 1
    assert order.read_text() == "first2 "
