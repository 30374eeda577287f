"""Dense, multi-scale and multi-crop testing against an implementation written the slow way, the paper's arithmetic, and bad input."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import confusion_matrix, top_k_accuracy_score
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import functional as TF

from vggbook import CONFIGS, build, claims, tables, to_dense
from vggbook.data import ArrayDataset
from vggbook.evaluate import (
    crop_grid,
    dense_macs,
    evaluate,
    fuse,
    paper_rows,
    predict,
    score_map_size,
    test_scales,
)
from vggbook.weights import FAMILIES, Preprocessing

BEFORE_VGG = ("AlexNet", "VGG-F", "VGG-M", "VGG-S")


def net(config="A", classes=7, crop=64, seed=0, **keywords):
    """A small net whose posteriors are far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    model = build(
        config, classes, width=1 / 16, image_size=crop, generator=generator, **keywords
    ).eval()
    model.preprocessing = Preprocessing("test", (110.0, 120.0, 130.0), (40.0, 40.0, 40.0))
    return model


def pictures(sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = [torch.rand(1, 3, 6, 6, generator=generator) * 255 for _ in sizes]
    return [
        F.interpolate(c, size, mode="bicubic").clamp(0, 255)[0].to(torch.uint8)
        for c, size in zip(coarse, sizes)
    ]


def as_convolutions(model, x):
    """The FC layers as explicit convolutions: 7x7 (or what the map measures at the crop size), then 1x1."""
    with torch.no_grad():
        kernel = model.features(torch.zeros(1, 3, *model.image_size)).shape[2:]
        x = model.features(x)
        for layer in model.classifier:
            if isinstance(layer, nn.Linear):
                conv = nn.Conv2d(
                    layer.in_features // (kernel[0] * kernel[1]), layer.out_features, kernel
                )
                conv.weight.copy_(layer.weight.view_as(conv.weight))
                conv.bias.copy_(layer.bias)
                x, kernel = conv(x), (1, 1)
            else:
                x = layer(x)
    return x


def the_slow_way(model, image, method, scales, flip, average="posterior"):
    """One image, every view on its own: torchvision resizes, crops and mirrors."""
    prepare = lambda x: (x.float() - torch.tensor([110.0, 120, 130]).view(3, 1, 1)) / 40
    posteriors = {"dense": [], "multi_crop": []}
    for q in scales:
        resized = TF.resize(image, q, antialias=True)
        for view in [resized, TF.hflip(resized)] if flip else [resized]:
            h, w, c = *view.shape[1:], model.image_size[0]
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


# --- the dense net ----------------------------------------------------------------------------------------------------------------
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


def test_dense_evaluation_is_not_torchvisions_adaptive_pooling():
    from torchvision.models.vgg import VGG, make_layers

    torch.manual_seed(0)
    channels = [8, "M", 16, "M", 32, "M", 64, "M", 512, "M"]
    with torch.device("meta"):  # its own classifier has 120 million weights
        theirs = VGG(make_layers(channels)).eval()
    theirs.features = make_layers(channels)
    theirs.classifier = nn.Sequential(nn.Linear(512 * 7 * 7, 32), nn.ReLU(), nn.Linear(32, 4))
    dense = to_dense(theirs)
    with torch.no_grad():
        x = torch.randn(1, 3, 224, 224)
        torch.testing.assert_close(dense(x)[:, :, 0, 0], theirs(x), rtol=1e-4, atol=1e-5)
        x = torch.randn(1, 3, 256, 288)
        assert dense(x).shape == (1, 4, 2, 3)
        difference = (dense(x).mean((2, 3)) - theirs(x)).abs().max()
        rounding = (dense(x[..., :224, :224])[:, :, 0, 0] - theirs(x[..., :224, :224])).abs().max()
        assert difference > 1e-4 > 20 * rounding


@pytest.mark.parametrize("config", ["E", "B-5x5", "VGG-S", "AlexNet"])
@pytest.mark.parametrize("turn", [False, True])
def test_strips_bound_the_memory_and_change_nothing(config, turn):
    crop = 224 if config in BEFORE_VGG else 64
    model = build(config, 3, width=1 / 32, image_size=crop).eval()
    dense, seen = to_dense(model), []
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


def test_score_maps_have_the_sizes_of_the_arithmetic():
    sizes = claims()["score-map-sizes"]
    sizes.check(
        {q: score_map_size("D", q)[0] for q in (224, 256, 288, 352, 384, 416, 512, 640, 768)}
    )
    model = build("D", 3, width=1 / 64).eval()
    with torch.no_grad():
        for size in (224, (256, 341), 384, (512, 389)):
            h, w = (size, size) if isinstance(size, int) else size
            assert to_dense(model)(torch.zeros(1, 3, h, w)).shape[2:] == score_map_size("D", size)
    with pytest.raises(ValueError, match="image_size=200: at least the crop, 224"):
        score_map_size("D", 200)


@pytest.mark.parametrize(
    "config, size", [("A", 256), ("D", (256, 341)), ("E", 300), ("AlexNet", 260)]
)
def test_cost_of_dense_evaluation_equals_what_pytorch_counts(config, size):
    h, w = (size, size) if isinstance(size, int) else size
    model = to_dense(build(config, 10, device="meta"))
    with FlopCounterMode(display=False) as counter:
        model.scores(torch.empty(1, 3, h, w, device="meta"))
    assert counter.get_total_flops() == 2 * dense_macs(config, size, num_classes=10)


def test_costs_of_the_paper():
    crops = 3 * 50 * dense_macs("D", 224) / 1e9
    dense = sum(2 * dense_macs("D", q) for q in test_scales((256, 512))) / 1e9
    claims()["crop-cost"].check(
        {"gmac_150_crops": crops, "gmac_dense_3_scales_flip": dense, "ratio": crops / dense}
    )
    ratios = [25 * dense_macs("D", 224) / dense_macs("D", q) for q in (256, 384, 512)]
    assert [round(r, 1) for r in ratios] == [18.8, 7.8, 4.2]


# --- rules ------------------------------------------------------------------------------------------------------------------------
def test_scales_follow_the_rules_in_every_row_of_tables_3_and_4():
    for table, single in (("table_3", True), ("table_4", False)):
        for config, S, Q, *_ in tables()[table]["rows"]:
            expected = (Q,) if isinstance(Q, int) else tuple(Q)
            assert test_scales(tuple(S) if isinstance(S, list) else S, single) == expected, (
                table,
                config,
            )
    assert test_scales(73, step=9) == (64, 73, 82)


@pytest.mark.parametrize("S", [0, -3, 2.5, True, "256", (256,), (512, 256), (256, 256), (0, 5), 32])
def test_scales_refuse_what_is_no_scale(S):
    with pytest.raises(ValueError, match="S="):
        test_scales(S)


@given(st.integers(64, 300), st.integers(64, 300), st.integers(1, 6))
def test_crops_lie_inside_and_spread_evenly(h, w, grid):
    crops = crop_grid((h, w), 64, grid)
    assert len(crops) == grid**2
    assert all(0 <= t <= h - 64 and 0 <= l <= w - 64 for t, l in crops)
    if grid > 1:
        assert {0, h - 64} <= {t for t, _ in crops} and {0, w - 64} <= {l for _, l in crops}
        exact = [(h - 64) * i / (grid - 1) for i in range(grid)]
        assert all(abs(top - exact[i // grid]) <= 0.5 for i, (top, _) in enumerate(crops))


def test_crop_grid_of_the_paper_and_centre_crop():
    claim = claims()["grid-vs-dense-step"]
    steps = {q: crop_grid((q, q))[1][1] for q in (256, 384, 512)}
    dense_step = next(q for q in range(257, 400) if score_map_size("D", q)[0] == 3) - 256
    claim.check({"crop_step": steps, "dense_step": dense_step})
    assert crop_grid((70, 92), 64, grid=1) == [(3, 14)]
    with pytest.raises(ValueError, match=r"crops of 64 x 64 pixels do not fit"):
        crop_grid((63, 80), 64)
    with pytest.raises(ValueError, match="grid=0"):
        crop_grid((80, 80), 64, 0)


# --- predict ----------------------------------------------------------------------------------------------------------------------
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
    certain = lambda scores: scores.softmax(1).max(1).values
    assert (certain(maps.sum((2, 3))) > certain(maps.mean((2, 3)))).all() and certain(
        maps.sum((2, 3))
    ).mean() > 0.98


@settings(max_examples=5, deadline=None)
@given(
    st.permutations([0, 1, 2, 3, 4]),
    st.permutations([64, 80, 100]),
    st.sampled_from([30000, 2**21]),
)
def test_neither_order_nor_batching_nor_the_memory_bound_change_the_result(
    order, scales, max_pixels
):
    model, images = net(), pictures([(64, 90), (90, 64), (64, 90), (130, 200), (33, 44)])
    plain = predict(model, images, "both", (64, 80, 100))
    other = predict(model, [images[i] for i in order], "both", scales, max_pixels=max_pixels)
    torch.testing.assert_close(other, plain[list(order)], rtol=1e-4, atol=1e-6)


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


# --- evaluate ---------------------------------------------------------------------------------------------------------------------
def small_set(n=41, classes=7):
    images = pictures([(70 + i % 3, 80) for i in range(n)])
    return ArrayDataset(images, torch.arange(n) % classes, [f"class {i}" for i in range(classes)])


def test_evaluate_agrees_with_scikit_learn():
    model, data = net(), small_set()
    result = evaluate(model, data, scales=(64, 72), block=8)
    p = predict(model, data.images, scales=(64, 72)).numpy()
    truth = data.labels.numpy()
    assert np.array_equal(
        result.confusion.numpy(), confusion_matrix(truth, p.argmax(1), labels=range(7))
    )
    assert result.top1 == pytest.approx(
        100 * (1 - top_k_accuracy_score(truth, p, k=1, labels=range(7)))
    )
    assert result.top5 == pytest.approx(
        100 * (1 - top_k_accuracy_score(truth, p, k=5, labels=range(7)))
    )
    for c in range(7):
        assert result.per_class[c] == pytest.approx(
            100 * np.mean(p.argmax(1)[truth == c] != c), abs=1e-4
        )
    assert result.n == 41 and "41 images" in str(result)
    assert json.loads(json.dumps(result.as_dict()))["n"] == 41


def test_evaluate_holds_one_block_at_a_time_and_reads_plain_datasets():
    data, asked = small_set(), []

    class Plain:
        classes = data.classes

        def __len__(self):
            return len(data)

        def __getitem__(self, i):
            image, label = data[i]
            return Image.fromarray(
                image.permute(1, 2, 0).numpy()
            ), label  # PIL, as torchvision's sets give

    class Watched(ArrayDataset):
        def batch(self, indices, size=None):
            asked.append(len(indices))
            return super().batch(indices, size)

    reference = evaluate(net(), data, scales=64)
    assert torch.equal(evaluate(net(), Plain(), scales=64).confusion, reference.confusion)
    watched = Watched(data.images, data.labels, data.classes)
    assert torch.equal(evaluate(net(), watched, scales=64, block=4).confusion, reference.confusion)
    assert max(asked) == 4 and sum(asked) == 41


def test_paper_rows_are_those_of_the_tables():
    (row,) = paper_rows(["D"], "dense", (512, 256, 384))
    assert row == {"table": "4", "config": "D", "S": [256, 512], "top1": 24.8, "top5": 7.5}
    assert {(r["top1"], str(r["S"])) for r in paper_rows(["E"], "dense", [384])} == {
        (26.9, "384"),
        (25.5, "[256, 512]"),
    }
    assert [r["top5"] for r in paper_rows(["E"], "both")] == [7.1]
    assert [r["top1"] for r in paper_rows(["E", "D"], "both")] == [23.7]
    assert paper_rows(["A"], "multi_crop") == [] == paper_rows(["D"], "dense", [300])


# --- bad input --------------------------------------------------------------------------------------------------------------------
IMAGES = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"scales": ()}, r"scales=\(\): at least one test scale Q"),
        ({"scales": (96, 63)}, "Q=63 is below the crop size of the network, 64 pixels"),
        ({"scales": (96.0,)}, "scales=96.0: a whole number of pixels"),
        ({"method": "sparse"}, "method='sparse': choose one of 'dense', 'multi_crop', 'both'"),
        ({"average": "sum"}, "average='sum': choose 'posterior' or 'logit'"),
        ({"method": "multi_crop", "grid": 0}, "grid=0: at least 1 crop"),
        ({"images": torch.zeros(2, 1, 64, 64)}, r"images\[0\] is \(1, 64, 64\): an RGB tensor"),
        ({"images": [IMAGES[0], torch.zeros(64, 64)]}, r"images\[1\] is \(64, 64\)"),
        ({"images": [IMAGES[0], "cat.jpg"]}, r"images\[1\] is str"),
        ({"images": [torch.zeros(3, 0, 64)]}, r"images\[0\] is \(3, 0, 64\)"),
    ],
)
def test_bad_arguments_of_predict(arguments, message):
    with pytest.raises(ValueError, match=message):
        predict(**{"models": net(), "images": IMAGES, "scales": (64,), **arguments})


def test_bad_models():
    with pytest.raises(ValueError, match="models have 7 and 5 classes"):
        predict([net(), net(classes=5)], IMAGES, scales=64)
    for models in ([], None, [net(), "vgg16"]):
        with pytest.raises(TypeError, match="models="):
            predict(models, IMAGES, scales=64)
    with pytest.raises(TypeError, match="has no FC layer"):
        predict(nn.Conv2d(3, 4, 3), IMAGES, scales=64)
    with pytest.raises(ValueError, match="Q=80 is below the crop size of the network, 96"):
        predict([net(), net(crop=96)], IMAGES, scales=80)
    with pytest.raises(ValueError, match=r"posteriors have shapes \[\(2, 3\), \(2, 4\)\]"):
        fuse([torch.zeros(2, 3), torch.zeros(2, 4)])


def test_posteriors_that_are_not_finite_are_refused():
    broken = net()
    broken.classifier[6].bias.data[3] = float("nan")
    with pytest.raises(
        ValueError,
        match=r"models\[1\] gives posteriors that are not finite for images\[0\] at Q=64",
    ):
        predict([net(), broken], IMAGES, scales=(64, 80))


def test_labels_and_classes_are_checked():
    data, model = small_set(), net()

    class Unlabelled:
        classes, __len__ = data.classes, lambda self: 3
        __getitem__ = lambda self, i: (data[i][0], None)

    class ImagesOnly(Unlabelled):
        __getitem__ = lambda self, i: data[i][0]

    for dataset in (Unlabelled(), ImagesOnly()):
        with pytest.raises(ValueError, match=r"dataset\[0\] has no label"):
            evaluate(model, dataset, scales=64)
    data.labels[20] = 7
    with pytest.raises(ValueError, match=r"dataset\[20\] has label 7: 0 to 6 is needed"):
        evaluate(model, data, scales=64, block=16)
    with pytest.raises(ValueError, match="dataset has 7 classes, the network 5"):
        evaluate(net(classes=5), data, scales=64)


# --- a folder in ImageNet's layout, files of every kind, the command, two processes ------------------------------------------------
def save(path, kind, size=(90, 70)):
    array = pictures([size])[0].permute(1, 2, 0).numpy()
    image = Image.fromarray(array)
    if kind == "16-bit":
        Image.fromarray(array[..., 0].astype(np.uint16) * 257).save(path.with_suffix(".png"))
    elif kind in ("L", "RGBA", "P"):
        image.convert(kind).save(path.with_suffix(".png"))
    else:
        image.convert("CMYK" if kind == "CMYK" else "RGB").save(path)


@pytest.fixture(scope="module")
def imagenet_like(tmp_path_factory):
    """Three classes of four files each: colour, grey, transparent, palette, 16 bits, CMYK, small, oblong."""
    root = tmp_path_factory.mktemp("data")
    kinds = iter(
        ["RGB", "L", "RGBA", "P", "16-bit", "CMYK", "RGB", "L", "RGB", "RGB", "RGB", "RGB"]
    )
    sizes = iter([(90, 70), (40, 50), (120, 64)] * 4)
    for wnid in ("n01440764", "n01443537", "n01484850"):
        (root / "val" / wnid).mkdir(parents=True)
        for i in range(4):
            save(root / "val" / wnid / f"ILSVRC2012_val_{i}.JPEG", next(kinds), next(sizes))
    weights = root / "d.pth"
    torch.save(
        build("D", 3, width=1 / 32, generator=torch.Generator().manual_seed(0)).state_dict(),
        weights,
    )
    return root, weights


def two_processes(*arguments):
    """The command under the environment that torchrun gives to each process; the output of both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "vggbook.evaluate", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    outputs = [run.communicate(timeout=180) for run in runs]
    assert all(run.returncode == 0 for run in runs), outputs
    return [out for out, _ in outputs]


def test_the_command_prints_the_papers_row_and_two_processes_agree_with_one(
    imagenet_like, tmp_path, capsys
):
    from vggbook.evaluate import main

    root, weights = imagenet_like
    arguments = [
        "--data",
        root,
        "--weights",
        weights,
        "--family",
        "paper",
        "--method",
        "dense",
        "--scales",
        256,
        384,
        512,
        "--block",
        2,
        "--device",
        "cpu",
        "--json",
    ]
    main([str(a) for a in [*arguments, tmp_path / "one.json"]])
    alone = capsys.readouterr().out
    first, second = two_processes(*arguments, tmp_path / "two.json")
    assert "D, dense, Q = 256, 384, 512: top-1 error" in alone and second == ""
    assert (
        "paper, Table 4, D, S = [256;512]: top-1 error 24.8 %, top-5 error 7.5 %" in alone
        and first == alone
    )
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert one["n"] == 12 and one["classes"] == ["n01440764", "n01443537", "n01484850"]
    assert all(one[key] == two[key] for key in ("n", "top1", "top5", "confusion"))


def test_the_command_refuses_a_truncated_file_and_other_classes(imagenet_like, tmp_path):
    from vggbook.evaluate import main

    _, weights = imagenet_like
    for wnid in ("a", "b", "c"):
        (tmp_path / "val" / wnid).mkdir(parents=True)
        save(tmp_path / "val" / wnid / "0.JPEG", "RGB")
    whole = (tmp_path / "val" / "b" / "0.JPEG").read_bytes()
    (tmp_path / "val" / "b" / "0.JPEG").write_bytes(whole[: len(whole) // 2])
    arguments = [
        "--weights",
        str(weights),
        "--family",
        "paper",
        "--scales",
        "224",
        "--device",
        "cpu",
    ]
    with pytest.raises(OSError, match=r"b.0\.JPEG"):
        main(["--data", str(tmp_path), *arguments])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        main(["--data", str(tmp_path / "nowhere" / "val"), *arguments])
    (tmp_path / "val" / "b" / "0.JPEG").unlink()
    (tmp_path / "val" / "b").rmdir()
    with pytest.raises(ValueError, match="dataset has 2 classes, the network 3"):
        main(["--data", str(tmp_path / "val"), *arguments])
