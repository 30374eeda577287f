"""Posteriors against an implementation written the slow way, and bad input."""

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.transforms import functional as TF

from tests.nets import as_convolutions, net, pictures
from vggbook import claims, to_dense
from vggbook.evaluate import fuse, posteriors, predict, test_scales
from vggbook.weights import FAMILIES

MEAN = torch.tensor([110.0, 120, 130]).view(3, 1, 1)


def the_slow_way(model, image, method, scales, flip, average="posterior"):
    """One image, every view on its own: torchvision resizes, crops and mirrors."""

    def prepare(x):
        return (x.float() - MEAN) / 40

    posteriors = {"dense": [], "multi_crop": []}
    for q in scales:
        resized = TF.resize(image, q, antialias=True)
        for view in [resized, TF.hflip(resized)] if flip else [resized]:
            h, w = view.shape[1:]
            c = model.image_size[0]
            with torch.no_grad():
                maps = (
                    as_convolutions(model, prepare(view)[None])[0].flatten(1).T
                )  # (positions, classes)
                tops = [round((h - c) * i / 4) for i in range(5)]
                lefts = [round((w - c) * i / 4) for i in range(5)]
                crops = torch.stack(
                    [prepare(TF.crop(view, top, left, c, c)) for top in tops for left in lefts]
                )
                crops = model(crops)
            for name, scores in (("dense", maps), ("multi_crop", crops)):
                p = (
                    scores.softmax(1).mean(0)
                    if average == "posterior"
                    else scores.mean(0).softmax(0)
                )
                posteriors[name].append(p)
    chosen = ("dense", "multi_crop") if method == "both" else (method,)
    return torch.stack([torch.stack(posteriors[name]).mean(0) for name in chosen]).mean(0)


@pytest.mark.parametrize("average", ["posterior", "logit"])
@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("method", ["dense", "multi_crop", "both"])
def test_predict_equals_the_slow_way(method, flip, average):
    model, images = net(), pictures([(80, 100), (130, 90), (80, 100), (60, 50), (64, 64)])
    rounded = predict(model, images, method, (96, 70), flip, average=average)
    images = [
        image.float() for image in images
    ]  # uint8 resampling rounds, and libraries round differently by one grey level
    found = predict(model, images, method, (96, 70), flip, average=average)
    expected = torch.stack(
        [the_slow_way(model, image, method, (70, 96), flip, average) for image in images]
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found.sum(1), torch.ones(5))
    torch.testing.assert_close(found, rounded, rtol=0, atol=0.02)
    assert expected.max() > 0.3, "posteriors this flat would hide differences"


def test_posterior_and_logit_averages_differ_and_a_sum_saturates():
    model, images = net(), pictures([(160, 160)] * 6)
    before, after = (predict(model, images, scales=128, average=a) for a in ("logit", "posterior"))
    assert (before - after).abs().max() > 1e-3
    with torch.no_grad():
        maps = to_dense(model)(model.preprocessing(torch.stack(images)))
    assert maps.shape[2:] == (4, 4)
    summed = maps.sum((2, 3)).softmax(1).max(1).values
    averaged = maps.mean((2, 3)).softmax(1).max(1).values
    assert (summed > averaged).all() and summed.mean() > 0.98


@settings(max_examples=4, deadline=None)
@given(
    st.permutations(range(5)),
    st.permutations([64, 80, 100]),
    st.sampled_from([1, 5000, 30000, 2**21, 2**30]),
    st.sampled_from([torch.uint8, torch.int16, torch.int64, torch.float32, torch.float64]),
    st.sampled_from(["dense", "multi_crop", "both"]),
    st.booleans(),
)
def test_neither_order_nor_batches_nor_memory_nor_dtype_change_the_result(
    order, scales, max_pixels, dtype, method, flip
):
    model = net()
    images = pictures([(64, 90), (90, 64), (64, 90), (130, 200), (33, 44)])
    plain = predict(model, images, method, (64, 80, 100), flip)
    given = [images[i].to(dtype) for i in order]
    found = predict(model, given, method, scales, flip, max_pixels=max_pixels)
    # floating pixels are not rounded after resampling: a grey level
    atol = 0.02 if dtype.is_floating_point else 1e-6
    torch.testing.assert_close(found, plain[list(order)], rtol=1e-4, atol=atol)
    one_by_one = [predict(model, [image], method, scales, flip) for image in given]
    torch.testing.assert_close(torch.cat(one_by_one), found, rtol=1e-4, atol=1e-6)


def test_no_pass_is_larger_than_max_pixels_asks():
    model = net(crop=64)
    seen = []
    model.features.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    image = pictures([(64, 1500)])
    bound = 64 * 700
    for method in ("dense", "multi_crop"):
        predict(model, image * 2, method, 64, max_pixels=bound)
    assert len(seen) > 4
    assert max(n * h * w for n, _, h, w in seen) <= bound


@pytest.fixture
def passes(monkeypatch):
    """Shapes of what the features of a net are given; the input itself lies channels last."""
    model, seen = net(crop=64), []

    def noted(module, given):
        assert given[0].is_contiguous(memory_format=torch.channels_last)
        seen.append(tuple(given[0].shape))

    model.features.register_forward_pre_hook(noted)
    return model, seen


@pytest.mark.parametrize("method, passed", [("dense", [6, 6, 2]), ("multi_crop", [6, 6, 2])])
def test_a_pass_takes_an_eighth_of_max_pixels(passes, method, passed):
    """Seven images and their mirror images; room for eight times six."""
    model, seen = passes
    predict(
        model, torch.stack(pictures([(64, 64)] * 7)), method, 64, grid=1, max_pixels=8 * 6 * 64**2
    )
    assert [n for n, *_ in seen] == passed


@pytest.mark.parametrize("method, count", [("dense", 3), ("multi_crop", 3 * 4)])
def test_the_least_that_a_pass_takes_is_an_image_and_its_mirror_image(passes, method, count):
    model, seen = passes
    predict(model, torch.stack(pictures([(64, 64)] * 3)), method, 64, grid=2, max_pixels=1)
    assert [n for n, *_ in seen] == [2] * count


@pytest.mark.parametrize("max_pixels, held", [(1, [64, 6]), (69 * 64**2, [69, 1])])
def test_images_held_rescaled_at_a_time(monkeypatch, max_pixels, held):
    """As many as eight passes would take, and 64 at least."""
    resize, asked = posteriors.isotropic_resize, []

    def noted(images, size):
        asked.append(len(images))
        return resize(images, size)

    monkeypatch.setattr(posteriors, "isotropic_resize", noted)
    images = torch.stack(pictures([(64, 64)])).expand(70, 3, 64, 64)
    predict(net(crop=32), images, scales=64, flip=False, max_pixels=max_pixels)
    assert asked == held


class OnGpu(nn.Parameter):
    """A weight that says it lies on a GPU."""

    is_cuda = property(lambda self: True)


@pytest.mark.parametrize("gpu, pixels", [(False, 2_097_152), (True, 67_108_864)])
def test_a_pass_is_larger_on_a_gpu(monkeypatch, gpu, pixels):
    """Two and 64 times 1024 x 1024 pixels, unless it is said."""
    model, seen = net(), []
    if gpu:
        model.features[0].weight = OnGpu(model.features[0].weight.data)

    def noted(self, views):
        seen.append(self.max_pixels)
        return torch.zeros(len(views), 1, 7)

    monkeypatch.setattr(posteriors._Scorer, "dense", noted)
    predict(model, IMAGES, scales=64)
    assert seen == [pixels]


def test_the_papers_way_is_the_default():
    """Sect. 3.2, 4.2, 4.3: the whole image at three scales, mirrored too; 5 x 5 crops."""
    given = {name: p.default for name, p in inspect.signature(predict).parameters.items()}
    way = {"method": "dense", "scales": test_scales((256, 512)), "flip": True}
    crops = claims()["crops-per-scale"].value["grid"]
    assert given == {
        **dict.fromkeys(["models", "images"], inspect.Parameter.empty),
        **way,
        "grid": crops[0],
        "average": "posterior",
        **dict.fromkeys(["preprocess", "max_pixels", "dtype"]),
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_passes_have_the_type_that_was_asked_for(dtype):
    model, seen = net(), []
    model.features.register_forward_hook(lambda module, given, out: seen.append(out.dtype))
    predict(model, IMAGES, scales=64, dtype=dtype)
    assert seen == [dtype]


def test_lower_precision_is_near():
    model = net()
    images = torch.stack(pictures([(90, 120)] * 2))
    plain = predict(model, images, "both", (64, 80))
    half = predict(model, images, "both", (64, 80), dtype=torch.bfloat16)
    assert half.dtype == torch.float32 and not torch.equal(half, plain)
    torch.testing.assert_close(half, plain, rtol=0, atol=0.05)


def test_order_of_scales_and_images_in_a_tensor_are_exact():
    model, images = net(), torch.stack(pictures([(90, 120)] * 5))
    plain = predict(model, images, scales=(64, 80, 100))
    assert torch.equal(plain, predict(model, images, scales=(100, 64, 80)))
    torch.testing.assert_close(plain, predict(model, list(images), scales=(64, 80, 100)))


def test_mirrored_images_have_the_same_posteriors():
    model, images = net(), torch.stack(pictures([(96, 128)] * 3))
    for method in ("dense", "multi_crop"):
        a, b = (predict(model, x, method, (64, 90)) for x in (images, images.flip(3)))
        torch.testing.assert_close(
            a, b, rtol=1e-4, atol=1e-3
        )  # uint8 resampling is not exactly symmetric
    assert (
        predict(model, images, scales=90, flip=False)
        - predict(model, images.flip(3), scales=90, flip=False)
    ).abs().max() > 1e-3


def test_small_images_are_enlarged():
    model, image = net(), [pictures([(20, 30)])[0].float()]
    torch.testing.assert_close(
        predict(model, image, scales=70)[0],
        the_slow_way(model, image[0], "dense", (70,), True),
        rtol=1e-3,
        atol=1e-5,
    )


def test_centre_crop_is_a_grid_of_one():
    model, images = net(), torch.stack(pictures([(80, 112)] * 2))
    with torch.no_grad():
        expected = model(model.preprocessing(TF.center_crop(images, 64))).softmax(1)
    torch.testing.assert_close(
        predict(model, images, "multi_crop", 80, flip=False, grid=1), expected
    )


def test_fusion_averages_posteriors_of_nets_with_their_own_crop_and_preprocessing():
    small, large, images = net("A"), net("B", crop=96, seed=1), pictures([(120, 150), (110, 100)])
    large.preprocessing = FAMILIES["authors"]
    together = predict([small, large], images, scales=(96, 110))
    apart = [predict(model, images, scales=(96, 110)) for model in (small, large)]
    torch.testing.assert_close(together, (apart[0] + apart[1]) / 2)
    torch.testing.assert_close(fuse(apart), together)


def test_predict_leaves_the_model_as_it_was():
    model = net(batch_norm=True).train()
    model.features[1].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    p = predict(model, torch.stack(pictures([(64, 64)] * 2)), scales=64)
    assert model.training and not model.features[1].training and model.classifier[2].training
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    assert not p.requires_grad and torch.equal(
        p, predict(model.eval(), torch.stack(pictures([(64, 64)] * 2)), scales=64)
    )


def test_default_preprocessing_is_the_papers():
    model = net()
    del model.preprocessing
    image = torch.full((1, 3, 64, 64), 100, dtype=torch.uint8)
    with torch.no_grad():
        expected = model(
            torch.tensor([100 - 123.68, 100 - 116.779, 100 - 103.939])
            .view(1, 3, 1, 1)
            .expand(1, 3, 64, 64)
        )
    torch.testing.assert_close(predict(model, image, scales=64), expected.softmax(1))
    torch.testing.assert_close(
        predict(model, image.float(), scales=64, preprocess=lambda x: x),
        model(image.float()).softmax(1),
    )


IMAGES = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"scales": ()}, r"scales=\(\): expected at least one test scale Q"),
        ({"scales": (96, 63)}, "Q=63: expected at least the crop of the network, 64 pixels"),
        ({"scales": (96.0,)}, "scales=96.0: expected a whole number of at least 1"),
        ({"scales": 0}, "scales=0: expected a whole number of at least 1"),
        ({"max_pixels": 0}, "max_pixels=0: expected a whole number of at least 1"),
        ({"method": "sparse"}, "method='sparse': expected one of 'dense', 'multi_crop', 'both'"),
        ({"average": "sum"}, "average='sum': expected one of 'posterior', 'logit'"),
        ({"method": "multi_crop", "grid": 0}, "grid=0: expected a whole number of at least 1"),
        (
            {"images": torch.zeros(2, 1, 64, 64)},
            r"images.shape=\(2, 1, 64, 64\): expected \(N, 3, H, W\)",
        ),
        (
            {"images": [IMAGES[0], torch.zeros(64, 64)]},
            r"images\[1\]=\(64, 64\): expected an RGB tensor \(3, H, W\)",
        ),
        ({"images": [IMAGES[0], "cat.jpg"]}, r"images\[1\]='str': expected an RGB tensor"),
        ({"images": [torch.zeros(3, 0, 64)]}, r"images\[0\]=\(3, 0, 64\): expected an RGB tensor"),
    ],
)
def test_bad_arguments_of_predict(arguments, message):
    with pytest.raises(ValueError, match=message):
        predict(**{"models": net(), "images": IMAGES, "scales": (64,), **arguments})


def test_bad_models():
    with pytest.raises(
        ValueError, match=r"classes of models=\[7, 5\]: expected nets over the same classes"
    ):
        predict([net(), net(classes=5)], IMAGES, scales=64)
    for models in ([], None, [net(), "vgg16"]):
        with pytest.raises(TypeError, match="models="):
            predict(models, IMAGES, scales=64)
    with pytest.raises(TypeError, match="model='Conv2d': expected a network with modules"):
        predict(nn.Conv2d(3, 4, 3), IMAGES, scales=64)
    with pytest.raises(
        ValueError, match="Q=80: expected at least the crop of the network, 96 pixels"
    ):
        predict([net(), net(crop=96)], IMAGES, scales=80)
    with pytest.raises(
        ValueError, match=r"shapes of posteriors=\[\(2, 3\), \(2, 4\)\]: expected one shape"
    ):
        fuse([torch.zeros(2, 3), torch.zeros(2, 4)])
    for none in ([], [torch.zeros(3)] * 2, [torch.zeros(2, 3, 4)] * 2):
        with pytest.raises(ValueError, match="shapes of posteriors="):
            fuse(none)
    assert torch.equal(fuse([torch.eye(3)]), torch.eye(3))


def test_posteriors_that_are_not_finite_are_refused():
    broken = net()
    broken.classifier[6].bias.data[3] = float("nan")
    with pytest.raises(
        ValueError,
        match=r"models\[1\] gives posteriors that are not finite for images\[0\] at Q=64",
    ):
        predict([net(), broken], IMAGES, scales=(64, 80))


# --- pixels ---------------------------------------------------------------------------------------
PICTURE = torch.stack(pictures([(64, 64)] * 2))


def test_any_kind_of_whole_numbers():
    plain = predict(net(), PICTURE, scales=64)
    for dtype in (torch.int16, torch.int32, torch.int64):
        assert torch.equal(predict(net(), PICTURE.to(dtype), scales=64), plain)
        assert torch.equal(predict(net(), list(PICTURE.to(dtype)), scales=64), plain)


def test_dark_pictures_are_pictures():
    for value in (0, 1):
        dark = torch.full((1, 3, 64, 64), value, dtype=torch.uint8)
        plain = predict(net(), dark, scales=64)
        torch.testing.assert_close(predict(net(), dark.float(), scales=64), plain)


def test_no_images_give_no_posteriors():
    assert predict(net(), [], scales=64).shape == (0, 7)


def test_a_head_that_ends_in_a_log_soft_max():
    """Soft-max of a log-soft-max is the soft-max: nothing changes, for dense evaluation neither."""
    model = net()
    plain = {way: predict(model, PICTURE, way, 80) for way in ("dense", "multi_crop")}
    model.classifier.append(nn.LogSoftmax(dim=1))
    for way, before in plain.items():
        torch.testing.assert_close(predict(model, PICTURE, way, 80), before)


def test_classes_are_counted_by_what_the_head_gives():
    model = net()
    model.classifier = nn.Sequential(nn.Linear(128, 6), nn.ReLU(), nn.Linear(6, 9), nn.Softmax(1))
    model.classifier.append(nn.Linear(9, 4))
    model.classifier.append(nn.Hardtanh())
    assert predict(model, PICTURE, scales=64).shape == (2, 4)
