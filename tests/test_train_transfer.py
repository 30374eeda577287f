"""Layers from A by name, fine-tuning from released weights, frozen layers."""

from dataclasses import replace

import pytest
import torch
from tiny_training import STILL, TINY, pictures, quiet, thin_vgg11, weights
from torch import nn
from torchvision import models

from vggbook import CONFIGS, build
from vggbook.train import (
    CheckpointError,
    Recipe,
    copy_layers,
    fit,
    load_run,
    named_layers,
)


def net(name, classes=5, width=1 / 16, **options):
    return build(name, classes, width=width, image_size=32, **options)


# --- names ----------------------------------------------------------------------------------
def test_named_layers_have_the_shapes_of_table_1():
    layers = named_layers(Recipe("E", crop=32, scales=32).net(10))
    convs = [n for n in CONFIGS["E"].layer_names if n.startswith("conv")]
    assert list(layers) == [*convs, "fc1", "fc2", "fc3"]
    assert tuple(layers["conv3_1"].weight.shape) == (256, 128, 3, 3)
    assert layers["fc3"].out_features == 10


@pytest.mark.parametrize("name, twin", [("A", "vgg11"), ("D", "vgg16_bn"), ("E", "vgg19")])
def test_torchvisions_layers_have_the_same_names_and_shapes(name, twin):
    with torch.device("meta"):
        theirs = named_layers(models.get_model(twin))
        ours = named_layers(build(name, device="meta"))
    assert list(theirs) == list(ours)
    assert [m.weight.shape for m in theirs.values()] == [m.weight.shape for m in ours.values()]


def test_a_net_without_features_is_refused():
    with pytest.raises(
        TypeError, match=r"net='Linear': expected a network with modules \.features"
    ):
        named_layers(nn.Linear(2, 2))


def test_a_head_of_any_depth_has_its_names():
    """A foreign net with one FC layer, and with four."""
    for hidden in ((), (8, 7, 6)):
        theirs = thin_vgg11()
        sides = [16, *hidden, 5]
        theirs.classifier = nn.Sequential(*(nn.Linear(a, b) for a, b in zip(sides, sides[1:])))
        layers = [name for name in named_layers(theirs) if name.startswith("fc")]
        assert layers == [f"fc{i}" for i in range(1, len(hidden) + 2)]


# --- layers from A --------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["B", "C", "D", "E", "A-LRN"])
def test_layers_from_a_go_by_name(name):
    source, target = net("A"), net(name)
    before = {n: m.weight.clone() for n, m in named_layers(target).items()}
    for module in named_layers(source).values():
        nn.init.normal_(module.bias)
    copied = copy_layers(source, target)
    assert copied == ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc1", "fc2", "fc3")
    for n, module in named_layers(target).items():
        if n in copied:
            assert torch.equal(module.weight, named_layers(source)[n].weight)
            assert torch.equal(module.bias, named_layers(source)[n].bias)
        else:
            assert torch.equal(module.weight, before[n]), n


def test_layers_of_another_shape_are_refused_and_nothing_is_copied():
    source, target = net("A"), net("B-5x5")
    before = [p.clone() for p in target.parameters()]
    with pytest.raises(ValueError) as error:
        copy_layers(source, target)
    assert str(error.value) == (
        "names='conv1_1': expected a layer of one shape in both; "
        "A has (4, 3, 3, 3), B-5x5 has (4, 3, 5, 5)"
    )
    assert all(map(torch.equal, before, target.parameters()))
    with pytest.raises(
        ValueError, match=r"^names='conv1_2'.*A has no such layer, B has \(4, 4, 3, 3\)$"
    ):
        copy_layers(source, net("B"), ("conv1_2",))


def test_batch_normalisation_goes_with_its_convolution():
    source, target = net("A", batch_norm=True), net("A", batch_norm=True)
    source(torch.randn(4, 3, 32, 32))  # moves the statistics
    copy_layers(source, target, named_layers(source))
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(source.eval()(x), target.eval()(x))


def test_fit_starts_from_a_net_or_a_checkpoint(tmp_path):
    first, lines = quiet(replace(TINY, max_epochs=1), out=tmp_path), []
    deeper = quiet(replace(STILL, config="B"), init_from=tmp_path / "last.pt", log=lines.append)
    assert lines[0] == (
        f"layers from {tmp_path / 'last.pt'}: conv1_1, conv2_1, conv3_1, conv3_2, fc1, fc2, fc3; "
        "drawn anew: conv1_2, conv2_2, conv4_1, conv4_2, conv5_1, conv5_2"
    )
    for name in ("conv1_1", "conv3_2", "fc3"):
        ours, theirs = (named_layers(run.model)[name].weight for run in (deeper, first))
        assert torch.equal(ours, theirs)
    same = quiet(STILL, init_from=first.model, log=lines.append)  # the same net: all layers
    assert [line for line in lines if line.startswith("layers from A: conv1_1, conv2_1")]
    torch.testing.assert_close(weights(same), weights(first), atol=1e-20, rtol=0)


# --- fine-tuning from released weights ------------------------------------------------------


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_all_but_the_last_layer_of_torchvisions_net_are_copied(tmp_path, as_file, batch_norm):
    theirs, lines = thin_vgg11(batch_norm=batch_norm), []
    source = tmp_path / "mine.pth" if as_file else theirs
    torch.save(theirs.state_dict(), tmp_path / "mine.pth")
    recipe = replace(STILL, batch_norm=batch_norm, width=1 / 32)
    run = quiet(recipe, init_from=source, log=lines.append, freeze="conv")
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        theirs.eval(), run.model.eval()
        torch.testing.assert_close(run.model.features(x), theirs.features(x))
        hidden = theirs.classifier[:-1](theirs.features(x).flatten(1))
        ours = run.model.classifier[:-1](run.model.features(x).flatten(1))
        torch.testing.assert_close(ours, hidden)
    assert run.model.classifier[-1].out_features == 4
    assert lines[0].endswith("fc1, fc2; drawn anew: fc3 (fc3 has 1000 outputs there)")
    assert "conv5_2" in lines[0]


def test_as_many_classes_take_the_last_layer_too():
    theirs, lines = thin_vgg11(classes=4), []
    run = quiet(STILL, init_from=theirs, log=lines.append)
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(run.model.eval()(x), theirs.eval()(x))
    names = "conv1_1, conv2_1, conv3_1, conv3_2, conv4_1, conv4_2, conv5_1, conv5_2, fc1, fc2, fc3"
    assert lines[0] == f"layers from VGG: {names}"


# --- frozen layers --------------------------------------------------------------------------
def test_frozen_layers_stay_and_the_others_learn():
    source = net("A", 4, width=1 / 32)
    before = {n: m.weight.clone() for n, m in named_layers(source).items()}
    run = quiet(TINY, model=source, freeze=("conv", "fc2"))
    for name, layer in named_layers(run.model).items():
        assert torch.equal(layer.weight, before[name]) == (name not in ("fc1", "fc3")), name
        assert layer.weight.requires_grad  # an ordinary net again


def test_frozen_layers_keep_their_statistics():
    recipe = replace(TINY, batch_norm=True)
    source = recipe.net(4)
    before = {k: v.clone() for k, v in source.state_dict().items()}
    after = quiet(recipe, model=source, freeze="conv1").model.state_dict()
    moved = {k for k in after if not torch.equal(after[k], before[k])}
    assert not {k for k in moved if k.startswith(("features.0.", "features.1."))}
    assert {"features.5.running_mean", "features.5.weight", "classifier.0.weight"} <= moved


def test_equals_training_the_last_layer_on_fixed_features():
    """Without flips, crops and dropout, learning fc3 alone is soft-max regression."""
    recipe = replace(TINY, scales=36, crop=36, flip=False, dropout=0.0, batch_size=32)
    data = pictures()
    model = recipe.net(4)
    start = [p.detach().clone() for p in model.classifier[6].parameters()]
    with torch.no_grad():
        mean = data.images.double().mean((0, 2, 3)).float()
        pixels = (data.images.float() - mean[:, None, None]) / 64
        x = model.classifier[:6].eval()(model.features(pixels).flatten(1))
    velocity = [torch.zeros_like(p) for p in start]
    for _ in range(recipe.max_epochs):
        for p in start:
            p.requires_grad_()
        loss = nn.functional.cross_entropy(x @ start[0].T + start[1], data.labels)
        gradients = torch.autograd.grad(loss, start)
        with torch.no_grad():
            for p, v, g in zip(start, velocity, gradients):
                v.mul_(0.9).add_(g + 5e-4 * p)
                p -= 0.01 * v
    quiet(recipe, data, model=model, freeze=("conv", "fc1", "fc2"))
    for p, q in zip(model.classifier[6].parameters(), start):
        torch.testing.assert_close(p, q, atol=1e-6, rtol=1e-5)


def test_what_cannot_be_frozen_is_named():
    with pytest.raises(ValueError, match=r"freeze='conv9': expected the beginning.*conv1_1"):
        quiet(TINY, freeze=("conv1", "conv9"))
    words = r"^freeze=\('conv', 'fc'\): expected at least one layer left to train$"
    with pytest.raises(ValueError, match=words):
        quiet(TINY, freeze=("conv", "fc"))


def test_a_frozen_run_resumes_as_it_was(tmp_path):
    whole = quiet(TINY, freeze="conv")
    quiet(replace(TINY, max_epochs=1), out=tmp_path, freeze="conv")
    with pytest.raises(CheckpointError, match=r"frozen: \['conv1_1'.*there, \[\] here"):
        quiet(TINY, out=tmp_path)
    resumed = quiet(TINY, out=tmp_path, freeze="conv")
    assert torch.equal(weights(resumed), weights(whole))
    assert load_run(tmp_path / "last.pt").recipe == TINY


def test_arguments_of_the_start_exclude_each_other():
    with pytest.raises(
        ValueError, match="init_from='Network': expected None where a model is given"
    ):
        fit(TINY, pictures(), model=TINY.net(4), init_from=TINY.net(4), log=None, device="cpu")
