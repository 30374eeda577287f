"""Dropout whose masks belong to images, at its rate, and an ordinary layer without a key."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import TINY, quiet
from torch import nn

from vggbook.data import hash_keys, uniforms
from vggbook.train import KeyedDropout


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(12)), st.integers(1, 12), st.sampled_from([0.25, 0.5]))
def test_masks_belong_to_images(order, size, p):
    layer, order = KeyedDropout(p), torch.tensor(order)
    layer.key = (0, 1, 0, torch.arange(12))
    whole = layer(torch.ones(12, 64))
    parts = []
    for part in order.split(size):
        layer.key = (0, 1, 0, part)
        parts.append(layer(torch.ones(len(part), 64)))
    assert torch.equal(torch.cat(parts), whole[order])
    assert set(whole.unique().tolist()) <= {0.0, torch.tensor(1 / (1 - p)).item()}


def test_dropout_drops_at_its_rate_and_keeps_the_mean():
    layer = KeyedDropout(0.5)
    masks = []
    for epoch, which in ((0, 0), (1, 0), (0, 1)):
        layer.key = (0, epoch, which, torch.arange(256))
        masks.append(layer(torch.ones(256, 512)))
    n = masks[0].numel()
    for mask in masks:
        assert abs(mask.mean() - 1) < 5 / math.sqrt(n)  # five standard errors
    for other in masks[1:]:  # independent from epoch to epoch and layer to layer
        assert abs((masks[0] * other).mean() - 1) < 5 * math.sqrt(3 / n)
    assert torch.equal(layer.eval()(torch.ones(2, 3)), torch.ones(2, 3))


def test_dropout_is_ordinary_again_after_training():
    run = quiet(replace(TINY, max_epochs=1))
    x = torch.ones(1, 3, 32, 32)
    assert not torch.equal(run.model.train()(x), run.model(x))
    assert torch.equal(run.model.eval()(x), run.model(x))


def test_a_dropout_mask_is_the_hash_of_seed_epoch_layer_and_image():
    """As documented, so that a run goes on with the same masks in a later version."""
    layer = KeyedDropout(0.25).train()
    images = torch.tensor([7, 3])
    layer.key = (5, 2, 1, images)
    drawn = uniforms(hash_keys(5, 2, 1, images), 64)  # (2, 64)
    assert torch.equal(layer(torch.ones(2, 64)), (drawn >= 0.25) / 0.75)


def test_the_mask_takes_numbers_below_its_rate(monkeypatch):
    """Of numbers from 0 to below 1, a share of exactly p lies below p; p itself is kept."""
    numbers = torch.tensor([[0.0, 0.25 - 2**-24, 0.25, 1 - 2**-24]])
    monkeypatch.setattr("vggbook.train.dropout.uniforms", lambda keys, count: numbers)
    layer = KeyedDropout(0.25)
    layer.key = (0, 0, 0, torch.arange(1))
    assert (layer(torch.ones(1, 4)) > 0).tolist() == [[False, False, True, True]]


def test_maps_and_batches_without_images_have_masks_too():
    layer = KeyedDropout(0.5)
    layer.key = (0, 0, 0, torch.arange(2))
    maps, rows = layer(torch.ones(2, 3, 4, 5)), layer(torch.ones(2, 60))
    assert torch.equal(maps.flatten(1), rows)
    layer.key = (0, 0, 0, torch.arange(0))
    assert layer(torch.ones(0, 64)).shape == (0, 64)


@pytest.mark.parametrize("training", [True, False])
def test_without_a_key_or_training_it_is_pytorchs(training):
    layer, plain = KeyedDropout(0.5).train(training), nn.Dropout(0.5).train(training)
    x = torch.ones(4, 64)
    torch.manual_seed(0)
    expected = plain(x)
    torch.manual_seed(0)
    assert torch.equal(layer(x), expected)
    layer.key = (0, 0, 0, torch.arange(4))
    assert torch.equal(layer.eval()(x), x)


def test_every_dropout_of_a_net_is_replaced_as_it_stands():
    net = nn.Sequential(nn.Dropout(0.25), nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.75)))
    net[1][1].eval()
    names = list(net.state_dict())
    found = KeyedDropout.install(net)
    assert found == [net[0], net[1][1]] and {type(layer) for layer in found} == {KeyedDropout}
    assert [(layer.p, layer.training) for layer in found] == [(0.25, True), (0.75, False)]
    assert list(net.state_dict()) == names and type(net[1][0]) is nn.Linear
