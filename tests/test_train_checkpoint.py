"""Checkpoint files: plain, checked to the last byte, written whole or not at all."""

import io
import os
import pickle
import stat
import warnings
import zipfile
from dataclasses import asdict, replace

import filelock
import pytest
import tiny_training
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import TINY, pictures, quiet, weights

from vggbook.train import (
    FORMAT,
    CheckpointError,
    History,
    Run,
    load_checkpoint,
    load_run,
    save_checkpoint,
)

RECIPE = replace(TINY, max_epochs=3)


def test_checkpoint_is_plain_and_rebuilds_the_net(tmp_path):
    run = quiet(RECIPE, val=pictures(8), out=tmp_path)
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert set(state) == {
        *("format", "recipe", "classes", "images", "mean", "eigen", "skipped"),
        *("model", "optimizer", "plateau", "scaler"),
        *("epoch", "step", "drops", "best", "ended", "rows", "losses"),
    }
    assert state["recipe"] == asdict(RECIPE) and state["images"] == 32
    loaded = load_run(tmp_path / "last.pt")
    assert torch.equal(weights(loaded), weights(run)) and loaded.recipe == RECIPE
    assert torch.equal(loaded.mean, run.mean) and loaded.classes == tuple("abcd")
    assert loaded.history.rows == run.history.rows
    assert loaded.history.losses == run.history.losses
    assert loaded.ended == run.ended and not loaded.model.training
    assert (loaded.checkpoint, loaded.skipped) == (tmp_path / "last.pt", ())
    best = load_run(tmp_path / "best.pt")
    assert best.history["val_accuracy"][-1] == max(run.history["val_accuracy"])


def test_a_checkpoint_with_random_states_is_still_read(tmp_path):
    """As files of version 0.1.0 have them."""
    whole = quiet(RECIPE)
    quiet(replace(RECIPE, max_epochs=2), out=tmp_path)
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    random = {"torch": torch.get_rng_state(), "cuda": [], "python": (3, (1, 2), None)}
    torch.save({**state, "random": random}, tmp_path / "last.pt")
    assert torch.equal(weights(quiet(RECIPE, out=tmp_path)), weights(whole))


def test_a_run_by_hand_has_not_ended():
    net = RECIPE.net(4)
    run = Run(RECIPE, net, History(), torch.zeros(3), tuple("abcd"))
    assert (run.ended, run.checkpoint, run.skipped) == ("", None, ())


def test_a_checkpoint_of_a_gpu_is_read_on_the_cpu(tmp_path, monkeypatch):
    """Its tensors are marked as those of a GPU are."""
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        save_checkpoint({"format": FORMAT, "w": torch.arange(3.0)}, tmp_path / "gpu.pt")
    loaded = load_checkpoint(tmp_path / "gpu.pt")["w"]
    assert loaded.device.type == "cpu" and loaded.tolist() == [0, 1, 2]


# --- damage ---------------------------------------------------------------------------------
def small_checkpoint():
    """One of every kind of value, as bytes."""
    state = {"format": FORMAT, "model": {"w": torch.arange(40.0), "n": torch.arange(3)}}
    state |= {"rows": [{"lr": 0.5, "val_loss": None}], "ended": "", "recipe": {"scales": (1, 2)}}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return state, buffer.getvalue()


STATE, BYTES = small_checkpoint()


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def equal_or_refused(path, data):
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            state = load_checkpoint(path)
        except CheckpointError as error:
            assert str(path) in str(error) and "weights_only" not in str(error)
            return
    assert same(state, STATE)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, len(BYTES) - 1), st.integers(1, 255))
def test_any_byte_flipped_is_loaded_equal_or_refused(tmp_path_factory, at, flip):
    data = bytearray(BYTES)
    data[at] ^= flip
    equal_or_refused(tmp_path_factory.getbasetemp() / "flipped.pt", bytes(data))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, len(BYTES) - 1), st.binary(max_size=40))
def test_any_cut_or_other_end_is_refused(tmp_path_factory, at, tail):
    equal_or_refused(tmp_path_factory.getbasetemp() / "cut.pt", BYTES[:at] + tail)


@pytest.mark.parametrize("seed", range(8))
def test_whole_directories_of_damage(tmp_path, seed):
    """Every byte of the archive's directory, where a checksum does not reach, by one bit."""
    directory = BYTES.rindex(b"PK\x01\x02")
    for at in range(directory, len(BYTES)):
        data = bytearray(BYTES)
        data[at] ^= 1 << seed
        equal_or_refused(tmp_path / "net.pt", bytes(data))


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_foreign_files_are_refused_and_run_no_code(tmp_path, monkeypatch, capsys):
    torch.save({"weights": torch.zeros(3)}, tmp_path / "foreign.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"format": FORMAT, "evil": Evil()}, tmp_path / "evil.pt")
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as archive:
        archive.writestr("readme.txt", "no tensors")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "page.pt").write_text("<!DOCTYPE html><html>")
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "folder.pt").mkdir()
    for name, words in (
        ("foreign.pt", "not written by vggbook.train"),
        ("list.pt", "not written by vggbook.train"),
        ("evil.pt", "objects other than tensors"),
        ("other.pt", "cannot be read"),
        ("pickle.pt", "is no checkpoint: it starts with"),
        ("page.pt", r"page.pt is no checkpoint: it starts with b'<!DOCTYPE html><html>'$"),
        ("empty.pt", "is empty"),
        ("folder.pt", "cannot be read"),
        ("none.pt", "does not exist"),
    ):
        with pytest.raises(CheckpointError, match=words) as error:
            load_checkpoint(tmp_path / name)
        assert name in str(error.value) and "weights_only" not in str(error.value)
    # whatever the environment asks of torch.load
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(CheckpointError, match="objects other than tensors"):
        load_checkpoint(tmp_path / "evil.pt")
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "error, reason",
    [(RuntimeError("first line\nsecond line"), "first line"), (EOFError(), "EOFError")],
)
def test_the_reason_is_one_line(tmp_path, monkeypatch, error, reason):
    def load(*_, **__):
        raise error

    torch.save({"format": FORMAT}, tmp_path / "net.pt")
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(CheckpointError, match=rf"is damaged, it cannot be read: .* \({reason}\)$"):
        load_checkpoint(tmp_path / "net.pt")


# --- writing --------------------------------------------------------------------------------
def test_what_was_there_before_is_kept(tmp_path):
    path, old = tmp_path / "last.pt", tmp_path / "previous.pt"
    for number in (1, 2):
        save_checkpoint({"format": FORMAT, "number": number}, path, keep=old)
    assert load_checkpoint(path)["number"] == 2 and load_checkpoint(old)["number"] == 1
    assert {p.name for p in tmp_path.iterdir()} == {"last.pt", "previous.pt"}


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """The order that a power failure asks for: the whole file is flushed, then renamed, and the
    folder flushed after that."""
    path, flushed, closed = tmp_path / "last.pt", [], []
    fsync, close = os.fsync, os.close

    def noted(descriptor):
        about = os.fstat(descriptor)
        flushed.append((stat.S_ISDIR(about.st_mode), about.st_size, path.exists(), descriptor))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "close", lambda d: closed.append(d) or close(d))
    save_checkpoint({"format": FORMAT, "w": torch.arange(1000.0)}, path)
    file, folder = flushed
    assert file[:3] == (False, path.stat().st_size, False)
    assert folder[0] and folder[2] and folder[3] in closed


def test_a_full_disk_costs_no_work(tmp_path, monkeypatch):
    whole = quiet(RECIPE, out=tmp_path / "whole")
    fsync, calls = os.fsync, []

    def full(descriptor):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match=r"No space left on device.*Training goes on") as told:
        run = quiet(RECIPE, out=tmp_path / "run")
    assert told[0].filename == tiny_training.__file__  # it points at the call of fit
    assert torch.equal(weights(run), weights(whole)) and not list((tmp_path / "run").glob("*.tmp"))
    assert load_checkpoint(tmp_path / "run" / "last.pt")["ended"]


def test_a_disk_that_stays_full_leaves_the_last_good_checkpoint(tmp_path):
    resource = pytest.importorskip("resource")
    quiet(replace(RECIPE, max_epochs=1), out=tmp_path)
    good = (tmp_path / "last.pt").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # the system's own refusal, in the middle of the file
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with (
            pytest.warns(UserWarning, match="could not write"),
            pytest.raises(CheckpointError, match=r"last\.pt.*is the disk full"),
        ):
            quiet(RECIPE, out=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "last.pt").read_bytes() == good and not list(tmp_path.glob("*.tmp"))


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"out='.*run': expected a folder that can be written"):
        quiet(RECIPE, out=tmp_path / "file" / "run")


def test_a_folder_within_folders_is_made(tmp_path):
    out = tmp_path / "runs" / "today" / "a"
    assert quiet(replace(RECIPE, max_epochs=1), out=out).checkpoint == out / "last.pt"


def test_a_folder_in_use_is_refused_at_once(tmp_path):
    with (
        filelock.FileLock(tmp_path / "lock"),
        pytest.raises(BlockingIOError) as error,
    ):
        quiet(RECIPE, out=tmp_path)
    asked = f"out={str(tmp_path)!r}: expected a folder of its own; another run is writing into "
    assert str(error.value) == asked + "this folder"


def test_a_damaged_checkpoint_is_put_aside_and_named(tmp_path):
    quiet(replace(RECIPE, max_epochs=2), out=tmp_path)
    (tmp_path / "last.pt").write_bytes(b"")
    words = r"last\.pt is damaged: it is empty; going on from .*previous\.pt"
    with pytest.warns(UserWarning, match=words) as told:
        quiet(RECIPE, out=tmp_path)
    assert told[0].filename == tiny_training.__file__  # it points at the call of fit
    assert (tmp_path / "damaged.pt").read_bytes() == b""
