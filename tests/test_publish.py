"""Publishing, on a temporary repository without network: address, branch, downloads, site map,
cards, links, the workflows.
"""

import http.server
import re
import shutil
import subprocess
import sys
import threading
import xml.etree.ElementTree as xml
import zipfile
from pathlib import Path

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from conftest import ROOT

from tools import address, cards, downloads, links
from vggbook.released import weights_url

WHO = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]


def git(folder, *words):
    command = ["git", "-C", str(folder), *WHO, *words]
    r = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert r.returncode == 0, r.stderr
    return r.stdout.strip()


@pytest.fixture(scope="module")
def fork(tmp_path_factory):
    """A clone as the workflow checks it out, and the repository that it came from."""
    folder = tmp_path_factory.mktemp("fork")
    work, origin = folder / "work", folder / "origin.git"
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file() and not name.startswith("results/section4"):
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, work / name)
    address.write(None, work)
    git(work, "init", "-q")
    git(work, "add", "-A")
    git(work, "commit", "-q", "-m", "A book")
    git(folder, "clone", "-q", "--bare", str(work), str(origin))
    git(work, "remote", "add", "origin", str(origin))
    return work, origin


def publish(work, step, **variables):
    env = {"PATH": "/usr/bin:/bin:/usr/local/bin", "PY": sys.executable, "HOME": str(work)}
    env |= {"PYTHONPATH": f"{work}:{work}/src"} | variables
    command = ["sh", "tools/publish.sh", step]
    return subprocess.run(
        command, cwd=work, env=env, capture_output=True, text=True, encoding="utf-8"
    )


def test_a_fork_publishes_its_own_tree_without_a_manual_step(fork, tmp_path):
    work, origin = fork
    main = git(origin, "rev-parse", "main")
    for _ in range(2):  # the second push of a day as well
        r = publish(work, "address", GITHUB_REPOSITORY="Some-body/the.fork")
        assert r.returncode == 0, r.stderr
        r = publish(work, "push")
        assert r.returncode == 0 and "branch colab is at" in r.stdout, r.stderr
    assert git(origin, "rev-parse", "main") == main, "the branch that people work on stays"
    assert git(work, "status", "--porcelain") == "", "the pages name a commit without a plus sign"
    git(tmp_path, "clone", "-q", "--branch", "colab", str(origin), str(tmp_path / "colab"))
    seen = tmp_path / "colab"
    assert address.address(seen) == "Some-body/the.fork" and address.branch(seen) == "colab"
    assert address.disagreements(seen) == []
    nb = nbformat.read(seen / "notebooks/01_architecture.ipynb", 4)
    first = next(c.source for c in nb.cells if c.cell_type == "code")
    assert 'source = "git+https://github.com/Some-body/the.fork@colab"' in first
    readme = (seen / "README.md").read_text(encoding="utf-8")
    button = "https://colab.research.google.com/github/Some-body/the.fork/blob/colab/notebooks/01_"
    assert button in readme and "<https://some-body.github.io/the.fork/>" in readme


def test_publishing_says_what_it_lacks(fork):
    work, _ = fork
    r = publish(work, "address")
    assert r.returncode != 0 and "GITHUB_REPOSITORY" in r.stderr
    r = publish(work, "address", GITHUB_REPOSITORY="not a repository")
    assert r.returncode == 1 and "expected a GitHub owner/name" in r.stderr
    assert publish(work, "everything").returncode == 2


def test_pdf_and_zip_lie_beside_the_pages(tmp_path, capsys):
    html, build = tmp_path / "html", tmp_path
    (html / "notebooks").mkdir(parents=True)
    assert downloads.main(html, build) == 1 and "make pdf first" in capsys.readouterr().err
    (html / "index.html").write_text("<p>ä</p>", encoding="utf-8")
    (html / "notebooks/a.html").write_text("a", encoding="utf-8")
    (build / "vggbook.pdf").write_bytes(b"%PDF")
    for _ in range(2):  # a second time the zip does not pack itself
        assert downloads.main(html, build) == 0
        with zipfile.ZipFile(html / "vggbook-html.zip") as archive:
            assert archive.testzip() is None
            assert archive.namelist() == ["vggbook/index.html", "vggbook/notebooks/a.html"]
    assert (html / "vggbook.pdf").read_bytes() == b"%PDF"


PAGE = (
    '<html><head><meta content="What it &amp; says" lang="en" name="description" />'
    "<title>A &amp; B</title></head><body><main></main></body></html>"
)


def test_site_map_and_cards_name_every_page_once(tmp_path):
    base = "https://some-body.github.io/the.fork/"
    for name in ("book/a.html", "notebooks/b.html", "search.html", "index.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(PAGE, encoding="utf-8")
    for _ in range(2):
        cards.write(tmp_path, base)
    tree = xml.parse(tmp_path / "sitemap.xml").getroot()
    places = [e.text for e in tree.iter("{http://www.sitemaps.org/schemas/sitemap/0.9}loc")]
    assert places == [base + "book/a.html", base + "notebooks/b.html"]
    assert f"Sitemap: {base}sitemap.xml" in (tmp_path / "robots.txt").read_text("utf-8")
    soup = BeautifulSoup((tmp_path / "book/a.html").read_text("utf-8"), "html.parser")
    found = {e["property"]: e["content"] for e in soup.select("meta[property]")}
    assert len(soup.select("meta[property]")) == len(found) == 6
    assert found["og:title"] == "A & B" and found["og:description"] == "What it & says"
    assert found["og:url"] == base + "book/a.html" and found["og:image"] == base + cards.CARD


def test_the_card_is_a_picture_of_the_right_shape():
    from PIL import Image

    with Image.open(ROOT / "book" / cards.CARD) as picture:
        assert picture.size == (1200, 630)
    assert cards.CARD in (ROOT / "README.md").read_text(encoding="utf-8")


# Links to other sites


class Host(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(self.path.split("/")[1]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


def test_only_what_is_gone_is_a_dead_link():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"http://127.0.0.1:{server.server_port}"
    answers = {
        code: links.problem(f"{host}/{code}/x#part", 0) for code in (200, 403, 404, 410, 503)
    }
    server.shutdown()
    server.server_close()
    assert answers == {200: "", 403: "", 404: "answers 404", 410: "answers 410", 503: ""}
    assert "refused" in links.problem(f"{host}/200/", 0), "nobody answers there"


def test_links_are_found_in_pages_and_notebooks(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "notebooks").mkdir()
    text = "[a](https://a.org/x_(y)) and <https://b.org/z>, https://c.org/d. [e](f.md)"
    (tmp_path / "book/p.md").write_text(text, encoding="utf-8")
    cells = [nbformat.v4.new_markdown_cell("[g](https://g.org)"), nbformat.v4.new_code_cell("h")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks/n.ipynb")
    assert links.links(tmp_path) == {
        "https://a.org/x_(y)": "p.md",
        "https://b.org/z": "p.md",
        "https://c.org/d": "p.md",
        "https://g.org": "n.ipynb",
    }
    assert len(links.links()) > 20, "the book has links"


# The workflows


def workflow(name):
    return yaml.safe_load((ROOT / ".github" / name).read_text(encoding="utf-8"))


def test_the_actions_are_those_that_runners_still_run():
    newest = {
        "actions/checkout": 6,
        "actions/setup-python": 6,
        "actions/cache": 6,
        "actions/upload-artifact": 7,
        "actions/configure-pages": 6,
        "actions/upload-pages-artifact": 5,
        "actions/deploy-pages": 5,
    }
    text = "".join(p.read_text(encoding="utf-8") for p in (ROOT / ".github/workflows").glob("*"))
    used = re.findall(r"uses: ([\w/-]+)@v([\d.]+)", text)
    assert len(used) == text.count("uses:")
    for action, version in used:
        if action == "astral-sh/setup-uv":
            assert re.fullmatch(r"\d+\.\d+\.\d+", version), "by exact tag"
        else:
            assert int(version) == newest[action]
    assert workflow("dependabot.yml")["updates"][0]["package-ecosystem"] == "github-actions"


def test_the_matrix_is_what_the_package_says_it_supports():
    matrix = workflow("workflows/test.yml")["jobs"]["test"]["strategy"]["matrix"]
    classifiers = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text("utf-8"))
    assert matrix["python"] == classifiers == ["3.11", "3.12", "3.13", "3.14"]
    assert matrix["torch"] == ["oldest", "newest"] and len(matrix["os"]) == 2
    oldest = {row["python"]: row["versions"] for row in matrix["include"]}
    assert set(oldest) == set(classifiers)
    assert oldest["3.11"].startswith("torch==2.3."), "the declared minimum"


def test_publishing_keeps_the_released_weights_by_their_checksum():
    steps = workflow("workflows/publish.yml")["jobs"]["publish"]["steps"]
    (kept,) = (s["with"] for s in steps if "actions/cache" in s.get("uses", ""))
    assert kept == {
        "path": "~/.cache/torch/hub/checkpoints",
        "key": Path(weights_url("vgg16")).stem,
    }


def test_publishing_may_push_and_nothing_else_more():
    publish = workflow("workflows/publish.yml")
    assert publish["permissions"] == {"contents": "write", "pages": "write", "id-token": "write"}
    steps = [step.get("run", step.get("uses", "")) for step in publish["jobs"]["publish"]["steps"]]
    order = [
        i
        for i, s in enumerate(steps)
        for w in ("address", "actions/cache", "WEIGHTS=download", ".ci/run", "push", "deploy")
        if w in s
    ]
    assert order == sorted(order) and len(order) == 6
    for name in ("test.yml", "links.yml"):
        assert workflow(f"workflows/{name}")["permissions"] == {"contents": "read"}
