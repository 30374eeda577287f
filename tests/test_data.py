"""Data: the procedural set, real sets in their own formats, the paper's steps and the loader."""

import functools
import hashlib
import http.server
import io
import math
import os
import pickle
import subprocess
import sys
import tarfile
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vggbook import data
from vggbook.book.photos import CREDITS, photograph
from vggbook.data import (
    ArrayDataset,
    Loader,
    ShapesDataset,
    UnreadableImage,
    colour_shift,
    in_memory,
    isotropic_resize,
    load_image,
    mean_rgb,
    open_dataset,
    pca_rgb,
    random_crop_flip,
)

few = settings(max_examples=15, deadline=None)


def noise(*shape, seed=0):
    return torch.randint(
        0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )


@pytest.fixture(scope="module")
def shapes():
    return ShapesDataset("train", 240, seed=3, size=48)


@pytest.fixture(scope="module")
def held(shapes):
    return in_memory(shapes)


# --- counter-based random numbers -------------------------------------------------------------------------------------
def test_the_mixer_is_a_bijection_and_its_uniforms_are_uniform():
    x = torch.randint(0, 2**32, (100_000,), generator=torch.Generator().manual_seed(1)).unique()
    assert len(data._mix(x).unique()) == len(x)
    u = data._uniforms(data._hash(7, torch.arange(4000)), 32)
    counts = torch.histc(u.double().flatten(), 64, 0, 1)
    expected = u.numel() / 64
    assert float(((counts - expected) ** 2 / expected).sum()) < 63 + 5 * math.sqrt(
        2 * 63
    )  # chi-squared, 5 sigma
    correlation = torch.corrcoef(u.double().T) - torch.eye(32)
    assert correlation.abs().max() < 5.5 / math.sqrt(4000)
    assert abs(torch.corrcoef(torch.stack([u[:-1, 0], u[1:, 0]]).double())[0, 1]) < 5 / math.sqrt(
        4000
    )


def test_hash_depends_on_every_key_and_on_its_place():
    one = torch.tensor([5])
    values = {
        int(data._hash(*keys, one))
        for keys in [(1, 2), (2, 1), (1, 2 + 2**32), (1, -2), (1,), (1, 2, 0)]
    }
    assert len(values) == 6


# --- the procedural set -----------------------------------------------------------------------------------------------
@few
@given(st.lists(st.integers(0, 239), min_size=1, max_size=9), st.sampled_from([24, 48, 61]))
def test_a_sample_depends_on_its_index_alone(shapes, indices, size):
    images, labels = shapes.batch(indices, size=size)
    assert images.dtype == torch.uint8 and images.shape == (len(indices), 3, size, size)
    for i, image, label in zip(indices, images, labels):
        alone, its = ShapesDataset("train", 1000, seed=3, size=size)[
            i
        ]  # another n and another order
        assert torch.equal(image, alone) and its == label == i % 12


def test_splits_seeds_and_indices_never_share_a_scene():
    sets = [
        ShapesDataset(split, 2000, seed=seed, size=8)
        for split in ("train", "val", "test")
        for seed in (0, 1)
    ]
    images = torch.cat([s.batch(range(2000))[0] for s in sets]).flatten(1)
    assert len(images.unique(dim=0)) == len(images)
    keys = [
        data._hash(0, torch.arange(50_000) * 3 + k) for k in range(3)
    ]  # what every draw of a scene starts from
    assert len(torch.cat(keys).unique()) == 150_000


def test_the_same_scene_at_any_size(shapes):
    large, small = (shapes.batch(range(40), size=s)[0].float() for s in (192, 48))
    averaged = torch.nn.functional.avg_pool2d(large, 4)
    assert (averaged - small).abs().mean() < 6  # grey levels; another scene differs by far more
    assert (averaged.roll(1, 0) - small).abs().mean() > 40


@pytest.mark.parametrize("aspect", [1.0, 1.6, 0.7])
def test_boxes_bound_the_object(aspect):
    s = ShapesDataset("val", 60, size=160, classes=24, aspect=aspect)
    index = torch.arange(60)
    masks, boxes = s.masks(index)[:, 0] > 0.5, s.boxes(index)
    height, width = masks.shape[1:]
    assert (min(height, width), width > height) == (160, aspect > 1)
    for mask, (cx, cy, w, h) in zip(masks, boxes.tolist()):
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        seen = [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
        box = [
            (cx - w / 2) * width,
            (cy - h / 2) * height,
            (cx + w / 2) * width,
            (cy + h / 2) * height,
        ]
        assert (
            max(abs(a - b) for a, b in zip(seen, box)) < 4
        )  # a sharp corner covers less than half of its last pixels
        assert min(cx - w / 2, cy - h / 2, 1 - cx - w / 2, 1 - cy - h / 2) > -1e-5


def test_object_scale_varies_and_is_the_one_that_is_drawn():
    s = ShapesDataset("train", 600, classes=["disc-stripes", "disc-dots"], size=64, difficulty=0)
    scales = s.scales(range(600))
    area = s.masks(range(600)).sum((1, 2, 3)) / 64**2
    torch.testing.assert_close(area, math.pi * scales**2 / 4, rtol=0.03, atol=0)
    hard = ShapesDataset("train", 2000, difficulty=0.5).scales(range(2000))
    assert hard.max() / hard.min() > 3


@pytest.mark.parametrize("classes", [4, 6, 9, 12, 16, 20, 24])
def test_neither_shape_nor_texture_decides(classes):
    names = [name.split("-") for name in ShapesDataset(classes=classes).classes]
    shapes, textures = {s for s, _ in names}, {t for _, t in names}
    assert (
        len(names) == classes == len(shapes) * len(textures) and min(len(shapes), len(textures)) > 1
    )


def test_classes_are_balanced_and_held_back_ones_are_other_pictures():
    s = ShapesDataset("test", 120, classes=["star-bars", "hexagon-bars", "spark-dots"])
    assert s.labels().bincount().tolist() == [40, 40, 40] and len(s) == 120
    assert s.batch([4])[1].item() == 1 and s.classes[1] == "hexagon-bars"


def test_shapes_and_textures_look_as_named():
    """Corners from the silhouette (area over bounding circle), textures from a plain picture's two colours."""
    n_sided = {"square": 4, "triangle": 3, "hexagon": 6}
    for name, n in n_sided.items():
        s = ShapesDataset(
            "train", 8, classes=[f"{name}-dots", f"{name}-checks"], size=200, difficulty=0
        )
        area = s.masks(range(8)).sum((1, 2, 3)) / 200**2
        r = s.scales(range(8)) / 2
        torch.testing.assert_close(
            area, n / 2 * math.sin(2 * math.pi / n) * r**2, rtol=0.02, atol=0
        )


def test_mixed_sizes_and_aspects_come_as_a_list():
    s = ShapesDataset("train", 40, size=(32, 64), aspect=(0.6, 1.7))
    images, labels = s.batch(range(40))
    assert isinstance(images, list) and len({x.shape for x in images}) > 20 and len(labels) == 40
    assert all(
        32 <= min(x.shape[1:]) <= 64 and max(x.shape[1:]) <= 1.7 * min(x.shape[1:]) for x in images
    )
    assert torch.equal(images[7], s[7][0])
    assert {min(x.shape[1:]) for x in s.batch(range(10), size=40)[0]} == {40}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "split='dev': expected one of 'train', 'val', 'test'"),
        ({"n": 0}, "n=0: expected 1 to"),
        ({"classes": 13}, "classes=13: expected one of 4, 6"),
        (
            {"classes": ["disc-dots", "disc-plaid"]},
            "classes=.*disc-plaid.*expected two or more different names",
        ),
        ({"classes": ["disc-dots"]}, "expected two or more"),
        ({"difficulty": 1.5}, "difficulty=1.5: expected 0 to 1"),
        ({"size": (96, 64)}, r"size=\(96, 64\): the minimum must not exceed the maximum"),
        ({"size": 4}, "size=4: expected at least 8"),
        ({"size": "big"}, "size='big': expected a number or a pair"),
        ({"aspect": 0.1}, "aspect=0.1: expected at least 0.25"),
    ],
)
def test_shapes_refuse(options, message):
    with pytest.raises(ValueError, match=message):
        ShapesDataset(**options)


def test_indices_out_of_range(shapes):
    with pytest.raises(IndexError, match="indices reach from 3 to 240: expected 0 to 239"):
        shapes.batch([3, 240])
    with pytest.raises(IndexError, match="index 240 of 240 images"):
        shapes[240]
    assert torch.equal(shapes[-1][0], shapes[239][0])


# --- steps ------------------------------------------------------------------------------------------------------------
@few
@given(st.integers(20, 70), st.integers(20, 70), st.integers(8, 90))
def test_isotropic_resize_is_torchvisions(h, w, s):
    from torchvision.transforms.v2 import functional as tv

    image = noise(3, h, w, seed=h * w)
    assert torch.equal(isotropic_resize(image, s), tv.resize(image, [s], antialias=True))
    torch.testing.assert_close(
        isotropic_resize(image.float(), s), tv.resize(image.float(), [s], antialias=True)
    )
    assert min(isotropic_resize(image, s).shape[1:]) == s


def test_isotropic_resize_takes_batches_lists_and_a_size_an_image():
    batch = noise(5, 3, 30, 40)
    assert isotropic_resize(batch, 24).shape == (5, 3, 24, 32)
    each = isotropic_resize(batch, [20, 24, 20, 30, 60])
    assert [x.shape[1] for x in each] == [20, 24, 20, 30, 60]
    assert all(torch.equal(x, isotropic_resize(b, x.shape[1])) for x, b in zip(each, batch))
    mixed = isotropic_resize([batch[0], noise(3, 50, 20)], torch.tensor([15, 10]))
    assert [tuple(x.shape) for x in mixed] == [(3, 15, 20), (3, 25, 10)]
    with pytest.raises(ValueError, match="S has 2 values: expected one for each of the 5 images"):
        isotropic_resize(batch, [20, 24])
    with pytest.raises(ValueError, match="S=0: expected a smallest side of at least 1"):
        isotropic_resize(batch, 0)


def test_random_crop_flip_cuts_what_its_numbers_say():
    """Pixel values that tell their own place: row in red, column in green."""
    place = torch.stack(torch.meshgrid(torch.arange(20), torch.arange(30), indexing="ij"))
    image = torch.cat([place, place[:1]]).to(torch.uint8)
    n = 4000
    crops = random_crop_flip(
        image.expand(n, -1, -1, -1), 16, torch.Generator().manual_seed(0)
    ).long()
    assert crops.shape == (n, 3, 16, 16)
    top, left, right = crops[:, 0, 0, 0], crops[:, 1, 0, 0], crops[:, 1, 0, -1]
    assert torch.equal(crops[:, 0, :, 3], top[:, None] + torch.arange(16))
    mirrored = right < left
    step = torch.where(mirrored[:, None], -torch.arange(16), torch.arange(16))
    assert torch.equal(crops[:, 1, 5], left[:, None] + step)
    for values, count in ((top, 5), (torch.minimum(left, right), 15), (mirrored.long(), 2)):
        found = values.bincount(minlength=count).double()
        assert len(found) == count and (
            (found - n / count) ** 2 / (n / count)
        ).sum() < count - 1 + 5 * math.sqrt(2 * count)
    again = random_crop_flip(
        image.expand(n, -1, -1, -1), 16, torch.Generator().manual_seed(0)
    ).long()
    assert torch.equal(crops, again)
    assert not (
        random_crop_flip(image.expand(64, -1, -1, -1), 16, flip=False)[:, 1].diff(dim=-1) != 1
    ).any()


def test_gather_and_slices_cut_the_same(monkeypatch):
    """The path for accelerators, run here on the CPU by hiding what the device is."""
    batch, u = noise(9, 3, 21, 33), torch.rand(9, 3, generator=torch.Generator().manual_seed(4))
    plain = data._crop(batch, 16, u, True)

    class Elsewhere(torch.Tensor):
        device = property(lambda self: torch.device("meta"))

    real = torch.Tensor.to
    monkeypatch.setattr(
        torch.Tensor,
        "to",
        lambda self, *a, **k: self if a[:1] == (torch.device("meta"),) else real(self, *a, **k),
    )
    arange = torch.arange
    monkeypatch.setattr(torch, "arange", lambda *a, device=None, **k: arange(*a, **k))
    gathered = data._crop(batch.as_subclass(Elsewhere), 16, u, True).as_subclass(torch.Tensor)
    assert torch.equal(plain, gathered)


def test_crops_of_a_list_and_too_large_a_crop():
    images = [noise(3, 20, 30), noise(3, 41, 22)]
    assert random_crop_flip(images, 20).shape == (2, 3, 20, 20)
    with pytest.raises(ValueError, match="crop=24: expected 1 to 20 for images of 20 x 30 pixels"):
        random_crop_flip(images, 24)


def test_colour_shift_has_the_covariance_of_the_eigenvectors():
    generator = torch.Generator().manual_seed(0)
    q = torch.linalg.qr(torch.randn(3, 3, generator=generator))[0]
    values = torch.tensor([3000.0, 400.0, 50.0])
    base = torch.rand(20_000, 3, 1, 2, generator=generator) * 255
    moved = colour_shift(base, (values, q), generator) - base
    assert (moved[..., 0] - moved[..., 1]).abs().max() < 1e-3  # one colour for the whole image
    shift = moved[:, :, 0, 0]
    expected = 0.01 * q @ torch.diag(values) @ q.T  # std 0.1
    assert (torch.cov(shift.T) - expected).abs().max() < 0.05 * expected.diag().max()
    assert shift.mean(0).abs().max() < 5 * 0.1 * math.sqrt(3000 / 20_000)
    one = colour_shift(
        torch.zeros(1, 3, 1, 1), (values, q), alpha=torch.tensor([[0.1, 0.0, 0.0]])
    ).flatten()
    torch.testing.assert_close(
        one, 0.1 * math.sqrt(3000) * q[:, 0]
    )  # 5.5 grey levels along the first component


def test_statistics_equal_numpys_over_mixed_sizes(held):
    images = [noise(3, 10, 14, seed=1), noise(3, 25, 9, seed=2), noise(3, 8, 8, seed=3) // 4]
    mixed = ArrayDataset(images, [0, 1, 0], "ab")
    pixels = np.concatenate([x.numpy().reshape(3, -1) for x in images], axis=1).astype(np.float64)
    np.testing.assert_allclose(mean_rgb(mixed, batch_size=2), pixels.mean(1), rtol=1e-6)
    values, vectors = pca_rgb(mixed, batch_size=2)
    covariance = np.cov(pixels, bias=True)
    np.testing.assert_allclose(
        vectors @ torch.diag(values) @ vectors.T, covariance, rtol=1e-4, atol=1e-2
    )
    assert (values.diff() <= 0).all() and values[-1] > 0
    np.testing.assert_allclose(mean_rgb(held), held.images.numpy().mean((0, 2, 3)), rtol=1e-6)
    with pytest.raises(ValueError, match="the data set is empty"):
        mean_rgb(torch.utils.data.Subset(held, []))


# --- the loader -------------------------------------------------------------------------------------------------------
def loader(dataset, **options):
    options = {
        "batch_size": 24,
        "crop": 32,
        "scales": (32, 56),
        "mean": [120, 110, 100],
        "seed": 5,
        **options,
    }
    return Loader(dataset, **options)


COLOUR = (torch.tensor([3000.0, 300, 30]), torch.eye(3))


def stacked(batches):
    return [torch.cat(parts) for parts in zip(*batches)]


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for p, q in zip(a, b) for x, y in zip(p, q))


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order(held):
    first, second = (stacked(loader(held).epoch(e)) for e in (0, 1))
    assert sorted(first[2].tolist()) == sorted(second[2].tolist()) == list(range(240))
    assert first[2].tolist() != second[2].tolist() and first[2].tolist() != list(range(240))
    assert first[0].dtype == torch.float32 and first[0].shape == (240, 3, 32, 32)
    assert torch.equal(first[1], first[2] % 12)


def test_the_loader_does_the_documented_steps_and_subtracts_the_mean_only(held):
    plain = loader(held, scales=40, flip=False)
    for images, _, indices in list(plain.epoch(0))[:2]:
        for image, i in zip(images, indices.tolist()):
            scaled = (
                isotropic_resize(held.images[i], 40).float()
                - torch.tensor([120.0, 110, 100])[:, None, None]
            )
            windows = scaled.unfold(1, 32, 1).unfold(2, 32, 1)  # (3, 9, 9, 32, 32)
            assert (windows == image[:, None, None]).all(0).all(-1).all(
                -1
            ).sum() == 1  # exactly one of the 81 crops
    centre = next(loader(held, scales=40, augment=False, shuffle=False).epoch(0))
    scaled = isotropic_resize(held.images[:24], 40)[:, :, 4:36, 4:36].float()
    assert torch.equal(centre[0], scaled - torch.tensor([120.0, 110, 100])[:, None, None])
    assert torch.equal(
        next(loader(held, gain=0.5).epoch(0))[0], 0.5 * next(loader(held).epoch(0))[0]
    )


def test_every_scale_of_the_range_is_drawn(held, monkeypatch):
    seen = []
    real = data._resized
    monkeypatch.setattr(data, "_resized", lambda images, S: seen.extend(S) or real(images, S))
    for e in range(4):
        list(loader(held, scales=(32, 35)).epoch(e))
    counts = torch.tensor(seen).bincount()[32:]
    assert len(counts) == 4 and ((counts - 240) ** 2 / 240).sum() < 3 + 5 * math.sqrt(6)


@pytest.fixture(scope="module")
def whole(held):
    return {e: list(loader(held, colour=COLOUR).epoch(e)) for e in (0, 7)}


@few
@given(epoch=st.sampled_from([0, 7]), start=st.integers(0, 10), world=st.sampled_from([1, 2, 3]))
def test_an_interrupted_epoch_goes_on_bit_for_bit(held, whole, epoch, start, world):
    ranks = [
        loader(held, colour=COLOUR, rank=r, world_size=world).epoch(epoch, start=start)
        for r in range(world)
    ]
    together = [stacked(parts) for parts in zip(*ranks)]  # the ranks' parts of each global batch
    assert same(whole[epoch][start:], together)


def test_workers_and_memory_change_nothing(shapes, held):
    whole = list(loader(held).epoch(2))
    assert same(whole, list(loader(shapes).epoch(2)))
    assert same(whole[8:], list(loader(held, workers=2).epoch(2, start=8)))


def test_colour_noise_is_one_colour_an_image_of_the_given_spread():
    grey = ArrayDataset(
        torch.full((3000, 3, 8, 8), 128, dtype=torch.uint8), torch.zeros(3000), ["x"]
    )
    colour = (torch.tensor([2500.0, 400, 100]), torch.eye(3))
    x = stacked(
        loader(grey, batch_size=1000, crop=8, scales=8, mean=[128] * 3, colour=colour).epoch(0)
    )[0]
    assert (x.amax((2, 3)) == x.amin((2, 3))).all()
    torch.testing.assert_close(
        x[:, :, 0, 0].std(0), torch.tensor([5.0, 2.0, 1.0]), rtol=0.08, atol=0
    )
    quiet = stacked(
        loader(
            grey, batch_size=1000, crop=8, scales=8, mean=[128] * 3, colour=colour, augment=False
        ).epoch(0)
    )[0]
    assert (quiet == 0).all()


def test_a_short_last_batch_is_dropped_in_training_and_kept_in_validation(held):
    assert (
        len(loader(held, batch_size=100)) == 2 == len(list(loader(held, batch_size=100).epoch(0)))
    )
    sizes = [len(y) for _, y, _ in loader(held, batch_size=100, shuffle=False).epoch(0)]
    assert sizes == [100, 100, 40]
    parts = [
        stacked(loader(held, batch_size=100, shuffle=False, rank=r, world_size=4).epoch(0))[2]
        for r in range(4)
    ]
    assert sorted(torch.cat(parts).tolist()) == list(range(240))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": 31}, "scales=31: the smallest side S must be at least crop=32"),
        ({"scales": (64, 40)}, r"scales=\(64, 40\): the minimum must not exceed the maximum"),
        (
            {"scales": (32, 40), "augment": False},
            "expected one smallest side S where augment=False",
        ),
        (
            {"batch_size": 25, "world_size": 2},
            "batch_size=25: expected a positive multiple of the 2 processes",
        ),
        ({"batch_size": 0}, "batch_size=0: expected a positive multiple"),
        ({"batch_size": 241}, "batch_size=241: the data set has only 240 images"),
        ({"rank": 2, "world_size": 2}, "rank=2: expected 0 to 1 for world_size=2"),
        ({"on_error": "ignore"}, "on_error='ignore': expected one of 'error', 'skip'"),
        ({"mean": [1.0]}, "expected the mean RGB, 3 values"),
    ],
)
def test_the_loader_refuses(held, options, message):
    with pytest.raises(ValueError, match=message):
        loader(held, **options)
    with pytest.raises(ValueError, match="start=11: expected 0 to 10"):
        next(loader(held).epoch(0, start=11))


def test_labels_out_of_range_are_named(held):
    with pytest.raises(ValueError, match="label 3 of image 1: expected 0 to 1"):
        ArrayDataset(noise(3, 3, 8, 8), [0, 3, 1], "ab")
    wrong = ArrayDataset(noise(4, 3, 8, 8), [0, 1, 2, 3], "abcd")
    wrong.classes = ("a", "b")
    with pytest.raises(ValueError, match=r"label [23] of image [23]: expected 0 to 1"):
        list(Loader(wrong, 4, crop=8, scales=8, mean=[0] * 3).epoch(0))
    with pytest.raises(ValueError, match="2 images, 1 labels"):
        ArrayDataset(noise(2, 3, 8, 8), [0], "ab")
    with pytest.raises(ValueError, match=r"images of torch.float32.*expected uint8"):
        ArrayDataset(torch.zeros(2, 3, 8, 8), [0, 1], "ab")


# --- files ------------------------------------------------------------------------------------------------------------
def jpeg(size=(40, 30), seed=0):
    buffer = io.BytesIO()
    Image.fromarray(noise(size[1], size[0], 3, seed=seed).numpy()).save(buffer, "JPEG")
    return buffer.getvalue()


def test_image_modes(tmp_path):
    rgb = noise(20, 30, 3).numpy()
    made = {
        "rgb.png": Image.fromarray(rgb),
        "grey.png": Image.fromarray(rgb[..., 0]),
        "deep.png": Image.fromarray(rgb[..., 0].astype(np.uint16) * 257),
        "alpha.png": Image.fromarray(np.dstack([rgb, np.full((20, 30), 255, np.uint8)])),
        "clear.png": Image.fromarray(np.dstack([rgb, np.zeros((20, 30), np.uint8)])),
        "palette.png": Image.fromarray(rgb).quantize(256),
        "bit.png": Image.fromarray(rgb[..., 0] > 99),
        "cmyk.tif": Image.fromarray(rgb).convert("CMYK"),
    }
    got = {}
    for name, image in made.items():
        image.save(tmp_path / name)
        got[name] = load_image(tmp_path / name)
        assert got[name].dtype == torch.uint8 and got[name].shape == (3, 20, 30)
    true = torch.from_numpy(rgb).permute(2, 0, 1)
    assert torch.equal(got["rgb.png"], true) and torch.equal(got["alpha.png"], true)
    assert (got["clear.png"] == 255).all()
    for name in ("grey.png", "deep.png"):  # 16 bits are scaled, not clipped
        assert torch.equal(got[name], true[:1].expand(3, -1, -1))
    assert torch.equal(got["bit.png"], ((true[:1] > 99) * 255).to(torch.uint8).expand(3, -1, -1))
    assert (got["cmyk.tif"].int() - true.int()).abs().max() <= 2
    assert (got["palette.png"].int() - true.int()).abs().float().mean() < 30


def test_orientation_is_applied(tmp_path):
    image = Image.fromarray(noise(20, 30, 3).numpy())
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    image.save(tmp_path / "turned.png", exif=exif)
    assert load_image(tmp_path / "turned.png").shape == (3, 30, 20)


def test_unreadable_images_are_named(tmp_path):
    (tmp_path / "cut.jpg").write_bytes(jpeg()[:400])
    (tmp_path / "text.png").write_bytes(b"no image")
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(np.full((4, 4), 70_000, np.int32)).save(tmp_path / "wide.tif")
    for name, reason in (
        ("cut.jpg", "truncated"),
        ("text.png", "cannot identify"),
        ("float.tif", "floating-point"),
        ("wide.tif", "70000"),
    ):
        with pytest.raises(UnreadableImage, match=rf"{name}: (?i:.*{reason})"):
            load_image(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load_image(tmp_path / "absent.png")


@pytest.fixture
def folder(tmp_path):
    for split, count in (("train", 8), ("val", 3)):
        for c, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                (tmp_path / split / name / f"{i}.jpg").write_bytes(jpeg((40 + i, 30 + c), seed=i))
    return tmp_path


def test_an_image_folder_feeds_the_loader(folder):
    train = open_dataset("folder", folder)
    assert (
        train.classes == ("cat", "dog") and len(train) == 16 and train.labels == [0] * 8 + [1] * 8
    )
    options = {"batch_size": 4, "crop": 24, "scales": (24, 40), "mean": mean_rgb(train)}
    batches = list(Loader(train, **options).epoch(0))
    assert sorted(stacked(batches)[2].tolist()) == list(range(16)) and batches[0][0].shape == (
        4,
        3,
        24,
        24,
    )
    assert same(batches[1:], list(Loader(train, **options, workers=1).epoch(0, start=1)))
    kept = in_memory(train, size=28)
    assert isinstance(kept.images, list) and {min(x.shape[1:]) for x in kept.images} == {28}
    assert len(list(Loader(kept, **options).epoch(0))) == 4
    assert isinstance(
        in_memory(open_dataset("folder", folder, "val")).batch([0, 5], size=24)[0], list
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_a_truncated_image_in_the_middle_of_an_epoch(folder, workers):
    victim = folder / "train" / "dog" / "3.jpg"  # index 11
    victim.write_bytes(victim.read_bytes()[:500])
    train = open_dataset("folder", folder)
    options = {"batch_size": 4, "crop": 24, "scales": 24, "mean": [0] * 3, "workers": workers}
    with pytest.raises(UnreadableImage, match=r"image 11: .*dog.3\.jpg: (?i:.*truncated)"):
        list(Loader(train, **options).epoch(0))
    tolerant = Loader(train, **options, on_error="skip")
    seen = stacked(tolerant.epoch(0))[2].tolist()
    assert sorted(seen) == [i for i in range(16) if i != 11]
    assert list(tolerant.skipped) == [11] and "3.jpg" in tolerant.skipped[11]
    for i in range(8):
        (folder / "train" / "cat" / f"{i}.jpg").write_bytes(b"")
    with pytest.raises(UnreadableImage, match="no readable image in a batch of 4"):
        list(Loader(train, **options, shuffle=False, on_error="skip").epoch(0))


def test_bad_folders_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'folder', split 'test'.*test"):
        open_dataset("folder", folder, "test")
    (folder / "train" / "owl").mkdir()
    with pytest.raises(FileNotFoundError, match="no valid file for the classes owl"):
        open_dataset("folder", folder)
    with pytest.raises(ValueError, match="class folders of 'val' are not those of 'train'"):
        open_dataset("folder", folder, "val")
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"empty.*find any class folder"):
        open_dataset("folder", tmp_path / "empty")
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "train").write_text("not a folder")
    with pytest.raises(FileNotFoundError, match=r"root='.*file'"):
        open_dataset("folder", tmp_path / "file")


def test_a_folder_that_may_not_be_read(folder, monkeypatch):
    real = os.scandir

    def scandir(path="."):
        if str(path).endswith("train"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match="train"):
        open_dataset("folder", folder)


def test_torchvision_sets_with_pil_images_are_accepted(folder):
    from torchvision.datasets import ImageFolder

    plain = ImageFolder(folder / "train")
    ours = open_dataset("folder", folder)
    torch.testing.assert_close(mean_rgb(plain), mean_rgb(ours))
    (folder / "train" / "cat" / "2.jpg").write_bytes(jpeg()[:300])
    with pytest.raises(UnreadableImage, match="image 2"):
        mean_rgb(plain)


# --- real sets: tiny archives in the published formats, read by torchvision's own classes -----------------------------
def pack(path, files, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def served(tmp_path):
    """A folder and the address at which a server on this machine offers it."""
    (tmp_path / "served").mkdir()
    handler = functools.partial(QuietHandler, directory=tmp_path / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path / "served", f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def md5(content):
    return hashlib.md5(content).hexdigest()


def test_cifar10_from_its_archive(tmp_path, served, monkeypatch):
    from torchvision.datasets import CIFAR10

    pixels = {f"data_batch_{k}": noise(20, 3072, seed=k).numpy() for k in range(1, 6)} | {
        "test_batch": noise(20, 3072, seed=9).numpy()
    }
    files = {
        k: pickle.dumps({"data": v, "labels": [i % 10 for i in range(20)]})
        for k, v in pixels.items()
    }
    files["batches.meta"] = pickle.dumps({"label_names": [f"class {c}" for c in range(10)]})
    shelf, address = served
    checksum = pack(
        shelf / CIFAR10.filename, {f"{CIFAR10.base_folder}/{k}": v for k, v in files.items()}
    )
    monkeypatch.setattr(CIFAR10, "url", f"{address}/{CIFAR10.filename}")
    monkeypatch.setattr(CIFAR10, "tgz_md5", checksum)
    monkeypatch.setattr(
        CIFAR10, "train_list", [[k, md5(files[k])] for k in files if k.startswith("data")]
    )
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5(files["test_batch"])]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5(files["batches.meta"])})
    with pytest.raises(
        FileNotFoundError, match=r"'cifar10'.*not found"
    ):  # nothing is fetched unasked
        open_dataset("cifar10", tmp_path / "root")
    train = open_dataset("cifar10", tmp_path / "root", download=True)
    val, test = (open_dataset("cifar10", tmp_path / "root", split) for split in ("val", "test"))
    assert (len(train), len(val), len(test)) == (90, 10, 20) and train.classes[3] == "class 3"
    assert (
        torch.equal(val[1][0], torch.from_numpy(pixels["data_batch_1"][19]).reshape(3, 32, 32))
        and val[1][1] == 9
    )
    assert torch.equal(test[4][0], torch.from_numpy(pixels["test_batch"][4]).reshape(3, 32, 32))
    assert not {x.numpy().tobytes() for x in train.images} & {
        x.numpy().tobytes() for x in val.images
    }


def test_stl10_from_its_archive(tmp_path, served, monkeypatch):
    from torchvision.datasets import STL10

    images = {
        k: noise(20, 3, 96, 96, seed=i)
        for i, k in enumerate(("train_X.bin", "test_X.bin", "unlabeled_X.bin"))
    }
    files = {
        k: v.transpose(2, 3).contiguous().numpy().tobytes() for k, v in images.items()
    }  # stored column by column
    files |= {
        k: bytes(i % 10 + 1 for i in range(20)) for k in ("train_y.bin", "test_y.bin")
    }  # labels count from 1
    files["class_names.txt"] = "\n".join(f"kind {c}" for c in range(10)).encode()
    shelf, address = served
    checksum = pack(
        shelf / STL10.filename, {f"{STL10.base_folder}/{k}": v for k, v in files.items()}
    )
    monkeypatch.setattr(STL10, "url", f"{address}/{STL10.filename}")
    monkeypatch.setattr(STL10, "tgz_md5", checksum)
    for attribute in ("train_list", "test_list"):
        monkeypatch.setattr(
            STL10, attribute, [[k, md5(files[k])] for k, _ in getattr(STL10, attribute)]
        )
    test = open_dataset("stl10", tmp_path / "root", "test", download=True)
    assert len(test) == 20 and test.classes[2] == "kind 2" and test[13][1] == 3
    assert torch.equal(test[5][0], images["test_X.bin"][5])
    assert [len(open_dataset("stl10", tmp_path / "root", s)) for s in ("train", "val")] == [18, 2]


def test_imagenette_from_its_archive(tmp_path, served, monkeypatch):
    from torchvision.datasets import Imagenette

    names = sorted(Imagenette._WNID_TO_CLASS)
    files = {
        f"imagenette2-320/{s}/{n}/{n}_{i}.JPEG": jpeg(seed=i)
        for s in ("train", "val")
        for n in names
        for i in range(2)
    }
    shelf, address = served
    checksum = pack(shelf / "imagenette2-320.tgz", files)
    uri = f"{address}/imagenette2-320.tgz"
    monkeypatch.setattr(Imagenette, "_ARCHIVES", {**Imagenette._ARCHIVES, "320px": (uri, checksum)})
    train = open_dataset("imagenette", tmp_path / "root", download=True)
    assert (
        len(train) == 20
        and train.classes[:2] == ("tench", "English springer")
        and train[19][1] == 9
    )
    assert (
        train[0][0].shape == (3, 30, 40)
        and len(open_dataset("imagenette", tmp_path / "root", "val")) == 20
    )
    with pytest.raises(ValueError, match="split='test': expected one of 'train', 'val'"):
        open_dataset("imagenette", tmp_path / "root", "test")


def test_imagenet_from_its_archives(tmp_path, monkeypatch):
    sio = pytest.importorskip("scipy.io")
    from torchvision.datasets import imagenet

    wnids, words = ["n01440764", "n02102040"], ["tench, Tinca tinca", "English springer"]
    kind = [
        ("ILSVRC2012_ID", "O"),
        ("WNID", "O"),
        ("words", "O"),
        ("gloss", "O"),
        ("num_children", "O"),
    ]
    synsets = np.array(
        [(i + 1, wnids[i], words[i], "", 0) for i in range(2)] + [(3, "n0", "fish", "", 2)],
        dtype=kind,
    )
    meta = io.BytesIO()
    sio.savemat(meta, {"synsets": synsets})
    root = tmp_path / "root"
    root.mkdir()
    truth = [2, 1, 2]
    devkit = {
        "meta.mat": meta.getvalue(),
        "ILSVRC2012_validation_ground_truth.txt": "\n".join(map(str, truth)).encode(),
    }
    archives = {
        "devkit": pack(
            root / "ILSVRC2012_devkit_t12.tar.gz",
            {f"ILSVRC2012_devkit_t12/data/{k}": v for k, v in devkit.items()},
        )
    }
    inner = {}
    for w in wnids:
        pack(tmp_path / f"{w}.tar", {f"{w}_{i}.JPEG": jpeg(seed=i) for i in range(2)}, "w")
        inner[f"{w}.tar"] = (tmp_path / f"{w}.tar").read_bytes()
    archives["train"] = pack(root / "ILSVRC2012_img_train.tar", inner, "w")
    photos = {f"ILSVRC2012_val_{i + 1:08d}.JPEG": jpeg((50 + i, 40), seed=i) for i in range(3)}
    archives["val"] = pack(root / "ILSVRC2012_img_val.tar", photos, "w")
    monkeypatch.setattr(
        imagenet, "ARCHIVE_META", {k: (imagenet.ARCHIVE_META[k][0], v) for k, v in archives.items()}
    )
    train, val = (open_dataset("imagenet", root, split) for split in ("train", "val"))
    assert train.classes == ("tench", "English springer") and train.labels == [0, 0, 1, 1]
    widths = {val[i][0].shape[2]: val[i][1] + 1 for i in range(3)}
    assert widths == {
        50 + i: label for i, label in enumerate(truth)
    }  # each image under its published label
    with pytest.raises(FileNotFoundError, match=r"'imagenet'.*archive"):
        open_dataset("imagenet", tmp_path / "nothing")
    with pytest.raises(ValueError, match="download=True: 'imagenet' cannot be downloaded"):
        open_dataset("imagenet", root, download=True)


def test_unknown_sets_are_refused(tmp_path):
    with pytest.raises(ValueError, match="name='mnist': expected one of 'cifar10'"):
        open_dataset("mnist", tmp_path)
    with pytest.raises(ValueError, match="split='dev': expected one of 'train', 'val', 'test'"):
        open_dataset("cifar10", tmp_path, "dev")


# --- photographs, imports ---------------------------------------------------------------------------------------------
def test_photographs_are_scikit_learns():
    from sklearn.datasets import load_sample_image

    for name, text in CREDITS.items():
        image = photograph(name)
        assert (
            np.array_equal(image.permute(1, 2, 0).numpy(), load_sample_image(f"{name}.jpg"))
            and "CC BY 2.0" in text
        )
    with pytest.raises(ValueError, match=r"name='cat': expected one of \['china', 'flower'\]"):
        photograph("cat")


def test_importing_and_drawing_stay_light():
    code = (
        "import sys; from vggbook.data import *; from vggbook.book.photos import photograph; photograph(); ShapesDataset().batch([0]); "
        "sys.exit(sorted({'torchvision', 'matplotlib', 'sklearn', 'scipy', 'pandas'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_and_feeds_the_same(shapes, held):
    there = ShapesDataset("train", 240, seed=3, size=48, device="cuda")
    images = there.batch(range(240))[0]
    assert images.is_cuda and (images.cpu().int() - held.images.int()).abs().max() <= 1
    kept = ArrayDataset(held.images.cuda(), held.labels, held.classes)
    for mine, theirs in zip(loader(held).epoch(1), loader(kept, device="cuda").epoch(1)):
        assert (
            theirs[0].is_cuda
            and (mine[0] - theirs[0].cpu()).abs().max() <= 1
            and torch.equal(mine[2], theirs[2])
        )


def test_the_hint_ties_colour_to_the_class_and_can_be_switched_off():
    def spread(
        hint,
    ):  # variance of class means over variance within classes, of the mean colour of each object
        s = ShapesDataset("train", 1200, classes=6, size=48, difficulty=0, hint=hint)
        images, labels = s.batch(range(1200))
        cover = s.masks(range(1200))
        colour = (images * cover).sum((2, 3)) / cover.sum((2, 3))  # (N, 3)
        means = torch.stack([colour[labels == k].mean(0) for k in range(6)])
        within = torch.stack([colour[labels == k].var(0) for k in range(6)]).mean()
        return float(means.var(0).mean() / within)

    assert spread(0) < 0.05 < spread(0.5) < spread(1)


@pytest.mark.parametrize("hint", [-0.1, 1.5])
def test_a_hint_out_of_range_is_refused(hint):
    with pytest.raises(ValueError, match=f"hint={hint}"):
        ShapesDataset("train", 10, hint=hint)
