"""Random weights written in each published format, read back, and compared with the nets that wrote them."""

import hashlib
import struct

import pytest
import torch
from torch import nn
from torchvision.models import VGG11_Weights, VGG16_Weights
from torchvision.transforms import v2

from vggbook import CONFIGS, build
from vggbook.weights import (
    FAMILIES,
    check_sha256,
    imagenet_names,
    load_state,
    load_weights,
    read_caffemodel,
)

SMALL = {"width": 1 / 16, "image_size": 32}  # 1x1 maps before the FC layers


@pytest.fixture(autouse=True)
def one_seed():
    torch.manual_seed(0)


def named(folder, stem, state):
    """Save as torchvision names its files: the first 8 digits of the SHA-256 behind the name."""
    torch.save(state, folder / "file")
    digest = hashlib.sha256((folder / "file").read_bytes()).hexdigest()
    return (folder / "file").rename(folder / f"{stem}-{digest[:8]}.pth"), digest


def same_output(a, b):
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        return torch.equal(a.eval()(x), b.eval()(x))


# --- Caffe's binary format, written as the protocol-buffer encoding prescribes ------------------------------------------------------
def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def message(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def blob(tensor, v1, packed=True):
    values = tensor.flatten().tolist()
    if packed:
        data = message(5, struct.pack(f"<{len(values)}f", *values))
    else:
        data = b"".join(varint(5 << 3 | 5) + struct.pack("<f", value) for value in values)
    if v1:  # num, channels, height, width; matrices stand in the last two
        shape = [1] * (4 - tensor.ndim) + list(tensor.shape)
        return b"".join(varint(i + 1 << 3) + varint(n) for i, n in enumerate(shape)) + data
    return message(7, message(1, b"".join(map(varint, tensor.shape)))) + data


def caffemodel(model, v1=True, packed=True):
    names = [name for name in model.config.layer_names if name.startswith("conv")] + [
        "fc6",
        "fc7",
        "fc8",
    ]
    layers = [module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    out = message(1, b"VGG")
    for name, layer in zip(names, layers):
        blobs = [blob(layer.weight.detach(), v1, packed), blob(layer.bias.detach(), v1, packed)]
        relu = message(4 if v1 else 1, b"relu") + message(2, b"bottom")
        if v1:  # name = 4, type = 5, blobs = 6, blobs_lr = 7 (floats)
            body = (
                message(4, name.encode())
                + varint(5 << 3)
                + varint(4)
                + b"".join(message(6, b) for b in blobs)
            )
            body += varint(7 << 3 | 5) + struct.pack("<f", 1.0)
        else:  # name = 1, type = 2, blobs = 7
            body = (
                message(1, name.encode())
                + message(2, b"Convolution")
                + b"".join(message(7, b) for b in blobs)
            )
        out += message(2 if v1 else 100, body) + message(2 if v1 else 100, relu)
    return out


@pytest.mark.parametrize("v1", [True, False])
@pytest.mark.parametrize("config", ["D", "E"])
def test_caffemodels_of_the_authors(config, v1, tmp_path):
    model = build(config, 10, **SMALL)
    path = tmp_path / f"VGG_ILSVRC_{model.config.weight_layers}_layers.caffemodel"
    path.write_bytes(caffemodel(model, v1))
    loaded = load_weights(path, image_size=32)
    assert loaded.config is CONFIGS[config] and same_output(loaded, model) and not loaded.training
    assert loaded.preprocessing.bgr and loaded.class_names is None


def test_caffe_blobs_are_read_whether_packed_or_not(tmp_path):
    model = build("A", 4, width=1 / 64, image_size=32)
    for packed in (True, False):
        (tmp_path / "a.caffemodel").write_bytes(caffemodel(model, True, packed))
        blobs = read_caffemodel(tmp_path / "a.caffemodel")
        assert list(blobs) == [
            "conv1_1",
            "conv2_1",
            "conv3_1",
            "conv3_2",
            "conv4_1",
            "conv4_2",
            "conv5_1",
            "conv5_2",
            "fc6",
            "fc7",
            "fc8",
        ]
        assert torch.equal(blobs["fc7"][0], model.classifier[3].weight.detach().flatten())
        assert torch.equal(blobs["conv3_2"][1], model.features[8].bias.detach())


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\x0b" + b, lambda b: b"\xff" + b],
)
def test_damaged_caffemodels_are_refused(damage, tmp_path):
    (tmp_path / "x.caffemodel").write_bytes(
        damage(caffemodel(build("A", 4, width=1 / 64, image_size=32)))
    )
    with pytest.raises(
        ValueError, match=r"x\.caffemodel: (not a complete Caffe model|no layer with weights)"
    ):
        load_weights(tmp_path / "x.caffemodel", "A", image_size=32)


# --- torchvision's files, the authors' ported, this package's -----------------------------------------------------------------------
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(
    "config, stem", [("A", "vgg11"), ("B", "vgg13"), ("D", "vgg16"), ("E", "vgg19")]
)
def test_torchvision_files_by_their_name_and_checksum(config, stem, batch_norm, tmp_path):
    model = build(config, 6, batch_norm, **SMALL)
    path, _ = named(tmp_path, stem + "_bn" * batch_norm, model.state_dict())
    loaded = load_weights(path, image_size=32)
    assert loaded.config is CONFIGS[config] and loaded.preprocessing == FAMILIES["torchvision"]
    assert same_output(loaded, model)


def test_torchvisions_own_network_and_file_of_the_old_kind(tmp_path):
    from torchvision.models.vgg import VGG, cfgs, make_layers

    with torch.device("meta"):
        theirs = VGG(make_layers(cfgs["A"]))
    theirs.features = make_layers(
        cfgs["A"]
    )  # full width; its FC layers are made small, they have 123 million weights
    theirs.classifier = nn.Sequential(
        nn.Linear(512 * 49, 8),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(8, 8),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(8, 5),
    )
    theirs.eval()
    path = tmp_path / "old.pth"
    torch.save(
        theirs.features.state_dict(), path, _use_new_zipfile_serialization=False
    )  # as files of 2017 are
    ours = build("A", 5, device="meta")
    ours.classifier = theirs.classifier
    state = {f"features.{k}": v for k, v in torch.load(path, weights_only=True).items()} | {
        f"classifier.{k}": v for k, v in theirs.classifier.state_dict().items()
    }
    load_state(ours, state, path.name)
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), theirs(x))
    small = build("A", 5, **SMALL)
    torch.save(small.state_dict(), path, _use_new_zipfile_serialization=False)
    assert same_output(load_weights(path, family="paper", image_size=32), small)


def test_the_hubs_cache_is_used_and_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = VGG11_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1]
    cached = tmp_path / "hub" / "checkpoints" / name
    cached.parent.mkdir(parents=True)
    model = build("A", 5, **SMALL)
    torch.save(model.state_dict(), cached)
    digest = hashlib.sha256(cached.read_bytes()).hexdigest()
    loaded = load_weights("vgg11", sha256=digest, image_size=32)
    assert same_output(loaded, model) and loaded.preprocessing.name == "torchvision"
    with pytest.raises(ValueError, match=f"{name}: SHA-256 is {digest}, expected 8a719046"):
        load_weights("vgg11", image_size=32)


def test_ported_files_of_the_authors_count_layers_differently(tmp_path):
    model = build("D", 6, **SMALL)
    state = {
        key.replace("classifier.0.", "classifier.1.").replace(
            "classifier.3.", "classifier.4."
        ): value
        for key, value in model.state_dict().items()
    }
    torch.save(state, tmp_path / "ported.pth")
    loaded = load_weights(tmp_path / "ported.pth", image_size=32)
    assert same_output(loaded, model) and loaded.preprocessing == FAMILIES["authors"]


def test_checkpoints_of_this_package_bring_their_mean_crop_and_classes(tmp_path):
    from vggbook.data import ShapesDataset
    from vggbook.train import Recipe, fit

    recipe = Recipe(
        "A",
        width=1 / 32,
        crop=32,
        scales=36,
        batch_size=16,
        max_epochs=1,
        gain=1 / 64,
        colour=False,
    )
    train = ShapesDataset("train", 32, size=40, classes=4)
    run = fit(recipe, train, ShapesDataset("val", 16, size=40, classes=4), out=tmp_path)
    loaded = load_weights(run.checkpoint)
    assert same_output(loaded, run.model) and loaded.class_names == list(train.classes)
    images, _ = train.batch(range(4), size=36)
    expected = (images.float() - run.mean.view(3, 1, 1)) / 64
    torch.testing.assert_close(loaded.preprocessing(images), expected)


def test_width_classes_and_batch_norm_are_read_off_the_file(tmp_path):
    for config in CONFIGS:
        if (
            CONFIGS[config].blocks and config != "A-LRN"
        ):  # LRN has no weights: A and A-LRN cannot be told apart
            torch.save(
                {
                    "state_dict": build(
                        config, 3, width=1 / 8, image_size=32, device="cpu"
                    ).state_dict()
                },
                tmp_path / "w.pth",
            )
            loaded = load_weights(tmp_path / "w.pth", family="paper", image_size=32)
            assert loaded.config is CONFIGS[config] and loaded.classifier[-1].out_features == 3
            assert loaded.features[0].out_channels == 8


# --- preprocessing ------------------------------------------------------------------------------------------------------------------
def test_preprocessing_of_each_family_against_torchvision_and_the_printed_means():
    images = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    weights = VGG16_Weights.IMAGENET1K_V1.transforms()
    expected = v2.functional.normalize(images.float() / 255, weights.mean, weights.std)
    torch.testing.assert_close(FAMILIES["torchvision"](images), expected, rtol=1e-5, atol=1e-5)
    bgr = images.flip(1).float() - torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1)
    torch.testing.assert_close(FAMILIES["authors"](images), bgr)
    torch.testing.assert_close(FAMILIES["paper"](images), bgr.flip(1))


def test_class_names():
    names = imagenet_names()
    assert len(names) == 1000 and names[0] == "tench" and names[999] == "toilet tissue"


# --- bad input ----------------------------------------------------------------------------------------------------------------------
def test_weights_of_another_configuration_name_the_first_key_that_differs(tmp_path):
    torch.save(build("B", 6, **SMALL).state_dict(), tmp_path / "b.pth")
    with pytest.raises(
        ValueError,
        match=r"b\.pth does not fit D: first mismatch features\.14\.weight: file nothing, network \(16, 16, 3, 3\).*those of B",
    ):
        load_weights(tmp_path / "b.pth", "D", family="paper", image_size=32)
    with pytest.raises(
        ValueError,
        match=r"first mismatch features\.3\.weight: file \(4, 4, 3, 3\), network nothing|features",
    ):
        load_weights(tmp_path / "b.pth", "A", family="paper", image_size=32)
    with pytest.raises(
        ValueError,
        match=r"first mismatch classifier\.0\.weight: file \(256, 32\), network \(256, 128\)",
    ):
        load_weights(tmp_path / "b.pth", "B", family="paper", image_size=64)
    (tmp_path / "a.caffemodel").write_bytes(caffemodel(build("A", 4, width=1 / 64, image_size=32)))
    with pytest.raises(
        ValueError, match=r"a\.caffemodel does not fit D: first mismatch features\.\d+\.weight"
    ):
        load_weights(tmp_path / "a.caffemodel", image_size=32)


def test_checksums(tmp_path):
    path, digest = named(tmp_path, "vgg11", build("A", 4, **SMALL).state_dict())
    assert load_weights(path, sha256=digest.upper(), image_size=32)
    with pytest.raises(
        ValueError,
        match=f"SHA-256 is {digest}, expected {'0' * 64}: the file is damaged or another one",
    ):
        load_weights(path, sha256="0" * 64, image_size=32)
    wrong = path.rename(tmp_path / "vgg11-00000000.pth")
    with pytest.raises(ValueError, match="expected 00000000"):
        load_weights(wrong, image_size=32)
    for bad in ("", "abc", "zz" * 32):
        with pytest.raises(ValueError, match="8 to 64 hexadecimal digits"):
            check_sha256(wrong, bad)


def test_what_is_no_weights_file(tmp_path):
    path = tmp_path / "w.pth"
    with pytest.raises(FileNotFoundError, match=r"w\.pth'?: no such file"):
        load_weights(path)
    path.write_bytes(b"not a file of torch")
    with pytest.raises(ValueError, match=r"w\.pth: (holds more than weights|cannot be read)"):
        load_weights(path, family="paper")
    torch.save(nn.Linear(2, 3), path)  # a pickled module could run code
    with pytest.raises(ValueError, match=r"w\.pth: holds more than weights, it is not opened"):
        load_weights(path, family="paper")
    torch.save([1, 2], path)
    with pytest.raises(
        ValueError, match=r"w\.pth: holds a list, a state dict of tensors is needed"
    ):
        load_weights(path, family="paper")
    whole = build("A", 4, **SMALL).state_dict()
    torch.save(whole, path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r"w\.pth: cannot be read"):
        load_weights(path, family="paper")
    torch.save(whole, path)
    with pytest.raises(
        ValueError, match=r"family=None: w\.pth does not tell how its images were prepared"
    ):
        load_weights(path)
    with pytest.raises(
        ValueError, match="family='imagenet': choose one of 'paper', 'authors', 'torchvision'"
    ):
        load_weights(path, family="imagenet")
    torch.save({"features.0.weight": torch.zeros(3, 3, 5, 5)}, path)
    with pytest.raises(
        ValueError, match=r"config=None: the shapes in w\.pth are those of no configuration"
    ):
        load_weights(path, family="paper")
