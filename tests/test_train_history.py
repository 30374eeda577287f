"""Curves: a table, a plot, and the line that names the cures where a net does not learn."""

import math
from dataclasses import replace

import matplotlib
import matplotlib.pyplot as plt
import pytest
from tiny_training import TINY, pictures, quiet

from vggbook.train import History, fit

matplotlib.use("Agg")
ROW = {"train_loss": 1.0, "val_loss": 1.1, "images_per_s": 1234.0, "skipped": 0}
ROWS = [
    {**ROW, "epoch": 1, "lr": 0.01, "val_accuracy": 0.25},
    {**ROW, "epoch": 2, "lr": 0.001, "val_accuracy": 0.5, "skipped": 3},
]


def test_history_is_a_table():
    history = History(ROWS, [2.0, 1.5, 1.0, 0.5])
    assert history["val_accuracy"] == [0.25, 0.5] and len(history) == 2
    first, second = str(history).splitlines()
    shown = "epoch 1 lr 0.01 loss 1.0000 validation loss 1.1000 top-1 error 75.0% 1,234 images/s"
    assert " ".join(first.split()) == shown
    assert second.endswith("1,234 images/s  3 skipped")
    blind = History.line({**ROWS[0], "val_loss": None, "val_accuracy": None})
    assert "validation" not in blind and "loss  1.0000" in blind


def test_history_is_a_plot():
    history = History(ROWS, [2.0, 1.5, 1.0, 0.5])
    axes = left, right = history.plot(label="B")
    assert right.lines[0].get_ydata().tolist() == [75.0, 50.0]
    assert right.lines[0].get_xdata().tolist() == [1, 2]
    assert left.lines[0].get_xdata().tolist() == [0.5, 1.0, 1.5, 2.0]  # in epochs
    assert left.lines[0].get_ydata().tolist() == [2.0, 1.5, 1.0, 0.5]
    assert left.lines[-1].get_linestyle() == ":"  # the rate fell
    assert left.lines[-1].get_xdata() == [1, 1]  # after the first epoch
    assert (left.get_xlabel(), left.get_ylabel()) == ("epochs", "loss (nats)")
    assert (right.get_xlabel(), right.get_ylabel()) == ("epochs", "validation top-1 error (%)")
    assert right.get_ylim() == (0, 100) and left.get_xlim() == right.get_xlim() == (0, 2.04)
    history.plot(axes, label="D")
    shown = [line for line in right.lines if line.get_label() in "BD"]
    assert len({line.get_marker() for line in shown}) == 2


def test_a_plot_is_dotted_only_where_the_rate_fell():
    rates = (0.01, 0.01, 0.001, 0.001, 0.0001)
    rows = [{**ROWS[0], "epoch": i, "lr": rate} for i, rate in enumerate(rates, 1)]
    for ax in History(rows, [2.0] * 5).plot():
        dotted = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"]
        assert dotted == [2, 4]


def test_a_plot_without_label_has_the_validation_loss():
    left, _ = History(ROWS, [2.0, 1.0]).plot()
    assert [line.get_label() for line in left.lines[:2]] == ["training", "validation"]
    assert left.lines[1].get_ydata().tolist() == [1.1, 1.1]


def test_a_plot_averages_over_a_25th():
    losses = [float(i % 2) for i in range(100)]
    left, _ = History(ROWS, losses).plot()
    x, y = left.lines[0].get_data()
    assert y.tolist() == [0.5] * 97 and (x[0], x[-1]) == (4 * 2 / 100, 2.0)


def test_runs_drawn_together_are_told_apart():
    """Four kinds of line and of mark, then from the beginning; one colour a run, in both axes."""
    axes = left, right = plt.subplots(1, 2)[1]
    for name in "abcde":
        assert History(ROWS, [2.0, 1.0]).plot(axes, name) == (left, right)
    curves = [line for line in left.lines if line.get_label() in "abcde"]
    errors = [line for line in right.lines if line.get_label() in "abcde"]
    assert [line.get_linestyle() for line in curves] == ["-", "--", "-.", ":", "-"]
    assert [line.get_marker() for line in errors] == ["o", "s", "^", "D", "o"]
    assert {line.get_linestyle() for line in errors} == {"-"}
    assert [line.get_color() for line in errors] == [line.get_color() for line in curves]
    fallen = [line for line in right.lines if len(set(line.get_xdata())) == 1]
    assert [line.get_color() for line in fallen] == [line.get_color() for line in curves]
    assert all(line.get_linewidth() < curves[0].get_linewidth() for line in fallen)
    assert [text.get_text() for text in right.get_legend().get_texts()] == list("abcde")
    assert left.get_legend() is None


def test_one_run_is_two_axes_beside_each_other():
    left, right = History(ROWS, [2.0, 1.0]).plot()
    a, b = left.get_position(), right.get_position()
    assert a.x1 < b.x0 and (a.y0, a.y1) == (b.y0, b.y1)
    names = [text.get_text() for text in left.get_legend().get_texts()]
    assert names == ["training", "validation"] and right.get_legend() is None
    training, validation = left.lines[:2]
    assert (validation.get_linestyle(), validation.get_marker()) == ("--", "s")
    assert validation.get_color() == training.get_color() == right.lines[0].get_color()


def test_an_empty_history_is_drawn():
    left, _ = History().plot()
    assert len(left.lines[0].get_xdata()) == 0
    assert left.get_xlim() == (0, 1.02)  # one epoch


@pytest.fixture(autouse=True)
def figures_are_closed():
    yield
    plt.close("all")


def test_one_line_an_epoch(capsys):
    fit(replace(TINY, max_epochs=3), pictures(), pictures(8), device="cpu")
    captured = capsys.readouterr()
    lines = [line.split()[:2] for line in captured.out.splitlines() if line.startswith("epoch")]
    assert lines == [["epoch", "1"], ["epoch", "2"], ["epoch", "3"]]
    assert captured.err == ""


def test_an_epoch_at_chance_names_the_cures_once():
    lines = []
    # all logits stay equal: ln(4); eight steps, as many as no other number here
    quiet(replace(TINY, lr=1e-30, gain=1e-9), pictures(64), log=lines.append)
    cures = [line for line in lines if "init_from" in line]
    assert len(cures) == 1 and f"ln(4) = {math.log(4):.3f}" in cures[0]
    assert "glorot" in cures[0] and "lr" in cures[0]
    assert lines.index(cures[0]) == 1  # after the first epoch's own line


@pytest.mark.parametrize(
    "losses, stuck",
    [
        ([1.6] * 4, True),
        ([9.0, 9.0, 1.5, 1.5], False),
        ([1.0, 1.0, 1.61, 1.61], True),
        ([1.0, 1.0, 1.4, 1.61], False),  # the second half, and no less
        ([1.0, 1.0, 0.99 * math.log(5), 0.99 * math.log(5)], False),  # within 1%, and no more
    ],
)
def test_chance_is_where_the_epoch_ends(losses, stuck):
    assert History([], [0.1, *losses]).at_chance(classes=5, steps=4) is stuck  # ln(5) = 1.609


def test_chance_after_one_step_and_after_none():
    assert History([], [0.1, 1.61]).at_chance(classes=5, steps=1)
    assert not History().at_chance(classes=5, steps=1)


def test_a_run_that_learns_gets_no_advice():
    data, lines = pictures(8), []
    recipe = replace(TINY, batch_norm=True, dropout=0.0, flip=False, scales=36, crop=36, lr=0.05)
    quiet(replace(recipe, max_epochs=12, width=1 / 16), data, log=lines.append)
    assert len(lines) >= 12 and not [line for line in lines[6:] if "init_from" in line]
