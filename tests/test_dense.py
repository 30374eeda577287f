"""The fully convolutional twin against the net at crop size, convolutions, and windows by hand."""

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.vgg import VGG, make_layers

from tests.nets import BEFORE_VGG, as_convolutions, configs, net, seeded, small
from vggbook import CONFIGS, build, to_dense
from vggbook.arithmetic import smallest_image
from vggbook.evaluate import dense_macs, predict

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


@pytest.mark.parametrize("config", ["E", "B-5x5", "VGG-S", "AlexNet"])
@pytest.mark.parametrize("turn", [False, True])
def test_strips_bound_the_memory_and_change_nothing(config, turn):
    crop = 224 if config in BEFORE_VGG else 64
    model = build(config, 3, width=1 / 32, image_size=crop).eval()
    dense = to_dense(model)
    seen = []
    x = torch.randn(1, 3, 1500, crop + 41)
    x = x.transpose(2, 3).contiguous() if turn else x
    with torch.no_grad():
        whole = dense(x)
        dense.features.register_forward_pre_hook(
            lambda module, args: seen.append(args[0].shape[2] * args[0].shape[3])
        )
        strips = dense(x, max_pixels=700 * (crop + 41))
    torch.testing.assert_close(strips, whole, rtol=1e-4, atol=1e-5)
    assert len(seen) > 1 and max(seen) <= 700 * (crop + 41)


@pytest.mark.parametrize(
    "config, size", [("A", 256), ("D", (256, 341)), ("E", 300), ("AlexNet", 260)]
)
def test_cost_of_dense_evaluation_equals_what_pytorch_counts(config, size):
    h, w = (size, size) if isinstance(size, int) else size
    model = to_dense(build(config, 10, device="meta"))
    with FlopCounterMode(display=False) as counter:
        model.scores(torch.empty(1, 3, h, w, device="meta"))
    assert counter.get_total_flops() == 2 * dense_macs(config, size, num_classes=10)


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


# ---- torchvision's nets, and nets that do something else -------------------------------------


def torchvisions(channels=(8, "M", 16, "M", 32, "M", 64, "M", 512, "M"), classes=4):
    """Torchvision's VGG with few channels and a small classifier."""
    torch.manual_seed(0)
    with torch.device("meta"):  # its own classifier has 120 million weights
        model = VGG(make_layers(list(channels))).eval()
    model.features = make_layers(list(channels))
    model.classifier = nn.Sequential(nn.Linear(512 * 7 * 7, 32), nn.ReLU(), nn.Linear(32, classes))
    return model.eval()


def test_dense_evaluation_is_not_torchvisions_adaptive_pooling():
    theirs = torchvisions()
    dense = to_dense(theirs)
    with torch.no_grad():
        x = torch.randn(1, 3, 224, 224)
        torch.testing.assert_close(dense(x)[:, :, 0, 0], theirs(x), rtol=1e-4, atol=1e-5)
        x = torch.randn(1, 3, 256, 288)
        assert dense(x).shape == (1, 4, 2, 3)
        crop = x[..., :224, :224]
        difference = (dense(x).mean((2, 3)) - theirs(x)).abs().max()
        rounding = (dense(crop)[:, :, 0, 0] - theirs(crop)).abs().max()
        assert difference > 1e-4 > 20 * rounding


@pytest.mark.parametrize("pool", [1, 3, 7, (7, 1)])
def test_torchvisions_net_with_another_pool_and_head(pool):
    """The usual surgery: a global pool and one FC layer."""
    theirs = torchvisions()
    theirs.avgpool = nn.AdaptiveAvgPool2d(pool)
    high, wide = pool if isinstance(pool, tuple) else (pool, pool)
    theirs.classifier = nn.Sequential(nn.Linear(512 * high * wide, 5))
    x = torch.randn(2, 3, 256, 224)
    with torch.no_grad():
        crop = x[:, :, 32:]
        torch.testing.assert_close(to_dense(theirs)(crop)[:, :, 0, 0], theirs(crop))
        scores = to_dense(theirs)(x)
        assert scores.shape == (2, 5, 2, 1)
        maps = theirs.features(x)  # (2, 512, 8, 7)
        for i in range(2):
            pooled = theirs.avgpool(maps[:, :, i : i + 7]).flatten(1)
            torch.testing.assert_close(scores[:, :, i, 0], theirs.classifier(pooled))
    posteriors = predict(theirs, torch.full((1, 3, 224, 224), 7.0), scales=224, flip=False)
    crops = predict(theirs, torch.full((1, 3, 224, 224), 7.0), "multi_crop", 224, False)
    torch.testing.assert_close(posteriors, crops)


def test_torchvisions_alexnet():
    with torch.device("meta"):
        theirs = torchvision.models.alexnet().eval()
    assert to_dense(theirs)(torch.empty(1, 3, 256, 288, device="meta")).shape == (1, 1000, 2, 3)


class Like(nn.Module):
    """Parts with the usual names and a forward of its own."""

    image_size = (32, 32)

    def __init__(self, last=nn.Identity()):  # noqa: B008
        super().__init__()
        twin = small()
        self.features = twin.features
        self.classifier = twin.classifier
        self.last = last

    def forward(self, x):
        return self.last(self.classifier(self.features(x).flatten(1)))


def test_a_net_of_ones_own_is_compared_with_its_twin():
    images = torch.randn(2, 3, 32, 32, generator=seeded(1))
    model = Like().train()
    dense = to_dense(model)
    assert model.training and model.classifier[2].training
    model.eval()
    torch.testing.assert_close(dense.eval()(images)[:, :, 0, 0], model(images))
    with pytest.raises(ValueError, match=r"model='Like': expected a network whose forward"):
        to_dense(Like(nn.Sigmoid()))
    with pytest.raises(ValueError, match=r"model='Like': expected a network whose forward"):
        to_dense(Like(nn.Linear(3, 4)))


def test_features_must_slide():
    model = small(size=64)
    model.features.append(nn.AdaptiveAvgPool2d(1))
    model.classifier = nn.Linear(32, 4)
    with pytest.raises(ValueError, match="expected layers that make a larger map of a larger"):
        to_dense(model)


def test_what_has_no_dense_twin():
    what = r"expected a network with modules \.features and \.classifier"
    with pytest.raises(TypeError, match=f"model='Linear': {what}"):
        to_dense(nn.Linear(3, 2))
    model = small()
    model.classifier = None
    with pytest.raises(TypeError, match=f"model='Network': {what}"):
        to_dense(model)
    model.classifier = nn.Linear(7, 2)
    with pytest.raises(ValueError, match=r"classifier='Linear': .* maps of shape \(32, 1, 1\)"):
        to_dense(model)
    model.classifier = nn.Unflatten(1, (4, 8))
    with pytest.raises(
        ValueError, match=r"classifier=\(2, 4, 8\): expected a head that gives scores"
    ):
        to_dense(model)


def test_hooks_see_nothing_of_the_making():
    model = small(batch_norm=True).train()
    seen = []
    for module in model.modules():
        module.register_forward_hook(lambda module, args, out: seen.append(out))
        module.register_forward_pre_hook(lambda module, args: seen.append(args))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    to_dense(model)
    assert not seen
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_mode_of_single_layers_is_left_alone():
    model = small(batch_norm=True).train()
    model.features[1].eval()
    to_dense(model)
    assert not model.features[1].training and model.features[4].training
