"""Grids of recorded runs, by hand: what they hold, and what does not belong together."""

import json
from dataclasses import FrozenInstanceError

import pytest

from vggbook.book import grids, recorded
from vggbook.book.recorded import ResultError

DESIGN = {"name": "plan", "epochs": 3}


def write(folder, name, seed, file=None, design=DESIGN, **parts):
    """One run; its file is named for it unless told otherwise."""
    record = {
        "provenance": dict.fromkeys(recorded.PROVENANCE, "x"),
        "run": {"name": name, "seed": seed},
        "design": design,
        "errors": {"Q=64": {"top1": 50.0 + seed, "top5": 20.0 + seed}, "dense": {"top1": 40.0}},
        "seconds": {"train": 1.0, "all": 1800.0},
        "curve": [],
        **parts,
    }
    record = {key: value for key, value in record.items() if value is not None}
    path = folder / (file or f"{name}_seed{seed}.json")
    path.write_text(json.dumps(record))
    return record


@pytest.fixture
def folder(tmp_path):
    for name, seed in (("B", 10), ("B", 2), ("A", 2), ("A", 3)):
        write(tmp_path, name, seed)
    (tmp_path / "summary.json").write_text("{}")  # no run
    return tmp_path


def test_a_grid_by_hand(folder):
    grid = grids.load(folder)
    assert grid.seeds == (2, 3, 10) and grid.names == ("A", "B")
    assert grid.design == DESIGN and len(grid.runs) == 4
    assert grid.runs["B", 10]["run"] == {"name": "B", "seed": 10}
    assert grid.hours == 4 * 1800 / 3600
    assert grid.complete(["A", "B"]) == (2,) and grid.complete(["B"]) == (2, 10)
    assert grid.complete([]) == (2, 3, 10)
    assert grid.errors("B", "Q=64", [10, 2]) == [60.0, 52.0]
    with pytest.raises(FrozenInstanceError):
        grid.design = {}


def test_a_folder_below_the_results(folder, monkeypatch):
    monkeypatch.setattr(recorded, "folder", lambda: folder.parent)
    assert grids.load(folder.name).names == ("A", "B")


def test_what_is_missing_is_named(folder, tmp_path):
    grid = grids.load(folder)
    with pytest.raises(ResultError, match=r"^A, seed 10: this run is missing$"):
        grid.errors("A", "Q=64", [2, 10])
    with pytest.raises(ResultError, match=r"^A, seed 2: no test 'x'; there are Q=64, dense$"):
        grid.errors("A", "x", [2])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultError, match=r"^no recorded run in .*empty$"):
        grids.load(tmp_path / "empty")


@pytest.mark.parametrize("part", ["run", "design", "errors", "seconds", "curve"])
def test_a_file_that_is_no_run_is_named(folder, part):
    write(folder, "C", 1, **{"design": DESIGN, part: None})
    words = rf"^C_seed1\.json: {part} is missing: expected a run of a grid$"
    with pytest.raises(ResultError, match=words):
        grids.load(folder)


def test_several_missing_parts_are_all_named(folder):
    write(folder, "C", 1, seconds=None, curve=None)
    with pytest.raises(ResultError, match=r"^C_seed1\.json: seconds, curve is missing"):
        grids.load(folder)


def test_a_run_that_is_there_twice(folder):
    write(folder, "A", 3, file="copy_seed3.json")
    with pytest.raises(
        ResultError, match=r"^copy_seed3\.json and A_seed3\.json both hold A, seed 3$"
    ):
        grids.load(folder)


@pytest.mark.parametrize(
    "design, words",
    [
        ({**DESIGN, "epochs": 4}, r"epochs is 4 in C_seed1\.json, 3 in A_seed2\.json"),
        ({**DESIGN, "crop": 64}, r"crop is 64 in C_seed1\.json, None in A_seed2\.json"),
        ({"name": "plan"}, r"epochs is None in C_seed1\.json, 3 in A_seed2\.json"),
    ],
)
def test_runs_of_two_plans(folder, design, words):
    write(folder, "C", 1, design=design)
    with pytest.raises(ResultError, match=f"^runs of two plans: {words}$"):
        grids.load(folder)
