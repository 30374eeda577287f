"""The recipe: the paper's values are the defaults, and what cannot be meant is refused by name."""

from dataclasses import FrozenInstanceError, asdict, fields, replace

import numpy as np
import pytest
import torch

from vggbook import claims
from vggbook.train import Recipe


def test_defaults_are_the_papers():
    paper, recipe = {c.id: c.value for c in claims()}, Recipe()
    assert recipe.batch_size == paper["batch-size"]
    assert recipe.momentum == paper["momentum"]
    assert recipe.weight_decay == paper["weight-decay"]
    assert recipe.dropout == paper["dropout"]["p"]
    assert recipe.lr == paper["lr-initial"]
    assert recipe.lr_factor == paper["lr-rule"]["factor"]
    assert recipe.lr_drops == paper["lr-drops"]["drops"]
    assert recipe.max_epochs == paper["epochs"]
    assert recipe.crop == paper["aug-crop"]["crop"]
    assert recipe.scales in paper["scale-s-fixed"]
    assert recipe.gain == recipe.width == 1 and recipe.flip and recipe.colour
    assert not recipe.batch_norm
    second = recipe.fine_tune()
    assert (second.scales, second.lr) == (384, paper["scale-384-init"]["lr"])
    jittered = second.fine_tune((256, 512))
    assert jittered.scales == tuple(paper["scale-jitter-range"][k] for k in ("min", "max"))
    assert jittered.test_scale == 384


def test_what_the_paper_does_not_print_is_chosen_here():
    """As the fields' descriptions say; five epochs without a better accuracy are a plateau."""
    recipe = Recipe()
    assert (recipe.config, recipe.init, recipe.patience, recipe.seed) == ("D", "he", 4, 0)
    assert recipe.test_scale == recipe.scales == 256
    words = {f.name: f.metadata["help"] for f in fields(Recipe)}
    assert words["momentum"] == "momentum"
    for name in ("patience", "batch_norm"):
        assert "not in the paper" in words[name]
    for name in ("gain", "width"):
        assert "paper: 1" in words[name]


@pytest.mark.parametrize(
    "field, value, words",
    [
        ("config", "F", "one of A, "),
        ("config", ["A"], "one of A, "),
        ("crop", 0, "at least 1"),
        ("crop", 64.5, "whole number"),
        ("scales", 0, "a number of at least 1, or a pair"),
        ("scales", 200, "at least the crop, 224"),
        ("scales", (512, 256), r"\(smaller, larger\)"),
        ("scales", (256, 300, 400), r"\(smaller, larger\)"),
        ("scales", "256", "a number"),
        ("scales", 256.5, "whole pixels"),
        ("scales", (256, 300.5), "whole pixels"),
        ("batch_size", 0, "at least 1"),
        ("batch_size", True, "whole number"),
        ("lr", 0.0, "above 0"),
        ("lr", float("nan"), "finite"),
        ("lr", float("inf"), "finite"),
        ("momentum", 1.0, "below 1"),
        ("weight_decay", -1e-4, "at least 0"),
        ("dropout", 1.0, "below 1"),
        ("dropout", -0.1, "at least 0"),
        ("lr_factor", 1.0, "between 0 and 1"),
        ("lr_factor", 0, "between 0 and 1"),
        ("lr_drops", -1, "at least 0"),
        ("patience", 1.5, "whole number"),
        ("max_epochs", 0, "at least 1"),
        ("init", "kaiming", "glorot"),
        ("flip", 1, "True or False"),
        ("gain", 0, "above 0"),
        ("width", -1, "above 0"),
        ("seed", -1, "at least 0"),
    ],
)
def test_bad_recipe_names_field_value_and_remedy(field, value, words):
    with pytest.raises(ValueError, match=words) as error:
        Recipe(**{field: value})
    assert str(error.value).startswith(f"{field}={value!r}: expected ")


def test_aliases_and_lists_become_the_one_form():
    assert Recipe("VGG16").config == "D"
    assert Recipe(scales=[256, 512]) == Recipe(scales=(256, 512))


def test_numbers_of_other_libraries_become_plain_ones():
    recipe = Recipe(crop=np.int64(64), lr=np.float32(0.5), scales=(np.int64(64), np.int64(80)))
    plain = {int, float, bool, str, tuple}
    assert {type(value) for value in asdict(recipe).values()} <= plain
    assert {type(s) for s in recipe.scales} == {int}
    assert recipe == Recipe(crop=64, lr=0.5, scales=(64, 80))


def test_a_recipe_is_frozen():
    with pytest.raises(FrozenInstanceError):
        Recipe().lr = 1.0


def test_net_follows_every_field():
    recipe = Recipe("B", crop=32, scales=32, width=1 / 8, dropout=0.25, batch_norm=True, seed=3)
    net = recipe.net(7)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert net.features[0].out_channels == 8 and net.config.name == "B"
    assert [m.p for m in net.modules() if isinstance(m, torch.nn.Dropout)] == [0.25, 0.25]
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules())
    same, other = recipe.net(7), replace(recipe, seed=4).net(7)
    assert torch.equal(net.features[0].weight, same.features[0].weight)
    assert not torch.equal(net.features[0].weight, other.features[0].weight)
    wide = replace(recipe, init="std0.01").net(7).classifier[0].weight
    assert abs(wide.std().item() / 0.01 - 1) < 0.05


def test_a_whole_weight_decay_is_kept_as_a_float():
    kept = Recipe(weight_decay=1).weight_decay
    assert kept == 1 and type(kept) is float
