"""The built networks against torchvision's, the released nets' layer lists, and PyTorch's LRN."""

import math
import re

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torchvision.models import vgg as tv
from torchvision.models.feature_extraction import create_feature_extractor

from tests.nets import seeded, small
from vggbook import CONFIGS, build, nets_before_vgg, to_dense
from vggbook.configs import LRN
from vggbook.model import INIT_SCHEMES, initialise, local_response_norm
from vggbook.model import testing as unchanged

PAIRS = [("A", "vgg11"), ("B", "vgg13"), ("D", "vgg16"), ("E", "vgg19")]
few = settings(max_examples=12, deadline=None)


def twins(name, theirs, batch_norm):
    """Our net and torchvision's of the same configuration, without memory for weights."""
    with torch.device("meta"):
        other = getattr(torchvision.models, theirs + "_bn" * batch_norm)(init_weights=False)
    return build(name, batch_norm=batch_norm, device="meta"), other


# ---- torchvision --------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name, theirs", PAIRS)
def test_state_dict_is_torchvisions(name, theirs, batch_norm):
    ours, other = twins(name, theirs, batch_norm)

    def shapes(model):
        return [(key, tuple(v.shape), v.dtype) for key, v in model.state_dict().items()]

    assert shapes(ours) == shapes(other)
    other.load_state_dict(ours.state_dict(), strict=True, assign=True)
    ours.load_state_dict(other.state_dict(), strict=True, assign=True)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name", ["A", "B", "D", "E"])
def test_same_feature_maps_as_torchvision(name, batch_norm):
    """Torchvision's own layer maker, an eighth as wide, with our weights."""
    ours = build(name, 3, batch_norm, 1 / 8, 64, generator=seeded()).eval()
    theirs = tv.make_layers([c if c == "M" else c // 8 for c in tv.cfgs[name]], batch_norm).eval()
    theirs.load_state_dict(ours.features.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 64, generator=seeded(1))
    assert torch.equal(ours.features(images), theirs(images))


def test_same_logits_as_torchvision():
    ours = build("A", generator=seeded()).eval()
    with torch.device("meta"):
        theirs = torchvision.models.vgg11(init_weights=False).eval()
    theirs.load_state_dict(
        ours.state_dict(), strict=True, assign=True
    )  # one set of weights for both
    image = torch.randn(1, 3, 224, 224, generator=seeded(1))
    with torch.inference_mode():
        torch.testing.assert_close(ours(image), theirs(image))
        dense = to_dense(theirs)(image)  # torchvision's net has a dense twin too
        torch.testing.assert_close(dense[:, :, 0, 0], ours(image), rtol=1e-3, atol=1e-3)


# ---- an independent forward pass ----------------------------------------------------------------


def lrn_by_hand(x, n, k, alpha, beta):
    """Krizhevsky et al. (2012), Sect. 3.3, channel by channel."""
    out = torch.empty_like(x)
    for i in range(x.shape[1]):
        near = x[:, max(0, i - n // 2) : min(x.shape[1] - 1, i + n // 2) + 1]
        out[:, i] = x[:, i] / (k + alpha * near.pow(2).sum(1)) ** beta
    return out


def released_forward(net, weights, x):
    """From the released nets' layer list; pools rounded up by padding with -inf, as Caffe does."""
    weights = iter(weights)
    for row in nets_before_vgg()["nets"][net]["layers"]:
        if row["type"] == "conv":
            x = F.conv2d(
                x,
                next(weights),
                next(weights),
                row["stride"],
                row["pad"],
                groups=row.get("groups", 1),
            ).relu()
            x = lrn_by_hand(x, **row["lrn"]) if row["lrn"] else x
        elif row["type"] == "maxpool":
            k, s = row["window"], row["stride"]
            extra = [-(n - k) % s for n in (x.shape[3], x.shape[2])]
            x = F.max_pool2d(F.pad(x, (0, extra[0], 0, extra[1]), value=-math.inf), k, s)
        else:
            x = F.linear(x.flatten(1), next(weights), next(weights))
            x = x.relu() if row["relu"] else x
    return x


@pytest.mark.parametrize("name", nets_before_vgg()["nets"])
def test_nets_before_vgg_compute_what_their_layer_lists_say(name):
    model = build(name, 5, width=1 / 16, generator=seeded()).double().eval()
    images = 20 * torch.randn(
        2, 3, 224, 224, generator=seeded(1), dtype=torch.double
    )  # LRN must have something to do
    torch.testing.assert_close(model(images), released_forward(name, model.parameters(), images))


# ---- local response normalisation ---------------------------------------------------------------


@few
@given(
    st.integers(1, 12),
    st.sampled_from([1, 3, 5, 7]),
    st.floats(1e-5, 1),
    st.floats(0.1, 1.5),
    st.floats(0.5, 3),
    st.integers(0, 99),
)
def test_lrn(channels, size, alpha, beta, k, seed):
    x = 50 * torch.randn(2, channels, 3, 2, generator=seeded(seed), dtype=torch.double)
    ours = local_response_norm(x, LRN(size, alpha, beta, k))
    torch.testing.assert_close(ours, lrn_by_hand(x, size, k, alpha, beta))
    torch.testing.assert_close(
        ours, nn.LocalResponseNorm(size, alpha * size, beta, k)(x)
    )  # PyTorch divides alpha by the size


def test_lrn_constants_do_not_port():
    x = 50 * torch.rand(1, 96, 8, 8, generator=seeded())
    module = next(
        m for m in build("AlexNet", width=1 / 16).modules() if isinstance(m, nn.LocalResponseNorm)
    )
    assert (module.size, module.alpha, module.beta, module.k) == (5, 5e-4, 0.75, 2)
    torch.testing.assert_close(module(x), local_response_norm(x))
    copied = nn.LocalResponseNorm(5, 1e-4, 0.75, 2)
    assert not torch.allclose(copied(x), local_response_norm(x), rtol=0.1)


# ---- layers and starting weights ----------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_relu_after_every_hidden_layer_and_nowhere_else(name):
    model = build(name, 3, width=1 / 32)
    modules = [*model.features, *model.classifier]
    for module, after in zip(modules, [*modules[1:], None]):
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            assert isinstance(after, nn.ReLU) == (after is not None)
    assert [m.p for m in model.classifier if isinstance(m, nn.Dropout)] == [0.5, 0.5]
    assert (
        sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in modules) == CONFIGS[name].weight_layers
    )


@pytest.mark.parametrize("scheme", INIT_SCHEMES)
def test_starting_weights(scheme):
    model = build("A", 10, width=1 / 2, image_size=32, init=scheme, generator=seeded())
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.weight.numel() > 5000:
            kernel = math.prod(module.kernel_size) if isinstance(module, nn.Conv2d) else 1
            fan_in, fan_out = kernel * module.weight.shape[1], kernel * module.weight.shape[0]
            std = {"paper": 0.1, "std0.01": 0.01, "glorot": math.sqrt(2 / (fan_in + fan_out))}
            std |= {"he": math.sqrt(2 / fan_in), "torch": math.sqrt(1 / (3 * fan_in))}
            assert module.weight.std().item() == pytest.approx(std[scheme], rel=0.05)
            assert abs(module.weight.mean().item()) < 0.05 * std[scheme]
            assert (module.bias == 0).all() or scheme == "torch"
            uniform = scheme in ("glorot", "torch")
            assert (module.weight.abs().max() <= math.sqrt(3) * std[scheme] * (1 + 1e-6)) == uniform


def test_equal_generators_give_equal_weights():
    one, two, three = (
        small(),
        small(),
        build("A", 3, width=1 / 16, image_size=32, generator=seeded(1)),
    )
    for a, b in zip(one.parameters(), two.parameters()):
        assert torch.equal(a, b)
    assert not torch.equal(one.features[0].weight, three.features[0].weight)


def test_initialise_resets_batch_norm():
    model = small(batch_norm=True)
    norm = model.features[1]
    with torch.no_grad():
        norm.weight.fill_(3), norm.running_mean.fill_(5)
    initialise(model)
    assert (
        (norm.weight == 1).all()
        and (norm.running_mean == 0).all()
        and (norm.running_var == 1).all()
    )


def test_pairs_of_sizes_and_wide_nets():
    images = torch.randn(2, 3, 96, 64, generator=seeded())
    model = build("C", 4, width=1 / 16, image_size=(96, 64)).eval()
    assert model(images).shape == (2, 4)
    assert to_dense(model)(images).shape == (2, 4, 1, 1)
    assert build("A", 3, width=2, image_size=32, device="meta").features[0].out_channels == 128


@few
@given(st.floats(0.001, 2))
def test_grouped_nets_can_be_built_at_any_width(width):
    for module in build("AlexNet", 2, width=width, device="meta").modules():
        if isinstance(module, nn.Conv2d):
            assert module.in_channels % module.groups == module.out_channels % module.groups == 0


# ---- heads and tools ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap", [lambda head: head, lambda head: nn.Sequential(nn.Flatten(), head)]
)
def test_any_head_that_reads_the_features(wrap):
    model = small("B")
    images = torch.randn(2, 3, 32, 32, generator=seeded(1))
    head = nn.Linear(32, 5)
    model.classifier = wrap(head)
    torch.testing.assert_close(model(images), head(model.features(images).flatten(1)))


def hooked(model, names, images):
    """Outputs of the modules ``names``, kept by forward hooks."""
    kept = {}
    for name in names:

        def hook(module, args, out, name=name):
            kept[name] = out.clone()  # a ReLU that follows works in place

        model.get_submodule(name).register_forward_hook(hook)
    model(images)
    return kept


def test_feature_extraction_equals_hooks():
    """torchvision's extractor follows the net with torch.fx."""
    model = build("D", 4, width=1 / 16, image_size=64, generator=seeded()).eval()
    images = torch.randn(2, 3, 64, 64, generator=seeded(1))
    names = ["features.4", "features.16", "features.30", "classifier.4"]
    with torch.inference_mode():
        found = create_feature_extractor(model, names)(images)
        expected = hooked(model, names, images)
    for name in names:
        assert torch.equal(found[name], expected[name])


def test_the_traced_net_computes_the_same():
    model = small("D", size=64)
    images = torch.randn(2, 3, 64, 64, generator=seeded(1))
    traced = torch.fx.symbolic_trace(model)
    assert torch.equal(traced(images), model(images))
    assert "features_0" in {node.name for node in traced.graph.nodes}


def test_the_whole_net_is_one_graph():
    model = small()
    images = torch.randn(2, 3, 32, 32, generator=seeded(1))
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(images), model(images))
    exported = torch.export.export(model, (images,)).module()
    torch.testing.assert_close(exported(images), model(images))


def test_layers_without_a_bias_can_be_drawn():
    model = nn.Sequential(nn.Conv2d(3, 64, 3, bias=False), nn.Linear(100, 100, bias=False))
    initialise(model, "paper", seeded())
    assert model[1].weight.std().item() == pytest.approx(0.1, rel=0.05)


# ---- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_classes": 0}, "num_classes=0: expected a whole number of at least 1"),
        ({"num_classes": 2.5}, "num_classes=2.5: expected a whole number of at least 1"),
        ({"width": 0}, "width=0: expected a finite number above 0"),
        ({"width": -1}, "width=-1: expected a finite number above 0"),
        (
            {"image_size": 31},
            "image_size=31: expected at least 32 pixels a side for D; nothing is left after pool5",
        ),
        (
            {"image_size": (224, 31)},
            "image_size=(224, 31): expected at least 32 pixels a side for D",
        ),
        (
            {"image_size": "224"},
            "image_size='224': expected a whole number of pixels of at least 1",
        ),
        ({"dropout": -0.1}, "dropout=-0.1: expected a probability"),
        ({"dropout": 1.0}, "dropout=1.0: expected a probability of at least 0 and below 1"),
        (
            {"init": "xavier"},
            "init='xavier': expected one of 'paper', 'std0.01', 'glorot', 'he', 'torch'",
        ),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build("D", **options)


def test_an_unknown_scheme_is_refused_before_anything_is_drawn():
    with pytest.raises(ValueError, match="init='typo': expected one of"):
        build("A", init="typo", device="meta")


def test_unknown_configuration():
    with pytest.raises(KeyError, match="unknown configuration 'vgg16'; valid names: A, A-LRN"):
        build("vgg16")
    with pytest.raises(ValueError, match="init='kaiming': expected one of"):
        initialise(small(), "kaiming")


# ---- as torchvision prints it, as torchvision draws it -----------------------------------------


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name, theirs", PAIRS)
def test_every_option_of_every_layer_is_torchvisions(name, theirs, batch_norm):
    """Kernels, strides, in-place ReLUs, dropout: all that PyTorch prints."""
    ours, other = twins(name, theirs, batch_norm)
    assert repr(ours.features) == repr(other.features)
    assert repr(ours.classifier) == repr(other.classifier)


@pytest.mark.parametrize("scheme", [scheme for scheme in INIT_SCHEMES if scheme != "torch"])
def test_a_generator_draws_all_weights(scheme):
    """PyTorch's own reset takes none; no other scheme touches the global generator."""
    options = {"width": 1 / 16, "image_size": 32, "init": scheme}
    before = torch.get_rng_state()
    one, two = (build("A", 3, generator=seeded(7), **options) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(one.parameters(), two.parameters()):
        assert torch.equal(a, b)


def test_biases_are_set_to_zero_and_the_default_scheme_is_hes():
    layer = nn.Linear(1000, 500)
    nn.init.ones_(layer.bias)
    initialise(layer, generator=seeded())
    assert (layer.bias == 0).all()
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / 1000), rel=0.02)


@pytest.mark.parametrize("fails", [False, True])
def test_testing_leaves_every_module_as_it_was(fails):
    nets = [small(batch_norm=True).train(), small()]
    nets[0].features[1].eval()
    nets[1].classifier.train()
    modes = [[module.training for module in net.modules()] for net in nets]
    try:
        with unchanged(nets):
            assert not any(module.training for net in nets for module in net.modules())
            assert torch.is_inference_mode_enabled()
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert modes == [[module.training for module in net.modules()] for net in nets]
    assert not torch.is_inference_mode_enabled()


def test_no_dropout_is_a_probability_too():
    model = build("A", 3, width=1 / 64, image_size=32, dropout=0)
    assert [m.p for m in model.classifier if isinstance(m, nn.Dropout)] == [0, 0]


@pytest.mark.parametrize("size", [2, 4])
def test_lrn_over_an_even_number_of_channels_is_pytorchs(size):
    x = 50 * torch.randn(2, 7, 3, 2, generator=seeded(), dtype=torch.double)
    theirs = nn.LocalResponseNorm(size, 1e-4 * size, 0.75, 2)
    torch.testing.assert_close(local_response_norm(x, LRN(size)), theirs(x))
