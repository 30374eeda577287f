"""Dense twins of torchvision's nets and of nets of one's own; nets that have none."""

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.vgg import VGG, make_layers

from tests.nets import seeded, small
from vggbook import build, to_dense
from vggbook.evaluate import predict
from vggbook.foreign import grid_and_classes, head_of, parts


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


def test_torchvisions_nets_are_known_and_not_run():
    """A net of another make is run once, beside its twin."""
    vgg = torchvisions()
    with torch.device("meta"):
        alexnet = torchvision.models.alexnet().eval()
    alexnet.features = nn.Sequential(nn.Conv2d(3, 2, 3, 32))
    alexnet.classifier = nn.Linear(2 * 36, 3)
    for model, runs in ((vgg, 0), (alexnet, 0), (Like(), 2)):
        seen = []
        hook = model.features.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        to_dense(model)
        hook.remove()
        assert len(seen) == runs, type(model)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_nets_of_any_dtype_and_without_memory(kind):
    model = Like().to(kind)
    images = torch.randn(1, 3, 32, 32, dtype=kind, generator=seeded(1))
    torch.testing.assert_close(to_dense(model)(images)[:, :, 0, 0], model(images))
    assert to_dense(small().to(kind))(images).dtype == kind
    images = images.to("meta")
    assert to_dense(Like().to(kind).to("meta"))(images).shape == (1, 3, 1, 1)


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


def test_scores_may_differ_by_a_hundredth_of_the_largest():
    """Ours are the net's divided by the factor: 1 - 1 / 1.009 is below a hundredth."""
    before = torch.get_rng_state()
    silent = Like()
    nn.init.zeros_(silent.classifier[-1].weight)
    assert to_dense(silent).classes == 3  # scores of nought are equal too
    assert to_dense(Like(Times(1.009))).classes == 3
    with pytest.raises(ValueError, match="model='Like': expected a network whose forward"):
        to_dense(Like(Times(1.012)))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_grid_is_the_map_of_a_crop_in_its_order():
    model = build("A", 5, width=1 / 64, image_size=(64, 96))
    head = nn.Sequential(nn.Flatten(), model.classifier)
    assert grid_and_classes(model.features, head, (64, 96)) == ((2, 3), 5)


def test_our_own_nets_have_no_pool_before_the_classifier():
    """A part named avgpool is torchvision's; our forward passes it by."""
    model = small(size=64)
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    images = torch.randn(2, 3, 64, 64, generator=seeded(1))
    torch.testing.assert_close(to_dense(model)(images)[:, :, 0, 0], model(images))


def test_parts_are_named_as_the_caller_calls_them():
    with pytest.raises(TypeError, match=r"^net='Linear': expected a network with modules"):
        parts(nn.Linear(3, 2))
    with pytest.raises(TypeError, match=r"^model='Linear': expected a network with modules"):
        head_of(nn.Linear(3, 2))
    model = small()
    model.features = None
    with pytest.raises(TypeError, match=r"^student='Network': expected a network with modules"):
        parts(model, "student")


def test_features_must_give_maps():
    model = small(size=64)
    model.features.append(nn.Flatten())
    words = "^features='Sequential': expected layers that make a larger map of a larger image"
    with pytest.raises(ValueError, match=words):
        to_dense(model)


def test_a_wrong_head_behind_a_pool_is_named():
    theirs = torchvisions()
    theirs.classifier = nn.Linear(7, 2)
    with pytest.raises(ValueError, match=r"^classifier='Linear': .* maps of shape \(512, 7, 7\)"):
        to_dense(theirs)
