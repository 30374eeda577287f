"""The procedural set: scenes, boxes, masks, classes, and what is refused."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode

from vggbook.data import SHAPES, ShapesDataset, hash_keys
from vggbook.data.painting import corners, coverage, paint
from vggbook.data.scenes import COLUMN_COUNT, Look, draw_scene, frame, named_columns

few = settings(max_examples=15, deadline=None)


def masks(shapes, indices):
    """Coverage 0..1 of each pixel by the object (N, 1, H, W), of pictures of one size."""
    image = shapes[0][0]
    side = min(image.shape[1:])
    y, x = ((torch.arange(length) + 0.5) / side for length in image.shape[1:])
    return coverage(shapes.scenes(indices).outline, x, y, side)


@pytest.fixture(scope="module")
def shapes():
    return ShapesDataset("train", 240, seed=3, size=48)


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
        hash_keys(0, torch.arange(50_000) * 3 + k) for k in range(3)
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
    inside, boxes = masks(s, index)[:, 0] > 0.5, s.boxes(index)
    height, width = inside.shape[1:]
    assert (min(height, width), width > height) == (160, aspect > 1)
    for mask, (cx, cy, w, h) in zip(inside, boxes.tolist()):
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
    area = masks(s, range(600)).sum((1, 2, 3)) / 64**2
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
    """Corners from the silhouette: its area over that of the bounding circle."""
    n_sided = {"square": 4, "triangle": 3, "hexagon": 6}
    for name, n in n_sided.items():
        s = ShapesDataset(
            "train", 8, classes=[f"{name}-dots", f"{name}-checks"], size=200, difficulty=0
        )
        area = masks(s, range(8)).sum((1, 2, 3)) / 200**2
        r = s.scales(range(8)) / 2
        torch.testing.assert_close(
            area, n / 2 * math.sin(2 * math.pi / n) * r**2, rtol=0.02, atol=0
        )


@pytest.mark.parametrize("name, n", [("disc", 48), ("square", 4), ("triangle", 3), ("hexagon", 6)])
def test_edges_are_straight(name, n):
    """An inner corner stands in the middle of an edge: at cos(pi / n) of the radius."""
    corners_of, inner = SHAPES[name]
    assert corners_of == n and inner == pytest.approx(math.cos(math.pi / n), rel=1e-12)


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
        ({"n": 2**30 + 1}, "n=1073741825: expected a whole number from 1 to 1073741824"),
        ({"seed": 1.5}, "seed=1.5: expected a whole number"),
        ({"classes": ["disc-dots"] * 2}, "expected two or more different names among .*'disc-str"),
        ({"difficulty": -0.5}, "difficulty=-0.5: expected a number from 0 to 1"),
        ({"n": 0}, "n=0: expected a whole number from 1 to"),
        ({"classes": 13}, "classes=13: expected one of 4, 6"),
        (
            {"classes": ["disc-dots", "disc-plaid"]},
            "classes=.*disc-plaid.*expected two or more different names",
        ),
        ({"classes": ["disc-dots"]}, "expected two or more"),
        ({"difficulty": 1.5}, "difficulty=1.5: expected a number from 0 to 1"),
        ({"size": (96, 64)}, r"size=\(96, 64\): expected a whole number of at least 8, or a pair"),
        ({"size": 4}, "size=4: expected a whole number of at least 8"),
        ({"size": "big"}, "size='big': expected a whole number"),
        ({"aspect": 0.1}, "aspect=0.1: expected a number of at least 0.25"),
    ],
)
def test_shapes_refuse(options, message):
    with pytest.raises(ValueError, match=message):
        ShapesDataset(**options)


def test_indices_out_of_range(shapes):
    with pytest.raises(IndexError, match="indices reach from 3 to 240: expected 0 to 239"):
        shapes.batch([3, 240])
    with pytest.raises(IndexError, match="indices reach from -1 to 3: expected 0 to 239"):
        shapes.batch([3, -1])
    for outside in (240, -241):
        with pytest.raises(IndexError, match=f"index {outside} of 240 images"):
            shapes[outside]
    assert torch.equal(shapes[-240][0], shapes[0][0]) and len(shapes.labels([])) == 0
    assert torch.equal(shapes[-1][0], shapes[239][0])


def test_the_hint_ties_colour_to_the_class_and_can_be_switched_off():
    def spread(hint):
        """Variance of class means over variance within classes, of each object's mean colour."""
        s = ShapesDataset("train", 1200, classes=6, size=48, difficulty=0, hint=hint)
        images, labels = s.batch(range(1200))
        cover = masks(s, range(1200))
        colour = (images * cover).sum((2, 3)) / cover.sum((2, 3))  # (N, 3)
        means = torch.stack([colour[labels == k].mean(0) for k in range(6)])
        within = torch.stack([colour[labels == k].var(0) for k in range(6)]).mean()
        return float(means.var(0).mean() / within)

    assert spread(0) < 0.05 < spread(0.5) < spread(1)


@pytest.mark.parametrize("hint", [-0.1, 1.5])
def test_a_hint_out_of_range_is_refused(hint):
    with pytest.raises(ValueError, match=f"hint={hint}"):
        ShapesDataset("train", 10, hint=hint)


def test_importing_and_drawing_stay_light():
    code = """
import sys
from vggbook.data import *
from vggbook.book.photos import photograph

photograph()
ShapesDataset().batch([0])
heavy = {"torchvision", "matplotlib", "sklearn", "scipy", "pandas"}
sys.exit(sorted(heavy & set(sys.modules)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_index_and_a_size_that_is_none():
    with pytest.raises(ValueError, match=r"indices=\[\]: expected at least one index"):
        ShapesDataset().batch([])
    with pytest.raises(ValueError, match="size=7: expected a whole number of at least 8"):
        ShapesDataset().batch([0], size=7)


def test_defaults():
    plain = ShapesDataset()
    options = {"n": 8192, "seed": 0, "size": 96, "classes": 12, "difficulty": 0.25, "aspect": 1.0}
    same = ShapesDataset("train", **options, hint=0.5, device="cpu")
    assert len(plain) == 8192 == len(plain.labels()) and plain.size == (96, 96)
    assert plain.classes == same.classes and len(plain.classes) == 12
    assert torch.equal(plain.batch(range(5))[0], same.batch(range(5))[0])


def test_indices_of_any_kind(shapes):
    images, labels = shapes.batch([3, 17])
    kinds = (torch.tensor([3, 17], dtype=torch.int32), np.array([3, 17]), range(3, 18, 14))
    for indices in (*kinds, (i for i in (3, 17))):
        found = shapes.batch(indices)
        assert torch.equal(found[0], images) and torch.equal(found[1], labels)
        assert found[1].dtype == torch.int64


def test_all_classes_by_name_are_the_24():
    names = ShapesDataset(classes=24).classes
    assert ShapesDataset(classes=list(names)).classes == names and len(set(names)) == 24


def test_the_longer_side_is_rounded_down():
    for aspect, shape in ((1.2299985, (3, 100, 122)), (1.6, (3, 100, 160)), (1.239, (3, 100, 123))):
        assert ShapesDataset(size=100, aspect=aspect)[0][0].shape == shape
        assert ShapesDataset(size=100, aspect=1 / aspect)[0][0].shape == (3, *shape[:0:-1])


@pytest.mark.parametrize(
    "difficulty, smallest", [(0, 0.30), (0.25, 0.1975), (0.5, 0.13), (1, 0.10)]
)
def test_radii_reach_as_far_as_is_said(difficulty, smallest):
    """0.20 at the default difficulty, 0.13 at 0.5, 0.10 at 1, up to 0.42 of the smallest side."""
    outline = ShapesDataset(difficulty=difficulty).scenes(range(8192)).outline
    assert outline.radius.min() == pytest.approx(smallest, rel=2e-3)
    assert outline.radius.max() == pytest.approx(0.42, rel=2e-3)


def look(**options):
    plain = {"size": (32, 64), "aspect": (0.5, 2.0), "difficulty": 0.0, "hint": 0.0}
    table = {"shape_of": torch.tensor([0, 1]), "texture_of": torch.tensor([2, 3])}
    return Look(**{**plain, **table, "colour_of": torch.zeros(2, 1, 3), **options})


def test_aspect_and_side_are_the_columns_that_say_so():
    u = torch.rand(200, COLUMN_COUNT, generator=torch.Generator().manual_seed(0))
    named = named_columns(u)
    side, width, height = frame(look(), u)
    aspect = 0.5 * 4 ** named["aspect"]  # even in the logarithm
    torch.testing.assert_close(width / height, aspect)
    assert torch.equal(torch.minimum(width, height), torch.ones(200, 1))
    assert torch.equal(side, torch.floor(32 + 33 * named["side"]))
    assert (named["aspect"] == named["side"]).sum() == 0
    top = torch.full((1, COLUMN_COUNT), 1 - 2**-24)
    assert frame(look(size=(32, 2**24)), top)[0] <= 2**24  # where rounding reaches one more


@pytest.mark.parametrize("number", [0.0, 0.5, 1 - 2**-24])
def test_without_difficulty_nothing_is_in_the_way(number):
    scene = draw_scene(look(), torch.full((2, COLUMN_COUNT), number), torch.tensor([0, 1]))
    assert not scene.plain.present.any() and not scene.bands.half.any()
    assert not scene.waves.colour.any() and not scene.light.slope.any()
    assert (scene.light.gain == 1).all() and (scene.outline.tilt == 1).all()


def test_scenes_are_painted_where_their_numbers_lie():
    there = {name: getattr(look(), name).to("meta") for name in ("shape_of", "texture_of")}
    u = torch.empty(3, COLUMN_COUNT, device="meta")
    labels = torch.empty(3, dtype=torch.int64, device="meta")
    scene = draw_scene(look(**there, colour_of=torch.zeros(2, 1, 3, device="meta")), u, labels)
    x, y = torch.empty(20, device="meta"), torch.empty(16, device="meta")
    picture = paint(scene, x, y, 16)
    assert picture.is_meta and picture.dtype == torch.uint8 and picture.shape == (3, 3, 16, 20)
    assert all(place.is_meta for place in corners(scene.outline))


def test_a_plain_ground_is_rounded_to_its_grey_level_and_clipped():
    """The object stands aside; light multiplies all."""
    scene = draw_scene(
        look(), torch.full((5, COLUMN_COUNT), 0.5), torch.zeros(5, dtype=torch.int64)
    )
    grey = torch.tensor([0.0, 100, 254, 100.4, 200]).view(5, 1, 1).expand(5, 1, 3) / 255
    scene = scene._replace(
        ground=scene.ground._replace(near=grey, far=grey),
        light=scene.light._replace(gain=torch.tensor([[1.0], [1], [1], [1], [1.5]])),
        outline=scene.outline._replace(x=torch.full((5, 1), -9.0)),
    )
    x = (torch.arange(10) + 0.5) / 8
    picture = paint(scene, x, x[:8], 8).flatten(1)
    assert picture.unique(dim=1).tolist() == [[0], [100], [254], [100], [255]]


class Placed(TorchFunctionMode):
    """Notes the functions that make small tensors without a word on where they are to lie."""

    MAKERS = (torch.arange, torch.tensor, torch.as_tensor, torch.empty, torch.zeros, torch.ones)

    def __init__(self):
        super().__init__()
        self.unplaced = []

    def __torch_function__(self, function, types, args=(), options=None):
        made = function(*args, **(options or {}))
        placed = function not in self.MAKERS or "device" in (options or {})
        if not placed and made.dim() and made.numel() < 2**20:  # a number goes anywhere
            self.unplaced.append(function.__name__)
        return made


def test_a_set_makes_its_tensors_on_its_device():
    """A tensor made elsewhere would stop every GPU."""
    with Placed() as placed:
        torch.arange(3)
        assert placed.unplaced == ["arange"]  # it is seen
        mixed = ShapesDataset("val", 40, size=(8, 16), aspect=(0.7, 1.5), classes=4)
        mixed.batch([0, 5, 9])
        mixed.boxes([1]), mixed.scales(range(4)), mixed.labels()
    assert placed.unplaced == ["arange"]
