"""A network layer by layer as a table: as text, and as HTML in a notebook (Sect. 2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from .arithmetic import Row, walk
from .configs import Config, Size, check_size, resolve

_HEAD = ("layer", "kind", "output", "parameters", "million MACs", "MB", "receptive field")
_SIDES = "<<<>>>>"  # text is aligned left, numbers right
_PLAIN = " x "  # in text: any terminal shows it, and it can be typed and searched for
_PRINTED = " \N{MULTIPLICATION SIGN} "


def _totals(params: int, macs: int, held: int) -> tuple[str, str, str]:
    """Parameters, millions of multiply-adds and megabytes as they are printed."""
    return f"{params:,}", f"{macs / 1e6:,.1f}", f"{held / 1e6:,.2f}"


@dataclass(frozen=True)
class Trace:
    """A network layer by layer for one image; prints as text, and as a table in a notebook."""

    config: Config
    image_size: Size
    rows: tuple[Row, ...]

    @property
    def total_params(self) -> int:
        """Weights and biases."""
        return sum(row.params for row in self.rows)

    @property
    def total_macs(self) -> int:
        """Multiply-adds for one image."""
        return sum(row.macs for row in self.rows)

    @property
    def total_activation_bytes(self) -> int:
        """Bytes of all rows' outputs for one image."""
        return sum(row.activation_bytes for row in self.rows)

    def __getitem__(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        names = ", ".join(row.name for row in self.rows)
        raise KeyError(f"no layer {name!r} in {self.config.name}; it has {names}")

    def _title(self, times: str) -> str:
        return f"{self.config.name}, input {times.join(map(str, (3, *self.image_size)))}"

    def _cells(self, times: str) -> list[tuple[str, ...]]:
        """One line a row, and the totals in the last; ``times`` stands between sizes."""
        lines: list[tuple[str, ...]] = []
        for row in self.rows:
            shape = times.join(map(str, row.output_shape))
            counts = _totals(row.params, row.macs, row.activation_bytes)
            lines.append((row.name, row.kind, shape, *counts, f"{row.receptive_field:,}"))
        counts = _totals(self.total_params, self.total_macs, self.total_activation_bytes)
        return [*lines, ("total", "", "", *counts, "")]

    def __str__(self) -> str:
        table = [_HEAD, *self._cells(_PLAIN)]
        widths = [max(map(len, column)) for column in zip(*table)]
        form = "  ".join(f"{{:{side}{n}}}" for side, n in zip(_SIDES, widths))
        head, *body, total = [form.format(*line).rstrip() for line in table]
        return "\n".join([self._title(_PLAIN), head, *body, "-" * len(head), total])

    def _repr_html_(self) -> str:
        *body, total = self._cells(_PRINTED)
        rows = "".join(_html_line("td", line) for line in body)
        return (
            f'<table class="trace"><caption>{escape(self._title(_PRINTED))}, one image</caption>'
            f"<thead>{_html_line('th', _HEAD)}</thead><tbody>{rows}</tbody>"
            f"<tfoot>{_html_line('td', total)}</tfoot></table>"
        )


def _html_line(tag: str, cells: tuple[str, ...]) -> str:
    styles = ["text-align:" + {"<": "left", ">": "right"}[side] for side in _SIDES]
    styles[_HEAD.index("output")] += ";white-space:nowrap"
    line = [f'<{tag} style="{s}">{escape(text)}</{tag}>' for s, text in zip(styles, cells)]
    return f"<tr>{''.join(line)}</tr>"


def trace(
    config: str | Config,
    image_size: int | Size = 224,
    num_classes: int = 1000,
    batch_norm: bool = False,
    width: float = 1.0,
    bytes_per_value: int = 4,
) -> Trace:
    """Layer by layer: name, kind, output shape, parameters, multiply-adds, bytes, receptive field.

    Counts are for one image; bytes assume ``bytes_per_value`` a number (4 for float32, 2 for bf16).
    Paper: Table 1, Sect. 2.1. Raises as :func:`vggbook.arithmetic.walk` does.
    """
    rows = walk(config, num_classes, batch_norm, width, image_size, bytes_per_value)
    return Trace(resolve(config), check_size(image_size), tuple(rows))
