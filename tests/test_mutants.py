"""The mutants by hand, the interval against a published one, and one round on a toy package."""

import os
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
    assert names("data/painting") == ["test_data_shapes.py"]


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

    def told(self, files, limit):
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
    same.write_text("")
    assert tool.main(["-n", "50"]) == 1
    assert "+    return a if (a >= b) else b" in capsys.readouterr().out
    assert (package / "toy.py").read_text().startswith("def larger")


_read = tool.equivalents
