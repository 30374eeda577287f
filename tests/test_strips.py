"""Images scored in strips against the same images scored whole."""

import math

import pytest
import torch
from torch import nn

from tests.nets import BEFORE_VGG, seeded, small
from vggbook import build, receptive_field, to_dense


@pytest.mark.parametrize("config", ["E", "B-5x5", "VGG-S", "AlexNet"])
@pytest.mark.parametrize("turn", [False, True])
def test_strips_bound_the_memory_and_change_nothing(config, turn):
    """Cut across the longer side, into no more strips than the bound asks for."""
    crop = 224 if config in BEFORE_VGG else 64
    model = build(config, 3, width=1 / 32, image_size=(crop + 33, crop)).double().eval()
    dense = to_dense(model)
    seen = []
    x = torch.randn(1, 3, 1500, crop + 41, dtype=torch.double)
    x = x.transpose(2, 3).contiguous() if turn else x
    with torch.no_grad():
        whole = dense(x)
        dense.features.register_forward_pre_hook(
            lambda module, args: seen.append(args[0].shape[2] * args[0].shape[3])
        )
        strips = dense(x, max_pixels=700 * (crop + 41))
    torch.testing.assert_close(strips, whole)
    assert len(seen) > 1 and max(seen) <= 700 * (crop + 41)
    along = crop if turn else crop + 33
    field = receptive_field(config, (along, along))[-1]
    scores = (700 - field.size) // field.jump  # a strip
    assert len(seen) == math.ceil(whole.shape[3 if turn else 2] / scores)


def test_strips_follow_layers_that_were_changed():
    """What counts is the net as it is, not the configuration that it was built from."""
    model = small(size=64)
    model.features[0] = nn.Conv2d(3, 4, 5, padding=2)
    dense = to_dense(model)
    x = torch.randn(1, 3, 1500, 80, generator=seeded())
    with torch.no_grad():
        torch.testing.assert_close(dense(x, 400 * 80), dense(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 4, (3, 1), padding=(1, 0)),
        nn.Conv2d(3, 4, 3, padding=2, dilation=2),
        nn.Conv2d(3, 4, 3, padding="same"),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(3, 1, padding=1)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4)),
    ],
)
def test_layers_without_a_rule_are_scored_whole_or_not_at_all(layer):
    model = small(size=64)
    model.features[0] = layer
    dense = to_dense(model)
    assert dense(torch.zeros(1, 3, 300, 80)).shape[:2] == (1, 3)
    with pytest.raises(ValueError, match=r"^features=.*: expected convolutions and max-pooling"):
        dense(torch.zeros(1, 3, 300, 80), max_pixels=100 * 80)


def test_an_image_of_just_the_bound_is_scored_at_once():
    """The bound counts the pixels of all images of the batch together."""
    dense = to_dense(small(size=64))
    heights = []
    dense.features.register_forward_pre_hook(lambda _, args: heights.append(args[0].shape[2]))
    x = torch.zeros(2, 3, 512, 64)
    dense(x, max_pixels=2 * 512 * 64)
    assert heights == [512]
    heights.clear()
    dense(x, max_pixels=2 * 512 * 64 - 1)
    assert len(heights) > 1 and max(heights) < 512


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 4, (1, 3), padding=(0, 1)), nn.MaxPool2d((2, 1))])
def test_a_window_that_is_wide_is_not_scored_in_strips(layer):
    model = small(size=64)
    features = nn.Sequential(nn.Conv2d(3, 3, 1), layer)
    channels, high, wide = features(torch.zeros(1, 3, 64, 64)).shape[1:]
    model.features = features
    model.classifier = nn.Linear(channels * high * wide, 2)
    dense = to_dense(model)
    assert dense(torch.zeros(1, 3, 70, 64)).shape[1] == 2
    with pytest.raises(ValueError, match=r"^features=\(.*: expected convolutions and max-pooling"):
        dense(torch.zeros(1, 3, 300, 80), max_pixels=100 * 80)
