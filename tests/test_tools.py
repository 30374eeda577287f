"""The parts of the machinery one by one: stamps, the upgrade of Markdown, the ledger's arithmetic, the address, setup."""

import json
import os
import subprocess
import sys

import nbformat
import pytest
import yaml
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from tools import address, check, execute, ledger, notebook, stage
from vggbook import claims

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


def test_execute_refuses_an_unknown_profile():
    with pytest.raises(ValueError, match=r"profile='huge': expected one of 'auto', 'cpu', 'gpu'"):
        execute.execute([], "huge")


# The page's Markdown


@pytest.mark.parametrize(
    "first, heading, css",
    [
        ("> **Objectives.**", "[Objectives]{.box-kind}", "objectives"),
        ("> **Paper, Sect. 2.3.** text", "[Paper]{.box-kind} Sect. 2.3", "paper"),
        (
            "> **Paper, Sect. 2.3**, in our words. text",
            "[Paper]{.box-kind} Sect. 2.3, in our words",
            "paper",
        ),
        (
            "> **Deviation: channels last.** text",
            "[Deviation:]{.box-kind} channels last",
            "deviation",
        ),
        ("> **Trap: is it 308?** text", "[Trap:]{.box-kind} is it 308?", "trap"),
        ("> **Take-aways.** text", "[Take-aways]{.box-kind}", "takeaways"),
        ("> **How sure.** text", "[How sure]{.box-kind}", "sure"),
    ],
)
def test_boxes(first, heading, css):
    text, _ = stage.box(first + "\n> - more", "02_x")
    assert text.startswith(f"::::::{{admonition}} {heading}\n:class: {css}\n") and text.endswith(
        "- more\n::::::"
    )


def test_only_traps_are_collected_with_the_code_that_follows():
    nb = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell(
                "> **Paper, Sect. 1.** x\n\n> **Trap: two pools.** It has *five*."
            ),
            nbformat.v4.new_code_cell("print(5)"),
            nbformat.v4.new_code_cell("print(6)"),
        ]
    )
    page, traps = stage.page(nb, "02_x", {})
    assert traps == [
        stage.Trap("two pools", "It has *five*.", "trap-02-two-pools", "02_x", "print(5)")
    ]
    assert ":name: trap-02-two-pools" in page.cells[0].source
    body = stage.misreadings(traps, {"02_x": "Fields"})
    assert (
        "## Fields" in body
        and "### Two pools" in body
        and "print(5)" in body
        and "](#trap-02-two-pools)" in body
    )


def test_plain_quotes_and_fenced_code_stay():
    source = "> just a quote\n\n```\n> **Trap: not one.** in code\n```"
    assert stage.markdown(source, "02_x")[0].split() == source.split()


@given(
    st.lists(
        st.sampled_from(["text", "> quote", "```", "~~~", "", "> **Nothing.** x", "# head"]),
        min_size=1,
    )
)
def test_blocks_lose_no_line(lines):
    assert "\n".join(text for _, text in stage.blocks("\n".join(lines))) == "\n".join(lines)


def test_exercise_heading():
    assert (
        stage.markdown("### Exercise 2.1 (compute): fields", "02_x")[0]
        == "### Exercise 2.1: fields [compute]{.exercise-kind}"
    )


def test_links_move_with_their_text():
    assert stage.relocate("[a](03_x.ipynb) [b](../book/glossary.md#y) [c](https://z.org)") == (
        "[a](../notebooks/03_x.ipynb) [b](glossary.md#y) [c](https://z.org)"
    )


def test_page_hides_what_only_tools_need():
    cell = nbformat.v4.new_code_cell
    nb = nbformat.v4.new_notebook(
        cells=[
            cell(
                "profile = 'cpu'", metadata={"tags": ["injected-parameters"], "papermill": {"x": 1}}
            ),
            cell("1", metadata={"tags": ["answer"]}),
            cell("2", metadata={"tags": ["setup"]}),
        ],
        metadata={"papermill": {"path": "/somewhere"}},
    )
    run = {
        "versions": execute.versions(),
        "date": "d",
        "seconds": 1.5,
        "profile": "cpu",
        "commit": "",
        "device": "a <b>",
    }
    page, _ = stage.page(nb, "01_x", run)
    assert [c.metadata.get("tags") for c in page.cells[:3]] == [
        ["remove-cell"],
        ["answer", "hide-cell"],
        ["setup", "hide-input"],
    ]
    assert page.cells[1].metadata["mystnb"]["code_prompt_show"] == "Answer"
    assert "papermill" not in json.dumps(page) and "a &lt;b&gt;" in page.cells[-1].source


def test_stage_names_what_the_table_of_contents_and_the_files_disagree_about(tmp_path):
    (tmp_path / "_toc.yml").write_text(
        yaml.safe_dump({"root": "book/a", "parts": [{"chapters": [{"file": "book/b"}]}]})
    )
    (tmp_path / "book").mkdir()
    (tmp_path / "book/a.md").write_text("# A\n")
    (tmp_path / "book/c.md").write_text("# C\n")
    with pytest.raises(ValueError, match=r"not written: \['book/b'\]; not listed: \['book/c'\]"):
        stage.stage(tmp_path, tmp_path / "site", tmp_path / "executed")


def test_writer_leaves_unchanged_files_alone_and_sweeps_stale_ones(tmp_path):
    for names in (["a/x", "y"], ["y"]):
        w = stage.Writer(tmp_path)
        for n in names:
            w.put(n, "same")
        w.sweep()
        os.utime(tmp_path / "y", (1, 1)) if names == ["a/x", "y"] else None
    assert [p.name for p in tmp_path.iterdir()] == ["y"] and (tmp_path / "y").stat().st_mtime == 1


# The ledger


def entry(status, *keys, found=None):
    return {
        "id": "x",
        "status": status,
        "keys_checked": list(keys),
        "found": found,
        "evidence": "",
        "anchor": "claim-x",
        "notebook": "01_a",
    }


@pytest.mark.parametrize(
    "keys, entries, expected",
    [
        ("ab", [], ("open", ["a", "b"])),
        ("ab", [entry("verified", "a")], ("open", ["b"])),
        ("ab", [entry("verified", "a"), entry("derived", "b")], ("verified", [])),
        (
            "ab",
            [entry("verified", "a"), entry("quoted", "a", "b")],
            ("quoted", []),
        ),  # a part alone never lifts the whole
        ("ab", [entry("quoted", "a", "b"), entry("reproduced", "a", "b")], ("reproduced", [])),
        (
            "ab",
            [entry("not reproduced", "a", "b"), entry("verified", "a", "b")],
            ("not reproduced", []),
        ),
        (
            "ab",
            [entry("not reproduced", "a", "b"), entry("reproduced", "a", "b")],
            ("reproduced", []),
        ),
        ("", [entry("derived")], ("derived", [])),
        ("", [], ("open", [])),
    ],
)
def test_status_needs_all_keys(keys, entries, expected):
    assert ledger.status(set(keys), entries) == expected


def bundle(claim_id, value, **kwargs):
    output = nbformat.v4.new_output(
        "display_data", data=claims()[claim_id].check(value, **kwargs).bundle()
    )
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[output])])


def test_ledger_of_real_claims():
    c = next(c for c in claims() if len(c.keys) > 1 and c.kind == "arithmetic")
    first, *rest = c.keys
    one, other = (
        {k: v for k, v in c.value.items() if k == first},
        {k: v for k, v in c.value.items() if k != first},
    )
    rows = {r["id"]: r for r in ledger.entries({"01_a": bundle(c.id, one, part=True)})}
    assert len(rows) == len(claims()) == 174
    assert rows[c.id]["status"] == "open" and rows[c.id]["missing"] == sorted(rest)
    nbs = {"01_a": bundle(c.id, one, part=True), "02_b": bundle(c.id, other, part=True)}
    rows = ledger.entries(nbs)
    row = next(r for r in rows if r["id"] == c.id)
    assert (
        row["status"] == "derived"
        and row["found"] == c.value
        and [x["notebook"] for x in row["cells"]] == ["01_a", "02_b"]
    )
    assert ledger.counts(rows) == {
        "derived": 1,
        "verified": 0,
        "reproduced": 0,
        "not reproduced": 0,
        "quoted": 0,
        "open": 173,
    }
    page = ledger.render(rows, {"01_a": "A", "02_b": "B"})
    assert (
        f'id="{c.id}"' in page
        and "../notebooks/02_b.html#" in page
        and page.count("<tr id=") == 174
    )


def test_ledger_refuses_unknown_claims_and_knows_every_section():
    nb = bundle("params-d", claims()["params-d"].value)
    nb.cells[0].outputs[0].data[ledger.MIME]["id"] = "no-such-claim"
    with pytest.raises(ValueError, match="no-such-claim"):
        ledger.entries({"01_a": nb})
    assert {c.section for c in claims()} <= set(ledger.SECTIONS)


@pytest.mark.parametrize(
    "value, text",
    [
        (None, "–"),
        (True, "yes"),
        (138357544, "138,357,544"),
        (7.25, "7.25"),
        ({"top_1": 24.8}, "top 1 24.8"),
        ([1, [2, 3]], "1, (2, 3)"),
    ],
)
def test_values_for_readers(value, text):
    assert ledger.shown(value) == text


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
    """Colab folds by cellView and shows the @title; JupyterLab folds by source_hidden (nbformat's own field)."""
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
        '<main><a href="b.html#here">ok</a><a href="b.html#gone">x</a><a href="c.html">x</a><a href="https://x.org">ok</a>'
        '<img src="b.html" alt=" "><img src="b.html" alt="says something"><svg></svg><svg aria-label="a drawing"></svg>'
        '<script src="https://cdn.example/x.js"></script><style>@import url(//fonts.example/f.css);</style><i id="k"></i><i id="k"></i></main>'
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
