"""What a run may start from: nets, names, files, and the pixels that these are used to."""

from dataclasses import replace

import pytest
import stand_in
import torch
from tiny_training import STILL, TINY, quiet, thin_vgg11, weights
from torchvision import models

from vggbook import build, released
from vggbook.data import ArrayDataset
from vggbook.train import CheckpointError, Recipe, load_checkpoint, main, sources
from vggbook.weights import FAMILIES


def test_pixels_that_a_net_is_used_to_are_named():
    lines = []
    quiet(STILL, init_from=thin_vgg11(), log=lines.append)
    std = sum(FAMILIES["torchvision"].std) / 3  # grey levels
    told = [line for line in lines if "gain=" in line]
    assert len(told) == 1 and f"gain={1 / std:.4g} is what" in told[0]
    for source, gain in ((thin_vgg11(), 1 / std), (thin_vgg11(), 0.96 / std), (TINY.net(4), 1.0)):
        lines.clear()
        quiet(replace(STILL, gain=gain), init_from=source, log=lines.append)
        assert lines[0].startswith("layers from ") and not [
            line for line in lines if "gain" in line
        ]
    quiet(replace(STILL, gain=0.93 / std), init_from=thin_vgg11(), log=lines.append)
    assert [line for line in lines if "gain=" in line]


def test_a_net_that_reads_bgr_is_turned_round():
    theirs = build("A", 5, width=1 / 32, image_size=32)
    theirs.preprocessing = FAMILIES["authors"]
    run = quiet(STILL, init_from=theirs)
    rgb = torch.randn(2, 3, 32, 32)
    ours = run.model.eval()
    torch.testing.assert_close(ours.features(rgb), theirs.features(rgb.flip(1)))


@pytest.mark.parametrize("shell", [False, True])
def test_one_call_or_one_command_starts_from_vgg16(tmp_path, monkeypatch, shell):
    """init_from="vgg16" on a file of torchvision's form, in the reader's folder: all layers but the
    last are the file's, the convolutions stay so, the others move.
    """
    file = stand_in.write(tmp_path, width=1 / 32)
    monkeypatch.setattr(released, "weights_url", lambda name: f"http://127.0.0.1:9/{file.name}")
    monkeypatch.setenv("VGGBOOK_WEIGHTS", str(tmp_path))
    if shell:
        words = "--data shapes --images 4 --val-images 2 --config D --scales 224 --width 0.03125"
        words += " --batch-size 2 --max-epochs 1 --lr 1e-3 --gain 0.01736 --device cpu --mean 0 0 0"
        words += f" --init-from vgg16 --freeze conv --out {tmp_path / 'run'}"
        run = main(words.split())
    else:
        recipe = Recipe("D", scales=224, batch_size=2, width=1 / 32, max_epochs=1, lr=1e-3)
        recipe = replace(recipe, gain=1 / 57.6)
        images = torch.randint(0, 256, (4, 3, 224, 224), dtype=torch.uint8)
        few = ArrayDataset(images, torch.arange(4), "abcd")
        run = quiet(recipe, few, init_from="vgg16", freeze="conv", mean=(0.0, 0.0, 0.0))
    theirs, ours = torch.load(file, weights_only=True), run.model.state_dict()
    moved = [name for name in theirs if not torch.equal(theirs[name], ours[name].cpu())]
    assert all(name.startswith("classifier") for name in moved)
    assert {"classifier.0.weight", "classifier.3.weight", "classifier.6.weight"} <= set(moved)
    assert (ours["classifier.0.weight"] - theirs["classifier.0.weight"]).abs().max() < 0.05
    assert len(ours["classifier.6.bias"]) == (12 if shell else 4)


def test_a_name_is_torchvisions(tmp_path, monkeypatch):
    """vgg11's own file, empty weights of the right shapes, where the hub keeps what it fetched."""
    url = models.VGG11_Weights.IMAGENET1K_V1.url
    monkeypatch.setattr("vggbook.weights.check_sha256", lambda path, sha256: None)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    thin = thin_vgg11()
    torch.save(thin.state_dict(), tmp_path / "checkpoints" / url.rsplit("/", 1)[1])
    run = quiet(STILL, init_from="vgg11")
    torch.testing.assert_close(run.model.features[0].weight, thin.features[0].weight)


def test_a_file_of_torchvisions_name_is_that_file(tmp_path, monkeypatch):
    run = quiet(STILL, out=tmp_path / "run")
    (tmp_path / "run" / "last.pt").rename(tmp_path / "vgg11")
    monkeypatch.chdir(tmp_path)
    lines = []
    again = quiet(STILL, init_from="vgg11", log=lines.append)
    assert lines[0].startswith("layers from vgg11: conv1_1, ")
    torch.testing.assert_close(weights(again), weights(run), atol=1e-20, rtol=0)


def test_what_is_wrong_with_a_file_of_weights_is_said_once(tmp_path, monkeypatch):
    """Only where the file does not tell who trained it, it is read a second time."""
    asked = []

    def load(source, **how):
        asked.append(how)
        raise ValueError("its layers are those of no net")

    monkeypatch.setattr(sources, "load_weights", load)
    torch.save({"w": torch.zeros(3)}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError) as error:
        quiet(TINY, init_from=tmp_path / "net.pth")
    assert str(error.value) == (
        f"{tmp_path / 'net.pth'} was not written by vggbook.train ('vggbook training checkpoint 1' "
        "is expected in it); and as released weights: its layers are those of no net"
    )
    assert asked == [{"image_size": (32, 32)}]


def test_a_file_that_does_not_tell_who_trained_it_is_read_for_its_weights(tmp_path, monkeypatch):
    asked, net = [], TINY.net(4)

    def load(source, **how):
        asked.append(how)
        if "family" not in how:
            raise ValueError("family=None: expected one of 'paper', ...")
        return net

    monkeypatch.setattr(sources, "load_weights", load)
    torch.save({"w": torch.zeros(3)}, tmp_path / "net.pth")
    assert sources.trained(tmp_path / "net.pth", 48) is net
    assert asked == [{"image_size": 48}, {"family": "paper", "image_size": 48}]


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>not found</html>", "starts with"),
        (None, "does not exist"),
    ],
)
def test_what_is_no_net_is_refused_in_words(tmp_path, content, words):
    path = tmp_path / "net.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words) as error:
        load_checkpoint(path)
    assert "weights_only" not in str(error.value)
    with pytest.raises(CheckpointError, match=words) as error:
        quiet(TINY, init_from=path)
    assert "weights_only" not in str(error.value)
    both = "and as released weights: " in str(error.value)
    assert both == bool(content)  # nothing, or no file, is no net of any kind
    with pytest.raises(TypeError, match="init_from=3: expected a net, a checkpoint"):
        quiet(TINY, init_from=3)
