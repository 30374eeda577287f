"""Chapters that train hold on processors that round otherwise than this one."""

import nbformat
import pytest
from conftest import ROOT
from nbformat import v4

from tools import rounding
from tools.notebook import METADATA, pick
from vggbook.book import bands, profiles

FARTHEST = rounding.roundings()[0]


def executed(path, *outputs):
    nbformat.write(v4.new_notebook(cells=[v4.new_code_cell("1", outputs=list(outputs))]), path)
    return path


def test_what_a_run_missed(tmp_path):
    lines = "epoch 1\nNot as expected: a net did not learn. Training has luck in it\n"
    printed = v4.new_output("stream", text=lines)
    error = v4.new_output("error", ename="AssertionError", evalue="3 > 4")
    found = rounding.missed(executed(tmp_path / "a.ipynb", printed, error))
    assert found == ["a net did not learn. Training has luck in it", "AssertionError: 3 > 4"]
    shown = v4.new_output("display_data", {"text/plain": "fine"})
    assert rounding.missed(executed(tmp_path / "b.ipynb", shown)) == []


def test_a_run_that_does_not_end_is_no_good_run(tmp_path):
    dies = v4.new_code_cell("import os\nos._exit(1)")
    notebook = tmp_path / "99_dies.ipynb"
    nbformat.write(v4.new_notebook(cells=[dies], metadata=METADATA), notebook)
    with pytest.raises(RuntimeError, match=r"99_dies\.ipynb did not run to its end"):
        rounding.walk(notebook, *FARTHEST, tmp_path / "out")


def test_a_missed_band_is_found_in_the_words_that_the_book_prints(tmp_path, capsys):
    bands.expect(False, "a net did not learn", profiles.load("cpu"))
    printed = v4.new_output("stream", text=capsys.readouterr().out)
    [found] = rounding.missed(executed(tmp_path / "a.ipynb", printed))
    assert found.startswith("a net did not learn. ")


def test_no_two_roundings_are_alike():
    found = [(threads, *sorted(variables.items())) for threads, variables in rounding.roundings()]
    assert len(set(found)) == len(found) == 18
    assert FARTHEST[1] == {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"}


@pytest.mark.slow
@pytest.mark.parametrize("chapter", ["05", "09"])
def test_a_chapter_that_trains_holds_with_another_rounding(chapter, tmp_path):
    assert rounding.walk(pick(ROOT / "notebooks", chapter, ".ipynb"), *FARTHEST, tmp_path) == []
