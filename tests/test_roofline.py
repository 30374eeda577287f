"""The floor model against PyTorch's counters, closed forms and an independent table."""

import math
from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from vggbook import CONFIGS, build, count_macs, count_parameters
from vggbook import roofline as module
from vggbook.configs import Config, Conv, Pool
from vggbook.kernels import Kernel, Layer
from vggbook.roofline import (
    DEVICES,
    FUSIONS,
    Device,
    data_parallel,
    roofline,
    training_flops,
)

NETS = list("ABCDE")


def step_on_meta(name, batch):
    """One forward and backward pass through a network without memory or arithmetic."""
    model = build(name, device="meta")
    model(torch.zeros(batch, 3, 224, 224, device="meta")).sum().backward()


@pytest.mark.parametrize("name", [*NETS, "B-5x5"])
def test_training_flops_equal_what_pytorch_counts(name):
    with FlopCounterMode(display=False) as counter:
        step_on_meta(name, 2)
    assert 2 * training_flops(name) == counter.get_total_flops()
    assert roofline(name, batch=2).useful_flops == training_flops(name)


@pytest.mark.parametrize("name", NETS)
def test_inference_flops_are_two_a_multiply_add(name):
    assert roofline(name, training=False).useful_flops == 2 * count_macs(name)


class Traffic(TorchDispatchMode):
    """Bytes of all distinct tensors that each aten operator takes and gives back."""

    def __init__(self):
        super().__init__()
        self.bytes = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        parts = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        results = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        size = sum(t.nbytes for t in parts) + sum(t.nbytes for t in results)
        self.bytes[name] = self.bytes.get(name, 0) + size
        return out


@pytest.mark.parametrize("name", ["A", "D"])
def test_eager_bytes_equal_the_sizes_of_the_tensors_that_pytorch_hands_to_its_kernels(name):
    float32 = Device("float32", 1e12, 1e11, value_bytes=4, multiple=1)
    kernels = roofline(name, float32, batch=3, fusion="eager").kernels

    def ours(label):
        return sum(k.bytes for k in kernels if k.name == label)

    with Traffic() as seen:
        step_on_meta(name, 3)
    small = 0.002  # biases, and the FC layers' ReLU and dropout, which the model leaves out
    assert ours("pool") == seen.bytes["max_pool2d_with_indices"]
    assert ours("conv") == pytest.approx(seen.bytes["convolution"], rel=small)
    assert ours("ReLU") == pytest.approx(seen.bytes["relu_"], rel=small)
    assert ours("ReLU gradient") == pytest.approx(seen.bytes["threshold_backward"], rel=small)
    # PyTorch's pooling gradient is also handed the pooling's input; it reads only the shape
    pooled_inputs = sum(4 * 3 * math.prod(s) for s in pooled_maps(name))
    assert ours("pool gradient") == seen.bytes["max_pool2d_with_indices_backward"] - pooled_inputs


def pooled_maps(name):
    """Shapes (C, H, W) of the maps that enter the five poolings of Table 1, at 224 pixels."""
    return [(c, 224 // 2**i, 224 // 2**i) for i, c in enumerate((64, 128, 256, 512, 512))]


TABLE = {  # images/s on an H100 at 800 TFLOP/s and 3.0 TB/s, batch 256, from a separate program
    (True, "full"): (15906, 10666, 10142, 7990, 6388),
    (True, "conv"): (11982, 8275, 7770, 6458, 5295),
    (True, "inductor"): (11201, 7514, 7009, 5923, 4888),
    (True, "eager"): (8096, 5651, 5287, 4645, 3942),
    (False, "conv"): (38183, 28218, 26897, 21814, 17779),
    (False, "inductor"): (35805, 22936, 21240, 17939, 14730),
}


@pytest.mark.parametrize("training,fusion", TABLE)
def test_floor_agrees_with_an_independent_program(training, fusion):
    found = [
        round(roofline(name, "H100", 256, fusion, training).images_per_second) for name in NETS
    ]
    assert found == list(TABLE[training, fusion])


def test_one_convolution_by_hand():
    """32 images of 3 x 8 x 8, a 3x3 convolution to 16 channels, pooling; then 10 classes."""
    net = Config("one", (Conv(16), Pool()), fc=())
    device = Device("unit", 1.0, 1.0, value_bytes=2, multiple=1)
    step = roofline(net, device, batch=32, fusion="conv", image_size=8, num_classes=10)
    n, x, y, p, w = 32, 3 * 64, 16 * 64, 16 * 16, 27 * 16
    assert [(k.name, k.flops, k.bytes) for k in step.kernels] == [
        ("conv+bias+ReLU", 2 * n * 64 * w, 2 * (n * x + w + n * y)),
        (
            "pool",
            0,
            2 * n * (y + p) + n * p,
        ),  # a byte for each pooled value says which of four it was
        ("product", 2 * n * 256 * 10, 2 * (2560 + n * (256 + 10))),
        ("input gradient", 2 * n * 256 * 10, 2 * (2560 + n * (2 * 256 + 10))),
        ("weight gradient", 2 * n * 256 * 10, 2 * (2560 + n * (256 + 10))),
        ("pool, ReLU, bias gradients", 0, 2 * n * p + n * p + 2 * 2 * n * y),
        ("weight gradient", 2 * n * 64 * w, 2 * (n * y + n * x) + 4 * w),
        ("SGD with momentum", 0, 26 * (w + 16 + 2570)),
    ]
    assert step.seconds == sum(max(k.flops, k.bytes) for k in step.kernels)


def test_first_layer_is_bound_by_memory_and_block_4_by_arithmetic():
    layers = roofline("D", "H100", fusion="conv", training=False).by_layer()
    share = {name: memory / seconds for name, (_, _, seconds, memory) in layers.items()}
    assert share["conv1_1"] == 1 and share["fc1"] == 1
    assert share["conv4_1"] == 0 and share["conv4_2"] == 0
    flops, size, *_ = layers["conv1_1"]
    assert flops / size < DEVICES["H100"].ridge < layers["conv4_2"][0] / layers["conv4_2"][1]


def test_layers_add_up_to_the_step():
    step = roofline("E", "T4", 64)
    assert sum(row[2] for row in step.by_layer().values()) == pytest.approx(step.seconds)
    assert set(step.by_layer()) == {*step.gradients, "update"}
    assert sum(step.gradients.values()) == count_parameters("E")


@settings(max_examples=15, deadline=None)
@given(
    name=st.sampled_from(NETS),
    batch=st.integers(1, 512),
    training=st.booleans(),
    flops=st.floats(1e10, 1e15),
    ridge=st.floats(1, 1000),
)
def test_floor_properties(name, batch, training, flops, ridge):
    device = Device("any", flops, flops / ridge)
    floors = [roofline(name, device, batch, fusion, training) for fusion in FUSIONS]
    seconds = [floor.seconds for floor in floors]
    assert seconds == sorted(seconds)  # FUSIONS runs from the most fused to the least
    for floor in floors:
        assert 0 < floor.useful_flops * batch <= floor.seconds * flops * (1 + 1e-9)
        assert floor.seconds >= sum(k.flops for k in floor.kernels) / flops * (1 - 1e-9)
        assert floor.seconds >= sum(k.bytes for k in floor.kernels) / device.bandwidth * (1 - 1e-9)
    twice = roofline(name, Device("twice", 2 * flops, 2 * flops / ridge), batch, "conv", training)
    assert twice.seconds == pytest.approx(
        roofline(name, device, batch, "conv", training).seconds / 2
    )
    assert roofline(name, device, batch + 1, "conv", training).seconds >= twice.seconds


@settings(max_examples=15, deadline=None)
@given(devices=st.integers(2, 64), bandwidth=st.floats(1e8, 1e12), batch=st.integers(1, 256))
def test_all_reduce_in_closed_form(devices, bandwidth, batch):
    step = roofline("D", "H100", batch)
    size = 4 * count_parameters("D")
    apart = data_parallel(step, devices, bandwidth, overlap=False, latency=0)
    together = data_parallel(step, devices, bandwidth, latency=0)
    ring = 2 * (devices - 1) / devices * size / bandwidth
    assert apart.communication == pytest.approx(ring) == together.communication
    assert apart.exposed == pytest.approx(ring)
    assert apart.efficiency == pytest.approx(step.seconds / (step.seconds + ring))
    assert together.exposed <= apart.exposed * (1 + 1e-9)
    assert together.exposed >= ring - step.seconds  # no more can be hidden than there is computing
    assert together.speedup == pytest.approx(
        devices * step.seconds / (step.seconds + together.exposed)
    )


def test_all_reduce_hides_behind_the_convolutions_because_the_fc_gradients_come_first():
    step = roofline("D", "H100", 256)
    fc = data_parallel(step, 8, 50e9, layers=lambda name: name.startswith("fc"))
    everything = data_parallel(step, 8, 50e9)
    assert fc.communication > 0.88 * everything.communication and fc.exposed == 0
    assert everything.exposed < 0.02 * everything.communication
    assert data_parallel(step, 1, 50e9).speedup == 1


def test_all_reduce_timeline_against_a_list_of_events():
    """Two layers, a bucket each: the second bucket waits for the first where the net is slow."""
    net = Config("one", (Conv(16), Pool()), fc=())
    device = Device("unit", 1e6, 1e6)
    step = roofline(net, device, batch=4, image_size=8, num_classes=10)
    seconds = {(k.layer, k.phase): 0.0 for k in step.kernels}
    for k in step.kernels:
        seconds[k.layer, k.phase] += k.seconds(device)
    forward = seconds["conv1_1", "forward"] + seconds["fc1", "forward"]
    fc_ready = forward + seconds["fc1", "backward"]
    conv_ready = fc_ready + seconds["conv1_1", "backward"]
    for bandwidth in (1e3, 1e5, 1e7):
        fc_sent = fc_ready + 4 * 2570 / bandwidth + 1e-3  # a ring of two moves each byte once
        conv_sent = max(fc_sent, conv_ready) + 4 * (27 * 16 + 16) / bandwidth + 1e-3
        found = data_parallel(step, 2, bandwidth, bucket=1, latency=1e-3)
        assert found.exposed == pytest.approx(max(0, conv_sent - conv_ready))


@pytest.mark.parametrize(
    "call,words",
    [
        (
            lambda: roofline("D", fusion="some"),
            "fusion='some'.*'full', 'conv', 'inductor', 'eager'",
        ),
        (lambda: roofline("D", device="TPU"), "device='TPU'.*'T4'"),
        (lambda: roofline("D", batch=0), "batch=0: expected a whole number of at least 1"),
        (lambda: roofline("A-LRN"), "A-LRN.*LRN"),
        (
            lambda: data_parallel(roofline("D", training=False), 4, 1e9),
            "forward pass.*training=True",
        ),
        (lambda: data_parallel(roofline("D"), 0, 1e9), "devices=0"),
        (lambda: data_parallel(roofline("D"), 4, 0), "bandwidth=0"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_nets_before_vgg_with_lrn_are_refused_and_the_rest_taken():
    for name, config in CONFIGS.items():
        if any(type(layer).__name__ == "LRN" for layer in config.layers):
            with pytest.raises(ValueError, match="LRN"):
                roofline(name)
        else:
            assert roofline(name).images_per_second > 0


def test_devices_are_frozen_and_can_be_keys():
    device = Device("one", 1.0, 2.0)
    with pytest.raises(AttributeError):
        device.flops = 3.0
    assert {device: 1}[Device("one", 1.0, 2.0)] == 1
    kernel = roofline("A").kernels[0]
    with pytest.raises(AttributeError):
        kernel.flops = 0.0


def test_a_device_of_ones_own_and_one_by_name_are_the_same():
    own = Device("mine", 800e12, 3.0e12, value_bytes=2, multiple=8)
    assert roofline("D", own).seconds == roofline("D", "H100").seconds
    assert roofline("D", "H100", training=False).kernels[-1].phase == "forward"


def test_channels_are_padded_to_the_devices_multiple():
    """The images' three channels are computed as eight; other layers' channels divide by eight."""
    plain, padded = (Device("d", 1e12, 1e12, multiple=m) for m in (1, 8))
    for name in ("A", "E"):
        one, eight = (roofline(name, d, batch=2, training=False) for d in (plain, padded))
        more = sum(k.flops for k in eight.kernels) - sum(k.flops for k in one.kernels)
        first = one.kernels[0].flops
        assert more == pytest.approx(first * 8 / 3 - first)


def test_size_classes_and_width_reach_the_counts():
    options = {"image_size": 64, "num_classes": 12, "width": 0.125}
    step = roofline("B", "T4", 8, **options)
    net = build("B", 12, width=0.125, image_size=64, device="meta")
    assert sum(step.gradients.values()) == sum(p.numel() for p in net.parameters())
    assert step.useful_flops == training_flops("B", **options)
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 3, 64, 64, device="meta")).sum().backward()
    assert step.useful_flops == counter.get_total_flops()


def test_scale_gradient_bytes_and_latency():
    step = roofline("D", "H100", 32)
    plain = data_parallel(step, 4, 1e10, latency=0, overlap=False)
    half = data_parallel(step, 4, 1e10, latency=0, overlap=False, gradient_bytes=2)
    assert half.communication == pytest.approx(plain.communication / 2)
    slow = data_parallel(step, 4, 1e10, latency=0, overlap=False, scale=3)
    assert slow.compute == pytest.approx(3 * step.seconds) and slow.exposed == plain.exposed
    layers = len(step.gradients)
    each = data_parallel(step, 4, 1e10, latency=1.0, overlap=False, bucket=1)
    assert each.communication == pytest.approx(plain.communication + layers)


FORWARD = {  # by fusion: with a pool after the convolution, and without
    "full": (["conv+bias+ReLU+pool"], ["conv+bias+ReLU"]),
    "conv": (["conv+bias+ReLU", "pool"], ["conv+bias+ReLU"]),
    "inductor": (["conv", "bias+ReLU+pool"], ["conv", "bias+ReLU"]),
    "eager": (["conv", "bias", "ReLU", "pool"], ["conv", "bias", "ReLU"]),
}
PRODUCTS = ["input gradient", "weight gradient"]
POINTWISE = {
    "full": ([], []),
    "conv": (["pool, ReLU, bias gradients"],) * 2,
    "inductor": (["pool, ReLU, bias gradients"],) * 2,
    "eager": (
        ["pool gradient", "ReLU gradient", "bias gradient"],
        ["ReLU gradient", "bias gradient"],
    ),
}


@pytest.mark.parametrize("fusion", FORWARD)
@pytest.mark.parametrize("pooled", [32, 0])
def test_kernels_of_a_layer_by_name_and_phase(fusion, pooled):
    layer = Layer("x", 1.0, 10, 20, 128, pooled, first=False, value_bytes=2)
    which = 0 if pooled else 1
    forward = [("forward", name) for name in FORWARD[fusion][which]]
    backward = [("backward", name) for name in (*POINTWISE[fusion][which], *PRODUCTS)]
    found = [(k.phase, k.name) for k in layer.kernels(fusion, training=True)]
    assert found == forward + backward
    assert [(k.phase, k.name) for k in layer.kernels(fusion, training=False)] == forward
    assert all(k.layer == "x" for k in layer.kernels(fusion, training=True))
    # a byte for each pooled value, eight where its index is an int64, is for the backward pass
    spare = sum(k.bytes for k in layer.kernels(fusion, True) if k.phase == "forward")
    spare -= sum(k.bytes for k in layer.kernels(fusion, False))
    kept = 2 * 128 if fusion == "inductor" and pooled else 0  # the ReLU's output
    assert spare == kept + (0 if fusion == "eager" else pooled)
    first = replace(layer, first=True)  # images need no gradient
    names = [k.name for k in first.kernels(fusion, training=True)]
    assert names == [name for _, name in forward + backward if name != "input gradient"]


def test_products_of_an_fc_layer():
    layer = Layer("fc", 1.0, 10, 20, 30, 0, first=False, value_bytes=2)
    found = [(k.phase, k.name, k.bytes) for k in layer.products(training=True)]
    assert found == [
        ("forward", "product", 2 * 60),
        ("backward", "input gradient", 2 * 80),
        ("backward", "weight gradient", 2 * 60),
    ]
    assert [k.name for k in layer.products(training=False)] == ["product"]


def test_what_bounds_a_kernel_and_that_it_cannot_be_changed():
    device = Device("unit", 10.0, 5.0)
    for flops, size, bound, seconds in ((30, 5, "arithmetic", 3), (10, 20, "memory", 4)):
        kernel = Kernel("x", "forward", "conv", flops, size)
        assert (kernel.bound(device), kernel.seconds(device)) == (bound, seconds)
    assert Kernel("x", "forward", "conv", 10, 5).bound(device) == "arithmetic"  # both alike
    layer = Layer("x", 1.0, 10, 20, 30, 0, False, 2)
    for thing, field in ((kernel, "flops"), (layer, "first"), (device, "flops")):
        with pytest.raises(FrozenInstanceError):
            setattr(thing, field, 1)


def test_a_device_of_the_table_bears_its_name():
    assert {name: device.name for name, device in DEVICES.items()} == dict(zip(DEVICES, DEVICES))


def test_what_the_module_offers_is_there():
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_columns_of_a_layer_add_up_its_kernels():
    step = roofline("A", Device("unit", 3.0, 1.0), batch=2, image_size=32, fusion="eager")
    table = step.by_layer()
    assert set(table) == {k.layer for k in step.kernels}
    for layer, row in table.items():
        own = [k for k in step.kernels if k.layer == layer]
        floors = [max(k.flops / 3, k.bytes) for k in own]
        slow = [floor for k, floor in zip(own, floors) if k.bytes > k.flops / 3]
        sums = (sum(k.flops for k in own), sum(k.bytes for k in own), sum(floors), sum(slow))
        assert row == pytest.approx(sums), layer


def test_a_step_is_that_of_256_images_on_an_h100_unless_told_otherwise():
    said = {"image_size": 224, "num_classes": 1000, "width": 1.0}
    assert roofline("D") == roofline("D", "H100", 256, "inductor", True, **said)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_roofline_tells_what_it_was_asked_for(fusion):
    found = roofline("D", "T4", 32, fusion, False)
    told = (found.config, found.device.name, found.batch, found.fusion, found.training)
    assert told == (CONFIGS["D"], "T4", 32, fusion, False)


def test_buckets_are_pytorchs_unless_told_otherwise():
    """DistributedDataParallel gathers 25 MiB; a message takes 20 microseconds besides."""
    step = roofline("D", "H100", 32)
    said = {"overlap": True, "scale": 1.0, "gradient_bytes": 4, "latency": 2e-5}
    assert data_parallel(step, 8, 5e9) == data_parallel(step, 8, 5e9, bucket=26_214_400, **said)
    # 25.5 MiB are in the last three layers of 512 channels, a little narrower: they fill a bucket
    step = roofline("D", "H100", 32, width=0.972)
    told = data_parallel(step, 8, 1e6, bucket=26_214_400, **said)
    assert data_parallel(step, 8, 1e6) == told
    assert told != data_parallel(step, 8, 1e6, bucket=26 * 2**20, **said)


def test_a_bucket_goes_as_soon_as_it_is_full():
    """The FC layer's gradient fills the bucket to the byte, and is not held back for the rest."""
    net = Config("one", (Conv(16), Pool()), fc=())
    step = roofline(net, Device("unit", 1e6, 1e6), batch=4, image_size=8, num_classes=10)
    size = 4 * (256 * 10 + 10)
    full = data_parallel(step, 2, 1e6, bucket=size, latency=1.0)
    assert full == data_parallel(step, 2, 1e6, bucket=1, latency=1.0)
    assert (
        full.communication > data_parallel(step, 2, 1e6, bucket=size + 1, latency=1).communication
    )


def test_cards_are_those_of_their_data_sheets():
    """2,880 cores at 889 MHz, a product and a sum each; 384 bits at 7 GHz, in bytes."""
    titan = DEVICES["Titan Black"]
    assert titan.flops == pytest.approx(2880 * 889e6 * 2, rel=1e-3)
    assert titan.bandwidth == pytest.approx(384 * 7e9 / 8)
    assert (titan.value_bytes, titan.multiple) == (4, 1)  # float32, no tensor cores
    t4, h100 = DEVICES["T4"], DEVICES["H100"]
    assert 0.3 < t4.flops / 65e12 < 0.5 and t4.bandwidth == 0.75 * 320e9
    assert 0.75 < h100.flops / 989e12 < 0.9 and 0.85 < h100.bandwidth / 3.35e12 < 0.95
    assert all(device.basis for device in DEVICES.values())


@pytest.mark.parametrize("value_bytes, each", [(2, 26), (4, 24)])
def test_an_update_moves_six_numbers_a_parameter(value_bytes, each):
    """Weight and momentum read and written, gradient read and zeroed; and the 16-bit copy."""
    step = roofline("A", Device("any", 1.0, 1.0, value_bytes=value_bytes), batch=1)
    last = step.kernels[-1]
    assert (last.phase, last.flops) == ("update", 0)
    assert last.bytes == each * count_parameters("A")


def test_floors_are_frozen():
    step = roofline("A", batch=1)
    for thing, field in ((step, "batch"), (data_parallel(step, 2, 1e9), "compute")):
        with pytest.raises(FrozenInstanceError):
            setattr(thing, field, 1)
