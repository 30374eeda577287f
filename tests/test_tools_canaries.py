"""Canaries: in a temporary copy of the book with one small chapter, each kind of defect is put in
and must be caught.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
import yaml
from conftest import ROOT

from tools.address import address, install_cell
from tools.notebook import METADATA

FIGURE = "import matplotlib.pyplot as plt\n\nplt.plot([1, 2])\nplt.show()"
ABOUT = {
    "image": {"alt": "A line that rises from one to two."},
    "figure": {"caption": "A rising line.", "name": "fig-rise"},
}
CHECK = (
    'from vggbook import claims, count_parameters\n\nclaims()["params-d"].check({part}, part=True)'
)


def write_notebook(
    folder,
    claim='{"exact": count_parameters("D")}',
    about=ABOUT,
    link="../book/preface.md",
    extra=(),
):
    code, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    figure = code(FIGURE, metadata={"mystnb": about}, id="figure")
    cells = [
        text(f"# Small\n\nSee [the preface]({link}).\n\n> **Trap: two.** Not three.", id="title"),
        code(install_cell(address()), metadata={"tags": ["setup"]}, id="install"),
        code(
            'profile = "auto"\nstrict = False', metadata={"tags": ["parameters"]}, id="parameters"
        ),
        *(code(source, id=f"extra-{i}") for i, source in enumerate(extra)),
        code(CHECK.replace("{part}", claim), id="claim"),
        figure,
    ]
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells, metadata=METADATA),
        folder / "notebooks/99_small.ipynb",
    )


def run(folder, module, *args):
    env = {**os.environ, "PYTHONPATH": f"{folder}:{folder}/src"}
    r = subprocess.run(
        [sys.executable, "-m", f"tools.{module}", *args],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
    )
    return r.returncode, r.stdout + r.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The machinery with one small chapter, built once; tests put it back as it was."""
    folder = tmp_path_factory.mktemp("canaries")
    for name in ("_config.yml", "README.md"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "tools", folder / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "book" / "_static", folder / "book" / "_static")
    shutil.copy(ROOT / "book" / "quizzes.yaml", folder / "book")
    for name in ("ledger", "misreadings"):
        shutil.copy(ROOT / "book" / f"{name}.md", folder / "book")
    (folder / "book" / "preface.md").write_text(
        "# Preface\n\nSee [the chapter](../notebooks/99_small.ipynb).\n"
    )
    (folder / "notebooks").mkdir()
    (folder / "src").symlink_to(ROOT / "src")
    chapters = [{"file": f} for f in ("notebooks/99_small", "book/ledger", "book/misreadings")]
    toc = {
        "format": "jb-book",
        "root": "book/preface",
        "parts": [{"caption": "All", "numbered": 2, "chapters": chapters}],
    }
    (folder / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False))
    write_notebook(folder)
    rc, log = run(folder, "build", "--profile", "cpu")
    assert rc == 0, log
    assert "executed now: 1" in log
    return folder


@pytest.fixture
def book(project):
    kept = {
        p: p.read_bytes()
        for p in (project / "notebooks/99_small.ipynb", project / "book/preface.md")
    }
    yield project
    for p, data in kept.items():
        p.write_bytes(data)


def test_the_healthy_copy_has_its_ledger_and_is_not_executed_again(book):
    rows = {r["id"]: r for r in json.loads((book / "_build/ledger.json").read_text())}
    assert rows["params-d"]["found"] == {"exact": 138357544} and rows["params-d"]["missing"] == [
        "millions",
        "weights_only",
    ]
    assert sum(r["status"] == "open" for r in rows.values()) == 174
    page = (book / "_build/html/notebooks/99_small.html").read_text()
    assert (
        'class="run-note"' in page
        and "<code" in page
        and "injected" not in page
        and 'id="trap-99-two"' in page
    )
    assert re.search(r'<span class="section-number">99\.', page), (
        "chapters are numbered by their file name"
    )
    assert ("colab.research.google.com" in page) == bool(address())
    rc, log = run(book, "execute", "--profile", "cpu")
    assert rc == 0 and "executed now: 0" in log and "unchanged since" in log
    assert "papermill" not in (book / "_build/html/_sources/notebooks/99_small.ipynb").read_text()


def test_a_broken_notebook_is_named_with_cell_and_traceback(book):
    write_notebook(book, extra=["layers = 5\n1 / (layers - 5)"])
    rc, log = run(book, "build", "--profile", "cpu")
    assert rc == 1 and "The book was not built." in log
    said = log[log.index("99_small failed in cell 4") : log.index("The book was not built.")]
    assert "1 / (layers - 5)" in said and "ZeroDivisionError: division by zero" in said
    assert "open notebooks/99_small.ipynb" in said and len(said.strip().splitlines()) <= 10
    story = (book / "_build/executed/failed/99_small.txt").read_text(encoding="utf-8")
    assert "Traceback" in story and "layers = 5" in story
    assert (book / "_build/executed/failed/99_small.ipynb").exists(), "as far as it ran"
    record = json.loads((book / "_build/executed/runs/99_small.json").read_text(encoding="utf-8"))
    executed = nbformat.read(book / "_build/executed/notebooks/99_small.ipynb", 4)
    assert record["notebook"] == "99_small.ipynb" and "layers = 5" not in json.dumps(executed), (
        "the last good run must stay"
    )


def test_a_wrong_claim_stops_the_build(book):
    write_notebook(book, claim='{"exact": count_parameters("D") + 1}')
    rc, log = run(book, "build", "--profile", "cpu")
    assert rc == 1 and "ClaimError" in log and "params-d" in log and "138357545" in log


def test_a_claim_that_does_not_exist_stops_the_build(book):
    write_notebook(book, extra=['from vggbook import claims\n\nclaims()["params-z"]'])
    rc, log = run(book, "execute", "--profile", "cpu")
    assert rc == 1 and "no claim 'params-z'" in log


def test_a_timed_out_cell_is_named(book):
    write_notebook(book, extra=["import time\n\ntime.sleep(60)"])
    rc, log = run(book, "execute", "--profile", "cpu", "--cell-timeout", "2")
    assert (
        rc == 1
        and "99_small failed" in log
        and "a cell took longer than 2 s" in log
        and "time.sleep(60)" in log
    )


def test_a_notebook_that_does_not_end_is_stopped(book):
    write_notebook(book, extra=["import time\n\ntime.sleep(60)"])
    rc, log = run(book, "execute", "--profile", "cpu", "--timeout", "8")
    assert rc == 1 and "it did not finish within 8 s" in log


def test_missing_alt_text_is_caught(book):
    write_notebook(book, about={"figure": ABOUT["figure"]})
    rc, log = run(book, "build", "--profile", "cpu")
    assert rc == 1 and "99_small.html: image without alt text" in log


def test_dead_links_are_caught_and_again_when_nothing_changed(book):
    (book / "book/preface.md").write_text(
        "# Preface\n\nSee [nothing](nothing.md) and <a href='../gone.html'>raw</a>.\n"
    )
    for _ in range(2):  # Sphinx alone would forget the warnings of pages that it has read
        rc, log = run(book, "build", "--profile", "cpu")
        assert rc == 1 and "nothing.md" in log and "The book was not built." in log
    (book / "book/preface.md").write_text(
        "# Preface\n\nSee <a href='../gone.html'>raw</a> and [x](../notebooks/99_small.ipynb).\n"
    )
    rc, log = run(book, "build", "--profile", "cpu")
    assert rc == 1 and "preface.html: dead link ../gone.html" in log


def test_a_page_outside_the_table_of_contents_is_named(book):
    (book / "book/stray.md").write_text("# Stray\n")
    try:
        rc, log = run(book, "build", "--profile", "cpu")
    finally:
        (book / "book/stray.md").unlink()
    assert rc == 1 and "not listed: ['book/stray']" in log
