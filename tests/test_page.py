"""A chapter on its way to the page: boxes, folds, ticks, figures for both themes, times; and the
assembly of all pages.
"""

import json
import os
import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st

from tools import boxes, execute, notes, page, stage
from tools.estimate import estimate
from vggbook import claims
from vggbook.book import figures

RUN = {
    "versions": {**execute.versions()},
    "date": "d",
    "seconds": 100.4,
    "profile": "cpu",
    "commit": "",
    "device": "a <b>",
}


def code(source, *tags, outputs=()):
    metadata = {"tags": list(tags)} if tags else {}
    return nbformat.v4.new_code_cell(source, metadata=metadata, outputs=list(outputs))


def text(source):
    return nbformat.v4.new_markdown_cell(source)


def shown(*cells, run=None, name="99_x"):
    return page.page(nbformat.v4.new_notebook(cells=list(cells)), name, run or {})


def claim_output(claim_id, value=None, **kwargs):
    claim = claims()[claim_id]
    result = claim.check(claim.value if value is None else value, **kwargs)
    return nbformat.v4.new_output("display_data", data=result.bundle())


def test_a_line_that_a_kernel_sent_in_pieces_is_one_line():
    from myst_nb.core.utils import coalesce_streams

    def printed(text, name="stdout"):
        return nbformat.v4.new_output("stream", name=name, text=text)

    sent = [printed("copied:"), printed(" conv1_1\n"), printed("late", "stderr"), printed("end\n")]
    nb, _ = shown(code("print()", outputs=sent))
    (cell,) = nb.cells
    assert [(o.name, o.text) for o in cell.outputs] == [
        ("stdout", "copied: conv1_1\n"),
        ("stderr", "late"),
        ("stdout", "end\n"),
    ]
    assert coalesce_streams(cell.outputs)[0].text == "copied: conv1_1\nend\n"


# Markdown


@pytest.mark.parametrize(
    "first, heading, css",
    [
        ("> **Objectives.**", "[Objectives]{.box-kind}", "objectives"),
        ("> **Remember.** text", "[Remember]{.box-kind}", "remember"),
        ("> **Paper, Sect. 2.3.** text", "[Paper]{.box-kind} Sect. 2.3", "paper"),
        (
            "> **Paper, Sect. 2.3**, in our words. text",
            "[Paper]{.box-kind} Sect. 2.3, in our words",
            "paper",
        ),
        ("> **Deviation: channels last.** t", "[Deviation:]{.box-kind} channels last", "deviation"),
        ("> **Trap: is it 308?** text", "[Trap:]{.box-kind} is it 308?", "trap"),
        ("> **Aside.** text", "[Aside]{.box-kind}", "aside margin"),
        ("> **Take-aways.** text", "[Take-aways]{.box-kind}", "takeaways"),
        ("> **How sure.** text", "[How sure]{.box-kind}", "sure"),
    ],
)
def test_boxes(first, heading, css):
    made, _ = boxes.box(first + "\n> - more", "02_x")
    assert made.startswith(f"::::::{{admonition}} {heading}\n:class: {css}\n")
    assert made.endswith("- more\n::::::")


def test_only_traps_are_collected():
    nb, traps = shown(text("> **Paper, Sect. 1.** x\n\n> **Trap: two pools.** It has *five*."))
    assert traps == [boxes.Trap("two pools", "It has *five*.", "trap-99-two-pools", "99_x")]
    assert ":name: trap-99-two-pools" in nb.cells[0].source


def test_plain_quotes_and_fenced_code_stay():
    source = "> just a quote\n\n```\n> **Trap: not one.** in code\n```"
    assert boxes.markdown(source, "02_x")[0].split() == source.split()


@given(
    st.lists(
        st.sampled_from(["text", "> quote", "```", "~~~", "", "> **Nothing.** x", "# head"]),
        min_size=1,
    )
)
def test_blocks_lose_no_line(lines):
    assert "\n".join(part for _, part in boxes.blocks("\n".join(lines))) == "\n".join(lines)


def test_exercises_and_figures():
    made, _ = boxes.markdown(
        "### Exercise 2.1 (compute): fields\n\nSee [Figure](#fig-a-b).", "02_x"
    )
    assert made == (
        "### Exercise 2.1: fields [compute]{.exercise-kind}\n\nSee {numref}`Figure %s <fig-a-b>`."
    )


def test_words_are_what_a_reader_reads():
    assert (
        boxes.words("One *two* [three](a/b.html) `four`.\n\n```\nnot these\n```\n<!-- no -->") == 4
    )


# Folds


def test_setup_is_one_fold_below_the_hero():
    nb, _ = shown(
        text("# T"),
        code("install", "setup"),
        code("profile = 'auto'", "parameters"),
        code("profile = 'cpu'", "injected-parameters"),
        code("import x", "setup"),
        code("draw()", "plot", "hero"),
        code("assert 1", "check"),
        code("teach()"),
    )
    assert [c.source for c in nb.cells] == [
        "# T",
        "draw()",
        "assert 1",
        "install\n\nprofile = 'auto'\n\nimport x",
        "teach()",
    ]
    setup = nb.cells[3]
    assert setup.metadata.tags == ["setup", "hide-input"]
    assert setup.metadata.mystnb["code_prompt_show"] == "Setup"
    assert "tags" not in nb.cells[4].metadata


@pytest.mark.parametrize(
    "tag, hidden, prompt",
    [
        ("plumbing", "hide-input", "Plot"),
        ("plot", "hide-input", "Plot"),
        ("checker", "hide-input", "Checker"),
        ("check", "hide-input", "Check"),
        ("answer", "hide-cell", "Answer"),
    ],
)
def test_folds(tag, hidden, prompt):
    nb, _ = shown(code("x", tag))
    assert nb.cells[0].metadata.tags[-1] == hidden
    assert nb.cells[0].metadata.mystnb["code_prompt_show"] == prompt


def test_a_plot_cell_that_shows_nothing_is_folded_with_the_next():
    drawn = nbformat.v4.new_output("stream", name="stdout", text="drawn")
    nb, _ = shown(
        code("rows = []", "plot"),
        code("rows += [1]", "plot"),
        code("draw(rows)", "plot", outputs=[drawn]),
        code("draw()", "plot", outputs=[drawn]),
    )
    assert [c.source for c in nb.cells] == ["rows = []\n\nrows += [1]\n\ndraw(rows)", "draw()"]
    assert [len(c.outputs) for c in nb.cells] == [1, 1]


def test_a_plot_cell_that_shows_nothing_before_no_other_keeps_its_fold():
    nb, _ = shown(code("prepare()", "plot"), text("# Now"), code("use()"))
    assert [c.source for c in nb.cells] == ["prepare()", "# Now", "use()"]


def test_a_form_title_stays_in_the_notebook():
    nb, _ = shown(code("# @title Plot\ndraw()", "plot"), code("# @title Check", "check"))
    assert [c.source for c in nb.cells] == ["draw()", ""]


def test_page_hides_what_only_tools_need():
    nb = nbformat.v4.new_notebook(cells=[code("1")], metadata={"papermill": {"path": "/somewhere"}})
    nb.cells[0].metadata["papermill"] = {"x": 1}
    made, _ = page.page(nb, "01_x", RUN)
    assert "papermill" not in json.dumps(made) and "a &lt;b&gt;" in made.cells[-1].source


# Ticks


def test_neighbouring_checks_are_one_line_of_ticks():
    nb, _ = shown(
        code("a", "check", outputs=[claim_output("params-d")]),
        code("b", "check", outputs=[claim_output("macs"), claim_output("ilsvrc14-places")]),
    )
    (cell,) = nb.cells
    assert cell.source == "a\n\nb" and len(cell.outputs) == 1
    soup = BeautifulSoup(cell.outputs[0].data["text/html"], "html.parser")
    ticks = soup.select(".ticks[role=group][aria-label] > details.tick")
    statuses = [t["class"][1] for t in ticks]
    assert statuses == ["tick-derived", "tick-derived", "tick-quoted"]
    for tick, claim_id in zip(ticks, ("params-d", "macs", "ilsvrc14-places")):
        claim = claims()[claim_id]
        assert tick["id"].startswith(f"claim-{claim_id}")
        name = tick.summary.select_one(".visually-hidden").get_text()
        assert name.endswith(claim.statement.replace("`", "")) and not tick.has_attr("open")
        assert tick.summary.select_one("[aria-hidden=true]")
        assert tick.select_one("a")["href"] == f"../book/ledger.html#{claim_id}"
    assert "138,357,544" in ticks[0].p.get_text()


def test_other_outputs_keep_their_place_between_ticks():
    printed = nbformat.v4.new_output("stream", name="stdout", text="hello")
    nb, _ = shown(code("a", outputs=[claim_output("macs"), printed, claim_output("params-d")]))
    kinds = [o.output_type for o in nb.cells[0].outputs]
    assert kinds == ["display_data", "stream", "display_data"]


# Figures


def svg(draw, width=figures.WIDTH):
    import io

    with mpl.rc_context({"backend": "agg"}):
        figures.use_style()
        fig, ax = plt.subplots(figsize=(width, 2))
        draw(ax)
        ax.set_title("a title")
        file = io.StringIO()
        fig.savefig(file, format="svg")
        plt.close(fig)
    return file.getvalue()


def drawing(draw, **kwargs):
    output = nbformat.v4.new_output("display_data", data={"image/svg+xml": svg(draw, **kwargs)})
    nb, _ = shown(code("plot()", "plot", outputs=[output]))
    cell = nb.cells[0]
    classes = cell.metadata.mystnb.get("image", {}).get("classes", "").split()
    return cell.outputs[0].data["image/svg+xml"], classes


def test_a_drawing_has_no_ground_on_the_page():
    ground = figures.GROUND.lower()
    assert f"fill: {ground}" in svg(lambda ax: ax.plot([1, 2]))  # it has one in Jupyter
    text, classes = drawing(lambda ax: ax.plot([1, 2]))
    assert classes == ["drawn"] and f"fill: {ground}" not in text


def test_pixels_keep_their_ground_and_colours():
    text, classes = drawing(lambda ax: ax.imshow([[0, 1], [1, 0]]))
    assert "drawn" not in classes and f"fill: {figures.GROUND.lower()}" in text


def test_a_wide_drawing_is_marked():
    assert drawing(lambda ax: ax.plot([1, 2]), width=7.2)[1] == ["wide", "drawn"]


def test_text_is_11_pixels_high_on_a_phone():
    """The column of a 390-pixel phone is 358 wide; a drawing shrinks to it, its text with it."""
    text = svg(lambda ax: (ax.plot([1, 2], label="x"), ax.legend(), ax.set_xlabel("x")))
    width = page.svg_width(text) * 4 / 3
    shrunk = min(1, 358 / width)
    with mpl.rc_context():
        figures.use_style()
        names = ("font.size", "xtick.labelsize", "axes.labelsize", "legend.fontsize")
        sizes = [
            mpl.font_manager.FontProperties(size=mpl.rcParams[n]).get_size_in_points()
            for n in names
        ]
    assert min(sizes) * 4 / 3 * shrunk >= 11


# Times


def test_reading_time_counts_words_and_visible_code():
    words = text(" ".join(["word"] * 400))
    cells = [
        words,
        code("\n".join(["x = 1"] * 10)),
        code("\n".join(["x = 1"] * 50), "plot"),
        text("## Exercises\n\n" + " ".join(["word"] * 4000)),
        code("\n".join(["x = 1"] * 500)),
    ]
    assert page.reading_minutes(cells) == pytest.approx(400 / 200 + 10 / 10)


def test_reading_time_leaves_out_exercises_between_the_sections():
    words = " ".join(["word"] * 200)
    cells = [
        text("## One\n\n" + words),
        text("### Exercise 12.1 (find): a fault\n\n" + words),
        code("\n".join(["x = 1"] * 50)),
        text("## Two\n\n" + words),
        code("\n".join(["x = 1"] * 10)),
    ]
    assert page.reading_minutes(cells) == pytest.approx(2 + 1, abs=0.02)  # headings have words
    assert page.minutes(cells) == pytest.approx(3 + 6, abs=0.1)


def test_times_stand_in_the_header():
    nb, _ = shown(text("# T\n\n<!-- times -->\n\n" + "word " * 600), run=RUN, name="05_x")
    line = re.search(r'<p class="times">(.*?)</p>', nb.cells[0].source)[1]
    assert line.startswith("3 minutes to read, 3 with the exercises; 2 min to run on a &lt;b&gt;")
    for gpu in ("T4", "H100"):
        assert str(estimate("05", gpu)) in line
    assert "T4" not in page.times([], "01", RUN)  # trains nothing


# All pages


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


def test_notes_at_the_foot():
    one, two = notes.runs_note([RUN]), notes.runs_note([RUN, {**RUN, "seconds": 1}])
    assert "the run of 1 chapter on d, 100 seconds" in one
    assert "the runs of 2 chapters on d, 101 seconds" in two and notes.runs_note([]) == ""


def test_a_formula_of_several_lines_keeps_its_number():
    from docutils import nodes

    from tools import bookfix

    doctree = nodes.section()
    one, several = (
        r"a = b \tag{1.1}",
        "\\begin{aligned} a &= b \\\\ c &= d \\end{aligned} \\tag{1.2}",
    )
    for text_of in (one, several):
        doctree += nodes.math_block(text_of, text_of, nowrap=False)
    bookfix.numbered_formulas(None, doctree)
    first, second = doctree.findall(nodes.math_block)
    assert not first["nowrap"] and first.astext() == one
    assert second["nowrap"] and second.astext() == rf"\[{several}\]"


def test_sizes_stay_on_one_line():
    from docutils import nodes

    from tools import bookfix

    doctree = nodes.section()
    doctree += nodes.paragraph("", "", nodes.Text("7 × 7 × 512 by 3 × 3, and C × C"))
    doctree += nodes.paragraph("", "", nodes.literal("", "3 × 3"))
    doctree += nodes.literal_block("3 × 3", "3 × 3")
    bookfix.unbroken(None, doctree, "notebooks/01")
    text, *code = (child.astext() for child in doctree.children)
    assert text == "7\xa0×\xa07\xa0×\xa0512 by 3\xa0×\xa03, and C × C"
    assert code == ["3 × 3", "3 × 3"]
