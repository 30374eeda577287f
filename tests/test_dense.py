"""The fully convolutional twin against the net at crop size, convolutions, and windows by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from tests.nets import BEFORE_VGG, as_convolutions, configs, net, seeded, small
from vggbook import CONFIGS, build, to_dense
from vggbook.arithmetic import smallest_image
from vggbook.evaluate import dense_macs

few = settings(max_examples=8, deadline=None)


# ---- the net at the crop size, convolutions beyond it ----------------------------------------


HEADS = {
    "its own": lambda model: model.classifier,
    "linear": lambda model: nn.Linear(model.classifier[0].in_features, 5),
    "flatten": lambda model: nn.Sequential(nn.Flatten(), nn.LazyLinear(5)),
    "log-soft-max": lambda model: nn.Sequential(*model.classifier, nn.LogSoftmax(dim=1)),
    "batch norm": lambda model: nn.Sequential(nn.LazyLinear(6), nn.BatchNorm1d(6), nn.ReLU()),
    "no bias": lambda model: nn.Linear(model.classifier[0].in_features, 2, bias=False),
    "none": lambda model: nn.Identity(),
}


def with_head(model, head):
    """The net with one of ``HEADS``; its statistics, if any, are no longer the neutral ones."""
    model.classifier = HEADS[head](model)
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, *model.image_size))  # lazy layers learn their inputs
    for module in model.classifier.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    return model


@few
@given(
    st.sampled_from(list(CONFIGS)),
    st.booleans(),
    st.sampled_from(list(HEADS)),
    st.integers(0, 60),
    st.integers(0, 60),
    st.floats(1 / 64, 1 / 16),
)
def test_dense_equals_crops_for_any_net_and_head(name, batch_norm, head, taller, wider, width):
    """At the crop size, the whole map; on a larger image, its first score where no border is."""
    least = smallest_image(name)
    size = (least + taller, least + wider)
    model = with_head(build(name, 4, batch_norm, width, size, generator=seeded()), head)
    images = torch.randn(2, 3, *size, generator=seeded(1))
    with torch.inference_mode():
        logits = model(images)
        scores = to_dense(model)(images)
    assert scores.shape == (2, logits.shape[1], 1, 1)
    torch.testing.assert_close(scores[:, :, 0, 0], logits, rtol=1e-4, atol=1e-4)


@few
@given(configs(), st.integers(0, 20))
def test_dense_equals_crops_for_any_configuration(config, larger):
    size = smallest_image(config) + larger
    model = build(config, 3, width=1 / 2, image_size=size, generator=seeded()).eval()
    images = torch.randn(2, 3, size, size, generator=seeded(1))
    with torch.inference_mode():
        scores = to_dense(model)(images)
        torch.testing.assert_close(scores[:, :, 0, 0], model(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_every_position_goes_through_the_head_alone(head):
    model = with_head(small(classes=5, size=96), head)  # 3 x 3 maps of a crop
    images = torch.randn(2, 3, 160, 128, generator=seeded(1))
    with torch.inference_mode():
        scores = to_dense(model)(images)  # (2, K, 3, 2)
        maps = model.features(images)  # (2, 32, 5, 4)
        assert scores.shape[2:] == (3, 2)
        for i in range(3):
            for j in range(2):
                window = maps[:, :, i : i + 3, j : j + 3].flatten(1)
                expected = model.classifier(window)
                torch.testing.assert_close(scores[:, :, i, j], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("q", [224, 256, 288, 384, 512])
def test_score_map_sizes(q):
    dense = to_dense(build("D", 2, width=1 / 64, device="meta"))
    assert dense(torch.empty(1, 3, q, q, device="meta")).shape == (1, 2, q // 32 - 6, q // 32 - 6)


def test_dense_twin_shares_the_weights():
    model = small()
    dense = to_dense(model)
    assert {p.data_ptr() for p in dense.parameters()} == {p.data_ptr() for p in model.parameters()}
    assert dense.training is False and to_dense(model.train()).training is True


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("config", CONFIGS)
def test_dense_equals_the_net_at_the_crop_size_and_convolutions_beyond_it(config, batch_norm):
    crop = (224, 231) if config in BEFORE_VGG else (64, 96)
    model = build(config, 5, batch_norm, width=1 / 16, image_size=crop).eval()
    dense = to_dense(model)
    x = torch.randn(2, 3, *crop)
    with torch.no_grad():
        torch.testing.assert_close(dense(x)[:, :, 0, 0], model(x), rtol=1e-5, atol=1e-5)
        assert dense(x).shape == (2, 5, 1, 1)
        larger = torch.randn(1, 3, crop[0] + 70, crop[1] + 133)
        expected = as_convolutions(model, larger)
        torch.testing.assert_close(dense(larger), expected, rtol=1e-4, atol=1e-5)
        y = dense.features(larger)
        for i, conv in enumerate(dense.convolutions()):
            y = conv(F.relu(y) if i else y)
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)


def test_the_twin_shares_the_weights():
    model = net()
    dense = to_dense(model)
    first = model.classifier[0].weight
    assert dense.convolutions()[0].weight.data_ptr() == first.data_ptr()
    assert [c.kernel_size for c in dense.convolutions()] == [(2, 2), (1, 1), (1, 1)]
    dense(torch.randn(1, 3, 96, 96)).sum().backward()
    assert first.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "config, size", [("A", 256), ("D", (256, 341)), ("E", 300), ("AlexNet", 260)]
)
def test_cost_of_dense_evaluation_equals_what_pytorch_counts(config, size):
    h, w = (size, size) if isinstance(size, int) else size
    model = to_dense(build(config, 10, device="meta"))
    with FlopCounterMode(display=False) as counter:
        model.scores(torch.empty(1, 3, h, w, device="meta"))
    assert counter.get_total_flops() == 2 * dense_macs(config, size, num_classes=10)


def test_the_convolutions_know_their_channels_and_draw_no_numbers():
    dense = to_dense(small(classes=5, size=96))  # 3 x 3 maps of 32 channels; 256 hidden units
    before = torch.get_rng_state()
    convs = dense.convolutions()
    assert torch.equal(torch.get_rng_state(), before)
    assert [(c.in_channels, c.out_channels) for c in convs] == [(32, 256), (256, 256), (256, 5)]
    assert [c.kernel_size for c in convs] == [(3, 3), (1, 1), (1, 1)]
    assert dense.grid == (3, 3) and dense.classes == 5
