"""The built book: complete, connected, local, and saying what the execution found."""

import gzip
import json
import re

import pytest
import yaml
from conftest import ROOT

from tools import boxes, check, ledger, stage
from tools.address import address
from vggbook import claims

TOC = stage.toc_files(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
CHAPTERS = [f for f in TOC if f.startswith("notebooks/")]


def soup(html, name):
    return check.parsed(html / f"{name}.html")


def test_the_door_leads_to_the_first_page(html):
    door = soup(html, "index")
    root = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["root"] + ".html"
    assert door.find("meta", {"http-equiv": "Refresh"})["content"] == f"0; url={root}"
    assert (
        door.a["href"] == root
        and (html / root).exists()
        and door.title.string
        and door.html["lang"] == "en"
    )


def test_table_of_contents_and_files_agree():
    files = {f"notebooks/{p.stem}" for p in (ROOT / "notebooks").glob("*.ipynb")} | {
        f"book/{p.stem}" for p in (ROOT / "book").glob("*.md")
    }
    assert set(TOC) == files and len(TOC) == len(set(TOC))


@pytest.mark.parametrize("name", TOC)
def test_every_page_is_built_with_a_title(html, name):
    page = soup(html, name)
    assert len(page.select("article.bd-article h1")) == 1 and page.html["lang"] == "en"
    assert page.select_one("meta[name=description]")["content"]
    assert page.select_one('link[rel="icon"]')


def test_links_and_anchors_resolve(html):
    assert check.links(html) == []


def test_images_say_what_they_show(html):
    assert check.images(html) == []


def test_nothing_comes_from_another_host(html):
    assert check.hosts(html) == []


def test_ids_are_unique_on_each_page(html):
    assert check.unique(html) == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapters_show_their_number_run_and_results(html, name):
    page = soup(html, name)
    assert (
        page.select_one("h1 .section-number").get_text().strip()
        == f"{int(name.split('/')[1][:2])}."
    )
    note = page.select_one(".run-note").get_text()
    assert re.search(
        r"computed on \d{4}-\d\d-\d\d in [\d.]+ seconds: "
        r"profile \w+, .*Python 3\.\d+\.\d+, torch \d",
        note,
    )
    assert not page.select(".cell_output .stderr, .cell_output .traceback")
    assert "injected-parameters" not in str(page)
    assert len(page.select("div.admonition.objectives")) == 1


@pytest.mark.parametrize("name", CHAPTERS)
def test_boxes_exercises_and_folds_became_what_the_page_needs(html, name):
    source = "\n".join(
        c["source"] if isinstance(c["source"], str) else "".join(c["source"])
        for c in json.loads((ROOT / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
        if c["cell_type"] == "markdown"
    )
    page = soup(html, name)
    for kind, css in boxes.KINDS.items():
        assert len(page.select(f"div.admonition.{css}")) == len(
            re.findall(rf"^> \*\*{kind}[,:.?!]", source, re.M)
        ), kind
    assert len(page.select("h3 .exercise-kind")) == len(re.findall(r"^### Exercise ", source, re.M))
    folded = [s.get_text().split()[0] for s in page.select("details.hide > summary")]
    assert folded.count("Setup") == 1 and "Answer" in folded
    assert "<!-- times -->" not in str(page)
    cited = set(re.findall(r"\[Figures?\]\(#(fig-[\w-]+)\)", source))
    assert cited <= {
        a["href"][1:] for a in page.select("a[href^='#fig-']") if a.get_text(strip=True)
    }
    tags = set(re.findall(r"\\tag\{([\d.a-z]+)\}", source))
    assert all(f"\\tag{{{t}}}" in page.get_text() for t in tags)


def test_colab_only_with_an_address(html):
    for name in CHAPTERS:
        links = [a["href"] for a in soup(html, name).select('a[href*="colab.research.google.com"]')]
        expected = f"https://colab.research.google.com/github/{address()}/blob/main/{name}.ipynb"
        assert links == [expected] * len(links) and bool(links) == bool(address())
    cells = [
        json.loads((ROOT / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
        for name in CHAPTERS
    ]
    first = ["".join(next(c for c in cs if c["cell_type"] == "code")["source"]) for cs in cells]
    assert len(set(first)) == 1 and (
        "pip install ." in first[0] if address() is None else f"github.com/{address()}" in first[0]
    )


def test_ledger_has_every_claim_once_with_working_links(html):
    rows = json.loads((ROOT / "_build" / "ledger.json").read_text(encoding="utf-8"))
    assert [r["id"] for r in rows] == [c.id for c in claims()] and len(rows) == 174
    page = soup(html, "book/ledger")
    shown = {tr["id"]: tr for tr in page.select("table.ledger tbody tr")}
    assert set(shown) == {r["id"] for r in rows}
    for r in rows:
        assert shown[r["id"]].select_one(".status").get_text() == r["status"]
        assert len(shown[r["id"]].select("td:last-child a")) == len(r["cells"])
    summary = {
        tr.td.get_text(): int(tr.select_one(".number").get_text())
        for tr in page.select(".ledger-summary tbody tr")
    }
    assert summary.pop("in all") == sum(summary.values()) == 174 and summary == ledger.counts(rows)


def test_ledger_is_what_the_executed_notebooks_published():
    import nbformat

    nbs = {
        p.stem: nbformat.read(p, 4)
        for p in (ROOT / "_build/executed/notebooks").glob("*.ipynb")
        if f"notebooks/{p.stem}" in TOC
    }
    if not nbs:
        pytest.skip("needs the executed notebooks: run make book first")
    assert json.loads((ROOT / "_build" / "ledger.json").read_text(encoding="utf-8")) == json.loads(
        json.dumps(ledger.entries(nbs))
    )


def test_every_claim_has_one_status(html):
    rows = json.loads((ROOT / "_build" / "ledger.json").read_text(encoding="utf-8"))
    assert ledger.conflicts(rows) == []


def test_every_check_on_a_page_leads_to_its_row_in_the_ledger(html):
    rows = json.loads((ROOT / "_build" / "ledger.json").read_text(encoding="utf-8"))
    for name in CHAPTERS:
        ticks = soup(html, name).select("details.tick")
        published = [c for r in rows for c in r["cells"] if f"notebooks/{c['notebook']}" == name]
        assert {t["id"] for t in ticks} == {c["anchor"] for c in published}
        for t in ticks:
            assert t.summary.select_one(".visually-hidden").get_text(strip=True)
            assert t.select_one("a")["href"].startswith("../book/ledger.html#")


def test_the_api_page_has_the_public_names(html):
    text = soup(html, "book/api").select_one("article").get_text()
    for name in (
        "count_parameters",
        "to_dense",
        "Recipe",
        "fit",
        "predict",
        "claims",
        "show_table",
    ):
        assert f"{name}(" in text, name


def test_every_trap_is_on_the_misreadings_page(html):
    links = {a["href"] for a in soup(html, "book/misreadings").select("main a[href]")}
    for name in CHAPTERS:
        for box in soup(html, name).select("div.admonition.trap"):
            assert f"../{name}.html#{box['id']}" in links


def test_a_download_is_the_notebook_as_written(html):
    for name in CHAPTERS:
        text = (html / "_sources" / f"{name}.ipynb").read_text(encoding="utf-8")
        assert "admonition}" not in text and '"papermill"' not in text


def test_pages_are_light(html):
    """A page's markup, compressed; the browser test weighs the whole first load."""
    sizes = {
        name: len(gzip.compress((html / f"{name}.html").read_bytes(), 6)) // 1000 for name in TOC
    }
    assert {name: kb for name, kb in sizes.items() if kb > 120} == {}


def test_pictures_are_fetched_when_they_come_into_view(html):
    for name in CHAPTERS:
        assert all(
            i.get("loading") == "lazy" for i in soup(html, name).select("article.bd-article img")
        )


def test_every_claim_ends_as_something(html):
    rows = json.loads((ROOT / "_build" / "ledger.json").read_text(encoding="utf-8"))
    assert [r["id"] for r in rows if r["status"] == "open"] == []
