"""The table that a trace prints."""

import math
from dataclasses import FrozenInstanceError
from xml.etree import ElementTree

import pytest

from vggbook import CONFIGS, count_macs, count_parameters, trace
from vggbook.configs import Config, Conv, Pool


@pytest.mark.parametrize("name", CONFIGS)
def test_a_trace_prints_what_it_holds(name):
    table = trace(name, num_classes=10, batch_norm=True)
    text, html = str(table), table._repr_html_()
    assert text.startswith(f"{name}, input 3 x 224 x 224\n")
    lines = text.splitlines()
    assert len(lines) == len(table.rows) + 4
    assert html.count("<tr>") == len(table.rows) + 2
    for row, line in zip(table.rows, lines[2:]):
        shown = line.split()
        assert shown[:2] == [row.name, row.kind] and shown[-1] == f"{row.receptive_field:,}"
        assert f"{row.params:,}" in shown and f">{row.name}</td>" in html
        assert table[row.name] is row
    assert f"{table.total_params:,}" in lines[-1] and f"{table.total_params:,}" in html
    assert table.total_params == count_parameters(name, 10, batch_norm=True)
    assert table.total_macs == count_macs(name, num_classes=10)
    assert table.total_activation_bytes == 4 * sum(
        math.prod(row.output_shape) for row in table.rows
    )


def test_bytes_per_value():
    assert (
        trace("D", bytes_per_value=2).total_activation_bytes * 2
        == trace("D").total_activation_bytes
    )


def test_html_is_escaped():
    assert "<b>" not in trace(Config("<b>", (Conv(4), Pool())), 32)._repr_html_()


def test_an_unknown_layer():
    with pytest.raises(KeyError, match=r"no layer 'fc6' in D; it has conv1_1, .*fc3"):
        trace("D")["fc6"]


def test_the_head_names_the_columns_and_three_are_text():
    table = trace("A", 32)
    head = str(table).splitlines()[1]
    assert head.split() == [
        "layer",
        "kind",
        "output",
        "parameters",
        "million",
        "MACs",
        "MB",
        "receptive",
        "field",
    ]
    html = table._repr_html_()
    assert html.count("text-align:left") == 3 * (len(table.rows) + 2)
    assert html.count("text-align:right") == 4 * (len(table.rows) + 2)


def test_what_a_trace_takes_for_granted():
    """Table 2's 138 million of D, at 224 pixels with 1000 classes, float32."""
    table = trace("D")
    assert table.total_params == 138_357_544 and table.image_size == (224, 224)
    assert trace("D", (64, 96)).image_size == (64, 96)
    assert table.rows[0].activation_bytes == 4 * 64 * 224 * 224
    last = str(table).splitlines()[-1]
    assert last.split()[0] == "total" and "_" not in last


def test_sizes_are_ascii_in_text_and_have_a_sign_in_html():
    table = trace("A", (64, 96))
    assert str(table).isascii() and "64 x 32 x 48" in str(table)
    html = table._repr_html_()
    assert "A, input 3 × 64 × 96" in html and ">64 × 32 × 48<" in html and " x " not in html


def test_the_html_table_holds_the_cells_of_the_text_and_nothing_between():
    table = trace("A", (64, 96), num_classes=10)
    html = ElementTree.fromstring(table._repr_html_())
    title, *lines = str(table).replace(" x ", " × ").splitlines()
    assert html.get("class") == "trace" and html.findtext("caption") == f"{title}, one image"
    rows = html.findall("*/tr")
    cells = [[cell.text or "" for cell in row] for row in rows]
    rule = lines.pop(-2)
    assert rule == "-" * len(lines[0])
    assert ["".join(row).replace(" ", "") for row in cells] == [s.replace(" ", "") for s in lines]
    assert {cell.tag for cell in rows[0]} == {"th"}
    assert {cell.tag for row in rows[1:] for cell in row} == {"td"}
    sides = ["left", "left", "left;white-space:nowrap", *["right"] * 4]
    for row in rows:
        assert [cell.get("style") for cell in row] == [f"text-align:{side}" for side in sides]
    assert not any((node.tail or "").strip() for node in html.iter())
    assert not any((node.text or "").strip() for node in html.iter("tr"))


def test_a_trace_is_frozen():
    with pytest.raises(FrozenInstanceError):
        trace("A").rows = ()
