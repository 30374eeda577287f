"""Caffe's binary format, written as the protocol-buffer encoding prescribes, and read back."""

import struct

import pytest
import torch
from torch import nn

from vggbook import CONFIGS, build
from vggbook.caffemodel import _varint, caffe_keys
from vggbook.weights import load_weights, read_caffemodel

SMALL = {"width": 1 / 16, "image_size": 32}  # 1x1 maps before the FC layers


@pytest.fixture(autouse=True)
def one_seed():
    torch.manual_seed(0)


def same_output(a, b):
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        return torch.equal(a.eval()(x), b.eval()(x))


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
    [
        lambda b: b[: len(b) // 2],
        lambda b: b"",
        lambda b: b"\x0b" + b,
        lambda b: b"\xff" + b,
        lambda b: b[:-1],
        lambda b: b + message(1, b"name")[:-2],  # whole but for the end of a last field
    ],
)
def test_damaged_caffemodels_are_refused(damage, tmp_path):
    (tmp_path / "x.caffemodel").write_bytes(
        damage(caffemodel(build("A", 4, width=1 / 64, image_size=32)))
    )
    with pytest.raises(
        ValueError,
        match=r"x\.caffemodel: (not a complete Caffe model|no layer with weights|is empty)",
    ):
        load_weights(tmp_path / "x.caffemodel", "A", image_size=32)


def test_a_caffemodel_that_fits_no_such_network_names_the_first_key(tmp_path):
    (tmp_path / "a.caffemodel").write_bytes(caffemodel(build("A", 4, width=1 / 64, image_size=32)))
    with pytest.raises(ValueError, match=r"does not fit D: first mismatch features\.\d+\.weight"):
        load_weights(tmp_path / "a.caffemodel", image_size=32)
    page = tmp_path / "page.caffemodel"
    page.write_bytes(b"<!DOCTYPE html><html></html>")
    with pytest.raises(ValueError, match=r"page\.caffemodel: not a complete Caffe model"):
        load_weights(page)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 129, 300, 16383, 16384, 2**35 + 128])
def test_whole_numbers_are_seven_bits_a_byte(value):
    """As Protocol Buffers write them: the lowest bits first, the high bit while more follow."""
    parts = [value >> 7 * i & 127 for i in range(max(1, -(-value.bit_length() // 7)))]
    data = bytes([*(part | 128 for part in parts[:-1]), parts[-1]])
    assert _varint(memoryview(b"\xff" + data + b"\x05"), 1) == (value, 1 + len(data))


def fixed(number, kind, value=b"\x08\x12\x1a\xff" * 2):
    """A field of four (kind 5) or eight bytes (kind 1) that would mislead if it were read on."""
    return varint(number << 3 | kind) + value[: {5: 4, 1: 8}[kind]]


def test_fields_of_any_kind_are_passed_over(tmp_path):
    """Integers, four and eight bytes, and bytes, also under the numbers of names and blobs."""
    numbers = torch.arange(6.0)
    spare = b"".join(
        varint(n << 3) + varint(300) + fixed(n, 5) + fixed(n, 1) + message(n, b"\xff")
        for n in (9, 99, 5000)
    )
    integers = b"".join(varint(n << 3) + varint(7) for n in (2, 4, 5, 6, 100))
    body = spare + integers + message(4, b"conv1_1") + message(6, spare + blob(numbers, True))
    path = tmp_path / "a.caffemodel"
    path.write_bytes(integers + spare + message(2, body + spare) + spare)
    blobs = read_caffemodel(path)
    assert list(blobs) == ["conv1_1"] and torch.equal(*blobs["conv1_1"], numbers)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is empty: expected a Caffe model"),
        (message(1, b"VGG"), "no layer with weights; is it a Caffe model (.caffemodel)?"),
        (
            message(2, message(6, blob(torch.ones(2), True))),
            "not a complete Caffe model (a layer has no name)",
        ),
        (message(2, b"")[:1] + b"\x05", "not a complete Caffe model (a field of 5 bytes at byte 2"),
        (varint(1 << 3 | 3), "not a complete Caffe model (wire type 3 at byte 1)"),
        (fixed(1, 1)[:-1], "not a complete Caffe model (a field of 8 bytes at byte 1 of 8)"),
        (fixed(1, 5)[:-1], "not a complete Caffe model (a field of 4 bytes at byte 1 of 4)"),
    ],
    ids=["empty", "no layer", "no name", "field", "group", "eight bytes", "four bytes"],
)
def test_what_is_wrong_with_a_caffemodel(content, words, tmp_path):
    path = tmp_path / "x.caffemodel"
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_caffemodel(path)
    assert str(caught.value).startswith(f"x.caffemodel: {words}")


def test_a_file_that_may_only_be_read(tmp_path):
    path = tmp_path / "a.caffemodel"
    path.write_bytes(caffemodel(build("A", 4, width=1 / 64, image_size=32)))
    path.chmod(0o400)
    content = path.read_bytes()
    (first, _), *_ = read_caffemodel(path).values()
    first.zero_()
    assert path.read_bytes() == content


@pytest.mark.parametrize("config, convs", [("A", 8), ("E", 16)])
def test_caffes_names_of_the_layers(config, convs):
    """As the released files have them: conv1_1 to conv5_4, then fc6, fc7, fc8."""
    keys = caffe_keys(CONFIGS[config])
    state = build(config, device="meta").state_dict()
    named = {name: key for name, key in keys.items() if not name.startswith("pool")}
    assert sum(name.startswith("conv") for name in named) == convs
    assert [name for name in keys if name.startswith("fc")] == ["fc6", "fc7", "fc8"]
    assert [f"{key}.weight" for key in named.values()] == [k for k in state if "weight" in k]


def test_a_configuration_that_is_given_goes_before_the_guess(tmp_path):
    model = build("A", 4, width=1 / 64, image_size=32)
    path = tmp_path / "a.caffemodel"
    path.write_bytes(caffemodel(model))
    loaded = load_weights(path, "A", image_size=32)
    assert loaded.config is CONFIGS["A"] and same_output(loaded, model)
