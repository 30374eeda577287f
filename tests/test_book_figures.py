"""What the style draws: a figure's own parts, files and pictures."""

import io
import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from vggbook.book import figures


@pytest.fixture
def drawn():
    """A figure with two lines, a title and a legend, in the book's style."""
    with mpl.rc_context({"backend": "agg", "lines.linewidth": 9}):
        figures.use_style()
        fig, ax = plt.subplots()
        for name in ("first", "second"):
            ax.plot([0, 1, 2], label=name)
        ax.set(title="title", xlabel="x")
        ax.legend()
        fig.canvas.draw()
        yield fig, ax
        plt.close("all")


def hexes(*colours):
    return [mpl.colors.to_hex(colour).upper() for colour in colours]


def test_size_text_and_colours(drawn):
    fig, ax = drawn
    assert fig.get_size_inches().tolist() == [4.7, 3.0] and fig.dpi == 100
    assert 390 / 470 * 10.5 * 100 / 72 > 11  # pixels high on a phone
    label, tick = ax.xaxis.label, ax.get_xticklabels()[0]
    assert label.get_size() == 10.5 and ax.title.get_size() == 11
    assert ax.title.get_weight() == "bold"
    ink = [
        label.get_color(),
        tick.get_color(),
        ax.title.get_color(),
        ax.spines.left.get_edgecolor(),
    ]
    ink.append(ax.get_yticklabels()[0].get_color())
    assert hexes(*ink) == [figures.COLOUR["ink"]] * 5
    assert hexes(*(line.get_color() for line in ax.lines)) == list(figures.COLOURS[:2])
    assert ax.lines[0].get_linewidth() == 1.5  # matplotlib's own, not the reader's


def test_axes_and_grid(drawn):
    fig, ax = drawn
    seen = {side: spine.get_visible() for side, spine in ax.spines.items()}
    assert seen == {"left": True, "bottom": True, "top": False, "right": False}
    grid = ax.get_xgridlines()[0]
    assert grid.get_visible() and grid.get_linewidth() == 0.6
    assert hexes(grid.get_color()) == [figures.COLOUR["grid"]]
    assert ax.get_axisbelow() is True and not ax.get_legend().get_frame_on()
    assert ax.patch.get_facecolor()[3] == 0  # nothing behind the axes
    assert fig.get_layout_engine().__class__.__name__ == "ConstrainedLayoutEngine"


def test_files(drawn):
    fig, ax = drawn
    files = []
    for _ in range(2):
        buffer = io.BytesIO()
        fig.savefig(buffer, format="svg", metadata={"Date": None})
        files.append(buffer.getvalue())
    assert files[0] == files[1]  # equal figures, equal files
    assert figures.GROUND.lower().encode() in files[0].lower()
    ax.imshow(np.eye(3), extent=(0, 1, 0, 1))
    assert ax.images[0].get_interpolation() == "nearest"
    ax.set_position([0.4, 0.4, 0.1, 0.1])
    buffer = io.BytesIO()
    fig.set_layout_engine(None)
    fig.savefig(buffer, format="png", dpi=100)
    wide, high = Image.open(buffer).size
    assert wide < 300 and high < 200  # cut to what is drawn
    inner = ax.get_tightbbox().union([ax.get_tightbbox()])
    assert wide - inner.width == pytest.approx(2 * 3, abs=3)  # 0.03 inches around it


def test_photographs_become_a_jpeg(drawn):
    fig, ax = drawn
    ax.imshow(np.random.default_rng(0).random((60, 80, 3)), extent=(0, 2, 0, 2))
    with mpl.rc_context({"savefig.bbox": None}):
        before = figures.photo
        images = {}
        for quality in (78, 20):
            number = fig.number
            shown = before(fig, quality=quality)
            assert shown.format == "jpeg" and not plt.fignum_exists(number)
            images[quality] = shown.data
            fig = plt.figure(fig)
        image = Image.open(io.BytesIO(images[78]))
        assert image.format == "JPEG" and image.size == (564, 360)  # 4.7 x 3 inches at 120
        assert image.info["progressive"] and len(images[20]) < len(images[78])
        assert len(figures.photo(fig).data) == len(images[78])
        corner = image.getpixel((1, 1))
        ground = [int(figures.GROUND[i : i + 2], 16) for i in (1, 3, 5)]
        assert max(abs(a - b) for a, b in zip(corner, ground)) <= 3


def test_grey_and_coloured_pictures(drawn):
    _, ax = drawn
    figures.show_image(ax, torch.zeros(4, 5), "grey")
    assert ax.images[-1].get_cmap().name == "gray" and ax.get_title() == "grey"
    pixels = torch.randint(0, 256, (3, 4, 5), dtype=torch.uint8)
    figures.show_image(ax, pixels)
    assert np.array_equal(ax.images[-1].get_array(), np.moveaxis(pixels.numpy(), 0, 2))
    assert ax.get_title() == "" and not ax.axison


def test_a_photograph_has_the_books_ground_in_any_style(drawn):
    fig, _ = drawn
    with mpl.rc_context({"savefig.facecolor": "black", "savefig.bbox": None}):
        image = Image.open(io.BytesIO(figures.photo(fig).data))
    ground = [int(figures.GROUND[i : i + 2], 16) for i in (1, 3, 5)]
    assert max(abs(a - b) for a, b in zip(image.getpixel((1, 1)), ground)) <= 3


def test_colours_have_the_names_that_contributing_lists(drawn):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `([\w-]+)` \| `(#\w+)` \|$", text, re.M)
    assert table == list(figures.COLOUR.items())
    assert figures.INK == figures.COLOUR["ink"] and figures.GRID == figures.COLOUR["grid"]


def test_markers_are_filled_ones_that_differ(drawn):
    assert len(set(figures.MARKERS)) == 7
    assert set(figures.MARKERS) <= set(mpl.markers.MarkerStyle.filled_markers)


def test_in_a_notebook_drawings_are_svg(monkeypatch):
    import IPython
    import matplotlib_inline.backend_inline as inline

    class Shell:
        kernel = object()

    asked = []
    monkeypatch.setattr(inline, "set_matplotlib_formats", lambda *kinds: asked.append(kinds))
    with mpl.rc_context():
        figures.use_style()
        assert asked == []
        monkeypatch.setattr(IPython, "get_ipython", Shell)
        figures.use_style()
    assert asked == [("svg",)]
