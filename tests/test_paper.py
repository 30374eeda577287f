"""Claims, tables, figures and photographs: every claim can fail, and every damaged file says
where.
"""

import copy
import difflib
import math
import re
import sys
from dataclasses import FrozenInstanceError
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vggbook import ClaimError, claims, nets_before_vgg, paper, tables
from vggbook.book import claims as claims_module
from vggbook.book import compare, exercises, figures, html, photos
from vggbook.book.claims import KINDS, load_claims
from vggbook.paper import PaperDataError, load_yaml

FILE = Path(paper.__file__).with_name("claims.yaml")
PRINTED = {
    entry["id"]: entry for entry in yaml.load(FILE.read_text(), yaml.BaseLoader)["claims"]
}  # every scalar as its text


def leaves(value, path=()):
    """Paths of all single values."""
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*path, key))
    else:
        yield path


def at(value, path):
    for key in path:
        value = value[key]
    return value


def replaced(value, path, new):
    """A copy of ``value`` with another leaf."""
    if not path:
        return new
    value = copy.deepcopy(value)
    at(value, path[:-1])[path[-1]] = new
    return value


def printed(claim, path):
    """The text of a number as the file prints it; keys of mappings are strings there."""
    value = PRINTED[claim.id]["value"]
    for key in path:
        value = value[key if isinstance(value, list) else str(key)]
    return value


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def numbers(claim):
    return [path for path in leaves(claim.value) if is_number(at(claim.value, path))]


WITH_NUMBERS = [claim for claim in claims() if numbers(claim)]
NUMBERS = [(claim, path) for claim in WITH_NUMBERS for path in numbers(claim)]


def name(claim):
    return claim.id


# ---- the claims themselves ----------------------------------------------------------------------


def test_174_claims_of_four_kinds():
    counts = yaml.safe_load(FILE.read_text())["counts"]
    assert len(claims()) == counts["total"] == 174 == len({claim.id for claim in claims()})
    for kind in KINDS:
        assert sum(claim.kind == kind for claim in claims()) == counts[kind]
    assert all(claim.statement and claim.section for claim in claims())


def tuples(value):
    return tuple(map(tuples, value)) if isinstance(value, list) else value


@pytest.mark.parametrize("claim", claims(), ids=name)
def test_the_exact_value_is_accepted(claim):
    result = claim.check(copy.deepcopy(claim.value))
    assert result and result.status == claim.status
    assert result.as_dict()["keys_missing"] == []
    assert claim.check(tuples(claim.value))
    if isinstance(claim.value, dict):
        # the order of keys is no part of a claim
        assert claim.check(dict(reversed(claim.value.items())))


def unit(claim, path):
    """One unit of the last printed digit; of the last digit that counts where a large number is
    printed with zeros (67000000.0).
    """
    number = Decimal(printed(claim, path))
    if abs(number) >= 1000 and number == number.to_integral():
        number = number.normalize()
    return float(Decimal(10) ** number.as_tuple().exponent)


@pytest.mark.parametrize("claim", WITH_NUMBERS, ids=name)
def test_a_number_off_by_one_printed_digit_is_rejected(claim):
    for path in numbers(claim):
        value = at(claim.value, path)
        off = value + unit(claim, path), value - unit(claim, path)
        for wrong in (*off, -value if value else 1, float("nan"), float("inf")):
            with pytest.raises(ClaimError, match=re.escape(claim.id)):
                claim.check(replaced(claim.value, path, wrong))


@pytest.mark.parametrize("claim", WITH_NUMBERS, ids=name)
def test_digits_beyond_the_printed_ones_are_free_only_where_there_are_several(claim):
    for path in numbers(claim):
        value, text = at(claim.value, path), printed(claim, path)
        nearly = replaced(claim.value, path, value + 0.4 * unit(claim, path))
        mantissa = Decimal(
            text.lower().partition("e")[0]
        )  # 1.0e-05 is one digit, as 0.0005 and 0.9 are
        constant = len((mantissa.normalize() if "e" in text else mantissa).as_tuple().digits) == 1
        if isinstance(value, int) or constant:
            with pytest.raises(ClaimError):
                claim.check(nearly)
        else:
            assert claim.check(nearly)


@pytest.mark.parametrize(
    "claim", [c for c in claims() if set(leaves(c.value)) - set(numbers(c))], ids=name
)
def test_other_values_must_be_equal(claim):
    for path in set(leaves(claim.value)) - set(numbers(claim)):
        value = at(claim.value, path)
        wrongs = {
            str: (f"{value}x", "", 1, None),
            bool: (value is False, 0, 1, None),
            type(None): (0, False, ""),
        }
        for wrong in wrongs[type(value)]:
            with pytest.raises(ClaimError):
                claim.check(replaced(claim.value, path, wrong))


@pytest.mark.parametrize("claim", claims(), ids=name)
def test_the_shape_must_be_the_claims(claim):
    value = claim.value
    if isinstance(value, dict):
        wrongs = [{**value, "more": 1}, dict(list(value.items())[1:]), list(value.values())]
    elif isinstance(value, list):
        wrongs = [
            [*value, value[-1]],
            value[:-1],
            value[::-1] if len(value) > 1 and value != value[::-1] else [],
            value[0],
        ]
    else:
        wrongs = [[value], {"value": value}]
    for wrong in [*wrongs, None, {}, [], "?", object()]:
        with pytest.raises(ClaimError):
            claim.check(wrong)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(NUMBERS), st.floats(allow_nan=False) | st.integers())
def test_any_other_number_is_rejected(pair, number):
    claim, path = pair
    value = at(claim.value, path)
    if abs(number - value) <= unit(claim, path):
        return
    with pytest.raises(ClaimError):
        claim.check(replaced(claim.value, path, number))


@settings(max_examples=50, deadline=None)
@given(st.floats(134.5, 160))
def test_table_2_counts_in_whole_millions(millions):
    claim = claims()["params-d"]
    if millions == 138:
        assert claim.check({"millions": millions}, part=True)
    else:
        with pytest.raises(ClaimError, match=r"found .* at millions, expected 138"):
            claim.check({"millions": millions}, part=True)


def test_numpy_and_torch_values_count_as_numbers():
    sides = claims()["spatial-sizes"]
    for value in (np.array([224, 112, 56, 28, 14, 7]), torch.tensor([224, 112, 56, 28, 14, 7])):
        assert sides.check(value)
    assert claims()["pool-count"].check(torch.tensor(5)) and claims()["pool-count"].check(
        np.int64(5)
    )
    with pytest.raises(ClaimError):
        claims()["pool-count"].check(torch.tensor(6))
    assert claims()["fc-same-everywhere"].check(np.bool_(True))
    with pytest.raises(ClaimError):
        claims()["fc-same-everywhere"].check(1)
    with pytest.raises(ClaimError):
        claims()["pool-count"].check(True)


def test_part_of_a_claim():
    claim = claims()["params-d"]
    result = claim.check({"exact": 138357544}, part=True)
    assert result.keys_checked == ("exact",)
    assert result.as_dict()["keys_missing"] == ["millions", "weights_only"]
    with pytest.raises(ClaimError, match="found 138357545 at exact, expected 138357544"):
        claim.check({"exact": 138357545}, part=True)
    with pytest.raises(
        ClaimError, match="no key 'exactly'; the claim has millions, exact, weights_only"
    ):
        claim.check({"exactly": 138357544}, part=True)
    for wrong in ({}, 138357544, [138]):
        with pytest.raises(
            ValueError, match="part=True needs a dict with some of the keys of params-d"
        ):
            claim.check(wrong, part=True)
    with pytest.raises(ValueError, match="part=True needs a dict"):
        claims()["pool-count"].check({"n": 5}, part=True)


def test_status():
    assert {claim.status for claim in claims() if claim.kind == "arithmetic"} == {"derived"}
    assert {claim.status for claim in claims() if claim.kind == "structural"} == {"verified"}
    assert {claim.status for claim in claims() if claim.kind == "protocol"} == {"implemented"}
    assert {claim.status for claim in claims() if claim.kind == "empirical"} == {"quoted"}
    claim = claims()["lrn-no-help"]
    assert (
        claim.check(claim.value, status="reproduced", evidence="five seeds").status == "reproduced"
    )
    other = {"delta_top1": -3.0, "delta_top5": 2.0}
    for status in ("opposite", "undecided"):
        result = claim.check(other, status=status, evidence="five seeds")
        assert not result and result.found == other
    with pytest.raises(ClaimError):
        claim.check(other, status="reproduced", evidence="five seeds")
    for status in ("reproduced", "opposite", "undecided"):
        with pytest.raises(ValueError, match="evidence='': expected the name of the recorded run"):
            claim.check(claim.value, status=status)
    for status in ("open", "proved", "not reproduced"):
        with pytest.raises(
            ValueError, match=f"status='{status}': expected one of 'derived', 'verified'"
        ):
            claim.check(claim.value, status=status)
    assert claims()["batch-size"].check(256).status == "implemented"


def test_report_takes_a_miniatures_own_numbers():
    claim = claims()["depth-helps"]
    assert claim.report({"A": 50, "B": 32}, status="reproduced", evidence="results/section4.json")
    for status in ("opposite", "undecided"):
        assert not claim.report({"A": 5, "B": 32}, status=status, evidence="results/section4.json")
    with pytest.raises(
        ValueError, match="status='verified': expected one of 'reproduced', 'opposite', 'undecided'"
    ):
        claim.report({}, status="verified", evidence="x")
    with pytest.raises(ValueError, match="evidence='': expected the name of the recorded run"):
        claim.report({}, status="reproduced", evidence="")
    with pytest.raises(ValueError, match="params-d is arithmetic, not empirical"):
        claims()["params-d"].report({}, status="reproduced", evidence="x")


def test_what_a_page_and_the_ledger_get():
    claim = claims()["macs"]
    one, two = (claim.check(claim.value) for _ in range(2))
    assert one.anchor != two.anchor and one.anchor.startswith("claim-macs")
    bundle = one.bundle()
    entry = bundle[claims_module.CLAIM_MIME]
    assert entry["id"] == "macs" and entry["found"] == entry["expected"] == claim.value
    assert f'id="{one.anchor}"' in bundle["text/html"] and "derived" in bundle["text/html"]
    assert bundle["text/plain"].startswith("macs (Table 1): derived: A 7.609, B 11.308")
    assert repr(one) == "<macs: derived>"
    quoted = claims()["ilsvrc14-places"].quote()
    assert (
        quoted.status == "quoted"
        and quoted.found is None
        and "localisation 1" in quoted.bundle()["text/plain"]
    )
    html = claims()["params-27-vs-49"].quote().bundle()["text/html"]
    assert "<p" in html and "&" not in html.replace("&#", "")


@pytest.mark.parametrize("key", ["param-d", "mac", "Table 2", "loc-x", "multi_crop", "depth"])
def test_an_unknown_claim_names_the_three_nearest(key):
    """Those that share at least two fifths of their characters, the nearest first."""
    shares = {claim.id: difflib.SequenceMatcher(None, claim.id, key).ratio() for claim in claims()}
    near = sorted(shares, key=lambda name: (shares[name], name), reverse=True)
    near = [name for name in near if shares[name] >= 0.4][:3]
    hint = f"; near: {', '.join(near)}" if near else ""
    with pytest.raises(KeyError) as error:
        claims()[key]
    assert error.value.args == (f"no claim {key!r}{hint}; there are 174, see claims()",)


def test_claims_are_a_sequence_too():
    assert claims()[0].id == "headline-depth" and [c.id for c in claims()[-2:]] == [
        "v6-date",
        "v1-date",
    ]


# ---- damaged files ------------------------------------------------------------------------------

GOOD = """\
counts:
  total: 2
  structural: 1
  arithmetic: 1
claims:
- id: one
  section: '2.1'
  topic: t
  value: 3
  statement: s
  kind: structural
- id: two
  section: '2.2'
  topic: t
  value:
    a: 1
    b: 2.5
  statement: s
  kind: arithmetic
"""


def test_a_small_file_loads(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(GOOD)
    one, two = load_claims(path)
    assert (one.id, one.section, one.topic, one.statement) == ("one", "2.1", "t", "s")
    assert (one.value, two.value) == (3, {"a": 1, "b": 2.5})
    assert (one.kind, two.kind) == ("structural", "arithmetic")
    assert (one.source, one.confidence, one.note) == ((), "high", "")
    path.write_text(GOOD.partition("claims:")[2].join(["claims:", ""]))  # without counts
    assert len(load_claims(path)) == 2
    more = "  source: [a, b]\n  confidence: low\n  note: n\n"
    path.write_text(GOOD.replace("section: '2.2'", "section: 2.2") + more)
    two = load_claims(str(path))["two"]
    assert (two.source, two.confidence, two.note) == (("a", "b"), "low", "n")
    assert two.section == "2.2"  # text, however it is written


@pytest.fixture
def small(tmp_path):
    """Two claims that no other test shows."""
    path = tmp_path / "claims.yaml"
    path.write_text(GOOD.replace("id: one", f"id: {tmp_path.name}-1").replace("2.5", "2500.5"))
    return load_claims(path)


def test_claims_and_results_cannot_be_changed(small):
    result = small[0].check(3)
    for kept in (small[0], result):
        with pytest.raises(FrozenInstanceError):
            kept.status = "verified"


def test_anchors_count_how_often_a_claim_was_shown(small):
    ids = [small[0].check(3).anchor for _ in range(3)]
    first = f"claim-{small[0].id}"
    assert ids == [first, f"{first}-2", f"{first}-3"]


def test_the_ledgers_entry(small):
    part = small["two"].check({"b": 2500.52}, part=True, status="reproduced", evidence="by hand")
    assert part.as_dict() == {
        "id": "two",
        "status": "reproduced",
        "kind": "arithmetic",
        "section": "2.2",
        "statement": "s",
        "expected": {"a": 1, "b": 2500.5},
        "found": {"b": 2500.52},
        "keys_checked": ["b"],
        "keys_missing": ["a"],
        "evidence": "by hand",
        "anchor": part.anchor,
    }
    quoted = small["two"].quote()
    assert (quoted.keys_checked, quoted.evidence) == (("a", "b"), "")
    words = [result.bundle()["text/plain"] for result in (part, quoted)]
    assert words == ["two (2.2): reproduced: b 2500.52", "two (2.2): quoted: a 1, b 2500.5"]
    whole = small[0].check(3)
    assert (whole.keys_checked, whole.evidence) == ((), "")
    assert set(whole.bundle()) == {"text/plain", "text/html", claims_module.CLAIM_MIME}


def test_a_notebook_shows_a_checked_claim_once(small, monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda data, raw: shown.append((data, raw)))
    small[0].check(3)
    assert shown == []
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=1))
    result = small[0].check(3)
    assert shown == [(result.bundle(), True)]
    result._ipython_display_()  # the last expression of its cell
    assert len(shown) == 1


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("  topic: t\n  value: 3", "  topic: t\n value: 3", r"mine\.yaml, line 9, column"),
        ("  value: 3", "  value: [3, 4", r"mine\.yaml, line 10, column"),
        ("  value: 3", "\tvalue: 3", r"mine\.yaml, line 9, column 1"),
        ("- id: two\n", "", r"mine\.yaml, line 12, column 3: key 'section' appears twice"),
        ("  section: '2.2'\n", "", r"mine\.yaml, line 12: entry lacks section"),
        ("  section: '2.1'\n  topic: t\n", "", r"mine\.yaml, line 6: entry lacks section, topic"),
        ("- id: two", "- name: two", r"mine\.yaml, line 12: entry lacks id"),
        ("- id: two", "- 7\n- id: two", r"mine\.yaml, line 12: entry lacks id, kind"),
        (
            "kind: arithmetic",
            "kind: guess",
            r"mine\.yaml, line 12: kind 'guess' of two is not one of arithmetic, structural",
        ),
        ("- id: two", "- id: one", r"mine\.yaml, line 12: id 'one' appears twice"),
        (
            "kind: arithmetic",
            "kind: arithmetic\n  colour: red",
            r"mine\.yaml, line 12: unknown field 'colour'",
        ),
        ("    b: 2.5", "    a: 2.5", r"mine\.yaml, line 17, column 5: key 'a' appears twice"),
        ("total: 2", "total: 3", r"mine\.yaml, line 2: 2 claims, but counts\.total says 3"),
        (
            "arithmetic: 1",
            "arithmetic: 5",
            r"mine\.yaml, line 4: 1 claims, but counts\.arithmetic says 5",
        ),
        ("claims:\n", "facts:\n", r"mine\.yaml, line 1: no list under 'claims:'"),
        (GOOD, "", r"mine\.yaml, line 1: no list under 'claims:'"),
        (GOOD, "claims: []", r"mine\.yaml, line 1: no list under 'claims:'"),
        (GOOD, "- claims", r"mine\.yaml, line 1: no list under 'claims:'"),
    ],
)
def test_a_damaged_claims_file_says_where(tmp_path, old, new, message):
    path = tmp_path / "mine.yaml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(PaperDataError, match=message):
        load_claims(path)


# Before the start of a field: inside a text that is quoted already, over several lines, such a line
# would be one more character.
FIELDS = [
    i
    for i, line in enumerate(FILE.read_text().splitlines())
    if i and re.match(r"(- |  )\w+:", line)
]


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(FIELDS))
def test_a_stray_quote_before_any_field_is_noticed(tmp_path_factory, line):
    lines = FILE.read_text().splitlines()
    path = tmp_path_factory.mktemp("damaged") / "mine.yaml"
    path.write_text("\n".join([*lines[:line], '"', *lines[line:]]))
    with pytest.raises(PaperDataError, match=r"mine\.yaml, line \d+"):
        load_claims(path)


def test_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"claims:\n- id: \xff\xfe\n")
    with pytest.raises(PaperDataError, match=r"mine\.yaml, line 2: not UTF-8"):
        load_yaml(path)
    path.write_bytes(b"claims:\n- id: \x00\n")
    with pytest.raises(PaperDataError, match=r"mine\.yaml"):
        load_yaml(path)


def test_the_other_files():
    assert [key for key in tables() if re.fullmatch(r"table_\d+", key)] == [
        f"table_{i}" for i in range(1, 13)
    ]
    assert set(nets_before_vgg()["nets"]) == {"VGG-F", "VGG-M", "VGG-S", "AlexNet"}
    for row in tables()["table_3"]["rows"]:
        assert len(row) == len(tables()["table_3"]["columns"])


# ---- figures and photographs --------------------------------------------------------------------


def luminance(colour):
    """Relative luminance as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear))


def test_style():
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    with mpl.rc_context():
        figures.use_style()
        # a ground in Jupyter and Colab, where the page may be dark; none behind the axes
        assert plt.figure().get_facecolor() == mpl.colors.to_rgba(figures.GROUND)
        assert mpl.rcParams["axes.facecolor"] == "none"
        assert mpl.rcParams["axes.prop_cycle"].by_key()["color"] == list(figures.COLOURS)
        plt.close("all")
    contrast = (luminance(figures.GROUND) + 0.05) / (luminance(figures.INK) + 0.05)
    assert contrast > 7
    assert (
        len(set(figures.COLOURS))
        == len(figures.COLOURS)
        == len(figures.MARKERS)
        == len(set(figures.MARKERS))
    )


DARK_PAGE = "#15191e"
TURNED = ((-0.574, 1.430, 0.144), (0.426, 0.430, 0.144), (0.426, 1.430, -0.856))


def turned(colour):
    """A colour as the dark theme shows it: inverted, then its hue turned by 180 degrees (CSS
    filters).
    """
    parts = [1 - int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    mixed = [sum(w * c for w, c in zip(row, parts)) for row in TURNED]
    return "#" + "".join(f"{round(255 * min(1, max(0, c))):02x}" for c in mixed)


def test_one_colour_a_meaning_visible_in_both_themes():
    colours = {k: v for k, v in figures.COLOUR.items() if k != "grid"}  # the grid is to be faint
    assert len(set(figures.COLOUR.values())) == len(figures.COLOUR) == 20
    for name, colour in colours.items():
        light = (luminance("#ffffff") + 0.05) / (luminance(colour) + 0.05)
        dark = (luminance(turned(colour)) + 0.05) / (luminance(DARK_PAGE) + 0.05)
        assert light >= 3 and dark >= 3, name


def test_the_table_of_colours_is_the_package_s():
    text = (Path(paper.__file__).parents[3] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| `([\w-]+)` \| `(#\w+)` \|$", text, re.M))
    assert table == figures.COLOUR


# ---- tables and exercises -----------------------------------------------------------------------


def test_a_table_reads_as_html_and_as_text():
    from bs4 import BeautifulSoup

    table = html.show_table(
        ["net", "n", "x < y"], ["A", 1234567, 0.5], ["", "–", 2], caption="A & B"
    )
    soup = BeautifulSoup(table._repr_html_(), "html.parser")
    rows = [[c.get_text() for c in tr.find_all(["th", "td"])] for tr in soup.find_all("tr")]
    assert rows == [["net", "n", "x < y"], ["A", "1,234,567", "0.5"], ["", "–", "2"]]
    assert soup.caption.get_text() == "A & B"
    assert soup.get_text() == "A & B" + "".join(map("".join, rows))  # nothing between the cells
    assert [th.get_text() for th in soup.select("tbody th[scope=row]")] == ["A"]
    heads = [th.get_text() for th in soup.select("thead th[scope=col]")]
    assert heads == ["net", "n", "x < y"] and not soup.select("td[scope]")
    assert all(th.get_text() for th in soup.find_all("th"))  # an empty cell heads nothing
    sides = [c["style"].split()[-1] for c in soup.select("tbody tr")[0].find_all(["th", "td"])]
    assert sides == ["left", "right", "right"]
    assert repr(table).splitlines()[-2].split() == ["A", "1,234,567", "0.5"]
    with pytest.raises(ValueError, match=r"row=\['A'\]: expected 2 cells, as in head="):
        html.show_table(["a", "b"], ["A"])
    with pytest.raises(ValueError, match=r"head=\[\]: expected at least one column"):
        html.show_table([])
    heads = [th["style"].split()[-1] for th in soup.select("thead th")]
    assert heads == ["left", "right", "right"] and soup.div["style"] == "overflow-x: auto"
    assert html.Table(["net"], [["A"]]).caption == ""


def test_a_table_as_text_stands_in_columns():
    table = html.show_table(["net", "n"], ["A-LRN", 1234567], [True, 0.123456789], caption="all")
    assert repr(table) == "all\nnet            n\nA-LRN  1,234,567\nTrue    0.123457"
    assert repr(html.show_table(["net"], ["A"])) == "net\nA"
    plain = html.show_table(["layer", "n"], ["a", ""])
    assert repr(plain) == "layer  n\na"
    assert re.sub("<[^>]+>", "", plain._repr_html_()) == "layerna"  # no caption, nothing between


def test_columns_of_words_stand_left_and_numbers_are_set_with_a_minus():
    from bs4 import BeautifulSoup

    table = html.show_table(
        ["net", "gain", "what", "loss"],
        ["B-5x5", "-2.8 [-3.5, .5]", "150 crops, not dense", "3e-07"],
        ["D-16", "–", "two nets", "not finite"],
        ["E", "", "-1 is wrong", 2.5],
    )
    soup = BeautifulSoup(table._repr_html_(), "html.parser")
    rows = [tr.find_all(["th", "td"]) for tr in soup.find_all("tr")]
    for row in rows:
        sides = [cell["style"].split("text-align: ")[1].split(";")[0] for cell in row]
        assert sides == ["left", "right", "left", "right"]
    texts = [[cell.get_text() for cell in row] for row in rows[1:]]
    assert texts[0] == ["B-5x5", "\u22122.8 [\u22123.5, .5]", "150 crops, not dense", "3e-07"]
    assert texts[2][2] == "\u22121 is wrong"
    kept = [["nowrap" in cell["style"] for cell in row] for row in rows[1:]]
    assert kept == [
        [True, True, False, True],
        [True, False, False, False],
        [False, False, False, True],
    ]
    assert repr(table).splitlines() == [
        "net               gain  what                        loss",
        "B-5x5  -2.8 [-3.5, .5]  150 crops, not dense       3e-07",
        "D-16                 –  two nets              not finite",
        "E                       -1 is wrong                  2.5",
    ]
    lists = html.show_table(["a", "b"], ["-", "12.24, 12.3"], ["-", "3 (1, 2), 4"])._repr_html_()
    assert "nowrap" not in lists and "right" not in lists  # lists of numbers read as words
    long = html.show_table(["a", "b"], ["-", "-1.2345678 [-2.3456, -0.1234]"])._repr_html_()
    assert "nowrap" not in long and "right" in long


def test_a_notebook_is_a_process_with_a_kernel(monkeypatch):
    import IPython

    for shell, holds in ((None, False), (object(), False), (SimpleNamespace(kernel=1), True)):
        monkeypatch.setattr(IPython, "get_ipython", lambda shell=shell: shell)
        assert html.in_a_notebook() == holds
    monkeypatch.delitem(sys.modules, "IPython")
    assert not html.in_a_notebook()


def test_rejects():
    def check_answer(value, other=7):
        assert value == other, "no"

    assert exercises.rejects(check_answer, 6, 8, (1, 2)) is True
    with pytest.raises(AssertionError, match=r"check_answer accepts 7, which is wrong"):
        exercises.rejects(check_answer, 6, 7)
    with pytest.raises(TypeError):  # an error of another kind is a fault of the checker
        exercises.rejects(check_answer, (1, 2, 3))


def test_show_image():
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    with mpl.rc_context({"backend": "agg"}):
        _, ax = plt.subplots()
        figures.show_image(ax, torch.zeros(3, 4, 5, dtype=torch.uint8), "title")
        assert (
            ax.images[0].get_array().shape == (4, 5, 3)
            and ax.get_title() == "title"
            and not ax.axison
        )
        figures.show_image(ax, torch.zeros(4, 5))
        assert ax.images[1].get_array().shape == (4, 5)
        plt.close("all")


def test_photographs():
    from sklearn.datasets import load_sample_image

    for name in ("flower", "china"):
        image = photos.photograph(name)
        assert image.shape == (3, 427, 640) and image.dtype == torch.uint8 and image.is_contiguous()
        assert np.array_equal(image.permute(1, 2, 0), load_sample_image(f"{name}.jpg"))
        assert "CC BY 2.0" in photos.CREDITS[name]
    assert torch.equal(photos.photograph(), photos.photograph("flower"))
    assert photos.photograph_path() == photos.photograph_path("flower")
    with pytest.raises(ValueError, match=r"name='cat': expected one of 'china', 'flower'"):
        photos.photograph("cat")


def test_photographs_without_scikit_learn(monkeypatch, tmp_path):
    monkeypatch.setattr(photos, "find_spec", lambda name: None)
    with pytest.raises(
        FileNotFoundError,
        match="photograph 'flower' comes with scikit-learn, which is not installed",
    ):
        photos.photograph("flower")
    for places in (None, [str(tmp_path)]):  # no package, and one without the pictures
        spec = SimpleNamespace(submodule_search_locations=places)
        monkeypatch.setattr(photos, "find_spec", lambda name, spec=spec: spec)
        with pytest.raises(FileNotFoundError, match=r"pip install scikit-learn$"):
            photos.photograph_path("china")


def test_tolerance_by_hand():
    """Half a unit of the last printed digit, and a billionth of it for rounding."""
    by_hand = {7.5: 0.05, 24.8: 0.05, 0.875: 0.0005, 2700.0: 50.0, 67000000.0: 5e5, 1.25e-3: 5e-6}
    by_hand |= {999.0: 0.05, 1200.5: 0.05, 1.5e-7: 5e-9, 2.5e20: 5e18, 1.0: 0.05}
    for printed_number, half in by_hand.items():
        for signed in (printed_number, -printed_number):
            room = half * (1 + 1e-9)
            assert compare.tolerance(signed) == pytest.approx(room, rel=1e-12, abs=0)
    assert compare.tolerance(0.0) == compare.tolerance(math.inf) == 0
    for exact in (0.9, 1e-2, 3e-4, 1000.0, 4e6, 2e-9, 3e20):  # a single digit
        assert compare.tolerance(exact) == pytest.approx(1e-9 * exact)


def test_tolerance_never_covers_a_whole_unit():
    for claim, path in NUMBERS:
        value = at(claim.value, path)
        if isinstance(value, float):
            assert compare.tolerance(value) < unit(claim, path) and math.isfinite(
                compare.tolerance(value)
            )


MISMATCHES = [
    ({"b": {"c": 1}}, {"b": {"c": 2}}, "found 1 at b.c, expected 2"),
    ([1, [2, 3]], [1, [2, 4]], "found 3 at [1][1], expected 4"),
    ({"_a": 1}, {"_a": 2}, "found 1 at _a, expected 2"),
    (3, {"b": 1, 5: 2}, "found 3, a value with the keys ['5', 'b'] is needed"),
    ({"a": 1}, {"b": 1, "a": 1}, "found the keys ['a'], expected ['a', 'b']"),
    ({"d": {"z": 1, "y": 2}}, {"d": {"x": 1}}, "found the keys ['y', 'z'] at d, expected ['x']"),
    ([1], [1, 2], "found [1], expected 2 items: [1, 2]"),
    ({"a": 3}, {"a": [1]}, "found 3 at a, expected 1 items: [1]"),
    (True, 1, "found True, expected 1"),
    (1, True, "found 1, expected True"),
    ("x", "y", "found 'x', expected 'y'"),
    ("x", 2, "found 'x', the number 2 is expected"),
    ([1, 2], [3, 4], "found 1 at [0], expected 3"),  # the first that is wrong
]


@pytest.mark.parametrize("found, expected, words", MISMATCHES)
def test_what_does_not_agree_is_said_with_its_place(found, expected, words):
    assert compare.mismatch(found, expected, "") == words
    assert compare.mismatch(expected, expected, "") is None


def test_plain_values():
    values = {"a": (np.float64(2.5), [torch.tensor([1, 2])]), 3: "text", "b": b"bytes"}
    assert compare.plain(values) == {"a": [2.5, [[1, 2]]], 3: "text", "b": b"bytes"}
    assert type(compare.plain(np.int64(5))) is int


def test_short_values():
    shown = [compare.short(value) for value in (True, None, 1234567, 1234.56789, 0.123456789, "x")]
    assert shown == ["True", "None", "1,234,567", "1234.57", "0.123457", "x"]
    assert compare.short({"a": 12345, "b": [1, 2.5]}) == "a 12,345, b [1, 2.5]"


def test_a_facts_file_is_read_as_utf_8_with_any_loader(tmp_path, monkeypatch, ascii_machine):
    path = tmp_path / "mine.yaml"
    path.write_text("base: &b {name: Krähenbühl}\nall: {<<: *b, n: 1}\n", encoding="utf-8")
    expected = {"base": {"name": "Krähenbühl"}, "all": {"name": "Krähenbühl", "n": 1}}
    assert load_yaml(path) == expected
    monkeypatch.delattr(yaml, "CSafeLoader")  # PyYAML without its C part
    assert load_yaml(str(path)) == expected
    path.write_text("a: 1\nb: {x: 1, x: 2}\n", encoding="utf-8")
    with pytest.raises(PaperDataError, match=r"mine\.yaml, line 2, column 11: key 'x' appears"):
        load_yaml(path)
