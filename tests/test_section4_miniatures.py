"""The trained nets that come with the book, and what is said of a file that is not theirs."""

import hashlib
import json
import pickle

import pytest
import torch

from vggbook.book import grids, miniature, miniatures, recorded
from vggbook.data import ShapesDataset
from vggbook.evaluate import predict

INDEX = json.loads((miniatures.folder() / "miniatures.json").read_text())["nets"]


@pytest.mark.parametrize("name", INDEX)
def test_a_miniature_errs_as_often_as_its_record_says(name):
    net = miniature(name)
    entry = net.provenance
    Q = {1: entry["S"][0], 2: sum(entry["S"]) // 2}[len(entry["S"])]
    data = ShapesDataset(
        "test", 600, seed=77, size=146, difficulty=entry["difficulty"], hint=entry["hint"]
    )
    images, labels = data.batch(range(600))
    wrong = (predict(net, images, scales=Q).argmax(1) != labels).double().mean().item()
    said = next(iter(entry["errors"].values()))["top1"] / 100
    assert abs(wrong - said) < 4 * (said * (1 - said) / 600) ** 0.5  # four standard errors
    assert not net.training
    assert net.classes == data.classes
    assert net.image_size == (64, 64)


def test_each_is_small_and_of_a_recorded_run():
    for name in INDEX:
        entry = miniature(name).provenance
        assert (miniatures.folder() / entry["file"]).stat().st_size == entry["bytes"] <= 1_500_000
        run = recorded.read(recorded.folder() / entry["result"])
        assert run["errors"] == entry["errors"]
        assert run["run"] == entry["run"]


def test_preprocessing_is_the_mean_and_the_gain():
    net = miniature("A")
    mean = torch.tensor(net.provenance["mean"])
    images = torch.full((2, 3, 4, 4), 255, dtype=torch.uint8)
    wanted = ((255 - mean) / 64)[:, None, None].expand(2, 3, 4, 4)
    assert torch.allclose(net.preprocessing(images), wanted)


def test_a_preprocessing_cannot_be_changed():
    with pytest.raises(AttributeError):
        miniature("A").preprocessing.mean = (0.0, 0.0, 0.0)


def test_an_unknown_name_is_named():
    with pytest.raises(ValueError, match="name='VGG': expected one of 'A'"):
        miniature("VGG")


@pytest.fixture
def copied(tmp_path):
    for path in miniatures.folder().iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_a_wrong_checksum_is_named(copied):
    path = copied / "A.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(miniatures.MiniatureError, match=r"A.pt: its SHA-256 begins"):
        miniature("A", copied)


def test_a_missing_file_is_named(copied):
    (copied / "A.pt").unlink()
    with pytest.raises(miniatures.MiniatureError, match=r"no miniature 'A.pt'"):
        miniature("A", copied)


def test_a_damaged_index_is_named(copied):
    (copied / "miniatures.json").write_text(json.dumps({"nets": {}})[:-1])
    with pytest.raises(recorded.ResultError, match=r"miniatures.json, line 1"):
        miniature("A", copied)


def test_the_books_own_grid_is_of_one_plan():
    assert grids.load("section4-two").design["name"] == "section4-two"


def test_a_miniature_knows_what_it_is(copied):
    net = miniature("D-jitter", copied)
    assert net.preprocessing.name == "D-jitter" and net.preprocessing.std == (64.0,) * 3
    index = json.loads((copied / "miniatures.json").read_text())["nets"]
    assert net.classes == tuple(index["D-jitter"].pop("classes"))
    assert net.provenance == index["D-jitter"]


def test_a_file_of_other_objects_is_not_unpickled(copied, monkeypatch):
    """Even where its checksum is right; on any PyTorch, whose default has changed."""
    touched = copied / "touched"

    class Attack:
        def __reduce__(self):
            return (touched.touch, ())

    torch.save(Attack(), copied / "A.pt")
    index = json.loads((copied / "miniatures.json").read_text())
    digest = hashlib.sha256((copied / "A.pt").read_bytes()).hexdigest()
    index["nets"]["A"]["sha256"] = digest
    (copied / "miniatures.json").write_text(json.dumps(index))
    asked = []
    real = torch.load
    monkeypatch.setattr(torch, "load", lambda f, **how: asked.append(how) or real(f, **how))
    with pytest.raises(pickle.UnpicklingError):
        miniature("A", copied)
    assert asked == [{"weights_only": True}] and not touched.exists()
