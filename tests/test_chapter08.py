"""Chapter 8 against its result files: verdicts worked out anew with SciPy, and no number on the page without a source."""

import copy
import json
import re
from itertools import product

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from conftest import ROOT
from scipy import stats

from experiments.section4 import GRIDS, Section4
from vggbook import claims, tables

NAME = "08_section4_in_miniature"
RESULTS = ROOT / "results" / "section4-small"
JITTER = {"256": "224,256,288", "384": "352,384,416", "256-512": "256,384,512"}
ONE = {"256": "256", "384": "384", "256-512": "384"}


@pytest.fixture(scope="module")
def runs():
    found = {}
    for path in RESULTS.glob("*.json"):
        r = json.loads(path.read_text())
        found.setdefault(r["run"]["name"], {})[r["run"]["seed"]] = r
    return found


@pytest.fixture(scope="module")
def top1(runs):
    """Errors of a run by its test, one number a seed in the order of the seeds."""
    return lambda name, test, k="top1": np.array(
        [runs[name][s]["errors"][test][k] for s in sorted(runs[name])]
    )


@pytest.fixture(scope="module")
def page():
    path = ROOT / "_build" / "executed" / "notebooks" / f"{NAME}.ipynb"
    if not path.exists():
        pytest.skip("needs the executed notebooks: run make book first")
    return nbformat.read(path, 4)


def test_the_grid_is_whole_and_of_one_commit(runs):
    plan = {job.name for job in Section4(GRIDS["small"]).jobs(0)}
    assert set(runs) == plan
    seeds = {tuple(sorted(by_seed)) for by_seed in runs.values()}
    assert len(seeds) == 1, f"seeds differ between runs: {seeds}"
    assert min(seeds) == tuple(range(len(min(seeds)))) and len(min(seeds)) >= 3, (
        "seeds are to be taken in their order, not picked"
    )
    every = [r for by_seed in runs.values() for r in by_seed.values()]
    assert len({r["provenance"]["commit"] for r in every}) == 1 and not every[0]["provenance"][
        "commit"
    ].endswith("+")
    assert all(r["grid"] == every[0]["grid"] for r in every)
    assert {**every[0]["grid"], "seeds": tuple(every[0]["grid"]["seeds"])} == vars(
        GRIDS["small"]
    ), "the plan in the code is no longer that of the runs"


def test_a_seed_means_the_same_pictures_for_all_nets(runs):
    for by_seed in runs.values():
        assert all(
            r["provenance"]["data_seed"] == r["run"]["seed"] == seed for seed, r in by_seed.items()
        )


def differences(top1):
    """The plan's table, read anew: finding -> (differences, whether the paper says that it helps)."""
    one = lambda name: top1(name, "dense@" + ONE[name.split("/")[1]])
    several = lambda name: top1(name, "dense@" + JITTER[name.split("/")[1]])
    rows = ["B/256", *(f"{n}/{S}" for n, S in product("CDE", JITTER))]
    crops = lambda way: np.mean([top1(f"{n}/256-512", f"{way}@256,384,512") for n in "DE"], axis=0)
    best = np.minimum(*(top1(f"{n}/256-512", "dense@256,384,512") for n in "DE"))
    return {
        "1": (one("A-LRN/256") - one("A/256"), False),
        "2a": (one("B/256") - one("A/256"), True),
        "2b": (one("D/256") - one("B/256"), True),
        "2c": (np.mean([one(f"E/{S}") - one(f"D/{S}") for S in (256, 384)], axis=0), False),
        "3": (one("C/256") - one("B/256"), True),
        "4": (one("D/256") - one("C/256"), True),
        "5": (top1("B/256/random", "centre_crop@256") - top1("B-5x5/256", "centre_crop@256"), True),
        "6": (np.mean([one(f"{n}/256-512") - one(f"{n}/384") for n in "CDE"], axis=0), True),
        "7": (np.mean([several(n) - one(n) for n in rows], axis=0), True),
        "8a": (crops("multi_crop") - crops("dense_of_crops"), True),
        "8b": (crops("both") - crops("dense_of_crops"), True),
        "8c": (crops("both") - crops("multi_crop"), True),
        "9": (top1("D/256-512+E/256-512", "dense@256,384,512") - best, True),
    }


def judged(d, helps):
    """Mean, ends of the interval, verdict."""
    low, high = stats.ttest_1samp(d, 0).confidence_interval(0.95)
    if helps:
        word = "reproduced" if high < 0 else "opposite" if low > 0 else "undecided"
    else:
        word = "reproduced" if low > -2 else "opposite" if high < 0 else "undecided"
    return d.mean(), low, high, word


def outputs(page):
    """(cell, text) of what the cells show, without figures."""
    for cell in page.cells:
        for out in cell.get("outputs", []):
            data = out.get("data", {})
            if out.output_type == "stream":
                yield cell, out.text
            elif "text/html" in data:
                yield cell, BeautifulSoup(data["text/html"], "html.parser").get_text(" ")


def test_verdicts_follow_the_plan(page, top1):
    table = next(
        text for _, text in outputs(page) if "verdict" in text and "paper (points)" in text
    )
    for name, (d, helps) in differences(top1).items():
        mean, low, high, word = judged(d, helps)
        wanted = rf"\b{name} \D.*?{re.escape(f'{mean:+.1f} [{low:+.1f}, {high:+.1f}]')}\s+{word}\b"
        assert re.search(wanted, table), (
            f"finding {name}: {mean:+.1f} [{low:+.1f}, {high:+.1f}] {word} is not what the page shows"
        )


LEDGER = {  # claim -> the findings that it rests on
    "lrn-no-help": "1",
    "depth-helps": "2a 3 4",
    "c-better-than-b": "3",
    "d-better-than-c": "4",
    "saturates-19": "2c",
    "e-not-better-fixed-s": "2c",
    "shallow-net-error": "5",
    "train-jitter-helps": "6",
    "test-jitter-helps": "7",
    "crop-dense-complementary": "8b 8c",
    "ensemble-two": "9",
}


def test_the_ledger_says_reproduced_only_where_every_part_is(page, top1):
    path = ROOT / "_build" / "ledger.json"
    if not path.exists():
        pytest.skip("needs the built book: run make book first")
    status = {row["id"]: row["status"] for row in json.loads(path.read_text())}
    found = {name: judged(*f)[3] == "reproduced" for name, f in differences(top1).items()}
    rows = ["B/256", *(f"{n}/{S}" for n, S in product("CDE", JITTER))]
    gains = [
        top1(n, "dense@" + JITTER[n.split("/")[1]]) - top1(n, "dense@" + ONE[n.split("/")[1]])
        for n in rows
    ]
    found["7"] &= bool((np.mean(gains, axis=1) < 0).all())  # the paper's words are of every row
    for claim, parts in LEDGER.items():
        holds = all(found[part] for part in parts.split())
        assert status[claim] == ("reproduced" if holds else "not reproduced"), claim


def test_the_starts_are_counted_right(page, runs):
    table = next(text for _, text in outputs(page) if "lowest loss" in text)
    for name in (n for n in runs if n.startswith("start/")):
        last = [r["curve"][-1]["train_loss"] if r["curve"] else np.inf for r in runs[name].values()]
        count = sum(loss < 0.95 * np.log(12) for loss in last)
        scheme, norm = re.fullmatch(r"start/(.+?)(-bn)?", name).groups()
        words = {
            "paper": "variance 0.01",
            "std0.01": "deviation 0.01",
            "glorot": "Glorot",
            "he": "He",
            "A": "layers from A, the rest He",
        }[scheme]
        words += ", batch norm" if norm else ""
        assert re.search(
            rf"{re.escape(words)}\s+{min(last):.2f}\s+{max(last):.2f}\s+{count} of {len(last)}",
            table,
        ), name


def numbers(value):
    """All numbers in nested data."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [n for v in value for n in numbers(v)]
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


DECIMAL = re.compile(r"[-+−]?\d+\.\d+")


def printed(values, form=".1f"):
    return {f"{v:{form}}" for v in values}


def paper_and_plan():
    """Decimals that the paper's data and the plan hold."""
    plan = (ROOT / "book" / "preregistration.md").read_text()
    paper = numbers(
        [t["rows"] for t in tables().values() if isinstance(t, dict) and "rows" in t]
    ) + numbers([c.value for c in claims()])
    return (
        {f"{n}" for n in paper}
        | set(DECIMAL.findall(plan))
        | {f"{n}" for n in vars(GRIDS["small"]).values() if isinstance(n, float)}
    )


def table_rows(top1):
    """The miniature's side of the page's Tables 3 to 5, as the page must print it: the table's caption -> its rows."""
    shown = lambda e: f"{e.mean():.1f} ± {e.std(ddof=1):.1f}"
    of = lambda table: [
        (c, "-".join(map(str, S)) if isinstance(S, list) else str(S), a, b)
        for c, S, _, a, b in tables()[table]["rows"]
    ]
    one, several = (
        {f"{c}/{S}": (a, b) for c, S, a, b in of("table_3")},
        {f"{c}/{S}": a for c, S, a, _ in of("table_4")},
    )
    Q, Qs = (
        (lambda n: f"dense@{ONE[n.split('/')[1]]}"),
        (lambda n: f"dense@{JITTER[n.split('/')[1]]}"),
    )
    both = lambda n: (top1(n, Q(n)), top1(n, Qs(n)))
    ways = {"dense": "dense_of_crops", "multi-crop": "multi_crop", "multi-crop & dense": "both"}
    return {
        "Table 3 and its miniature": [
            f"{n} {a} {b} {shown(top1(n, Q(n)))} {shown(top1(n, Q(n), 'top5'))}"
            for n, (a, b) in one.items()
        ],
        "Tables 3 and 4 and their miniatures": [
            f"{n} {one[n][0]} {a} {shown(both(n)[0])} {shown(both(n)[1])} {(both(n)[1] - both(n)[0]).mean():+.1f}"
            for n, a in several.items()
        ],
        "Table 5 and its miniature": [
            f"{c} {way} {a} {shown(top1(f'{c}/256-512', ways[way] + '@256,384,512'))}"
            for c, way, a, _ in tables()["table_5"]["rows"]
        ],
    }


def wrong_rows(page, top1):
    """Rows of Tables 3 to 5 that the page does not show as the files have them."""
    texts = [" ".join(text.split()) for _, text in outputs(page)]
    return [
        row
        for caption, rows in table_rows(top1).items()
        for row in rows
        if not any(caption in t and row in t for t in texts)
    ]


def test_the_tables_are_those_of_the_files(page, top1):
    assert wrong_rows(page, top1) == []


def test_a_changed_number_would_be_found(page, top1):
    """The canary: one digit of one mean."""
    changed = copy.deepcopy(page)
    mean = f"{top1('D/256', 'dense@256').mean():.1f}"
    other = mean[:-1] + str((int(mean[-1]) + 1) % 10)
    table = next(
        o
        for c in changed.cells
        for o in c.get("outputs", [])
        if "Table 3 and its miniature" in o.get("data", {}).get("text/html", "")
    )
    table.data["text/html"] = table.data["text/html"].replace(f"{mean} ±", f"{other} ±")
    assert [row.split()[0] for row in wrong_rows(changed, top1)] == ["D/256"]


def measured(runs, top1):
    """What else is printed about the runs, worked out here."""
    points, signed, losses = [*top1("A/256", "dense@256")], [], [np.log(12)]
    for by_seed in runs.values():
        curves = [r["curve"] for r in by_seed.values() if r.get("curve")]
        last = [c[-1]["train_loss"] for c in curves]
        losses += [min(last), max(last)] if last else []
        accuracy = lambda rows: max(r["val_accuracy"] for r in rows)
        falls = [100 * (accuracy(c) - accuracy(c[:-8])) for c in curves if len(c) > 8]
        points += [np.mean(falls)] if falls else []
    for d, helps in differences(top1).values():
        signed += judged(d, helps)[:3]
        points.append(d.mean())  # as the ledger's boxes print it
    half = {name: (judged(*f)[2] - judged(*f)[1]) / 2 for name, f in differences(top1).items()}
    points += [
        np.mean([w for name, w in half.items() if (name[0] in "789") == same])
        for same in (True, False)
    ]
    gain = lambda n, S: top1(f"{n}/{S}", f"dense@{JITTER[S]}") - top1(f"{n}/{S}", f"dense@{ONE[S]}")
    signed += judged(np.mean([gain(n, "256-512") for n in "CDE"], axis=0), True)[:3]
    signed += judged(
        np.mean([gain("B", "256"), *(gain(n, S) for n in "CDE" for S in ("256", "384"))], axis=0),
        True,
    )[:3]
    excess = lambda name, Q: (top1(name, f"dense@{Q}") - top1(name, f"centre_crop@{Q}")).mean()
    signed.append(np.mean([excess(f"{n}/256", 256) for n in "BCDE"]))
    signed.append(np.mean([excess(f"{n}/{S}", 384) for n in "CDE" for S in ("384", "256-512")]))
    signed += [
        (top1(f"{n}/256-512", "dense@384") - top1(f"{n}/384", "dense@384")).mean() for n in "CDE"
    ]
    points.append(
        sum(
            r["seconds"]["all"]
            for by_seed in runs.values()
            for r in by_seed.values()
            if "seconds" in r
        )
        / 3600
    )
    return printed(points) | printed(signed, "+.1f") | printed(losses, ".2f")


def paper_differences():
    """The paper's side of every finding, from its tables."""
    t3 = {(c, str(S)): e for c, S, _, e, _ in tables()["table_3"]["rows"]}
    t4 = {(c, str(S)): e for c, S, _, e, _ in tables()["table_4"]["rows"]}
    t5 = {(c, way): e for c, way, e, _ in tables()["table_5"]["rows"]}
    two = next(
        e for nets, way, e, *_ in tables()["table_6"]["rows"] if len(nets) == 2 and way == "dense"
    )
    of = lambda a, b, S="256": t3[b, S] - t3[a, S]
    t5_mean = lambda way: np.mean([t5[n, way] for n in "DE"])
    dense, crops, both = map(t5_mean, ("dense", "multi-crop", "multi-crop & dense"))
    values = [
        of("A", "A-LRN"),
        of("A", "B"),
        of("B", "D"),
        of("B", "C"),
        of("C", "D"),
        np.mean([of("D", "E", S) for S in ("256", "384")]),
        -7.0,
        np.mean([t3[n, "[256, 512]"] - t3[n, "384"] for n in "CDE"]),
        np.mean([t4[k] - t3[k] for k in t4]),
        crops - dense,
        both - dense,
        both - crops,
        two - min(t4[n, "[256, 512]"] for n in "DE"),
    ]
    return printed(values, "+.1f") | printed([np.mean(np.abs(values))])


def test_every_number_on_the_page_has_a_source(page, runs, top1):
    known = (
        paper_and_plan()
        | measured(runs, top1)
        | paper_differences()
        | {c.section for c in claims()}
        | {"97.5"}
    )
    tabled = tuple(table_rows(top1))  # their rows are compared as wholes
    exercises, lost = False, []
    for cell in page.cells:
        if cell.cell_type == "markdown":
            exercises |= cell.source.startswith("## Exercises")
            prose = re.sub(
                r"`[^`]*`|\$[^$]*\$|\(https?://\S+\)|(?:eq\. )?\(8\.\d\)|Exercise 8\.\d|Sect\. [\d. ]*\d",
                "",
                re.sub(r"```.*?```|\$\$.*?\$\$", "", cell.source, flags=re.S),
            )
            lost += (
                []
                if exercises
                else [(n, cell.source[:60]) for n in DECIMAL.findall(prose) if n not in known]
            )
            assert exercises or not re.search(
                r"\d\s?(%|points)", re.sub(r"95%|97\.5%|two points", "", prose)
            ), f"a result typed in prose: {cell.source[:90]!r}"
    simulated = (
        "missed = ",
        "student_t(4)",
        "live = ",
    )  # computed on the page itself, from no file
    for cell, text in outputs(page):
        if "answer" in cell.metadata.get("tags", []) or any(
            mark in cell.source for mark in simulated
        ):
            continue
        if any(caption in text for caption in tabled):
            continue
        lost += [
            (n, cell.source[:60]) for n in DECIMAL.findall(text) if n.replace("−", "-") not in known
        ]
    assert not lost, f"numbers without a source: {lost}"
