"""Recorded results: read with provenance, refused with the line where damaged."""

import json
from pathlib import Path

import pytest

import vggbook
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


def test_all_that_provenance_lacks_is_named(tmp_path):
    path = tmp_path / "a.json"
    for provenance in (None, 3, "command commit", []):
        path.write_text(json.dumps({"provenance": provenance}))
        words = "provenance lacks command, commit, date, device, versions, seed$"
        with pytest.raises(recorded.ResultError, match=rf"^a\.json: {words}"):
            recorded.read(path)
    path.write_text("{}")
    with pytest.raises(recorded.ResultError, match="lacks command, commit"):
        recorded.read(path)


def test_messages_in_full(tmp_path, ascii_machine):
    path = tmp_path / "a.json"
    says = {
        b'{\n "a": }': r"a\.json, line 2, column 7: Expecting value",
        b"[1]": r"a\.json, line 1: a JSON object is needed, this is a list",
        b"{\xff": r"a\.json: not a text file \(invalid start byte at byte 1\)",
    }
    for content, words in says.items():
        path.write_bytes(content)
        with pytest.raises(recorded.ResultError, match=f"^{words}$"):
            recorded.read(str(path))
    with pytest.raises(
        recorded.ResultError, match=rf"^no recorded result 'b\.json' in {tmp_path}$"
    ):
        recorded.read(tmp_path / "b.json")
    path.write_text(json.dumps({**GOOD, "who": "Möwe"}, ensure_ascii=False), encoding="utf-8")
    assert recorded.read(path)["who"] == "Möwe"  # UTF-8, whatever the machine's own encoding


def test_results_of_a_pattern_come_sorted_with_their_files(tmp_path, monkeypatch):
    (tmp_path / "below").mkdir()
    for name in ("b-2", "b-1", "c", "below/b-3"):
        (tmp_path / f"{name}.json").write_text(json.dumps(GOOD))
    monkeypatch.setattr(recorded, "folder", lambda: tmp_path)
    assert [result["file"] for result in recorded.load("b-*.json")] == ["b-1.json", "b-2.json"]
    assert recorded.load("below/*.json") == [{**GOOD, "file": "below/b-3.json"}]
    assert recorded.load("d-*.json") == []


def test_where_results_lie(tmp_path, monkeypatch):
    """In a checkout beside ``src``, else in the package."""
    package = Path(vggbook.__file__).parent
    assert recorded.folder() == package.parents[1] / "results"
    monkeypatch.setattr(recorded, "__file__", str(tmp_path / "a/vggbook/book/recorded.py"))
    assert recorded.folder() == package / "results"
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(recorded, "__file__", str(tmp_path / "src/vggbook/book/recorded.py"))
    assert recorded.folder() == tmp_path / "results"


def test_the_line_below_a_recorded_number():
    provenance = {"device": "beads", "date": "2026-01-02", "commit": "abc1234"}
    result = {"file": "a.json", "provenance": provenance}
    assert recorded.source(result) == "results/a.json: beads, 2026-01-02, commit abc1234"
    provenance["commit"] = ""
    assert recorded.source(result) == "results/a.json: beads, 2026-01-02, commit unknown"
