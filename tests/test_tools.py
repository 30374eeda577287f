"""The parts of the machinery one by one: stamps, the address, notebooks as text, folds, setup."""

import os
import subprocess
import sys
import threading
import time

import nbformat
import pytest
from conftest import ROOT

from tools import address, check, docstrings, execute, notebook, stage

# Stamps


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("src/vggbook/book/profiles", "results", "notebooks"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "src/vggbook/a.py").write_text("x = 1\n")
    (tmp_path / "src/vggbook/book/profiles/cpu.yaml").write_text("n: 1\n")
    (tmp_path / "results/r.json").write_text("{}\n")
    (tmp_path / "notebooks/01_a.ipynb").write_text("{}")
    monkeypatch.setattr(execute, "ROOT", tmp_path)
    execute.shared_hash.cache_clear()
    yield tmp_path
    execute.shared_hash.cache_clear()


def stamp_of(project, profile="cpu"):
    execute.shared_hash.cache_clear()
    return execute.stamp(project / "notebooks/01_a.ipynb", profile)


@pytest.mark.parametrize(
    "name",
    [
        "src/vggbook/a.py",
        "src/vggbook/book/profiles/cpu.yaml",
        "results/r.json",
        "notebooks/01_a.ipynb",
    ],
)
def test_stamp_sees_every_input(project, name):
    before = stamp_of(project)
    assert stamp_of(project) == before
    (project / name).write_text((project / name).read_text() + " ")
    assert stamp_of(project) != before


def test_stamp_sees_new_files_profile_versions_and_machine(project, monkeypatch):
    stamps = {stamp_of(project), stamp_of(project, "gpu")}
    (project / "results/new.json").write_text("{}")
    stamps.add(stamp_of(project))
    monkeypatch.setattr(execute, "versions", lambda: {"torch": "0"})
    stamps.add(stamp_of(project))
    monkeypatch.setattr(execute, "device", lambda: "an abacus")
    stamps.add(stamp_of(project))
    assert len(stamps) == 5


def test_stamp_ignores_bytecode(project):
    before = stamp_of(project)
    (project / "src/vggbook/__pycache__").mkdir()
    (project / "src/vggbook/__pycache__/a.cpython-311.pyc").write_bytes(b"x")
    assert stamp_of(project) == before


def test_stamp_ignores_what_other_tools_leave_beside_the_notebooks(project):
    before = stamp_of(project)
    for name in (".ruff_cache/0.1/1", ".ipynb_checkpoints/01_a-checkpoint.txt", ".DS_Store"):
        path = project / "notebooks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert stamp_of(project) == before


def test_checking_the_form_leaves_nothing_beside_the_notebooks():
    cached = subprocess.run(
        [
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--show-settings",
            "notebooks/01_architecture.ipynb",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    folder = next(line for line in cached.splitlines() if line.startswith("cache_dir"))
    assert folder.endswith(f'{ROOT / ".ruff_cache"}"'), folder


def test_stamp_sees_the_weights_of_a_notebook_that_shows_them(project):
    path = project / "notebooks/01_a.ipynb"
    files = (None, project / "vgg16-00000000.pth", project / "vgg16-11111111.pth")
    assert len({execute.stamp(path, "cpu", file) for file in files}) == 1
    path.write_text('{"source": [\n  "weights = \\"auto\\""\n]}')
    assert len({execute.stamp(path, "cpu", file) for file in files}) == 3


def test_execute_refuses_an_unknown_profile():
    with pytest.raises(ValueError, match=r"profile='huge': expected one of 'auto', 'cpu', 'gpu'"):
        execute.execute([], "huge")


@pytest.mark.parametrize("jobs", [1, 2])
def test_after_a_failure_no_notebook_is_started_and_the_build_ends(tmp_path, monkeypatch, jobs):
    started = []

    def run(notebook, *rest):
        started.append(notebook.stem)
        if notebook.stem == "01":
            raise execute.NotebookFailed("01 failed")
        time.sleep(0.3)
        return {"seconds": 0.3}

    monkeypatch.setattr(execute, "run", run)
    due = [tmp_path / f"{n:02}.ipynb" for n in range(1, 9)]
    told = []

    def build():
        with pytest.raises(execute.NotebookFailed, match="01 failed"):
            execute.side_by_side(due, (), jobs, told.append)

    thread = threading.Thread(target=build, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "still waiting for notebooks that were never started"
    assert len(started) <= jobs + 1
    assert any("01 FAILED" in line for line in told)


# The address


@pytest.fixture
def copy(tmp_path):
    for name in ("_config.yml", "README.md"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "notebooks").mkdir()
    nb = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(address.install_cell(address.address()), id="a")]
    )
    nbformat.write(nb, tmp_path / "notebooks/01_a.ipynb")
    return tmp_path


def test_address_agrees_everywhere_here():
    assert address.disagreements() == []


def test_address_is_written_everywhere_and_back(copy):
    before = {p: p.read_text() for p in copy.rglob("*") if p.is_file()}
    changed = address.write("some-body/the.book", copy)
    assert set(changed) == {"_config.yml", "README.md", "notebooks/01_a.ipynb"}
    assert address.address(copy) == "some-body/the.book" and address.disagreements(copy) == []
    cfg = stage.config(copy)
    assert cfg["repository"]["url"] == "https://github.com/some-body/the.book" and cfg["html"][
        "baseurl"
    ].endswith("github.io/the.book/")
    assert cfg["launch_buttons"]["colab_url"]
    assert (
        "git+https://github.com/some-body/the.book" in (copy / "notebooks/01_a.ipynb").read_text()
    )
    assert address.write("some-body/the.book", copy) == []
    address.write("some-body/the.book", copy, branch="colab")
    assert address.branch(copy) == "colab" and address.disagreements(copy) == []
    assert "the.book@colab" in (copy / "notebooks/01_a.ipynb").read_text(encoding="utf-8")
    assert "/blob/colab/notebooks/01_" in (copy / "README.md").read_text(encoding="utf-8")
    address.write(None, copy)
    if address.address() is None:
        assert {p: p.read_text() for p in before} == before


def test_a_disagreeing_file_is_named(copy):
    address.write("a/b", copy)
    nb = nbformat.read(copy / "notebooks/01_a.ipynb", 4)
    nb.cells[0].source = address.install_cell("c/d")
    nbformat.write(nb, copy / "notebooks/01_a.ipynb")
    assert address.disagreements(copy) == [
        "01_a.ipynb: its first code cell is not the install cell"
    ]


@pytest.mark.parametrize("bad", ["", "name", "a/b/c", "https://github.com/a/b", "a b/c", "a/b; rm"])
def test_an_impossible_address_is_refused(copy, bad):
    with pytest.raises(ValueError, match="owner/name"):
        address.write(bad, copy)


def test_install_cell_does_nothing_where_the_package_is():
    for repo in (None, "a/b"):
        source = address.install_cell(repo).replace("%pip", "raise SystemExit #")
        exec(compile(source, "cell", "exec"), {})


def test_install_cell_tells_what_to_do_while_there_is_no_address():
    source = address.install_cell(None).replace('"vggbook"', '"no_such_package"')
    with pytest.raises(
        ModuleNotFoundError, match=r"in a checkout of this book, run `pip install \.`"
    ):
        exec(source, {})


# Notebooks as text, checks, setup


def test_notebook_round_trip(tmp_path, monkeypatch):
    monkeypatch.setattr(notebook, "ROOT", tmp_path)
    monkeypatch.setattr(notebook, "TEXT", tmp_path / "text")
    (tmp_path / "notebooks").mkdir()
    meta = {
        "mystnb": {
            "image": {"alt": 'A "curve" that rises'},
            "figure": {"caption": "c", "name": "fig-a"},
        },
        "tags": ["plumbing"],
    }
    cells = [
        nbformat.v4.new_markdown_cell("# T\n\nwith $x$"),
        nbformat.v4.new_code_cell(address.install_cell("old/name"), metadata={"tags": ["setup"]}),
        nbformat.v4.new_code_cell("%matplotlib inline\nx = 1", metadata=meta),
        nbformat.v4.new_code_cell("x", metadata={"tags": ["answer"]}),
        nbformat.v4.new_code_cell("x", metadata={"tags": ["answer"]}),
    ]
    nb = notebook.normalise(nbformat.v4.new_notebook(cells=cells))
    nbformat.write(nb, tmp_path / "notebooks/02_a.ipynb")
    before = (tmp_path / "notebooks/02_a.ipynb").read_bytes()
    text = notebook.to_text("02").read_text(encoding="utf-8")
    assert "@title" not in text and "cellView" not in text and "source_hidden" not in text
    notebook.to_notebook("02")
    assert (tmp_path / "notebooks/02_a.ipynb").read_bytes() == before
    assert (
        nb.cells[1].source == "# @title Setup\n" + address.install_cell(address.address())
        and len({c.id for c in nb.cells}) == 5
    )
    with pytest.raises(SystemExit, match="got '07'; there: 02_a"):
        notebook.to_text("07")


@pytest.mark.parametrize(
    "tags, title",
    [
        (["setup"], "Setup"),
        (["check"], "Check"),
        (["plot", "hero"], "Plot"),
        (["checker"], "Checker"),
        (["answer"], "Answer"),
        (["parameters"], None),
        (["live"], None),
        ([], None),
    ],
)
def test_folds_for_colab_and_jupyterlab_come_from_the_tags(tags, title):
    """Colab folds by cellView and shows the @title; JupyterLab folds by source_hidden (nbformat's
    own field).
    """
    cell = nbformat.v4.new_code_cell("x = 1\n# @title Mine", metadata={"tags": tags}, id="kept")
    text = nbformat.v4.new_markdown_cell("text", metadata={"tags": tags})
    nb = nbformat.v4.new_notebook(cells=[text, cell])
    once = notebook.normalise(nbformat.from_dict(nb), nb)
    twice = notebook.normalise(nbformat.from_dict(once), once)
    assert once == twice
    found = once.cells[1]
    assert found.id == "kept"
    assert found.source == (f"# @title {title}\n" if title else "") + "x = 1\n# @title Mine"
    folds = {"cellView": "form", "jupyter": {"source_hidden": True}} if title else {}
    assert {k: v for k, v in found.metadata.items() if k != "tags"} == folds
    assert once.cells[0].source == "text" and set(once.cells[0].metadata) <= {"tags"}


def test_a_fold_goes_with_its_tag():
    cell = nbformat.v4.new_code_cell("x = 1", metadata={"tags": ["plot"]}, id="a")
    nb = notebook.normalise(nbformat.v4.new_notebook(cells=[cell]))
    nb.cells[0].metadata["tags"] = []
    again = notebook.normalise(nb, nb)
    assert again.cells[0].source == "x = 1" and not again.cells[0].metadata


def test_check_finds_each_kind_of_problem(tmp_path):
    (tmp_path / "b.html").write_text('<main><p id="here"></p></main>')
    (tmp_path / "a.html").write_text(
        '<main><a href="b.html#here">ok</a><a href="b.html#gone">x</a><a href="c.html">x</a>'
        '<a href="https://x.org">ok</a><img src="b.html" alt=" ">'
        '<img src="b.html" alt="says something"><svg></svg><svg aria-label="a drawing"></svg>'
        '<script src="https://cdn.example/x.js"></script>'
        "<style>@import url(//fonts.example/f.css);</style>"
        '<i id="k"></i><i id="k"></i></main>'
    )
    assert [p.split(": ", 1)[1][:32] for p in check.problems(tmp_path)] == [
        "dead link b.html#gone: no such a",
        "dead link c.html",
        "image without alt text: b.html",
        "inline drawing without a label: ",
        "script from another host: https:",
        "style from another host: //fonts",
        "the id 'k' appears twice",
    ]


@pytest.mark.parametrize("version", ["3.9.18", "3.10.13", "3.14.1", "3.15.0"])
def test_setup_refuses_other_pythons_and_says_which(tmp_path, version):
    fake = tmp_path / "python3"
    code = f'case "$1" in -V) echo Python {version};; *) exit 1;; esac\n'
    fake.write_text(f"#!/bin/sh\n{code}")
    fake.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "VENV": str(tmp_path / "venv"), "PYTHON": str(fake)}
    r = subprocess.run(
        ["sh", str(ROOT / "tools/setup.sh")], env=env, capture_output=True, text=True
    )
    assert (
        r.returncode == 1 and f"is Python {version}; the book needs Python 3.11 to 3.14" in r.stderr
    )
    assert not (tmp_path / "venv").exists()


def test_setup_says_what_to_do_without_python(tmp_path):
    for tool in ("dirname", "sh", "rm", "cat"):
        (tmp_path / tool).symlink_to(
            next(p for d in ("/bin", "/usr/bin") if os.path.exists(p := f"{d}/{tool}"))
        )
    env = {"PATH": str(tmp_path), "VENV": str(tmp_path / "venv")}
    r = subprocess.run(
        ["/bin/sh", str(ROOT / "tools/setup.sh")], env=env, capture_output=True, text=True
    )
    assert (
        r.returncode == 1
        and "no Python 3.11 to 3.14 (3.14.1 excepted" in r.stderr
        and "apt install python3-venv" in r.stderr
    )


FAKE_UV = """#!/bin/sh
case "$1 $2" in
"--version ") ;;
"pip compile") exit {reachable} ;;
"pip install") echo "backend ${{UV_TORCH_BACKEND:-usual}}" ;;
esac
"""


@pytest.mark.parametrize(
    "reachable, given, gpu, backend",
    [
        (0, {}, False, "auto"),
        (2, {}, False, "usual"),
        (0, {}, True, "usual"),
        (2, {"UV_TORCH_BACKEND": "cpu"}, False, "cpu"),
    ],
)
def test_setup_takes_the_cpu_s_torch_where_it_can(tmp_path, reachable, given, gpu, backend):
    """Without a driver, and where the index of those builds answers; else as ever. What a user says
    counts first.
    """
    if os.path.exists("/proc/driver/nvidia/version"):
        pytest.skip("here is a driver")
    scripts = {"uv": FAKE_UV.format(reachable=reachable), "nvidia-smi": f"exit {int(not gpu)}\n"}
    scripts = {
        name: text if text[0] == "#" else f"#!/bin/sh\n{text}" for name, text in scripts.items()
    }
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/python").symlink_to(sys.executable)
    for name, text in scripts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "VENV": str(tmp_path / "venv"), **given}
    command = ["sh", str(ROOT / "tools/setup.sh")]
    r = subprocess.run(command, env=env, capture_output=True, text=True, encoding="utf-8")
    assert r.returncode == 0, r.stderr
    on_linux = sys.platform == "linux" or given
    assert r.stdout == f"backend {backend if on_linux else 'usual'}\n"


def test_no_registry_host_in_what_is_installed():
    for name in (
        "requirements.txt",
        "constraints.txt",
        "pyproject.toml",
        "Makefile",
        "tools/setup.sh",
    ):
        text = (ROOT / name).read_text()
        assert (
            "index-url" not in text and "find-links" not in text and "--extra-index" not in text
        ), name
        assert "://" not in text.replace("https://github.com", ""), name


def test_constraints_pin_every_requirement():
    def names(file):
        lines = (
            line.split("#")[0].split(";")[0].strip()
            for line in (ROOT / file).read_text().splitlines()
        )
        return {
            line.replace(">", "=").replace("<", "=").split("=")[0].strip().lower()
            for line in lines
            if line
        }

    assert names("requirements.txt") <= names("constraints.txt")


def test_make_help_lists_the_targets():
    r = subprocess.run(["make", "-s", "-C", str(ROOT), "help"], capture_output=True, text=True)
    for target in (
        "setup",
        "book",
        "test",
        "bench",
        "serve",
        "clean",
        "address",
        "text",
        "notebook",
        "pdf",
    ):
        assert f"make {target} " in r.stdout


@pytest.mark.parametrize(
    "tool", [["ruff", "check", "--no-cache", "."], ["codespell_lib"]], ids=["ruff", "codespell"]
)
def test_style_and_spelling(tool):
    r = subprocess.run([sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True)
    assert r.returncode == 0, r.stdout + r.stderr


# Docstrings on the API page


def shown(text):
    """A docstring's paragraphs as the API page has them."""
    lines = text.splitlines()
    docstrings.plain_text(None, "function", "f", None, None, lines)
    return "\n".join(lines).split("\n\n")


def test_an_argument_begins_a_paragraph_and_a_word_before_a_colon_does_not():
    text = (
        "What it does.\n\ndata: a set.\nnet, other: nets. Their counts are added\nup: as one does."
    )
    assert shown(text) == [
        "What it does.",
        "\ndata: a set.",
        "net, other: nets. Their counts are added\nup: as one does.",
    ]
