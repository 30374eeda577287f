"""The loop of Sect. 3.1: equal to a plain one, dropout by image, the plateau rule, bad input."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import TINY, pictures, quiet, weights
from torch.nn import functional as F

from vggbook.data import Loader, mean_rgb, pca_rgb
from vggbook.model import Network
from vggbook.train import Diverged, KeyedDropout, Options, fit, load_run


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


# --- dropout --------------------------------------------------------------------------------
@settings(deadline=None, max_examples=20)
@given(st.permutations(range(12)), st.integers(1, 12), st.sampled_from([0.25, 0.5]))
def test_masks_belong_to_images(order, size, p):
    layer, order = KeyedDropout(p), torch.tensor(order)
    layer.key = (0, 1, 0, torch.arange(12))
    whole = layer(torch.ones(12, 64))
    parts = []
    for part in order.split(size):
        layer.key = (0, 1, 0, part)
        parts.append(layer(torch.ones(len(part), 64)))
    assert torch.equal(torch.cat(parts), whole[order])
    assert set(whole.unique().tolist()) <= {0.0, torch.tensor(1 / (1 - p)).item()}


def test_dropout_drops_at_its_rate_and_keeps_the_mean():
    layer = KeyedDropout(0.5)
    masks = []
    for epoch, which in ((0, 0), (1, 0), (0, 1)):
        layer.key = (0, epoch, which, torch.arange(256))
        masks.append(layer(torch.ones(256, 512)))
    n = masks[0].numel()
    for mask in masks:
        assert abs(mask.mean() - 1) < 5 / math.sqrt(n)  # five standard errors
    for other in masks[1:]:  # independent from epoch to epoch and layer to layer
        assert abs((masks[0] * other).mean() - 1) < 5 * math.sqrt(3 / n)
    assert torch.equal(layer.eval()(torch.ones(2, 3)), torch.ones(2, 3))


def test_dropout_is_ordinary_again_after_training():
    run = quiet(replace(TINY, max_epochs=1))
    x = torch.ones(1, 3, 32, 32)
    assert not torch.equal(run.model.train()(x), run.model(x))
    assert torch.equal(run.model.eval()(x), run.model(x))


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


# --- processes ------------------------------------------------------------------------------


@pytest.mark.parametrize("environment, sharing", [({}, 1), ({"LOCAL_WORLD_SIZE": "3"}, 3)])
def test_processes_of_a_machine_share_its_cores(monkeypatch, environment, sharing):
    asked = []
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("vggbook.train.loop.share_threads", asked.append)
    quiet(replace(TINY, max_epochs=1))
    assert asked == [sharing]
