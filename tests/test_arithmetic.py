"""Shapes, parameters, multiply-adds and fields against built nets, PyTorch, gradients, tables."""

import math
import re
from dataclasses import FrozenInstanceError

import pytest
import torch
import torchvision
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.nets import configs
from vggbook import (
    CONFIGS,
    build,
    count_macs,
    count_parameters,
    nets_before_vgg,
    receptive_field,
    tables,
    to_dense,
    trace,
)
from vggbook.arithmetic import PIXEL, Field, last_map, out_side, smallest_image, walk
from vggbook.configs import LRN, Config, Conv, Pool

TABLE_1 = ["A", "A-LRN", "B", "C", "D", "E"]
BEFORE = nets_before_vgg()["nets"]
few = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


# ---- the tables ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLE_1)
def test_every_row_of_table_1(name):
    rows = walk(name)
    for row, known in zip(rows, tables()["derived_layers"][name], strict=True):
        assert (row.name, list(row.output_shape), row.params) == (
            known["name"],
            known["out"],
            known["params"],
        )
        assert (row.macs, row.kernel) == (
            known.get("macs", 0),
            known.get("kernel", 2 if row.kind == "pool" else 0),
        )
        assert row.activation_bytes == 4 * math.prod(known["out"])


@pytest.mark.parametrize("name", TABLE_1)
def test_table_2_and_the_totals(name):
    params, compute = tables()["derived_params"][name], tables()["derived_compute"][name]
    assert count_parameters(name) == params["exact_with_biases"]
    assert count_parameters(name, batch_norm=True) == params["with_batchnorm"]
    columns = {
        name: column for column in tables()["table_2"]["columns"] for name in column.split(", ")
    }
    printed = dict(zip(tables()["table_2"]["columns"], tables()["table_2"]["values"]))[
        columns[name]
    ]
    assert round(count_parameters(name) / 1e6) == printed == params["rounded_millions"]
    parts = {
        kind: sum(row.params for row in walk(name) if row.kind == kind) for kind in ("conv", "fc")
    }
    assert parts == {"conv": params["conv"], "fc": params["fc"]}
    assert count_macs(name) == pytest.approx(compute["gmacs_total"] * 1e9, abs=500)
    conv = sum(row.macs for row in walk(name) if row.kind == "conv")
    assert conv == pytest.approx(compute["gmacs_conv"] * 1e9, abs=500)
    held = sum(math.prod(row.output_shape) for row in walk(name) if row.kind in ("conv", "pool"))
    assert held == compute["conv_and_pool_activations"]


def test_the_5x5_net():
    known = tables()["shallow_5x5_net"]
    conv = [row for row in walk("B-5x5") if row.kind == "conv"]
    assert sum(row.params for row in conv) == known["conv_params"]
    assert sum(row.macs for row in conv) == pytest.approx(known["gmacs_conv"] * 1e9, abs=500)
    assert count_parameters("B-5x5") == known["total_params"]
    for row, block in zip(conv, known["by_block"], strict=True):
        assert row.params - row.output_shape[0] == block["single5_weights"]


@pytest.mark.parametrize("name, size", [*((name, 224) for name in BEFORE), ("AlexNet", 227)])
def test_nets_before_vgg(name, size):
    known = BEFORE[name] if size == 224 else BEFORE[name]["at_227"]
    rows = {row.name: row for row in walk(name, image_size=size) if row.kind != "lrn"}
    if size == 224:
        assert list(rows) == [row["name"] for row in known["layers"]]
        for row in known["layers"]:
            ours = rows[row["name"]]
            assert (list(ours.output_shape), ours.params) == (row["out"], row.get("params", 0))
            assert ours.macs == row.get("macs", 0)
    else:
        assert {name: list(row.output_shape) for name, row in rows.items()} == known["out"]
    assert count_parameters(name, image_size=size) == known["total_params"]
    assert round(count_macs(name, size) / 1e9, 4) == known["gmacs"]


@pytest.mark.parametrize("name", ["A", "E", "AlexNet", "VGG-S"])
@pytest.mark.parametrize("size", [224, (256, 300)])
def test_last_map_is_what_the_first_fc_layer_reads(name, size):
    model = build(name, 2, width=1 / 8, image_size=size, device="meta")
    channels, height, width = last_map(name, size, 1 / 8)
    images = torch.empty(1, 3, *model.image_size, device="meta")
    assert model.features(images).shape[1:] == (channels, height, width)
    assert model.classifier[0].in_features == channels * height * width


@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("ceil", [False, True])
def test_sides_of_pools_are_pytorchs(kernel, stride, ceil):
    pool = nn.MaxPool2d(kernel, stride, ceil_mode=ceil)
    for side in range(kernel, 30):
        out = pool(torch.empty(1, 1, side, side, device="meta"))
        assert out_side(Pool(kernel, stride, ceil), side) == out.shape[2]


def test_rows_of_batch_norm():
    rows = {row.name: row for row in walk("A", batch_norm=True)}
    assert (rows["bn3_2"].kind, rows["bn3_2"].params, rows["bn3_2"].kernel) == ("bn", 512, 0)
    assert rows["bn3_2"].output_shape == rows["conv3_2"].output_shape == (256, 56, 56)
    assert all(row.field.name == name for name, row in rows.items())


def test_the_two_nets_of_equal_size():
    assert count_parameters("VGG-M") == count_parameters("VGG-S") == 102_908_520
    other_padding = BEFORE["VGG-S"]["variant_conv2_pad1"]
    layers = list(CONFIGS["VGG-S"].layers)
    at = layers.index(Conv(256, 5, 1, 0))
    layers[at] = Conv(256, 5, 1, 1)
    variant = Config("VGG-S with padding", tuple(layers), blocks=False)
    shapes = {row.name: list(row.output_shape) for row in walk(variant) if row.kind != "lrn"}
    assert shapes == other_padding["out"]
    assert round(count_macs(variant) / 1e9, 4) == other_padding["gmacs"]


@pytest.mark.parametrize(
    "name, tv", [("A", "VGG11"), ("B", "VGG13"), ("D", "VGG16"), ("E", "VGG19")]
)
def test_torchvisions_own_figures(name, tv):
    for suffix, batch_norm in (("", False), ("_BN", True)):
        meta = getattr(torchvision.models, f"{tv}{suffix}_Weights").IMAGENET1K_V1.meta
        assert count_parameters(name, batch_norm=batch_norm) == meta["num_params"]
        assert round(count_macs(name) / 1e9, 3) == meta["_ops"]
        low = meta["min_size"][0] if isinstance(meta["min_size"], tuple) else meta["min_size"]
        assert smallest_image(name) == low


# ---- networks that are really built, without memory for their weights ---------------------------


def measure(config, num_classes, batch_norm, width, size):
    """Shapes by hooks, parameters by numel, multiply-adds by PyTorch, on the meta device."""
    model = build(config, num_classes, batch_norm, width, size, device="meta").eval()
    kinds = {
        nn.Conv2d: "conv",
        nn.BatchNorm2d: "bn",
        nn.LocalResponseNorm: "lrn",
        nn.MaxPool2d: "pool",
        nn.Linear: "fc",
    }
    seen = []
    for module in model.modules():
        if type(module) in kinds:
            count = sum(p.numel() for p in module.parameters())

            def hook(m, _, out, count=count):
                seen.append((kinds[type(m)], tuple(out.shape[1:]), count))

            module.register_forward_hook(hook)
    with FlopCounterMode(display=False) as counter:
        model(
            torch.empty(2, 3, *size, device="meta")
        )  # two images: counts must not depend on the batch
    assert counter.get_total_flops() % 4 == 0
    return seen, counter.get_total_flops() // 4  # 2 images, 2 operations a multiply-add


def compare(config, num_classes, batch_norm, width, size):
    seen, macs = measure(config, num_classes, batch_norm, width, size)
    rows = walk(config, num_classes, batch_norm, width, size)
    assert [(row.kind, row.output_shape, row.params) for row in rows] == seen
    assert sum(row.macs for row in rows) == macs
    if not batch_norm:
        assert macs == count_macs(config, size, num_classes, width)
    assert count_parameters(config, num_classes, batch_norm, width, size) == sum(
        count for *_, count in seen
    )


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_configuration_as_built(name, batch_norm):
    compare(name, 1000, batch_norm, 1.0, (224, 224))


@few
@given(
    st.sampled_from(list(CONFIGS)),
    st.integers(1, 2000),
    st.booleans(),
    st.floats(0.002, 1.5),
    st.tuples(st.integers(32, 400), st.integers(32, 400)),
)
def test_any_size_width_and_classes_as_built(name, num_classes, batch_norm, width, size):
    assume(min(size) >= smallest_image(name))
    compare(name, num_classes, batch_norm, width, size)


@few
@given(
    configs(), st.booleans(), st.floats(0.05, 2), st.tuples(st.integers(1, 90), st.integers(1, 90))
)
def test_any_configuration_as_built(config, batch_norm, width, size):
    try:
        walk(config, 7, batch_norm, width, size)
    except ValueError as error:
        assert "nothing is left after" in str(error)
        layers = build(
            config, 7, batch_norm, width, smallest_image(config), device="meta"
        ).features.eval()
        with pytest.raises(RuntimeError):  # PyTorch cannot run it either
            layers(torch.empty(1, 3, *size, device="meta"))
        return
    compare(config, 7, batch_norm, width, size)


@pytest.mark.parametrize("name", CONFIGS)
def test_smallest_image(name):
    least = smallest_image(name)
    features = build(name, 2, False, 1 / 64, 224, device="meta").features
    assert min(features(torch.empty(1, 3, least, least, device="meta")).shape) >= 1
    with pytest.raises(RuntimeError):
        features(torch.empty(1, 3, least - 1, least - 1, device="meta"))
    with pytest.raises(
        ValueError,
        match=rf"image_size={least - 1}: expected at least {least} pixels a side for {name}",
    ):
        walk(name, image_size=least - 1)


@few
@given(st.sampled_from(list(CONFIGS)), st.integers(1, 5000))
def test_what_classes_and_batch_norm_add(name, classes):
    assert count_parameters(name, classes + 1) - count_parameters(name, classes) == 4096 + 1
    assert count_macs(name, num_classes=classes + 1) - count_macs(name, num_classes=classes) == 4096
    channels = sum(layer.channels for layer in CONFIGS[name].layers if isinstance(layer, Conv))
    assert (
        count_parameters(name, classes, batch_norm=True) - count_parameters(name, classes)
        == 2 * channels
    )


# ---- receptive fields ---------------------------------------------------------------------------


def linear_twin(config, size):
    """One channel a layer, weights of one, average pooling, no ReLU, no LRN: no pixel is hidden."""
    model = build(config, 1, False, 1e-4, size, dropout=0).double()
    for part in (model.features, model.classifier):
        for i, module in enumerate(part):
            if isinstance(module, nn.MaxPool2d):
                part[i] = nn.AvgPool2d(
                    module.kernel_size, module.stride, ceil_mode=module.ceil_mode
                )
            elif not isinstance(module, (nn.Conv2d, nn.Linear)):
                part[i] = nn.Identity()
            else:
                nn.init.ones_(module.weight)
    return model


def seen_rows(output, unit, image):
    """First and last row of the image with a gradient from row ``unit`` of an output map."""
    (grad,) = torch.autograd.grad(output[:, :, unit].sum(), image, retain_graph=True)
    rows = grad.abs().sum((0, 1, 3)).nonzero().flatten()
    return int(rows[0]), int(rows[-1])


def large_image(field, width=None):
    """Ones, just tall enough for two neighbouring units of ``field`` that no border cuts.

    Wide enough for one unit that no border cuts, unless a width is given: a net that strides over
    its padding may otherwise have no column of units that sees the image.
    """
    height = math.ceil(-field.left) + field.size + 4 * field.jump
    width = width or math.ceil(-field.left) + field.size + 4 * field.jump
    return torch.ones(1, 3, height, width, dtype=torch.double, requires_grad=True)


def assert_field(field, output, image):
    first = max(
        0, -math.floor(field.left / field.jump)
    )  # the first unit whose field is not cut off
    assert output.shape[2] > first + 1, "the test image is too small"
    for unit in (first, first + 1):
        left = field.left + unit * field.jump
        assert seen_rows(output, unit, image) == (left, left + field.size - 1)


def assert_fields_of_features(config, width=None):
    side = smallest_image(config)
    fields = [row.field for row in walk(config, image_size=side) if row.kind in ("conv", "pool")]
    image = x = large_image(fields[-1], width)
    outputs = []
    for module in linear_twin(config, side).features:
        x = module(x)
        if not isinstance(module, nn.Identity):
            outputs.append(x)
    for field, output in zip(fields, outputs, strict=True):
        assert_field(field, output, image)


@pytest.mark.parametrize("name", CONFIGS)
def test_receptive_field_by_gradient(name):
    """Every convolution and pool, and the first FC layer as the convolution that it is."""
    assert_fields_of_features(name, smallest_image(name))
    *_, first, second, third = receptive_field(name)
    image = large_image(first, 224)
    assert_field(first, to_dense(linear_twin(name, 224))(image), image)
    assert first.size == second.size == third.size  # the other two FC layers add nothing


def test_receptive_field_of_a_net_whose_first_columns_see_only_padding():
    """A strided 1x1 convolution with padding, then a pool."""
    assert_fields_of_features(Config("padded", (Conv(2, 1, 2, 1), Pool(2, 2))))


@settings(few, max_examples=8)
@given(configs())
def test_receptive_field_of_any_configuration(config):
    assert_fields_of_features(config)


@few
@given(configs())
def test_receptive_field_by_the_closed_form(config):
    moving = [layer for layer in config.layers if not isinstance(layer, LRN)]
    strides = [layer.stride for layer in moving]
    size = 1 + sum((layer.kernel - 1) * math.prod(strides[:i]) for i, layer in enumerate(moving))
    last = receptive_field(config, smallest_image(config))[len(config.layers) - 1]
    assert (last.size, last.jump) == (size, math.prod(strides))


@pytest.mark.parametrize("name", TABLE_1)
def test_receptive_fields_of_the_tables(name):
    known = tables()["derived_compute"][name]
    fields = {row.name: row for row in receptive_field(name)}
    last_conv = [row for row in fields if row.startswith("conv")][-1]
    assert fields[last_conv].size == known["rf_last_conv"]
    assert (fields["pool5"].size, fields["fc1"].size) == (known["rf_pool5"], known["rf_fc1"])
    assert fields["pool5"].jump == known["stride_pool5"]
    assert [row.receptive_field for row in walk(name)] == [row.size for row in fields.values()]


# ---- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function", [trace, count_parameters, count_macs, receptive_field, walk, smallest_image]
)
def test_an_unknown_configuration(function):
    with pytest.raises(KeyError, match=r"unknown configuration 'VGG-X'; valid names: A, A-LRN"):
        function("VGG-X")


@pytest.mark.parametrize("function", [trace, count_parameters, count_macs, walk])
def test_bad_arguments(function):
    with pytest.raises(ValueError, match="num_classes=0: expected a whole number of at least 1"):
        function("D", num_classes=0)
    with pytest.raises(ValueError, match="width=0: expected a finite number above 0"):
        function("D", width=0)
    for size in (0, "224", (224, 224, 3), 224.5):
        with pytest.raises(
            ValueError, match=re.escape(f"image_size={size!r}: expected a whole number of pixels")
        ):
            function("D", image_size=size)
    with pytest.raises(
        ValueError,
        match=r"image_size=\(224, 31\): expected at least 32 pixels .*nothing is left after pool5",
    ):
        function("D", image_size=(224, 31))


def test_a_size_that_no_image_satisfies():
    with pytest.raises(
        ValueError, match="config='deep': expected a net for images of up to 1000 pixels"
    ):
        smallest_image(Config("deep", tuple([Conv(2), Pool()] * 12)))


@pytest.mark.parametrize("value", [0, -4, "4", float("nan")])
def test_bad_bytes_per_value(value):
    with pytest.raises(ValueError, match=r"^bytes_per_value=.*: expected a finite number above 0"):
        trace("A", bytes_per_value=value)


def test_parameters_are_counted_at_224_pixels_unless_told_otherwise():
    """Without pooling each pixel counts: 3x3x3 weights a channel, then one FC layer."""
    one = Config("one", (Conv(2),), fc=())
    assert count_parameters(one, 5) == 2 * 27 + 2 + (2 * 224 * 224) * 5 + 5


def test_maps_and_fields_are_those_at_224_pixels_unless_told_otherwise():
    """A 3x3 convolution alone keeps the image's size, so the FC layer reads 224 x 224 units."""
    one = Config("one", (Conv(2),), fc=())
    assert last_map(one) == (2, 224, 224)
    assert [field.size for field in receptive_field(one)] == [3, 3 + 223]
    assert count_macs(one) == 27 * 2 * 224**2 + 2 * 224**2 * 1000


@pytest.mark.parametrize("size, rows", [(64, 2), ((96, 64), 3), ((64, 96), 2)])
def test_the_first_fc_layer_sees_the_whole_last_map_along_the_height(size, rows):
    """Its units reach over all but one jump of 32 pixels more than a unit of pool5."""
    fields = {field.name: field for field in receptive_field("A", size)}
    assert fields["fc1"].size == fields["pool5"].size + 32 * (rows - 1)
    assert fields["fc1"].start == fields["pool5"].start + 32 * (rows - 1) / 2


def test_a_pixel_sees_itself_and_normalisation_sees_no_more():
    assert (PIXEL.name, PIXEL.size, PIXEL.jump, PIXEL.left) == ("input", 1, 1, 0)
    field = Field("conv1", 11, 4, 5.5)
    assert field.after("lrn1", LRN()) == Field("lrn1", 11, 4, 5.5)
    assert field.after("conv2", Conv(8)).name == "conv2"


def test_the_largest_of_the_smallest_images_has_1000_pixels():
    """A convolution without padding needs an image as large as its kernel."""
    assert smallest_image(Config("wide", (Conv(2, 1000, padding=0),))) == 1000
    assert smallest_image(Config("tiny", (Conv(2, 1),))) == 1
    with pytest.raises(ValueError, match="config='wide': expected a net for images of up to 1000"):
        smallest_image(Config("wide", (Conv(2, 1001, padding=0),)))


def test_rows_and_fields_are_frozen():
    row = walk("A")[0]
    for thing in (row, row.field):
        with pytest.raises(FrozenInstanceError):
            thing.name = "other"
