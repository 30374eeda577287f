"""One look for all figures: one colour a meaning, and drawings for light and dark pages.

A drawing has a light ground of its own in Jupyter and Colab. On a page the build takes the ground
away, and the dark theme turns the drawing's lightness round, hues kept; photographs and heat maps
stay as they are.
"""

from __future__ import annotations

from typing import Any

from .html import in_a_notebook

# One colour a meaning. Each has a contrast of at least 3 to both themes' grounds (a test measures
# it); within a family they differ for colour-blind readers too. Name by label or marker as well,
# never by colour alone.
COLOUR = {
    # the nets of Table 1, and B with 5x5 filters
    "A": "#0072B2",
    "B": "#00875F",
    "C": "#C2559A",
    "D": "#C94F00",
    "E": "#3F2480",
    "5x5": "#54430A",
    # kinds of layer
    "conv": "#2F6FA8",
    "pool": "#B06A1B",
    "fc": "#5A2A70",
    # parts of a data set
    "train": "#00788A",
    "val": "#8A1C58",
    "test": "#6B7A00",
    # where a number comes from
    "paper": "#7A3E12",
    "measured": "#1565C0",
    "limit": "#6E747C",
    # verdicts
    "good": "#1B7F3B",
    "bad": "#A81E28",
    # what is not data
    "ink": "#22262B",
    "muted": "#5F6872",
    "grid": "#D9DCE0",
}
# For series without a meaning of their own, in this order.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
GROUND = "#FCFCFA"
INK, GRID = COLOUR["ink"], COLOUR["grid"]
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# 4.7 inches at 10.5 points: on a phone's 390 pixels the text is still 11 pixels high.
WIDTH, TEXT = 4.7, 10.5


def use_style() -> None:
    """Set matplotlib's defaults for this book's figures; in a notebook, also the SVG format."""
    import matplotlib as mpl
    from cycler import cycler

    mpl.rcdefaults()  # a reader's matplotlibrc stays outside
    mpl.rcParams.update(
        {
            "figure.figsize": (WIDTH, 3.0),
            "figure.dpi": 100,
            "figure.facecolor": GROUND,
            "savefig.facecolor": GROUND,
            "savefig.bbox": "tight",
            "savefig.pad_inches": 0.03,
            "figure.constrained_layout.use": True,
            "axes.facecolor": "none",
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.prop_cycle": cycler(color=COLOURS),
            "grid.color": GRID,
            "grid.linewidth": 0.6,
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "font.size": TEXT,
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "legend.frameon": False,
            "image.interpolation": "nearest",
            "svg.hashsalt": "vggbook",  # equal figures give equal files
        }
    )
    if in_a_notebook():
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg")


def show_image(ax: Any, image: Any, title: str = "") -> None:
    """Draw a (3, H, W) or (H, W) tensor, uint8 or 0 to 1, without axes."""
    pixels = image.permute(1, 2, 0) if image.ndim == 3 else image
    ax.imshow(pixels, cmap="gray")  # of no meaning where there are three channels
    ax.set_title(title)
    ax.set_axis_off()


def photo(fig: Any, quality: int = 78) -> Any:
    """A figure that holds photographs, as a JPEG; an SVG would carry every pixel unpacked."""
    from io import BytesIO

    import matplotlib.pyplot as plt
    from IPython.display import Image

    buffer = BytesIO()
    how = {"quality": quality, "progressive": True}
    fig.savefig(buffer, format="jpeg", dpi=120, facecolor=GROUND, pil_kwargs=how)
    plt.close(fig)
    return Image(buffer.getvalue())
