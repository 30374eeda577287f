"""What a step, an epoch and a checkpoint change: losses late on a GPU, files in time."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny_training import TINY, pictures, quiet

from vggbook.data import Loader
from vggbook.train import FORMAT, Diverged, Options, load_checkpoint, state
from vggbook.train.state import Keeper, Training, sgd

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def training(device=CPU, recipe=TINY, enabled=False):
    """A training before its first step; a GPU is pretended."""
    loader = Loader(pictures(), 8, crop=32, scales=(32, 40), mean=(0, 0, 0))
    scaler = torch.amp.GradScaler("cpu", enabled=enabled)
    return Training(recipe, recipe.net(4), loader, device, scaler)


@pytest.mark.parametrize(
    "kind, fused, foreach", [("cuda", True, None), ("cpu", None, True), ("meta", None, None)]
)
def test_the_optimizer_takes_all_weights_in_few_calls(kind, fused, foreach):
    """As PyTorch has it for a kind of device; otherwise one by one."""
    group = sgd(TINY.net(4), TINY, torch.device(kind)).param_groups[0]
    assert (group["fused"], group["foreach"]) == (fused, foreach)
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.01, 0.9, 5e-4)


# --- losses -------------------------------------------------------------------------------------
@pytest.mark.parametrize("device, late", [(CPU, 0), (GPU, 1)])
def test_losses_are_read_a_step_late_on_a_gpu(device, late):
    at = training(device)
    for step in range(1, 4):
        at.count(torch.tensor(float(step)))
        assert at.step == step and at.history.losses == [1.0, 2.0, 3.0][: step - late]
    at.read_losses()
    assert at.history.losses == [1.0, 2.0, 3.0]


def test_a_checkpoint_waits_for_all_losses(tmp_path):
    at = training(GPU)
    at.count(torch.tensor(1.5))
    Keeper(tmp_path, Options()).save(at)
    assert load_checkpoint(tmp_path / "last.pt")["losses"].tolist() == [1.5]


def test_where_a_loss_was_not_finite():
    at = training(GPU)
    at.count(torch.tensor(1.5))
    at.count(torch.tensor(torch.nan))  # nobody has looked at it
    with pytest.raises(Diverged) as error:
        at.read_losses()
    assert str(error.value) == (
        "the loss is nan at step 2, learning rate 0.01; last good checkpoint: none. "
        "Try a smaller lr, another init, or layers from a trained net (init_from)"
    )
    with pytest.raises(Diverged, match=r"^the validation loss is inf at step 1, ") as error:
        at.close_epoch((torch.inf, 0.5), 1.0, 0)
    assert (error.value.step, error.value.lr, error.value.checkpoint) == (1, 0.01, None)


def test_a_row_of_an_epoch():
    at = training()
    for loss in (1.0, 2.0, 3.0, 6.0):
        at.count(torch.tensor(loss))
    assert at.close_epoch((0.5, 0.25), 123.0, 7) and (at.epoch, at.step, at.best) == (1, 0, 0.25)
    row = {"epoch": 1, "lr": 0.01, "train_loss": 3.0, "val_loss": 0.5, "val_accuracy": 0.25}
    assert at.history.rows == [{**row, "images_per_s": 123.0, "skipped": 7}]
    for loss in (4.0, 4.0, 4.0, 8.0):
        at.count(torch.tensor(loss))
    assert not at.close_epoch(None, 1.0, 0) and at.best == 0.25
    assert at.history["train_loss"] == [3.0, 5.0] and at.history["val_loss"] == [0.5, None]
    assert at.ended == "max_epochs=2 reached"


def test_a_fall_of_the_rate_is_counted_and_one_too_many_is_the_end():
    at = training(recipe=replace(TINY, patience=0, lr_drops=1, max_epochs=9))
    rates = []
    for accuracy in (0.5, 0.5, 0.6, 0.6):
        at.count(torch.tensor(1.0))
        at.close_epoch((1.0, accuracy), 1.0, 0)
        rates.append((at.lr, at.drops, bool(at.ended)))
    falls = [(1e-2, 0, False), (1e-3, 1, False), (1e-3, 1, False), (1e-4, 2, True)]
    assert rates == [(pytest.approx(rate), *rest) for rate, *rest in falls]
    assert at.ended == ("validation accuracy stopped improving after 1 drops of the learning rate")


# --- going on -----------------------------------------------------------------------------------
def test_a_checkpoint_of_a_gpu_goes_on_as_this_machine_works():
    theirs, ours = training(GPU), training()
    ours.restore({**theirs.as_dict(), "path": None})
    group = ours.optimizer.param_groups[0]
    assert not group["fused"] and group["foreach"]


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_the_scale_of_fp16_goes_on_where_it_is_used(before, after):
    """A run may change its precision: without a scale there, or none here, there is none to take
    over."""
    theirs, ours = training(enabled=before), training(enabled=after)
    if before:
        theirs.scaler.load_state_dict({**theirs.scaler.state_dict(), "scale": 512.0})
    fresh = ours.scaler.get_scale()
    ours.restore({**theirs.as_dict(), "path": None})
    assert ours.scaler.get_scale() == (512.0 if before and after else fresh)


def test_what_is_restored_is_what_was_kept(tmp_path):
    theirs, ours = training(recipe=replace(TINY, max_epochs=9)), training()
    for loss in (1.0, 2.0, 3.0, 6.0, 0.1):
        theirs.count(torch.tensor(loss))
        if theirs.step == 4:
            theirs.close_epoch((0.5, 0.25), 123.0, 7)
    theirs.drops, theirs.loader.skipped = 1, {3: "cut"}
    kept = theirs.as_dict()
    assert (kept["classes"], kept["images"], kept["format"]) == (list("abcd"), 32, FORMAT)
    ours.restore({**kept, "path": tmp_path / "last.pt"})
    for name in ("epoch", "step", "drops", "best", "ended"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert (ours.epoch, ours.step, ours.drops, ours.best) == (1, 1, 1, 0.25)
    assert ours.history.rows == theirs.history.rows
    assert ours.history.losses == theirs.history.losses and len(ours.history.losses) == 5
    assert ours.written == tmp_path / "last.pt" and ours.loader.skipped == {3: "cut"}


# --- files --------------------------------------------------------------------------------------
@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass where a test says so."""
    hands = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(state, "time", SimpleNamespace(monotonic=lambda: hands.now))
    return hands


def test_a_checkpoint_is_renewed_at_its_age_within_an_epoch(tmp_path, clock):
    at, path = training(), tmp_path / "last.pt"
    keeper = Keeper(tmp_path, Options(save_minutes=2))
    for seconds, there in ((119.5, False), (0.5, True), (119.5, False), (0.5, True)):
        at.count(torch.tensor(1.0))
        clock.now += seconds
        keeper.now_and_then(at)
        assert path.exists() == (there and at.step < 4)  # the epoch's end has its own
        path.unlink(missing_ok=True)


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch, clock):
    monkeypatch.chdir(tmp_path)
    at, keeper = training(GPU), Keeper(None, Options(save_minutes=0))
    at.count(torch.tensor(1.0))
    keeper.now_and_then(at)
    keeper.save(at)
    assert not list(tmp_path.iterdir()) and at.written is None
    assert at.history.losses == [1.0]


def test_the_one_before_is_kept_of_the_last_and_not_of_the_best(tmp_path):
    at, keeper = training(), Keeper(tmp_path, Options())
    for _ in range(2):
        keeper.save(at, ("best.pt", "last.pt"))
    assert {path.name for path in tmp_path.iterdir()} == {"best.pt", "last.pt", "previous.pt"}
    assert at.written == tmp_path / "last.pt"
    keeper.save(at, ("best.pt",))
    assert at.written == tmp_path / "last.pt"


def test_a_net_that_is_handed_back_is_an_ordinary_one():
    run = quiet(TINY, freeze="conv")
    assert not run.model.training
    assert all(weight.requires_grad for weight in run.model.parameters())
