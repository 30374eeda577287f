"""Recorded results: read with provenance, refused with the line where damaged."""

import json

import pytest

from vggbook import count_parameters, trace
from vggbook.book import recorded

GOOD = {"provenance": dict.fromkeys(recorded.PROVENANCE, "x"), "rows": [1]}


def test_reads_what_json_wrote(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(GOOD))
    assert recorded.read(path) == GOOD


def test_damage_is_named_with_its_line(tmp_path):
    path = tmp_path / "cut.json"
    path.write_text(json.dumps(GOOD, indent=1)[:-30] + "\n")
    lines = path.read_text().count("\n")
    with pytest.raises(recorded.ResultError, match=r"cut\.json, line (\d+)") as error:
        recorded.read(path)
    assert 1 <= int(str(error.value).split("line ")[1].split(",")[0]) <= lines + 1


@pytest.mark.parametrize("key", recorded.PROVENANCE)
def test_provenance_is_demanded(tmp_path, key):
    data = {**GOOD, "provenance": {k: v for k, v in GOOD["provenance"].items() if k != key}}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data))
    with pytest.raises(recorded.ResultError, match=f"provenance lacks {key}"):
        recorded.read(path)


@pytest.mark.parametrize(
    "text, says",
    [("[1]", "a JSON object is needed"), ("", "line 1"), (b"\xff\xfe\x00", "not a text file")],
)
def test_other_files_are_refused(tmp_path, text, says):
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(recorded.ResultError, match=says):
        recorded.read(path)
    with pytest.raises(recorded.ResultError, match="no recorded result"):
        recorded.read(tmp_path / "none.json")


def test_every_committed_result_has_provenance():
    for path in recorded.folder().rglob("*.json"):
        assert recorded.read(path)["provenance"]["date"]


def test_a_photograph_takes_less_than_4_gb_on_a_processor():
    """The recorded peaks, and a bound from the shapes: the weights, twice the two largest maps (one
    layer's input and output, and a copy of each in another order), and a gigabyte for PyTorch.
    """
    rows = recorded.read(recorded.folder() / "dense-cost.json")["rows"]
    assert [row["Q"] for row in rows] == [256, 384, 512]
    for row in rows:
        layers = trace("D", image_size=tuple(row["image"])).rows
        maps = sorted(layer.activation_bytes for layer in layers)[-2:]
        bound = 4 * count_parameters("D") + 2 * sum(maps) + 1e9
        assert 4 * count_parameters("D") < row["peak_bytes"] < bound < 4e9
