"""What a run has measured: one row an epoch, and the loss of every step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

Row = dict[str, Any]
STYLES = (("-", "o"), ("--", "s"), ("-.", "^"), (":", "D"))  # more than colour tells runs apart


class History:
    """One row an epoch (``rows``: epoch, lr, train_loss, val_loss, val_accuracy, images_per_s,
    skipped) and ``losses``, the loss of every step in nats.

    ``history["val_accuracy"]`` is a column; ``print(history)`` a table; ``history.plot()`` draws
    loss and error.
    """

    def __init__(self, rows: Iterable[Row] = (), losses: Iterable[float] = ()) -> None:
        self.rows, self.losses = list(rows), list(losses)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> list:
        return [row[name] for row in self.rows]

    @staticmethod
    def line(row: Row) -> str:
        """One row as the line of a log."""
        text = f"epoch {row['epoch']:3d}  lr {row['lr']:<7.2g} loss {row['train_loss']:7.4f}"
        if row["val_accuracy"] is not None:
            error = 100 * (1 - row["val_accuracy"])
            text += f"  validation loss {row['val_loss']:7.4f}  top-1 error {error:5.1f}%"
        text += f"  {row['images_per_s']:,.0f} images/s"
        return text + (f"  {row['skipped']} skipped" if row["skipped"] else "")

    def __str__(self) -> str:
        return "\n".join(map(self.line, self.rows))

    def at_chance(self, classes: int, steps: int) -> bool:
        """Whether the last epoch, of ``steps`` steps, ended where guessing leaves the loss: in its
        second half at ln(classes), to 1%, or above."""
        half = self.losses[-max(1, steps // 2) :]
        return bool(half) and math.fsum(half) / len(half) > 0.99 * math.log(classes)

    def plot(self, axes: Any = None, label: str | None = None) -> tuple[Any, Any]:
        """Draw the training loss (a moving average) and, where there is validation, its loss and
        top-1 error; dotted where the rate fell.

        ``axes``, ``label``: two axes of matplotlib and a name, to draw several runs together.
        Returns the axes.
        """
        import matplotlib.pyplot as plt

        left, right = axes if axes is not None else plt.subplots(1, 2)[1]
        before = len(right.get_legend_handles_labels()[1])  # runs that are drawn already
        dashes, marker = STYLES[before % len(STYLES)]
        (line,) = left.plot(*self._smooth(), dashes, label=label or "training")
        colour = line.get_color()
        measured = [row for row in self.rows if row["val_accuracy"] is not None]
        epochs = [row["epoch"] for row in measured]
        if not label:
            losses = [row["val_loss"] for row in measured]
            left.plot(epochs, losses, "s--", color=colour, label="validation")
        errors = [100 * (1 - row["val_accuracy"]) for row in measured]
        right.plot(epochs, errors, marker + "-", color=colour, label=label)
        for row, after in zip(self.rows, self.rows[1:]):
            if after["lr"] < row["lr"]:
                for ax in (left, right):
                    ax.axvline(row["epoch"], color=colour, lw=0.8, ls=":")
        limit = (0, max(self["epoch"], default=1) * 1.02)
        left.set(xlabel="epochs", ylabel="loss (nats)", xlim=limit)
        right.set(xlabel="epochs", ylabel="validation top-1 error (%)", ylim=(0, 100), xlim=limit)
        (right if label else left).legend()
        return left, right

    def _smooth(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Where, in epochs, and the mean of the losses over a 25th of the run."""
        if not self.losses:
            return torch.zeros(0), torch.zeros(0)
        window = max(1, len(self.losses) // 25)
        means = torch.tensor(self.losses).unfold(0, window, 1).mean(1)
        at = (torch.arange(len(means)) + window) * len(self.rows) / len(self.losses)
        return at, means


def hint(classes: int) -> str:
    """What is said, once, where an epoch ended no better than guessing."""
    return (
        f"the loss is still that of guessing, ln({classes}) = {math.log(classes):.3f}, or above. "
        "If it stays there: layers from a trained shallower net (init_from) or init='glorot', both "
        "of Sect. 3.1, init='he', or another lr"
    )
