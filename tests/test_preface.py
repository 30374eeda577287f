"""The preface's drawing and its numbers hold for the configurations and the claims as they are."""

import re
import xml.etree.ElementTree as ET

import pytest
from conftest import ROOT

from vggbook import CONFIGS, claims
from vggbook.configs import LRN, Conv

TEXT = (ROOT / "book" / "preface.md").read_text(encoding="utf-8")
SVG = ET.fromstring(re.search(r"<svg.*?</svg>", TEXT, re.S)[0])
ROWS = {g.get("data-net"): g for g in SVG.iter("g")}


def test_one_row_a_column_of_table_1():
    assert list(ROWS) == [name for name in CONFIGS if CONFIGS[name].source == "Table 1"]
    assert SVG.get("aria-label") and SVG.get("role") == "img"


@pytest.mark.parametrize("name", ROWS)
def test_bars_are_the_weight_layers(name):
    config = CONFIGS[name]
    bars = [
        (b.get("data-layer"), int(b.get("data-channels")), float(b.get("height")))
        for b in ROWS[name].iter("rect")
    ]
    convs = [(f"conv{la.kernel}", la.channels) for la in config.layers if isinstance(la, Conv)]
    assert [bar[:2] for bar in bars] == [*convs, *(("fc", width) for width in (*config.fc, 1000))]
    assert len(ROWS[name].findall("circle")) == sum(isinstance(la, LRN) for la in config.layers)
    assert ROWS[name].findall("text")[-1].text == f"{config.weight_layers} layers"
    for (_, wide, high), (_, narrow, low) in zip(bars, bars[1:]):
        assert (high > low + 3) == (wide > narrow)


def test_number_of_claims():
    own = sum(any("1409.1556" in source for source in claim.source) for claim in claims())
    (found,) = re.findall(
        r"(\d+) statements that can be checked.*?Of these, (\d+) are the paper's own, and (\d+)\s",
        TEXT,
        re.S,
    )
    assert tuple(map(int, found)) == (len(claims()), own, len(claims()) - own)
