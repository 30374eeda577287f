"""Nothing is lost: kill and resume, damaged and foreign checkpoints, full disks, two runs in one folder."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_train import TINY, pictures, quiet, weights

from vggbook import train as T
from vggbook.train import CheckpointError, fit, load_checkpoint, load_run

RECIPE = replace(TINY, max_epochs=3)


def test_killed_training_ends_with_the_same_bits():
    """Real processes, real SIGKILL, random moments; `killed_training.py --trials 20` is the long form."""
    command = [sys.executable, str(Path(__file__).with_name("killed_training.py")), "--trials", "3"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["equal"] == result["trials"] == 3 and result["kills"] >= 3, result


class Stop(BaseException):
    pass


@pytest.mark.parametrize("steps", [1, 3, 4, 6, 11])
def test_stopping_after_any_step_changes_nothing(tmp_path, monkeypatch, steps):
    whole = quiet(RECIPE, val=pictures(8), out=tmp_path / "whole")
    collect = T._Trainer._collect
    monkeypatch.setattr(T._Trainer, "_train_epoch", interrupted(steps))
    with pytest.raises(Stop):
        quiet(RECIPE, val=pictures(8), out=tmp_path / "cut", save_minutes=0)
    monkeypatch.undo()
    assert T._Trainer._collect is collect
    torch.randn(7)  # whatever else has drawn random numbers since
    run = quiet(RECIPE, val=pictures(8), out=tmp_path / "cut")
    assert torch.equal(weights(run), weights(whole)) and run.history.losses == whole.history.losses
    assert run.history["val_accuracy"] == whole.history["val_accuracy"]


def interrupted(steps, original=T._Trainer._train_epoch):
    """Stop before the given step, counted over all epochs."""

    def train_epoch(self):
        gradient = self._gradient

        def counted(*batch):
            if self.epoch * len(self.loader) + self.step == steps:
                raise Stop
            return gradient(*batch)

        self._gradient = counted
        original(self)

    return train_epoch


def test_a_finished_run_is_returned_and_can_be_prolonged(tmp_path):
    whole = quiet(RECIPE, out=tmp_path / "whole")
    short = quiet(replace(RECIPE, max_epochs=1), out=tmp_path / "short")
    before = (tmp_path / "short" / "last.pt").stat().st_mtime_ns
    again = quiet(replace(RECIPE, max_epochs=1), out=tmp_path / "short")
    assert torch.equal(weights(again), weights(short)) and len(again.history) == 1
    assert load_checkpoint(tmp_path / "short" / "last.pt")["epoch"] == 1 and before
    assert torch.equal(weights(quiet(RECIPE, out=tmp_path / "short")), weights(whole))


def test_checkpoint_is_plain_and_rebuilds_the_net(tmp_path):
    run = quiet(RECIPE, val=pictures(8), out=tmp_path)
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert {
        "model",
        "optimizer",
        "plateau",
        "scaler",
        "random",
        "epoch",
        "step",
        "recipe",
        "mean",
    } <= set(state)
    assert set(state["random"]) == {"torch", "cuda", "python", "numpy"}
    loaded = load_run(tmp_path / "last.pt")
    assert (
        torch.equal(weights(loaded), weights(run))
        and loaded.recipe == RECIPE
        and torch.equal(loaded.mean, run.mean)
    )
    assert (
        loaded.classes == tuple("abcd")
        and loaded.history.rows == run.history.rows
        and loaded.ended == run.ended
    )
    best = load_run(tmp_path / "best.pt")
    assert best.history["val_accuracy"][-1] == max(run.history["val_accuracy"])


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
    with pytest.warns(UserWarning, match="last.pt.*going on from .*previous.pt"):
        run = quiet(RECIPE, out=tmp_path / "run")
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


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_foreign_files_are_refused_and_run_no_code(tmp_path, capsys):
    torch.save({"weights": torch.zeros(3)}, tmp_path / "foreign.pt")
    torch.save({"format": T.FORMAT, "evil": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps({"a": 1}))
    for name, words in (
        ("foreign.pt", "not written by vggbook.train"),
        ("evil.pt", "objects other than tensors"),
        ("pickle.pt", "no checkpoint"),
        ("none.pt", "does not exist"),
    ):
        with pytest.raises(CheckpointError, match=words):
            load_checkpoint(tmp_path / name)
    assert "code ran" not in capsys.readouterr().out


def test_another_recipe_or_data_set_is_refused_by_name(tmp_path):
    quiet(RECIPE, out=tmp_path)
    with pytest.raises(CheckpointError, match=r"lr: 0\.01 there, 0\.5 here; seed: 0 there, 3 here"):
        quiet(replace(RECIPE, lr=0.5, seed=3), out=tmp_path)
    with pytest.raises(CheckpointError, match="images: 32 there, 40 here"):
        quiet(RECIPE, pictures(40), out=tmp_path)
    with pytest.raises(CheckpointError, match="classes"):
        quiet(RECIPE, pictures(32, "abcde"), out=tmp_path)


def test_a_full_disk_costs_no_work(tmp_path, monkeypatch):
    whole = quiet(RECIPE, out=tmp_path / "whole")
    fsync, calls = os.fsync, []

    def full(descriptor):
        calls.append(1)
        if len(calls) in (3, 4):
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match=r"No space left on device.*Training goes on"):
        run = quiet(RECIPE, out=tmp_path / "run")
    assert torch.equal(weights(run), weights(whole)) and not list((tmp_path / "run").glob("*.tmp"))
    assert load_checkpoint(tmp_path / "run" / "last.pt")["ended"]


def test_a_disk_that_stays_full_leaves_the_last_good_checkpoint(tmp_path):
    resource = pytest.importorskip("resource")
    quiet(replace(RECIPE, max_epochs=1), out=tmp_path)
    good = (tmp_path / "last.pt").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (20_000, hard)
    )  # the system's own refusal, in the middle of the file
    try:
        with (
            pytest.warns(UserWarning, match="could not write"),
            pytest.raises(CheckpointError, match=r"last\.pt.*is the disk full"),
        ):
            quiet(RECIPE, out=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "last.pt").read_bytes() == good and not list(tmp_path.glob("*.tmp"))


def test_two_runs_cannot_share_a_folder(tmp_path):
    with (
        T._locked(tmp_path),
        pytest.raises(BlockingIOError, match="another run is writing into this folder"),
    ):
        quiet(RECIPE, out=tmp_path)
    quiet(replace(RECIPE, max_epochs=1), out=tmp_path)  # free again


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        fit(RECIPE, pictures(), out=tmp_path / "file" / "run", log=None, device="cpu")
