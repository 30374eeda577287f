"""The file of a net for the page: decoded by hand, computed layer by layer, against PyTorch."""

import base64
import hashlib
import json
import re
import runpy
import sys
import zlib

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.nets import seeded
from vggbook import build
from vggbook.book import export
from vggbook.weights import Preprocessing

CLASSES = [f"class {i}" for i in range(5)]
PIXELS = Preprocessing("mine", (120.0, 110.0, 100.0), (64.0, 60.0, 70.0), bgr=True)


def net_of(name, **options):
    """A small net; batch norm's statistics and weights are not the neutral ones."""
    options = {"width": 1 / 16, "image_size": 64, **options}
    net = build(name, len(CLASSES), **options, generator=seeded(3)).eval()
    torch.manual_seed(0)
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.uniform_(-0.5, 0.5)
        norm.running_var.uniform_(0.2, 2)
        norm.weight.data.uniform_(0.5, 2)
        norm.bias.data.uniform_(-0.5, 0.5)
    for layer in (m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)):
        layer.bias.data.uniform_(-0.1, 0.1)
    return net


def numbers(text, kind):
    """Base64, raw deflate, little-endian: as the page reads it."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text), wbits=-15), kind)


def computed(data, x):
    """What the description says, layer by layer: convolutions and FC layers with their ReLUs."""
    whole = torch.tensor(numbers(data["weights"], "<i1").astype(np.float32))
    scales, biases = (torch.tensor(numbers(data[key], "<f4")) for key in ("scales", "biases"))
    at = channel = 0
    for layer in data["layers"]:
        if layer["kind"] == "pool":
            assert x.shape[1:] and set(layer) == {"name", "kind", "kernel", "stride", "ceil"}
            x = F.max_pool2d(x, layer["kernel"], layer["stride"], ceil_mode=layer["ceil"])
            continue
        if layer["kind"] == "lrn":  # b = a / (k + alpha * sum of squares) ** beta
            half = layer["size"] // 2
            squares = F.pad(x**2, (0, 0, 0, 0, half, half)).unfold(1, layer["size"], 1).sum(-1)
            x = x / (layer["k"] + layer["alpha"] * squares) ** layer["beta"]
            continue
        out, groups = layer["out"], layer.get("groups", 1)
        size = out * layer["in"] // groups * layer.get("kernel", 1) ** 2
        weight = whole[at : at + size].view(out, -1) * scales[channel : channel + out, None]
        bias = biases[channel : channel + out]
        if layer["kind"] == "conv":
            weight = weight.view(out, layer["in"] // groups, layer["kernel"], layer["kernel"])
            x = F.conv2d(x, weight, bias, layer["stride"], layer["pad"], groups=groups).relu()
        else:
            x = F.linear(x.flatten(1), weight, bias)
            x = x if layer is data["layers"][-1] else x.relu()
        at, channel = at + size, channel + out
    assert at == len(whole) == data["count"] and channel == len(scales) == len(biases)
    return x


@pytest.mark.parametrize(
    "name, options",
    [
        ("D", {}),
        ("C", {}),
        ("A-LRN", {}),
        ("B", {"batch_norm": True}),
        ("AlexNet", {"image_size": 96}),
        ("VGG-F", {"image_size": (100, 96)}),
    ],
)
def test_the_description_computes_what_the_net_computes(name, options, tmp_path):
    net = net_of(name, **options)
    x = torch.randn(3, 3, *net.image_size, generator=seeded(1))
    data = json.loads(json.dumps(export.describe(net, CLASSES, PIXELS)))
    read = export.read(export.write(data, tmp_path / "net.json"))
    with torch.inference_mode():
        logits, rounded = net(x), read(x)
        torch.testing.assert_close(computed(data, x), rounded, rtol=1e-4, atol=1e-4)
    assert (rounded - logits).abs().max() < 0.1 * logits.std()  # 8 bits a weight
    assert read.image_size == net.image_size and not read.training
    assert read.classes == tuple(CLASSES)
    assert read.preprocessing == Preprocessing(name, PIXELS.mean, PIXELS.std, bgr=True)


def test_what_else_the_file_holds():
    net = net_of("A")
    data = export.describe(net, [1, 2, 3, 4, "five"], PIXELS, name="mine", note="by hand")
    told = {key: data[key] for key in ("name", "config", "note", "classes", "mean", "std", "bgr")}
    assert told == {
        "name": "mine",
        "config": "A",
        "note": "by hand",
        "classes": ["1", "2", "3", "4", "five"],
        "mean": [120.0, 110.0, 100.0],
        "std": [64.0, 60.0, 70.0],
        "bgr": True,
    }
    assert data["format"] == "vggbook net 1" and data["size"] == [64, 64]
    assert [layer["name"] for layer in data["layers"]][:3] == ["conv1_1", "pool1", "conv2_1"]
    assert [layer["name"] for layer in data["layers"]][-3:] == ["fc1", "fc2", "fc3"]
    assert data["sha256"] == hashlib.sha256(data["weights"].encode()).hexdigest()
    plain = export.describe(net, CLASSES, PIXELS)
    assert (plain["name"], plain["note"]) == ("A", "")


@pytest.mark.parametrize("levels", [127, 7, 1])
def test_rounding_moves_no_weight_by_more_than_half_a_step(levels, tmp_path):
    net = net_of("C")
    net.features[0].weight.data[0] = 0  # a dead unit
    net.features[0].weight.data[1] *= 1.5e-12 / net.features[0].weight.data[1].abs().max()
    data = export.describe(net, CLASSES, PIXELS, levels=levels)
    whole = numbers(data["weights"], "<i1")
    assert (whole.min(), whole.max()) == (-levels, levels)
    back = export.read(export.write(data, tmp_path / "c.json")).state_dict()
    for name, old in net.state_dict().items():
        if name.endswith("bias"):
            assert torch.equal(back[name], old)
            continue
        rows, new = old.flatten(1), back[name].flatten(1)
        step = rows.abs().amax(1, keepdim=True) / levels
        assert bool(((rows - new).abs() <= step * 0.5001).all())
        torch.testing.assert_close(new.abs().amax(1), rows.abs().amax(1))


def test_a_file_is_data_or_a_script_for_the_page(tmp_path):
    data = export.describe(net_of("A"), CLASSES, PIXELS)
    for name in ("net.json", "net.js"):
        path = export.write(data, str(tmp_path / name))
        assert path == tmp_path / name and export.load(str(path)) == json.loads(json.dumps(data))
    text = (tmp_path / "net.js").read_text()
    start = 'vggThink.add({"format":"vggbook net 1","name":"A","config":"A",'  # no space between
    assert text.startswith(start) and text.endswith('"});\n')
    assert json.loads((tmp_path / "net.json").read_text()) == json.loads(json.dumps(data))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.js", "net.json"]


def test_what_is_refused(tmp_path, monkeypatch):
    net = net_of("A")
    with pytest.raises(ValueError, match=r"classes=3: expected a name for each of the 5 outputs"):
        export.describe(net, ["a", "b", "c"], PIXELS)
    with pytest.raises(TypeError, match=r"net is a Linear: expected a network of vggbook\.build"):
        export.describe(nn.Linear(1, 1), ["a"], PIXELS)
    for levels in (0, 128, 1.5):
        with pytest.raises(ValueError, match=f"levels={levels}: expected a whole number"):
            export.describe(net, CLASSES, PIXELS, levels=levels)
    whole = build("A", 5, device="meta")  # refused before anything is rounded
    small = "': expected at most 40,000,000: build a narrower one"
    with pytest.raises(ValueError, match=rf"^net='128,7\d\d,\d+ weights{small}$"):
        export.describe(whole, CLASSES, PIXELS)
    count = sum(m.weight.numel() for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    monkeypatch.setattr(export, "LARGEST", count)
    data = export.describe(net, CLASSES, PIXELS)
    monkeypatch.setattr(export, "LARGEST", count - 1)
    with pytest.raises(ValueError, match=rf"net='{count:,} weights': .* build a narrower one"):
        export.describe(net, CLASSES, PIXELS)
    path = tmp_path / "a.json"
    for content in (b"{}", b"[1]", b"{", b"\xff\xfe", b'{"format": "vggbook net 2"}'):
        path.write_bytes(content)
        with pytest.raises(export.NetFileError, match=r"^a\.json: no exported net"):
            export.load(path)
    export.write({**data, "weights": data["weights"][:-8] + "AAAAAAA="}, path)
    with pytest.raises(export.NetFileError, match="do not fit their checksum; export the net"):
        export.load(path)
    export.write({**data, "layers": data["layers"][:-1]}, path)
    with pytest.raises(ValueError, match=r"a\.json.*: expected the layers of A at width 0\.0625"):
        export.read(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from vggbook.data import ShapesDataset, in_memory
    from vggbook.train import Recipe, fit

    shapes = in_memory(ShapesDataset("train", 32, size=36, classes=4))
    sizes = {"crop": 32, "scales": 36, "batch_size": 16, "width": 1 / 16, "max_epochs": 1}
    recipe = Recipe("A", **sizes, gain=1 / 64, lr=1e-3)
    return fit(recipe, shapes, shapes, out=tmp_path_factory.mktemp("run"), log=None)


def test_command_line(run, tmp_path, capsys):
    out = tmp_path / "mine.json"
    export.main([str(run.checkpoint), str(out), "--name", "mine"])
    net = export.read(out)
    data = export.load(out)
    kilobytes = round(out.stat().st_size / 1000)
    said = f"{out}: {data['count']:,} weights in 8 bits, {kilobytes:,} kB\n"
    assert capsys.readouterr().out == said
    assert (data["name"], data["config"]) == ("mine", "A")
    assert data["std"] == [64.0] * 3 and data["mean"] == run.mean.tolist()
    assert data["classes"] == list(run.classes) and net.preprocessing.name == "mine"
    export.main([str(run.checkpoint), str(out)])
    assert export.load(out)["name"] == "A"
    assert data["note"] == "trained for 1 epochs; max_epochs=1 reached"
    x = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=seeded())
    plain = (x.float() - run.mean[:, None, None]) / 64
    with torch.inference_mode():
        difference = net(net.preprocessing(x)) - run.model.eval()(plain)
    assert float(difference.abs().max()) < 0.2  # rounded weights


@pytest.mark.parametrize(
    "checkpoint, out, words",
    [
        ("nothing.pt", "x.json", r"nothing\.pt does not exist"),
        ("nothing.pt", "no/x.json", r"out=.*: expected a file in a folder that exists"),
    ],
)
def test_the_command_line_refuses_in_one_line(checkpoint, out, words, tmp_path):
    with pytest.raises(SystemExit, match=rf"^vggbook\.book\.export: .*{words}") as stop:
        export.main([str(tmp_path / checkpoint), str(tmp_path / out)])
    assert "\n" not in str(stop.value)


def test_every_layer_has_its_name():
    """As the page and the chapters call them."""
    data = export.describe(net_of("A-LRN"), CLASSES, PIXELS)
    names = "conv1_1 lrn1_1 pool1 conv2_1 pool2 conv3_1 conv3_2 pool3 conv4_1 conv4_2 pool4"
    names += " conv5_1 conv5_2 pool5 fc1 fc2 fc3"
    assert [layer["name"] for layer in data["layers"]] == names.split()
    kinds = {re.match("[a-z]+", layer["name"])[0]: layer["kind"] for layer in data["layers"]}
    assert kinds == {"conv": "conv", "lrn": "lrn", "pool": "pool", "fc": "fc"}


def test_a_file_is_read_as_utf_8(tmp_path, ascii_machine):
    data = export.describe(net_of("A"), ["Möwe", *CLASSES[1:]], PIXELS)
    (tmp_path / "a.json").write_bytes(json.dumps(data, ensure_ascii=False).encode())
    assert export.load(tmp_path / "a.json")["classes"][0] == "Möwe"
    assert export.read(export.write(data, tmp_path / "b.json")).classes[0] == "Möwe"


def test_help(capsys):
    with pytest.raises(SystemExit, match="0"):
        export.main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("usage: python -m vggbook.book.export [-h] [--name NAME] checkpoint out")
    for words in ("See it think", "last.pt or best.pt of a run", "for instance my_net.json"):
        assert words in said
    assert "--name NAME what the page calls the net" in said


def test_the_module_is_the_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["export", "nothing.pt", "no/x.json"])
    monkeypatch.delitem(sys.modules, "vggbook.book.export")
    with pytest.raises(SystemExit, match="expected a file in a folder that exists"):
        runpy.run_module("vggbook.book.export", run_name="__main__")
