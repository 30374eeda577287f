"""Chapter 10 against its plan and its result files: design, intervals and verdicts."""

import json
import math
import re

import pytest
from conftest import ROOT
from scipy import stats

from experiments import appendix_b
from vggbook.book import miniature

PLAN = (ROOT / "book" / "preregistration_b.md").read_text()
RUNS = [json.loads(path.read_text()) for path in sorted(appendix_b.RESULTS.glob("seed*.json"))]


def test_the_plan_says_what_the_design_has():
    design = appendix_b.DESIGN
    for words in (
        f"{design.train} training and {design.test} test pictures",
        f"{design.updates} batches of {design.batch_size},",
        f"{min(design.seeds)} to {max(design.seeds)}",
        ", ".join(map(str, design.scales[:2])) + f" and {design.scales[2]} pixels",
        f"{3 * design.pixels**2:,} numbers",
    ):
        assert words in PLAN, words
    assert len(design.seeds) == 8 and "fewer than eight seeds nothing is judged" in PLAN
    assert [round(q * 64 / 224) for q in (256, 384, 512)] == list(design.scales)


def test_the_new_classes_are_those_no_miniature_saw():
    new = set(appendix_b.unseen_classes())
    assert len(new) == 12
    for name in ("A", "D"):
        assert not new & set(miniature(name).classes)


def test_small_sets_hold_what_the_plan_says_and_share_nothing():
    design = appendix_b.Design(train=2, test=3, scales=(64,))
    few = appendix_b.small_set(design, "train", 1)
    others = appendix_b.small_set(design, "test", 1)
    assert few.labels.bincount().tolist() == [2] * 12
    assert others.labels.bincount().tolist() == [3] * 12
    assert not (few.images[:, None] == others.images[None]).flatten(2).all(2).any()


def test_recorded_runs_follow_the_plan():
    assert [run["run"]["seed"] for run in RUNS] == list(appendix_b.DESIGN.seeds)
    for run in RUNS:
        assert run["design"]["updates"] == appendix_b.DESIGN.updates
        assert run["design"]["scales"] == list(appendix_b.DESIGN.scales)
        assert run["run"]["classes"] == list(appendix_b.unseen_classes())
        counts = appendix_b.DESIGN.test * 12
        for name, recall in run["recall"].items():  # balanced classes: a whole number of pictures
            assert recall * counts / 100 == pytest.approx(round(recall * counts / 100)), name


def page_functions(runs):
    """``interval`` and ``verdict`` as the page has them, over these runs."""
    cells = json.loads((ROOT / "notebooks" / "10_generalisation.ipynb").read_text())["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    import torch

    names = {"torch": torch, "math": math, "stats": stats, "runs": runs, "planned": 8}
    for text in texts:
        if re.match(r"def (interval|verdict)\(", text):
            exec(text, names)
    return names["interval"], names["verdict"]


def made_up(gaps):
    """Runs whose D is so many points ahead of its A."""
    return [{"recall": {"D": 50.0 + gap, "A": 50.0}} for gap in gaps]


def test_the_pages_interval_is_a_paired_t_interval():
    runs = made_up([1.0, 3.0, 2.5, -0.5, 4.0, 2.0, 1.5, 0.5])
    interval, _ = page_functions(runs)
    mean, half = interval(runs, "D", "A")
    gaps = [run["recall"]["D"] - 50 for run in runs]
    low, high = stats.ttest_1samp(gaps, 0).confidence_interval(0.99)
    assert (mean - half, mean + half) == pytest.approx((low, high), rel=1e-5)


FINDINGS = {
    ("D", "A"): "opposite",
    ("A and D", "D"): "reproduced",
    ("D", "D from scratch"): "reproduced",
    ("D", "pixels"): "reproduced",
    ("D stack", "D"): "stacked",
}


@pytest.mark.parametrize("pair", FINDINGS, ids=" - ".join)
def test_the_findings_by_scipys_paired_test(pair):
    """The plan's rule without an interval: the 99 % interval leaves out zero where SciPy's paired
    test gives a p below 1 %.
    """
    one, two = ([run["recall"][name] for run in RUNS] for name in pair)
    t, p = stats.ttest_rel(one, two)
    mean, half = page_functions(RUNS)[0](RUNS, *pair)
    assert (p < 0.01) == (abs(mean) > half) and (t > 0) == (mean > 0)
    sides = ("stacked", "averaged") if pair[0] == "D stack" else ("reproduced", "opposite")
    found = "undecided" if p >= 0.01 else sides[0] if t > 0 else sides[1]
    assert found == FINDINGS[pair]
    assert page_functions(RUNS)[1](mean, half, *sides) == found


def test_what_the_page_says_beside_the_verdicts():
    """Fusion's gain over A alone could be chance; D errs less than A on its own classes."""
    both, one = ([run["recall"][name] for run in RUNS] for name in ("A and D", "A"))
    assert stats.ttest_rel(both, one).pvalue > 0.01
    error = {n: miniature(n).provenance["errors"]["dense@256"]["top1"] for n in "AD"}
    assert error["D"] < error["A"]


def test_the_pages_verdicts_are_the_plans():
    _, verdict = page_functions(made_up([1.0] * 8))
    assert verdict(2.0, 1.0) == "reproduced"
    assert verdict(-2.0, 1.0) == "opposite"
    assert verdict(0.5, 1.0) == "undecided"
    assert verdict(2.0, 1.0, "stacked", "averaged") == "stacked"
    _, verdict = page_functions(made_up([1.0] * 7))
    assert verdict(2.0, 1.0) == "provisional"
