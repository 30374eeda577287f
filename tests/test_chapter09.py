"""Chapter 9 against its result files: the findings worked out anew by SciPy's own interval, and the
notebook's claims.
"""

import json
import re

import nbformat
import numpy as np
import pytest
from conftest import ROOT
from scipy import stats

from experiments.appendix_a import LONGER, RUNS, SEEDS, Design
from vggbook import claims
from vggbook.book import miniature

RESULTS = ROOT / "results"
SECTIONS = ("App. A", "App. A.1", "App. A.2", "Table 8", "Table 9", "Table 10")


@pytest.fixture(scope="module")
def runs():
    """(name, seed) -> record."""
    found = {}
    for path in sorted((RESULTS / "appendix-a").glob("*.json")):
        record = json.loads(path.read_text())
        found[record["run"]["name"], record["run"]["seed"]] = record
    return found


@pytest.fixture(scope="module")
def source():
    nb = nbformat.read(ROOT / "notebooks" / "09_localisation.ipynb", 4)
    return "\n".join(cell.source for cell in nb.cells)


def test_the_runs_are_the_plans(runs):
    assert set(runs) == {(run.name, seed) for run in RUNS for seed in SEEDS}
    assert len({record["provenance"]["commit"] for record in runs.values()}) == 1
    for (name, seed), record in runs.items():
        assert record["provenance"]["seed"] == seed
        assert record["run"]["start"] == miniature(name[0]).provenance["sha256"]
        assert record["design"] == json.loads(json.dumps(vars(Design())))


def test_a_longer_look_changes_what_the_plan_says():
    for path in (RESULTS / "appendix-a-longer").glob("*.json"):
        record = json.loads(path.read_text())
        expected = json.loads(json.dumps(vars(Design()) | LONGER))
        assert record["design"] == expected and record["run"]["seed"] >= 500


def test_every_finding_is_opposite_by_scipys_interval(runs):
    """The paper has each difference below zero; here each whole interval lies above."""
    pairs = [
        (("D_PCR_fc", "centre"), ("D_SCR_fc", "centre")),
        (("D_PCR_all", "centre"), ("D_PCR_fc", "centre")),
        (("D_PCR_all", "full"), ("D_PCR_all", "centre, first")),
        (("D_PCR_all", "centre"), ("A_PCR_all", "centre")),
    ]
    for pair in pairs:
        one, two = (np.array([runs[name, s]["errors"][key] for s in SEEDS]) for name, key in pair)
        low, _ = stats.ttest_rel(one, two).confidence_interval(0.95)
        assert low > 0, pair


def test_the_full_protocol_counts_whole_pictures(runs):
    for seed in SEEDS:
        missed = runs["D_PCR_all", seed]["errors"]["full"] * Design().dense / 100
        assert missed == round(missed)


def test_every_claim_of_the_appendix_is_on_the_page(source):
    named = set(re.findall(r'claims\(\)\["([\w-]+)"\]', source))
    assert {claim.id for claim in claims() if claim.section in SECTIONS} <= named
