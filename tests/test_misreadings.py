"""The misreadings: each snippet runs as it is shown; the page has one line each, by topic."""

import pytest
import yaml
from bs4 import BeautifulSoup

from tools import misreadings
from tools.boxes import Trap

ENTRIES = misreadings.load()
TRAP = Trap("two pools", "It has *five*, see [there](03_x.ipynb).", "trap-02-two-pools", "02_x")


@pytest.fixture(scope="module")
def printed():
    """All snippets run once, afresh: no memory of an earlier build."""
    return misreadings.outputs(ENTRIES)


def test_every_snippet_runs_as_shown_and_prints_something(printed):
    assert len(printed) == len(ENTRIES) >= 40
    assert [m.wrong for m, text in zip(ENTRIES, printed) if not text.strip()] == []


def test_snippets_are_short():
    long = {m.wrong: line for m in ENTRIES for line in m.code.splitlines() if len(line) > 100}
    assert long == {}
    assert {m.wrong: n for m in ENTRIES if (n := len(m.code.splitlines())) > 30} == {}


def test_no_letter_that_only_looks_like_one():
    text = misreadings.FILE.read_text(encoding="utf-8")
    assert not any("\u0400" <= c <= "\u04ff" for c in text)


def test_the_page(printed):
    page = misreadings.render([TRAP], ENTRIES, printed)
    soup = BeautifulSoup(page, "html.parser")
    lines = soup.select("details.misreading > summary")
    assert len(lines) == len(ENTRIES) + 1 and not soup.select("details[open]")
    assert len({d["id"] for d in soup.select("details")}) == len(lines)
    assert len(soup.select("summary > .wrong")) == len(soup.select("summary > .right"))
    heads = [line[3:] for line in page.split("\n") if line.startswith("## ")]
    assert heads == [t for t in misreadings.TOPICS.values() if t in heads] and len(heads) >= 6
    assert "](#trap-02-two-pools)" in page and "](../notebooks/03_x.ipynb)" in page
    assert "138357544 138365992" in page  # printed by the snippet, not written by hand


def test_links_move_with_their_text():
    assert misreadings.relocate(
        "[a](03_x.ipynb) [b](../book/glossary.md#y) [c](https://z.org)"
    ) == ("[a](../notebooks/03_x.ipynb) [b](glossary.md#y) [c](https://z.org)")


GOOD = {
    "wrong": "w",
    "right": "r",
    "topic": "code",
    "source": "paper",
    "text": "t",
    "code": "print(1)",
}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"topic": "x"}, "entry 1: topic='x'"),
        ({"source": "x"}, "source='x': expected one of"),
        ({"code": ""}, r"missing keys \['code'\]"),
        ({"author": "x"}, r"unknown keys \['author'\]"),
    ],
)
def test_an_entry_that_cannot_be_shown_is_named(tmp_path, change, message):
    file = tmp_path / "misreadings.yaml"
    file.write_text(yaml.safe_dump([GOOD | change]), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        misreadings.load(file)


def test_a_snippet_that_fails_is_named_and_memory_saves_a_run(tmp_path):
    bad = misreadings.Misreading(**GOOD | {"wrong": "this one", "code": "1 / 0"})
    with pytest.raises(misreadings.SnippetFailed, match=r"this one(.|\n)*ZeroDivisionError"):
        misreadings.outputs([bad])
    memory, good = tmp_path / "m.json", misreadings.Misreading(**GOOD)
    assert misreadings.outputs([good], memory) == ["1\n"]
    memory.write_text(memory.read_text().replace('"1\\n"', '"remembered"'))
    assert misreadings.outputs([good], memory) == ["remembered"]
