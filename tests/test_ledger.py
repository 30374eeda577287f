"""The ledger's arithmetic: one status a claim, its parts in order, nothing found where nothing was
measured.
"""

import re

import nbformat
import pytest
from bs4 import BeautifulSoup

from tools import ledger
from vggbook import claims

TITLES = {"01_a": "A", "02_b": "B"}


def entry(status, *keys, found=None, notebook="01_a"):
    return {
        "id": "x",
        "status": status,
        "keys_checked": list(keys),
        "found": found,
        "evidence": "",
        "anchor": "claim-x",
        "notebook": notebook,
    }


@pytest.mark.parametrize(
    "keys, entries, expected",
    [
        ("ab", [], ("open", ["a", "b"])),
        ("ab", [entry("verified", "a")], ("open", ["b"])),
        ("ba", [entry("verified", "c")], ("open", ["b", "a"])),  # in the claim's order
        ("ab", [entry("verified", "a"), entry("derived", "b")], ("verified", [])),
        ("ab", [entry("verified", "a"), entry("implemented", "b")], ("implemented", [])),
        # a part alone never lifts the whole
        ("ab", [entry("verified", "a"), entry("quoted", "a", "b")], ("quoted", [])),
        ("ab", [entry("undecided", "a"), entry("reproduced", "b")], ("undecided", [])),
        ("ab", [entry("opposite", "a", "b"), entry("verified", "a")], ("opposite", [])),
        ("", [entry("derived")], ("derived", [])),
        ("", [], ("open", [])),
    ],
)
def test_status_needs_all_keys(keys, entries, expected):
    assert ledger.status(list(keys), entries) == expected


def notebook(*results):
    outputs = [nbformat.v4.new_output("display_data", data=r.bundle()) for r in results]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=outputs)])


def rows_of(notebooks):
    return {r["id"]: r for r in ledger.entries(notebooks)}


def test_ledger_of_real_claims():
    c = claims()["params-d"]
    first, *rest = c.keys
    one = {first: c.value[first]}
    other = {k: c.value[k] for k in rest}
    rows = rows_of({"01_a": notebook(c.check(one, part=True))})
    assert len(rows) == len(claims()) == 174
    assert rows[c.id]["status"] == "open" and rows[c.id]["missing"] == rest
    nbs = {
        "01_a": notebook(c.check(other, part=True)),
        "02_b": notebook(c.check(one, part=True)),
    }
    row = rows_of(nbs)[c.id]
    assert row["status"] == "derived" and row["found"] == c.value
    assert list(row["found"]) == list(c.value)  # parts in the order of the claim, not of the pages
    assert [x["notebook"] for x in row["cells"]] == ["01_a", "02_b"]
    rows = ledger.entries(nbs)
    counts = ledger.counts(rows)
    assert counts["derived"] == 1 and counts["open"] == 173 and sum(counts.values()) == 174
    assert ledger.conflicts(rows) == []


def test_found_is_empty_where_nothing_was_measured():
    c = claims()["t3-d"]
    assert rows_of({"01_a": notebook(c.quote())})[c.id]["found"] is None
    row = rows_of({"01_a": notebook(c.check(c.value))})[
        c.id
    ]  # the paper's table, read and repeated
    assert row["status"] == "quoted" and row["found"] is None
    page = BeautifulSoup(ledger.render(list(rows_of({}).values()), TITLES), "html.parser")
    assert {td.get_text() for td in page.select('td[data-label="Found"]')} == {""}


def test_one_status_a_claim():
    c = claims()["lrn-no-help"]
    two = {
        "01_a": notebook(c.report({"d": 1}, status="opposite", evidence="three seeds")),
        "02_b": notebook(c.report({"d": 1}, status="undecided", evidence="five seeds")),
    }
    (conflict,) = ledger.conflicts(ledger.entries(two))
    assert conflict == "lrn-no-help: opposite in 01_a, undecided in 02_b"
    repeated = {"01_a": notebook(c.quote()), "02_b": two["02_b"]}
    (row,) = [r for r in ledger.entries(repeated) if r["id"] == "lrn-no-help"]
    assert ledger.conflicts([row]) == [] and row["status"] == "undecided"  # a quotation judges not
    part = claims()["params-d"]
    some = {"exact": part.value["exact"]}
    mixed = {
        "01_a": notebook(part.check(part.value)),
        "02_b": notebook(part.check(some, part=True, status="verified")),
    }
    assert ledger.conflicts(ledger.entries(mixed)) == []  # a part is no conflict


def test_the_page_leads_with_experiments_and_folds_what_is_settled():
    lrn, params = claims()["lrn-no-help"], claims()["params-d"]
    nbs = {
        "01_a": notebook(
            params.check(params.value),
            lrn.report({"d": 1}, status="opposite", evidence="five seeds"),
        )
    }
    page = BeautifulSoup(ledger.render(ledger.entries(nbs), TITLES), "html.parser")
    text = page.get_text()
    heads = re.findall(r"^## (.+)$", text, re.M)
    assert heads == [
        "Tested by experiments of ours: 1 claims",
        "Quoted or open: 172 claims",
        "Derived, verified or implemented: 1 claims",
    ]
    assert page.find(id="lrn-no-help").find_parent("details") is None
    fold = page.find(id="params-d").find_parent("details", class_="ledger-fold")
    assert fold is not None and not fold.has_attr("open")
    assert len(page.select("table.ledger tbody tr")) == 174
    assert (
        page.find(id="params-d")
        .select_one("td:last-child a")["href"]
        .startswith("../notebooks/01_a.html#claim-params-d")
    )


def test_ledger_refuses_unknown_claims_and_knows_every_section():
    nb = notebook(claims()["params-d"].quote())
    nb.cells[0].outputs[0].data[ledger.MIME]["id"] = "no-such-claim"
    with pytest.raises(ValueError, match="no-such-claim"):
        ledger.entries({"01_a": nb})
    assert {c.section for c in claims()} <= set(ledger.SECTIONS)


@pytest.mark.parametrize(
    "value, text",
    [
        (None, "–"),
        (True, "yes"),
        (138357544, "138,357,544"),
        (7.25, "7.25"),
        (1300000.0, "1,300,000"),
        ({"top_1": 24.8}, "top 1 24.8"),
        ([1, [2, 3]], "1, (2, 3)"),
    ],
)
def test_values_for_readers(value, text):
    assert ledger.shown(value) == text
