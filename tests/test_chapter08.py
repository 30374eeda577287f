"""Chapter 8 against its result files: what the page shows, worked out anew by another road."""

import copy
import itertools
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from conftest import ROOT
from scipy import stats

from experiments.section4 import GRIDS, Section4
from vggbook import tables

NAME = "08_section4_in_miniature"
RESULTS = ROOT / "results"
MINUS = re.compile(r"\u2212(?=\.?\d)")
PRIMARY_RUNS = {"A/256", "B/256", "B-5x5/256", "D/256", "D/384", "D/256-512"}


def read(folder):
    """Runs of a folder: name -> seed -> record."""
    found = {}
    for path in sorted((RESULTS / folder).glob("*_seed*.json")):
        record = json.loads(path.read_text())
        found.setdefault(record["run"]["name"], {})[record["run"]["seed"]] = record
    return found


@pytest.fixture(scope="module")
def first():
    return read("section4-small")


@pytest.fixture(scope="module")
def second():
    return read("section4-two")


@pytest.fixture(scope="module")
def third():
    return read("section4-three")


@pytest.fixture(scope="module")
def page():
    path = ROOT / "_build" / "executed" / "notebooks" / f"{NAME}.ipynb"
    if not path.exists():
        pytest.skip("needs the executed notebooks: run make book first")
    return nbformat.read(path, 4)


def rows_of(page, caption):
    """The rows of the table whose caption begins so, cells as text, a number's minus a hyphen."""
    for cell in page.cells:
        for out in cell.get("outputs", []):
            html = BeautifulSoup(out.get("data", {}).get("text/html", ""), "html.parser")
            for table in html.find_all("table"):
                if table.caption and table.caption.get_text().startswith(caption):
                    lines = table.find("tbody").find_all("tr")
                    cells = [line.find_all(["th", "td"]) for line in lines]
                    return [[MINUS.sub("-", c.get_text()) for c in row] for row in cells]
    raise AssertionError(f"no table {caption!r} on the page")


def test_the_first_grid_is_whole_and_of_one_commit(first):
    assert set(first) == {job.name for job in Section4(GRIDS["small"]).jobs(0)}
    assert {tuple(sorted(by_seed)) for by_seed in first.values()} == {(0, 1, 2, 3, 4)}
    every = [r for by_seed in first.values() for r in by_seed.values()]
    assert len({r["provenance"]["commit"] for r in every}) == 1
    assert all(r["grid"] == every[0]["grid"] for r in every)
    assert all(r["provenance"]["data_seed"] == r["run"]["seed"] for r in every)


def first_differences(first):
    """The first plan's comparisons between trainings, and of several scales: name -> (n,)."""

    def top1(name, key):
        return np.array([first[name][s]["errors"][key]["top1"] for s in sorted(first[name])])

    def minus(a, b, key="dense@256"):
        return top1(a, key) - top1(b, key)

    three = {"256": "224,256,288", "384": "352,384,416", "256-512": "256,384,512"}
    one = {"256": "256", "384": "384", "256-512": "384"}
    gains = [
        top1(f"{n}/{S}", f"dense@{three[S]}") - top1(f"{n}/{S}", f"dense@{one[S]}")
        for n, S in [("B", "256"), *((n, S) for n in "CDE" for S in three)]
    ]
    e_d = minus("E/256", "D/256"), minus("E/384", "D/384", "dense@384")
    wide = "256,384,512"
    tested = {
        way: np.mean([top1(f"{n}/256-512", f"{way}@{wide}") for n in "DE"], axis=0)
        for way in ("dense_of_crops", "multi_crop", "both")
    }
    alone = np.array([top1(f"{n}/256-512", f"dense@{wide}") for n in "DE"])
    jitter = [minus(f"{n}/256-512", f"{n}/384", "dense@384") for n in "CDE"]
    return {
        "LRN": minus("A-LRN/256", "A/256"),
        "B − A": minus("B/256", "A/256"),
        "D − B": minus("D/256", "B/256"),
        "D − A": minus("D/256", "A/256"),
        "C − B": minus("C/256", "B/256"),
        "D − C": minus("D/256", "C/256"),
        "E − D": np.mean(e_d, axis=0),
        "B − B-5x5": minus("B/256/random", "B-5x5/256", "centre_crop@256"),
        "jittered − 384": np.mean(jitter, axis=0),
        "several − one Q": np.mean(gains, axis=0),
        "crops − dense": tested["multi_crop"] - tested["dense_of_crops"],
        "both − dense": tested["both"] - tested["dense_of_crops"],
        "both − crops": tested["both"] - tested["multi_crop"],
        "two nets − one": top1("D/256-512+E/256-512", f"dense@{wide}") - alone.min(axis=0),
    }


def judged(name, d):
    """Mean with half an interval, and the verdict, from SciPy's test; the page has the formula."""
    low, high = stats.ttest_1samp(d, 0).confidence_interval(0.95)
    if name in ("LRN", "E − D"):
        word = "reproduced" if low > -2 else "opposite" if high < 0 else "undecided"
    else:
        word = "reproduced" if high < 0 else "opposite" if low > 0 else "undecided"
    text = f"{d.mean():+.1f} ± {high - d.mean():.1f}"
    return re.sub(r"-0\.0\b", "+0.0", text), word


def wrong_rows(page, first):
    """Findings of the first plan that the page shows otherwise than the files have them."""
    shown = {row[0]: row[2:] for row in rows_of(page, "First plan: top-1 differences")}
    right = {name: list(judged(name, d)) for name, d in first_differences(first).items()}
    right["D − A"][1] = "not planned"  # asked after looking
    return [name for name in right if shown.get(name) != right[name]]


def test_the_first_plans_verdicts_follow_its_rule(page, first):
    assert wrong_rows(page, first) == []


def test_a_changed_digit_would_be_found(page, first):
    """The canary."""
    changed = copy.deepcopy(page)
    mean = f"{first_differences(first)['D − A'].mean():+.1f}"
    for cell in changed.cells:
        for out in cell.get("outputs", []):
            html = out.get("data", {}).get("text/html", "")
            if "First plan: top-1 differences" in html:
                other = mean[:-1] + str((int(mean[-1]) + 1) % 10)
                out.data["text/html"] = html.replace(f"{mean} ±", f"{other} ±")
    assert wrong_rows(changed, first) == ["D − A"]


def test_the_papers_differences_are_its_tables(page):
    t3 = {(c, str(S)): e for c, S, _, e, _ in tables()["table_3"]["rows"]}
    shown = {row[0]: row[1] for row in rows_of(page, "First plan: top-1 differences")}
    assert shown["B − A"] == f"{t3['B', '256'] - t3['A', '256']:+.1f}"
    assert shown["D − A"] == f"{t3['D', '256'] - t3['A', '256']:+.1f}"
    assert shown["B − B-5x5"] == "-7.0"
    assert [shown[f"{a} − {b}"] for a, b in (("crops", "dense"), ("both", "dense"))] == [
        "-0.2",
        "-0.4",
    ]
    assert shown["two nets − one"] == "-0.8"


def test_seeds_for_80_percent_are_right(page, first):
    """Against SciPy's noncentral t at n and at n - 1."""
    t3 = {(c, str(S)): e for c, S, _, e, _ in tables()["table_3"]["rows"]}
    found = first_differences(first)
    effects = {
        "LRN": 2 + t3["A-LRN", "256"] - t3["A", "256"],
        "B − A": t3["B", "256"] - t3["A", "256"],
        "C − B": t3["C", "256"] - t3["B", "256"],
        "D − C": t3["D", "256"] - t3["C", "256"],
    }
    shown = {row[0]: row[3] for row in rows_of(page, "The power of the first plan")}
    for name, effect in effects.items():
        ratio = abs(effect) / found[name].std(ddof=1)
        n = int(shown[name].replace(",", ""))
        for seeds, enough in ((n, True), (n - 1, False)):
            bound = stats.t.ppf(0.975, seeds - 1)
            chance = 1 - stats.nct.cdf(bound, seeds - 1, seeds**0.5 * ratio)
            assert bool(chance >= 0.8) is enough, (name, seeds, chance)


@pytest.mark.parametrize(
    "folder, seeds, whole",
    [
        ("section4-two", range(200, 208), PRIMARY_RUNS),
        ("section4-three", range(300, 308), PRIMARY_RUNS),
        ("section4-three-few", range(300, 304), {"D/256", "D/384", "D/256-512"}),
    ],
)
def test_runs_of_the_later_plans_are_whole_and_of_one_design(folder, seeds, whole):
    grid = read(folder)
    every = [r for by_seed in grid.values() for r in by_seed.values()]
    assert all(set(grid[name]) == set(seeds) for name in whole)
    assert {s for by_seed in grid.values() for s in by_seed} == set(seeds)
    assert all(r["design"] == every[0]["design"] for r in every)
    for record in every:
        design, schedule = record["design"], record["schedule"]
        base = record["run"]["start"] == "measured"
        assert schedule["updates"] == design["updates" if base else "branch_updates"]
        assert record["curve"][-1]["update"] == schedule["updates"]
        assert record["trained_to_its_end"] == (record["train_error"] <= design["gate"])


PRIMARY = {
    "D − A": ("D/256", "dense@256", "A/256", "dense@256"),
    "several − one Q": ("D/256-512", "dense@256,384,512", "D/256-512", "dense@384"),
    "B − B-5x5": ("B/256", "centre@256", "B-5x5/256", "centre@256"),
    "jittered − 384": ("D/256-512", "dense@384", "D/384", "dense@384"),
}
THREE_EACH = ("D/256-512", "dense@256,384,512", "D/384", "dense@352,384,416")
FIVE = {**PRIMARY, "jittered − 384, three Q": THREE_EACH}


def differences(grid, finding):
    a, test_a, b, test_b = finding
    seeds = sorted(set(grid[a]) & set(grid[b]))
    pairs = [(grid[a][s]["errors"][test_a], grid[b][s]["errors"][test_b]) for s in seeds]
    return np.array([mine["top1"] - other["top1"] for mine, other in pairs])


def second_plans(second):
    """The second plan's findings: name -> (mean ± half-width, verdict), by its order."""
    going, found = True, {}
    for name, finding in PRIMARY.items():
        shown, word = judged(name, differences(second, finding))
        found[name] = shown, word if going else "undecided (order)"
        going = going and word in ("reproduced", "opposite")
    return found


def third_plans(third):
    """The third plan's findings: name -> (mean ± half-width, verdict).

    Holm's rule as a closed test: a finding is decided if each set of findings that holds it has a
    p-value below 5% over the size of the set.
    """
    d = {name: differences(third, finding) for name, finding in FIVE.items()}
    p = {name: stats.ttest_rel(v, np.zeros(len(v))).pvalue for name, v in d.items()}
    sets = [c for n in range(1, 6) for c in itertools.combinations(d, n)]
    found = {}
    for name in d:
        holding = [c for c in sets if name in c]
        sure = all(min(p[other] for other in c) <= 0.05 / len(c) for c in holding)
        side = "reproduced" if d[name].mean() < 0 else "opposite"
        found[name] = judged(name, d[name])[0], side if sure else "undecided"
    return found


def test_the_second_plans_verdicts_follow_its_rules(page, second):
    rows = rows_of(page, "Second plan, eight seeds")
    assert {name: (mean, word) for name, _, mean, word in rows} == second_plans(second)


def test_the_third_plans_verdicts_follow_its_rules(page, third):
    rows = rows_of(page, "Third plan, five findings")
    assert {name: (mean, word) for name, _, mean, word in rows} == third_plans(third)
    t4 = {(c, str(S)): e for c, S, _, e, _ in tables()["table_4"]["rows"]}
    paper = [t4[net, "[256, 512]"] - t4[net, "384"] for net in "CDE"]
    assert rows[-1][1] == f"{sum(paper) / 3:+.1f}"
    every = [r for by_seed in third.values() for r in by_seed.values()]
    assert max(r["train_error"] for r in every) <= 10  # the gate


def test_holms_rule_is_shown_from_the_smallest_p_on(page, third):
    rows = rows_of(page, "Third plan: Holm's rule")
    d = {name: differences(third, finding) for name, finding in FIVE.items()}
    p = {name: stats.ttest_rel(v, np.zeros(len(v))).pvalue for name, v in d.items()}
    assert [name for name, _, _ in rows] == sorted(p, key=p.get)
    assert [float(shown) for _, shown, _ in rows] == pytest.approx(sorted(p.values()), abs=6e-5)
    assert [bound for _, _, bound in rows] == ["0.0100", "0.0125", "0.0167", "0.0250", "0.0500"]


def test_jitter_on_few_pictures_is_that_of_the_files(page, third):
    _, *columns = zip(*rows_of(page, "Jitter on many pictures and on few"))
    for column, grid in zip(columns, (third, read("section4-three-few"))):
        seeds, seen, new, *shown = column
        assert shown == [judged(n, differences(grid, FIVE[n]))[0] for n in list(FIVE)[-2:]]
        runs = grid["D/384"].values()
        assert int(seeds) == len(runs)
        errors = [r["errors"]["dense@384"]["top1"] for r in runs]
        assert float(seen) == pytest.approx(np.mean([r["train_error"] for r in runs]), abs=0.051)
        assert float(new) == pytest.approx(np.mean(errors), abs=0.051)


LEDGER = {
    "lrn-no-help": "LRN",
    "depth-helps": "B − A|C − B|D − C",
    "c-better-than-b": "C − B",
    "d-better-than-c": "D − C",
    "saturates-19": "E − D",
    "e-not-better-fixed-s": "E − D",
    "shallow-net-error": "B − B-5x5",
    "train-jitter-helps": "jittered − 384",
    "test-jitter-helps": "several − one Q",
    "crop-dense-complementary": "crops − dense|both − dense|both − crops",
}


LATER = {
    "depth-helps": "D − A",
    "shallow-net-error": "B − B-5x5",
    "train-jitter-helps": "jittered − 384",
    "test-jitter-helps": "several − one Q",
}


def ledgers(first, *later):
    """claim -> status: the latest verdict of the plans, or "undecided" where none decided."""
    found = first_differences(first)
    right = {}
    for claim, parts in LEDGER.items():
        words = {judged(part, found[part])[1] for part in parts.split("|")}
        mixed = "opposite" if "opposite" in words else "undecided"
        right[claim] = words.pop() if len(words) == 1 else mixed
        for plan in later:
            word = plan[LATER[claim]][1] if claim in LATER else ""
            if word in ("reproduced", "opposite"):
                right[claim] = word
    return right


def test_the_ledger_has_the_verdicts(page, first, second, third):
    reports = {}
    for cell in page.cells:
        for out in cell.get("outputs", []):
            for key, value in out.get("data", {}).items():
                if key.startswith("application/vnd.vggbook.claim"):
                    reports[value["id"]] = value["status"]
    right = ledgers(first, second_plans(second), third_plans(third))
    assert {claim: reports[claim] for claim in LEDGER} == right
    assert reports["init-glorot"] == "undecided"
    assert "ensemble-two" not in reports


RAISED = dict(zip("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))


def number(shown):
    """The number that a cell shows, also as "2 × 10⁻¹⁴"."""
    digit, _, power = shown.partition(" × 10")
    return float(digit) * 10 ** int("".join(map(RAISED.get, power)) or 0)


def test_the_starts_are_those_of_the_files(page):
    losses = {row[0]: row[1:] for row in rows_of(page, "D's last training loss")}
    spreads = {row[0]: row[1:] for row in rows_of(page, "Spread of D's logits")}
    records = map(json.loads, map(Path.read_text, (RESULTS / "section4-starts").glob("*.json")))
    for record in records:
        scheme, divisor, width = record["scheme"], record["divisor"], record["width"]
        if divisor == 1:
            shown = number(spreads[scheme][int(width == 1)])
            assert shown == pytest.approx(record["logit_spread"], rel=0.07)
        if width < 1:
            finite = [loss for loss in record["losses"] if loss is not None]
            mean = f"{np.mean(finite[-(record['updates'] // 6) :]):.2f}"
            whole = len(finite) == len(record["losses"])
            assert losses[scheme][int(divisor == 64)] == (mean if whole else "not finite")


def test_a_number_in_prose_is_the_plans_or_the_papers():
    """Decimals typed in prose stand in one of the plans, or are exact powers that a check
    computes."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{NAME}.ipynb", 4)
    plans = "".join(
        (ROOT / "book" / f"preregistration{which}.md").read_text() for which in ("", "_2", "_3")
    )
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"\$\$.*?\$\$", "", cell.source, flags=re.S)
            prose = re.sub(r"\$[^$]*\$|`[^`]*`|\(8\.\d\)|Exercise 8\.\d|Sect\. [\d.]+\d", "", prose)
            for number in re.findall(r"\d+\.\d+", prose):
                assert number in plans or number in ("97.5", "4.1", "4.4"), (
                    number,
                    cell.source[:60],
                )
