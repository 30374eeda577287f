"""One look for all figures: SVG, an opaque light ground that reads on light and dark pages, colours safe for colour-blind readers."""

from __future__ import annotations

# Okabe and Ito's palette, darkest first; distinguish by label, marker or hatch as well, never by colour alone.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
GROUND, INK, GRID = "#FCFCFA", "#22262B", "#D9DCE0"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def use_style() -> None:
    """Set matplotlib's defaults for this book's figures; in a notebook, also the SVG format. Sizes suit a 720-pixel column."""
    import matplotlib as mpl
    from cycler import cycler

    mpl.rcParams.update(
        {
            "figure.figsize": (7.2, 3.4),
            "figure.dpi": 100,
            "figure.facecolor": GROUND,
            "savefig.facecolor": GROUND,
            "savefig.bbox": "tight",
            "figure.constrained_layout.use": True,
            "axes.facecolor": GROUND,
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
            "font.size": 10.5,
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "legend.frameon": False,
            "image.interpolation": "nearest",
            "svg.hashsalt": "vggbook",  # equal figures give equal files
        }
    )
    try:
        from IPython import get_ipython

        if getattr(get_ipython(), "kernel", None) is not None:
            from matplotlib_inline.backend_inline import set_matplotlib_formats

            set_matplotlib_formats("svg")
    except ImportError:
        pass


def show_image(ax, image, title: str = "") -> None:
    """Draw a (3, H, W) or (H, W) tensor, uint8 or 0 to 1, without axes."""
    ax.imshow(
        image.permute(1, 2, 0) if image.ndim == 3 else image,
        cmap="gray" if image.ndim == 2 else None,
    )
    ax.set_title(title)
    ax.set_axis_off()


def photo(fig, dpi: int = 120, quality: int = 78):
    """A figure that holds photographs, as a JPEG for the notebook to show; an SVG would carry every pixel uncompressed."""
    from io import BytesIO

    import matplotlib.pyplot as plt
    from IPython.display import Image

    buffer = BytesIO()
    fig.savefig(
        buffer, format="jpeg", dpi=dpi, pil_kwargs={"quality": quality, "progressive": True}
    )
    plt.close(fig)
    return Image(buffer.getvalue(), format="jpeg")
