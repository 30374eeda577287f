"""The benchmarks' verdicts on equal pairs and on real differences, simulated and recorded."""

import json
import math

import numpy as np
import pytest
from conftest import ROOT
from scipy import stats

from benchmarks.record import Bench
from benchmarks.verdict import CLEAR, MARGIN, equal_margin, verdict

ROWS = json.loads((ROOT / "results" / "bench-cpu.json").read_text(encoding="utf-8"))["rows"]
TWINS = [
    row["times"] for row in ROWS if row["section"] in ("training", "inference") and "times" in row
]
PAIRS = len(TWINS)
RUNS = 3000
# Logarithms: between equal pairs as between the recorded medians; within a pair, the middle half
# of three rounds is as wide as theirs on average (of normal noise it is 0.85 standard deviations).
BETWEEN = math.sqrt(np.mean([math.log(t["median"]) ** 2 for t in TWINS]))
WITHIN = np.mean([math.log(t["high"] / t["low"]) for t in TWINS]) / 0.85


def old_rule(low: float, high: float) -> bool:
    """A gain or loss wherever the middle half does not hold 1: the rule that was replaced."""
    return low > 1 or high < 1


def simulated(rounds: int, effect: float = 1.0, tails: int = 0) -> list[tuple[str, bool]]:
    """Verdicts on a ninth pair, ``effect`` times as fast, by eight equal ones; the old rule's."""
    rng = np.random.default_rng(7)
    shape = (RUNS, PAIRS + 1, rounds)
    noise = rng.standard_t(tails, shape) if tails else rng.standard_normal(shape)
    ratios = np.exp(BETWEEN * rng.standard_normal((RUNS, PAIRS + 1, 1)) + WITHIN * noise)
    ratios[:, PAIRS] *= effect
    lows, medians, highs = np.percentile(ratios, [25, 50, 75], axis=2)
    found = []
    for low, median, high in zip(lows, medians, highs):
        margin = equal_margin(list(median[:PAIRS]))
        times = {"low": low[PAIRS], "high": high[PAIRS]}
        found.append((verdict(times, rounds, margin), old_rule(**times)))
    return found


@pytest.mark.parametrize("tails", [0, 3])
@pytest.mark.parametrize("rounds", [3, 5, 9])
def test_equal_pairs_raise_few_false_alarms(rounds, tails):
    found = simulated(rounds, tails=tails)
    alarms = sum(said != CLEAR for said, _ in found)
    upper = stats.binomtest(alarms, RUNS).proportion_ci(0.95).high
    assert upper < 0.05
    assert sum(old for _, old in found) > 0.4 * RUNS  # what was wrong before


@pytest.mark.parametrize("effect, word", [(2.0, "gain"), (0.5, "loss")])
def test_real_differences_are_seen(effect, word):
    found = [said for said, _ in simulated(5, effect)]
    assert found.count(word) > 0.95 * RUNS


def test_the_recorded_equal_pairs_get_no_verdict_by_the_margin_of_the_others():
    assert PAIRS == 8 and sum(old_rule(t["low"], t["high"]) for t in TWINS) == 7
    for i, times in enumerate(TWINS):
        others = [t["median"] for k, t in enumerate(TWINS) if k != i]
        assert verdict(times, 3, equal_margin(others)) == CLEAR
    assert 1.2 < equal_margin([t["median"] for t in TWINS]) < MARGIN


def test_the_margin_is_students():
    """Four logarithms of +-0.1: their spread is 0.1; 2.776 is printed in tables of t."""
    ratios = [math.exp(x) for x in (0.1, -0.1, 0.1, -0.1)]
    assert equal_margin(ratios) == pytest.approx(math.exp(0.2776), rel=1e-4)
    assert equal_margin(ratios[:3]) == MARGIN == equal_margin([])


def test_the_middle_half_must_lie_beyond_the_margin():
    assert verdict({"low": 1.11, "high": 2.0}, 3, 1.1) == "gain"
    assert verdict({"low": 1.09, "high": 2.0}, 3, 1.1) == CLEAR
    assert verdict({"low": 0.2, "high": 0.90}, 3, 1.1) == "loss"
    assert verdict({"low": 0.2, "high": 0.92}, 3, 1.1) == CLEAR
    assert verdict({"low": 1.24, "high": 1.24}, 3) == CLEAR
    assert (
        verdict({"low": 9.0, "high": 9.0}, 2) == CLEAR
        and verdict({"low": 9.0, "high": 9.0}, 3) == "gain"
    )


def test_a_run_judges_by_its_own_equal_pairs(tmp_path, monkeypatch):
    seconds = {"twin": [1.0] * 3, "base": [1.0] * 3, "fast": [0.85] * 3}
    monkeypatch.setattr(
        "benchmarks.record.stopwatch", lambda cases, *rest: {n: seconds[n] for n in cases}
    )
    bench = Bench("cpu", tmp_path / "bench.json", say=lambda text: None)
    fast = bench.compare("s", dict.fromkeys(("base", "fast")), 1, against="base")["fast"]
    assert fast["verdict"] == CLEAR  # 1.18, and nothing is known of this machine
    for ratio in (1.02, 0.98, 1.02, 0.98):
        seconds["twin"] = [ratio] * 3
        bench.compare("t", dict.fromkeys(("base", "twin")), 1, against="base", equal=True)
    assert fast["verdict"] == "gain"
    saved = json.loads(bench.path.read_text())
    assert saved["facts"]["equal_margin"] == pytest.approx(math.exp(2.776 * math.log(1.02)), 1e-3)
    assert ["verdict" in row for row in saved["rows"][-2:]] == [False, False]
