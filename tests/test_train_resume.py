"""Nothing is lost: stopped and prolonged runs end with the same bits (killed: test_kills.py)."""

import zipfile
from dataclasses import replace

import pytest
import tiny_training
import torch
from filelock import FileLock
from tiny_training import TINY, pictures, quiet, weights

from vggbook.model import Network
from vggbook.train import CheckpointError, load_checkpoint, load_run

RECIPE = replace(TINY, max_epochs=3)  # of four steps each


class Stop(BaseException):
    pass


@pytest.mark.parametrize("steps", [1, 3, 4, 6, 11])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_stopping_after_any_step_changes_nothing(tmp_path, monkeypatch, steps, batch_norm):
    recipe, val = replace(RECIPE, batch_norm=batch_norm), pictures(8)
    whole = quiet(recipe, val=val)
    forward, calls = Network.forward, []

    def stopping(self, images):
        if self.training:
            calls.append(1)
            if len(calls) > steps:
                raise Stop
        return forward(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(Network, "forward", stopping)
        with pytest.raises(Stop):
            quiet(recipe, val=val, out=tmp_path, save_minutes=0)
    assert len(load_run(tmp_path / "last.pt").history.losses) == steps
    torch.randn(7)  # whatever else has drawn random numbers since
    run = quiet(recipe, val=val, out=tmp_path)
    assert torch.equal(weights(run), weights(whole))
    assert run.history.losses == whole.history.losses
    assert run.history["val_accuracy"] == whole.history["val_accuracy"]
    for key, value in whole.model.state_dict().items():
        assert torch.equal(run.model.state_dict()[key], value)


def test_patience_is_kept_over_a_stop(tmp_path):
    """Validation cannot improve, so the rate falls after every third epoch. A run that is stopped
    after each epoch counts on where it was."""
    recipe = replace(TINY, lr=1e-12, patience=2, lr_drops=2, max_epochs=12)
    whole = quiet(recipe, val=pictures(8))
    for epochs in range(1, 13):
        run = quiet(replace(recipe, max_epochs=epochs), val=pictures(8), out=tmp_path)
    # never better than in the first epoch: three more, then the rate falls; the third fall ends it
    assert [len(run.history), len(whole.history)] == [10, 10]
    assert run.history["lr"] == whole.history["lr"]


def test_within_an_epoch_nothing_is_written_before_its_time(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(
        "vggbook.train.state.save_checkpoint", lambda state, path, keep: written.append(path.name)
    )
    quiet(RECIPE, val=pictures(8), out=tmp_path, save_minutes=10)
    assert written.count("last.pt") == 3 and written[0] == "best.pt"
    written.clear()
    quiet(RECIPE, out=tmp_path, save_minutes=0)
    assert written == ["last.pt"] * 3 * 4


def test_a_finished_run_is_returned_and_can_be_prolonged(tmp_path):
    whole = quiet(RECIPE)
    short = quiet(replace(RECIPE, max_epochs=1), out=tmp_path)
    before = (tmp_path / "last.pt").stat().st_mtime_ns
    lines = []
    again = quiet(replace(RECIPE, max_epochs=1), out=tmp_path, log=lines.append)
    assert torch.equal(weights(again), weights(short)) and len(again.history) == 1
    assert (tmp_path / "last.pt").stat().st_mtime_ns == before
    assert "is finished: max_epochs=1 reached" in lines[0]
    run = quiet(RECIPE, out=tmp_path, log=lines.append)
    assert torch.equal(weights(run), weights(whole))
    assert "going on from" in lines[1] and "epoch 2, step 0" in lines[1]


def damage_truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_flip(path):
    with zipfile.ZipFile(path) as archive:  # one bit in the middle of the largest tensor
        entry = max(archive.infolist(), key=lambda e: e.file_size)
    data = bytearray(path.read_bytes())
    data[entry.header_offset + 200 + entry.file_size // 2] ^= 1
    path.write_bytes(data)


def damage_empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "damage, words",
    [(damage_truncate, "damaged"), (damage_flip, "checksum"), (damage_empty, "damaged")],
)
def test_a_damaged_checkpoint_is_refused_and_the_one_before_is_used(tmp_path, damage, words):
    whole = quiet(RECIPE, out=tmp_path / "whole")
    quiet(replace(RECIPE, max_epochs=2), out=tmp_path / "run")
    damage(tmp_path / "run" / "last.pt")
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(tmp_path / "run" / "last.pt")
    with pytest.warns(UserWarning, match="last.pt.*going on from .*previous.pt") as told:
        run = quiet(RECIPE, out=tmp_path / "run")
    assert told[0].filename == tiny_training.__file__  # it points at the call of fit
    assert torch.equal(weights(run), weights(whole)) and (tmp_path / "run" / "damaged.pt").exists()
    load_checkpoint(tmp_path / "run" / "previous.pt")


def test_without_any_good_checkpoint_nothing_is_overwritten(tmp_path):
    quiet(RECIPE, out=tmp_path)
    for name in ("last.pt", "previous.pt"):
        damage_truncate(tmp_path / name)
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(
        CheckpointError, match=r"last\.pt.*previous\.pt.*No good checkpoint is left"
    ):
        quiet(RECIPE, out=tmp_path)
    assert (tmp_path / "last.pt").read_bytes() == before


def test_another_recipe_or_data_set_is_refused_by_name(tmp_path):
    quiet(RECIPE, out=tmp_path)
    with pytest.raises(CheckpointError, match=r"lr: 0\.01 there, 0\.5 here; seed: 0 there, 3 here"):
        quiet(replace(RECIPE, lr=0.5, seed=3), out=tmp_path)
    with pytest.raises(CheckpointError, match="images: 32 there, 40 here"):
        quiet(RECIPE, pictures(40), out=tmp_path)
    with pytest.raises(CheckpointError, match="classes"):
        quiet(RECIPE, pictures(32, "abcde"), out=tmp_path)


def test_two_runs_cannot_share_a_folder(tmp_path):
    with (
        FileLock(tmp_path / "lock"),
        pytest.raises(BlockingIOError, match="another run is writing into this folder"),
    ):
        quiet(RECIPE, out=tmp_path)
    quiet(replace(RECIPE, max_epochs=1), out=tmp_path)  # free again
