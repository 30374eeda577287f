"""The loop of Sect. 3.1: equal to a plain one, dropout by image, the plateau rule, bad input."""

import io
import itertools
import math
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny_training import TINY, pictures, quiet, weights
from torch import nn
from torch.nn import functional as F

from vggbook.data import Loader, mean_rgb, pca_rgb
from vggbook.model import Network
from vggbook.train import Diverged, Options, fit, load_run, loop


# --- the step -------------------------------------------------------------------------------
@pytest.mark.parametrize("colour", [False, True])
def test_equals_a_plain_loop(colour):
    """The dozen lines that everybody would write, on the loader's batches, without dropout."""
    recipe, data = replace(TINY, dropout=0.0, colour=colour), pictures()
    net = recipe.net(4)
    feed = {"crop": 32, "scales": (32, 40), "mean": mean_rgb(data), "gain": 1 / 64, "seed": 0}
    loader = Loader(data, 8, colour=pca_rgb(data) if colour else None, **feed)
    velocity = [torch.zeros_like(p) for p in net.parameters()]
    losses = []
    for epoch in range(2):
        for images, labels, _ in loader.epoch(epoch):
            loss = F.cross_entropy(net(images), labels)
            losses.append(loss.item())
            gradients = torch.autograd.grad(loss, list(net.parameters()))
            for p, v, g in zip(net.parameters(), velocity, gradients):
                v.mul_(0.9).add_(g + 5e-4 * p.detach())
                p.data.sub_(0.01 * v)
    run = quiet(recipe, data)
    expected = torch.cat([p.detach().flatten() for p in net.parameters()])
    torch.testing.assert_close(weights(run), expected, atol=1e-6, rtol=0)
    found = torch.tensor(run.history.losses)
    torch.testing.assert_close(found, torch.tensor(losses), atol=1e-5, rtol=0)
    means = [sum(losses[:4]) / 4, sum(losses[4:]) / 4]
    assert run.history["train_loss"] == pytest.approx(means)


def test_seeds_differ_and_repeat():
    one, again, other = quiet(TINY), quiet(TINY), quiet(replace(TINY, seed=1))
    assert torch.equal(weights(one), weights(again))
    assert not torch.equal(weights(one), weights(other))


def test_batch_norm_trains_and_learns_by_heart():
    recipe = replace(TINY, batch_norm=True, width=1 / 16, dropout=0.0, lr=0.02, max_epochs=15)
    data = pictures(16)
    run = quiet(replace(recipe, flip=False, scales=36, crop=36), data, data)
    assert run.history["val_accuracy"][-1] >= 0.9
    assert run.history["val_loss"][-1] < math.log(4) / 2


def test_options_together_or_by_name():
    lines = []
    options = Options(device="cpu", micro_batch=3, mean=[0.0, 0.0, 0.0], log=lines.append)
    together = fit(TINY, pictures(), options=options)
    assert len(lines) >= 2 and together.mean.tolist() == [0, 0, 0]
    by_name = fit(TINY, pictures(), options=options, micro_batch=5, log=None)
    torch.testing.assert_close(weights(together), weights(by_name), atol=1e-6, rtol=0)


def test_a_layer_that_is_frozen_is_not_trained():
    start = TINY.net(4).state_dict()
    run = quiet(replace(TINY, max_epochs=1), freeze="conv")
    moved = {
        name for name, weight in run.model.state_dict().items() if (weight != start[name]).any()
    }
    assert moved == {name for name in start if name.startswith("classifier.")}


# --- an epoch -------------------------------------------------------------------------------
def test_validation_changes_nothing_that_is_trained():
    """Not even dropout in the next epoch."""
    alone, watched = quiet(TINY), quiet(TINY, val=pictures(8))
    assert torch.equal(weights(alone), weights(watched))
    assert not alone.model.training and not watched.model.training


@pytest.mark.parametrize("seconds, rate", [(2.0, 16.0), (0.0, 32e9)])
def test_images_a_second(tmp_path, monkeypatch, seconds, rate):
    """Four steps of eight images; a clock that stands still counts as a nanosecond."""
    clock = itertools.count(1000.0, seconds)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    run = quiet(TINY)
    assert run.history["images_per_s"] == pytest.approx([rate, rate])


def test_images_a_second_of_the_rest_of_an_epoch(tmp_path, monkeypatch):
    """Stopped after the first step: three steps of eight images are left."""
    clock = itertools.count(1000.0, 2.0)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    stop_in_step(monkeypatch, 2, lambda: quiet(TINY, out=tmp_path, save_minutes=0))
    assert quiet(TINY, out=tmp_path).history["images_per_s"] == pytest.approx([12, 16])


class Stop(BaseException):
    pass


def stop_in_step(monkeypatch, step, training):
    """Run a training that is killed in the middle of a step."""
    forward, calls = Network.forward, []

    def stopping(self, images):
        calls.append(1)
        if len(calls) == step:
            raise Stop
        return forward(self, images)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Network, "forward", stopping)
        training()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def bars(monkeypatch, rank=0, step=0):
    """What a terminal gets from an epoch of four batches of one picture, the second epoch."""
    shown = Terminal()
    loader = Loader(pictures(4), 1, crop=32, scales=32, mean=(0, 0, 0))
    at = SimpleNamespace(loader=loader, epoch=1, step=step, skipped=set())
    monkeypatch.setattr(sys, "stderr", shown)
    assert len(list(loop.batches(at, SimpleNamespace(rank=rank)))) == 4 - step
    return shown.getvalue()


def test_a_bar_where_somebody_watches(monkeypatch):
    """It names the epoch, counts its batches, and goes when the epoch is over."""
    shown = bars(monkeypatch)
    assert "epoch 2:   0%" in shown and " 0/4 " in shown and "\n" not in shown
    assert " 1/4 " in bars(monkeypatch, step=1) and " 0/4 " not in bars(monkeypatch, step=1)


def test_other_processes_show_no_bar(monkeypatch):
    assert bars(monkeypatch, rank=1) == ""


def test_a_mean_over_losses_of_any_size():
    """1e8 and 1 add up to 100,000,001, which single precision cannot hold."""
    logits = torch.tensor([[0.0, 1e8], [1.0, 0.0]])
    machine = SimpleNamespace(
        net=nn.Identity(), micro=1, logits=lambda x: x, total=torch.Tensor.tolist
    )
    rows = SimpleNamespace(epoch=lambda number: [(logits, torch.tensor([0, 1]), None)])
    loss, accuracy = loop.validate(machine, rows)
    assert loss == pytest.approx((1e8 + math.log1p(math.e)) / 2, abs=1e-6, rel=0) and accuracy == 0


# --- the plateau rule -----------------------------------------------------------------------
def scripted(monkeypatch, accuracies):
    """Validation that says what a script says, and nothing is trained."""
    values = iter(accuracies)
    monkeypatch.setattr("vggbook.train.loop.validate", lambda machine, val: (1.0, next(values)))
    monkeypatch.setattr("vggbook.train.machine.Machine.gradient", lambda *batch: torch.tensor(1.0))
    monkeypatch.setattr("vggbook.train.machine.Machine.update", lambda self, optimizer: None)


def test_plateau_rule_three_drops_then_stop(monkeypatch):
    # patience 1: one epoch without improvement is waited through, the second one counts
    script = [0.1, 0.3, 0.3, 0.2, 0.4, 0.4, 0.4, 0.4, 0.4, 0.5, 0.1, 0.1]
    scripted(monkeypatch, [*script, 0.9])
    run = quiet(replace(TINY, patience=1, max_epochs=50), val=pictures(8))
    rates = [1e-2] * 4 + [1e-3] * 3 + [1e-4] * 2 + [1e-5] * 3
    assert run.history["lr"] == pytest.approx([r / 1e-2 * TINY.lr for r in rates])
    assert len(run.history) == len(script) and "after 3 drops" in run.ended


def test_rate_stays_while_accuracy_rises_and_max_epochs_ends(monkeypatch):
    scripted(monkeypatch, [i / 100 for i in range(50)])
    run = quiet(replace(TINY, patience=0, max_epochs=20), val=pictures(8))
    assert set(run.history["lr"]) == {TINY.lr} and "max_epochs=20" in run.ended


def test_the_best_checkpoint_is_the_first_of_equals(monkeypatch, tmp_path):
    scripted(monkeypatch, [0.2, 0.6, 0.6, 0.4])
    quiet(replace(TINY, max_epochs=4), val=pictures(8), out=tmp_path)
    assert load_run(tmp_path / "best.pt").history["epoch"] == [1, 2]


def test_the_smallest_rise_is_a_rise(monkeypatch):
    """One more image of 50,000, ImageNet's validation set."""
    scripted(monkeypatch, [0.5 + i / 50_000 for i in range(8)])
    run = quiet(replace(TINY, patience=0, max_epochs=8), val=pictures(8))
    assert set(run.history["lr"]) == {TINY.lr}


def test_a_net_that_gets_nothing_right_is_the_best_so_far(monkeypatch, tmp_path):
    scripted(monkeypatch, [0.0, 0.0])
    quiet(TINY, val=pictures(8), out=tmp_path)
    assert load_run(tmp_path / "best.pt").history["epoch"] == [1]


def test_a_run_that_goes_on_keeps_its_best(monkeypatch, tmp_path):
    scripted(monkeypatch, [0.6, 0.4])
    for epochs in (1, 2):
        quiet(replace(TINY, max_epochs=epochs), val=pictures(8), out=tmp_path)
    assert load_run(tmp_path / "best.pt").history["epoch"] == [1]


def test_without_validation_the_rate_never_falls():
    run = quiet(replace(TINY, patience=0, max_epochs=3))
    assert set(run.history["lr"]) == {TINY.lr} and run.history["val_accuracy"] == [None] * 3


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_validation_is_the_centre_crop_at_q(micro_batch):
    data, val = pictures(), pictures(20, seed=5)
    run = quiet(replace(TINY, max_epochs=1), data, val, micro_batch=micro_batch)
    # Q = 36, the middle of [32, 40], is the pictures' own size
    images = val.images.float()[:, :, 2:34, 2:34]
    with torch.no_grad():
        logits = run.model((images - mean_rgb(data)[:, None, None]) / 64)
    accuracy = (logits.argmax(1) == val.labels).double().mean().item()
    assert run.history["val_accuracy"] == [pytest.approx(accuracy, abs=1e-12)]
    loss = F.cross_entropy(logits, val.labels).item()
    assert run.history["val_loss"][0] == pytest.approx(loss, abs=1e-5)


# --- what goes wrong ------------------------------------------------------------------------
def test_diverging_stops_with_step_rate_and_checkpoint(tmp_path):
    quiet(replace(TINY, max_epochs=1), out=tmp_path)
    with pytest.raises(Diverged, match=r"step \d+.*rate 1e\+30.*checkpoint: none") as error:
        quiet(replace(TINY, lr=1e30), out=tmp_path / "other")
    assert error.value.step >= 2 and error.value.lr == 1e30 and error.value.checkpoint is None


def test_a_loss_that_is_not_finite_is_found_at_its_step(tmp_path, monkeypatch):
    quiet(replace(TINY, max_epochs=1), out=tmp_path)  # four steps
    forward, calls = Network.forward, []

    def broken(self, images):
        calls.append(1)
        return forward(self, images) * (math.nan if len(calls) > 2 else 1)

    monkeypatch.setattr(Network, "forward", broken)
    with pytest.raises(Diverged, match="the loss is nan at step 7") as error:
        quiet(TINY, out=tmp_path)
    assert error.value.checkpoint == tmp_path / "last.pt"
    assert load_run(error.value.checkpoint).history["epoch"] == [1]


def test_a_validation_loss_that_is_not_finite_is_an_end(monkeypatch):
    scripted(monkeypatch, [0.1])
    monkeypatch.setattr("vggbook.train.loop.validate", lambda machine, val: (math.inf, 0.1))
    with pytest.raises(Diverged, match="the validation loss is inf at step 4"):
        quiet(TINY, val=pictures(8))


def test_weights_that_are_not_finite_are_not_kept(monkeypatch, tmp_path):
    """The loss is finite to the last step, whose update is not."""
    update, steps = loop.Machine.update, []

    def overflowing(self, optimizer):
        update(self, optimizer)
        steps.append(1)
        if len(steps) == 4:
            self.net.classifier[0].weight.data[0, 0] = math.inf

    monkeypatch.setattr(loop.Machine, "update", overflowing)
    with pytest.raises(Diverged, match=r"^a weight is not finite at step 4, learning rate 0\.01;"):
        quiet(TINY, out=tmp_path)
    assert not list(tmp_path.glob("*.pt"))


# --- processes ------------------------------------------------------------------------------
def test_one_process_of_two_speaks_writes_and_measures(tmp_path, monkeypatch):
    """The second one, pretended: it takes the mean that the first one sends, and its half of each
    batch."""
    lines, sizes = [], []
    forward = Network.forward
    sent = iter([None, (torch.zeros(3), None)])  # no checkpoint; mean and components
    monkeypatch.setattr(loop, "world", lambda: (1, 2))
    monkeypatch.setattr(loop, "from_first", lambda value, device: value or next(sent))
    monkeypatch.setattr(
        Network, "forward", lambda self, images: sizes.append(len(images)) or forward(self, images)
    )
    run = quiet(replace(TINY, max_epochs=1), out=tmp_path / "run", log=lines.append)
    assert lines == [] and not (tmp_path / "run").exists() and run.checkpoint is None
    assert run.mean.tolist() == [0, 0, 0] and sizes == [4] * 4


@pytest.mark.parametrize("environment, sharing", [({}, 1), ({"LOCAL_WORLD_SIZE": "3"}, 3)])
def test_processes_of_a_machine_share_its_cores(monkeypatch, environment, sharing):
    asked = []
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("vggbook.train.loop.share_threads", asked.append)
    quiet(replace(TINY, max_epochs=1))
    assert asked == [sharing]
