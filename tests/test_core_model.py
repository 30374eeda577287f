"""The built networks against torchvision's, an independent forward pass from the released layer lists, and PyTorch's own LRN."""

import copy
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

from vggbook import CONFIGS, build, nets_before_vgg, to_dense
from vggbook.configs import LRN
from vggbook.model import INIT_SCHEMES, initialise, local_response_norm

PAIRS = [("A", "vgg11"), ("B", "vgg13"), ("D", "vgg16"), ("E", "vgg19")]
few = settings(max_examples=12, deadline=None)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small(name="A", classes=3, size=32, **options):
    return build(name, classes, width=1 / 16, image_size=size, generator=seeded(), **options).eval()


# ---- torchvision ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name, theirs", PAIRS)
def test_state_dict_is_torchvisions(name, theirs, batch_norm):
    with torch.device("meta"):
        other = getattr(torchvision.models, theirs + "_bn" * batch_norm)(init_weights=False)
    ours = build(name, batch_norm=batch_norm, device="meta")
    shapes = lambda model: [
        (key, tuple(value.shape), value.dtype) for key, value in model.state_dict().items()
    ]
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


# ---- an independent forward pass -----------------------------------------------------------------------------------------------


def lrn_by_hand(x, n, k, alpha, beta):
    """Krizhevsky et al. (2012), Sect. 3.3, channel by channel."""
    out = torch.empty_like(x)
    for i in range(x.shape[1]):
        near = x[:, max(0, i - n // 2) : min(x.shape[1] - 1, i + n // 2) + 1]
        out[:, i] = x[:, i] / (k + alpha * near.pow(2).sum(1)) ** beta
    return out


def released_forward(net, weights, x):
    """Forward pass from the released nets' layer list; pools rounded up by padding with minus infinity, as Caffe does."""
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


# ---- local response normalisation ----------------------------------------------------------------------------------------------


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


# ---- layers and starting weights -----------------------------------------------------------------------------------------------


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


# ---- the dense twin ------------------------------------------------------------------------------------------------------------


@few
@given(st.sampled_from(list(CONFIGS)), st.integers(0, 99))
def test_dense_twin_equals_the_net_at_crop_size(name, seed):
    model = build(name, 4, width=1 / 32, generator=seeded(seed)).eval()
    images = torch.randn(2, 3, 224, 224, generator=seeded(seed + 1))
    with torch.inference_mode():
        torch.testing.assert_close(
            to_dense(model)(images)[:, :, 0, 0], model(images), rtol=1e-4, atol=1e-4
        )


def test_dense_twin_is_the_classifier_at_every_position():
    model = small(classes=5, size=96)  # 3 x 3 maps before the first FC layer
    images = torch.randn(1, 3, 160, 128, generator=seeded(1))
    with torch.inference_mode():
        scores, maps = (
            to_dense(model)(images),
            model.features(images),
        )  # (1, 5, 3, 2), (1, 32, 5, 4)
        assert scores.shape == (1, 5, 3, 2)
        for i in range(3):
            for j in range(2):
                window = maps[:, :, i : i + 3, j : j + 3].flatten(1)
                torch.testing.assert_close(
                    scores[:, :, i, j], model.classifier(window), rtol=1e-4, atol=1e-5
                )


@pytest.mark.parametrize("q", [224, 256, 288, 384, 512])
def test_score_map_sizes(q):
    dense = to_dense(build("D", 2, width=1 / 64, device="meta"))
    assert dense(torch.empty(1, 3, q, q, device="meta")).shape == (1, 2, q // 32 - 6, q // 32 - 6)


def test_dense_twin_shares_the_weights():
    model = small()
    dense = to_dense(model)
    assert {p.data_ptr() for p in dense.parameters()} == {p.data_ptr() for p in model.parameters()}
    assert dense.training is False and to_dense(model.train()).training is True


# ---- bad input -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("twin", [lambda model: model, to_dense])
@pytest.mark.parametrize(
    "images, error, message",
    [
        (
            torch.zeros(3, 32, 32),
            ValueError,
            "shape (3, 32, 32); four axes (N, 3, H, W) are needed",
        ),
        (torch.zeros(1, 1, 3, 32, 32), ValueError, "four axes (N, 3, H, W) are needed"),
        (
            torch.zeros(2, 1, 32, 32),
            ValueError,
            "images has 1 channels (shape (2, 1, 32, 32)); 3 are needed",
        ),
        (
            torch.zeros(2, 32, 32, 3),
            ValueError,
            "images has 32 channels (shape (2, 32, 32, 3)); 3 are needed",
        ),
        (
            torch.zeros(2, 3, 32, 32, dtype=torch.uint8),
            TypeError,
            "dtype torch.uint8; the weights have torch.float32",
        ),
        (
            torch.zeros(2, 3, 32, 32, dtype=torch.float64),
            TypeError,
            "convert with images.to(torch.float32)",
        ),
        ([[0.0]], TypeError, "images is a list; a tensor of shape (N, 3, H, W) is needed"),
        (torch.zeros(2, 3, 32, 16), ValueError, "images are 32 x 16 pixels; this network takes"),
    ],
)
def test_bad_batches(twin, images, error, message):
    with pytest.raises(error, match=re.escape(message)):
        twin(small())(images)


def test_larger_images_go_to_the_dense_twin():
    model, images = small(), torch.zeros(1, 3, 64, 64)
    with pytest.raises(ValueError, match=r"exactly 32 x 32; to_dense\(model\) takes larger ones"):
        model(images)
    assert to_dense(model)(images).shape == (1, 3, 2, 2)
    with pytest.raises(ValueError, match="at least 32 x 32"):
        to_dense(model)(torch.zeros(1, 3, 31, 40))


def test_autocast_may_change_the_dtype():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert small()(torch.zeros(1, 3, 32, 32, dtype=torch.bfloat16)).shape == (1, 3)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_classes": 0}, "num_classes=0: a whole number of at least 1"),
        ({"num_classes": 2.5}, "num_classes=2.5: a whole number of at least 1"),
        ({"width": 0}, "width=0: a multiplier above 0"),
        ({"width": -1}, "width=-1: a multiplier above 0"),
        (
            {"image_size": 31},
            "image_size=31 is too small for D: nothing is left after pool5; at least 32 pixels",
        ),
        ({"image_size": (224, 31)}, "image_size=(224, 31) is too small for D"),
        ({"image_size": "224"}, "image_size='224': give a positive int, or a pair (height, width)"),
        ({"dropout": 1.0}, "dropout=1.0: a probability of at least 0 and below 1"),
        (
            {"init": "xavier"},
            "init='xavier': choose one of 'paper', 'std0.01', 'glorot', 'he', 'torch'",
        ),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build("D", **options)


def test_unknown_configuration():
    with pytest.raises(KeyError, match="unknown configuration 'vgg16'; valid names: A, A-LRN"):
        build("vgg16")
    with pytest.raises(ValueError, match="init='kaiming': choose one of"):
        initialise(small(), "kaiming")


def test_to_dense_needs_a_classifier():
    with pytest.raises(
        TypeError,
        match=r"Linear without a classifier: to_dense needs \.features and a \.classifier",
    ):
        to_dense(nn.Linear(3, 2))
    model = small()
    for classifier in (None, nn.Sequential(), nn.Linear(3, 2)):
        bare = copy.copy(model)
        bare._modules = {**model._modules, "classifier": classifier}
        with pytest.raises(TypeError, match="Network without a classifier"):
            to_dense(bare)
    bare._modules = {**model._modules, "classifier": nn.Sequential(nn.ReLU())}
    with pytest.raises(TypeError, match="classifier starts with ReLU; to_dense needs an FC layer"):
        to_dense(bare)
    bare._modules = {**model._modules, "classifier": nn.Sequential(nn.Linear(7, 2))}
    with pytest.raises(
        ValueError, match=r"classifier takes 7 numbers; 32 channels on a 1 x 1 map give 32"
    ):
        to_dense(bare)
