"""The procedural set: pictures of one textured shape each, drawn by (seed, split, index) alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..checks import choice, needs, number, pair, whole, whole_pair
from ..inputs import Images
from .keyed import hash_keys, uniforms
from .painting import corners, paint
from .scenes import COLUMN_COUNT, FRAME_COLUMNS, SHAPES, TEXTURES, Look, Scene, draw_scene, frame

SPLITS = ("train", "val", "test")
# number of classes: shapes, textures
_GRIDS = {4: (2, 2), 6: (3, 2), 9: (3, 3), 12: (4, 3), 16: (4, 4), 20: (5, 4), 24: (6, 4)}
_SCENES_AT_ONCE = 1024
_PIXELS_ON_CPU = 131_072  # what fits the cache
_PIXELS_ELSEWHERE = 16_777_216


class ShapesDataset:
    """Pictures of one textured shape each; the class is shape and texture: neither alone decides.

    Plain shapes (a shape without a texture) and textured bands (a texture without a shape) clutter
    every scene; objects' radii reach from 0.20 (0.13 at difficulty 0.5, 0.10 at 1) to 0.42 of the
    smallest side; colours, lighting, pose and foreshortening vary. A scene is a function of (seed,
    split, index) alone, in continuous coordinates: any batch, order, device or size shows the same
    scene. Splits and indices are hashed by a bijection, so no two samples of the three splits share
    a scene. Labels go round robin: class = index mod classes.

    split: "train", "val" or "test".
    n: number of images, up to 2**30.
    size: smallest side in pixels, or (min, max): drawn per image.
    classes: 4, 6, 9, 12, 16, 20 or 24, or names "shape-texture" (SHAPES x TEXTURES), for instance
        to hold classes back.
    difficulty: 0 (large, strong contrast, no clutter) to 1.
    aspect: width / height, or (min, max): drawn per image.
    hint: how far the class fixes the object's paint, 0 (colour says nothing) to 1; colour alone
        never decides, but without a hint a deep net finds nothing to start from.
    device: where pictures are drawn; CPU and GPU agree to a grey level.

    Raises ValueError for anything else, naming argument and value.
    """

    def __init__(
        self,
        split: str = "train",
        n: int = 8192,
        seed: int = 0,
        size: int | tuple[int, int] = 96,
        classes: int | Sequence[str] = 12,
        difficulty: float = 0.25,
        aspect: float | tuple[float, float] = 1.0,
        hint: float = 0.5,
        device: str | torch.device = "cpu",
    ):
        self.split = choice("split", split, SPLITS)
        self.n = whole("n", n, low=1, high=2**30)
        self.seed = whole("seed", seed)
        self.size = whole_pair("size", size, low=8)
        self.aspect = pair("aspect", aspect, low=0.25)
        self.difficulty = number("difficulty", difficulty, low=0, high=1)
        self.hint = number("hint", hint, low=0, high=1)
        self.classes = _class_names(classes)
        self.device = torch.device(device)
        kinds = [name.split("-") for name in self.classes]
        shape_of = [list(SHAPES).index(shape) for shape, _ in kinds]
        texture_of = [list(TEXTURES).index(texture) for _, texture in kinds]
        turn = torch.arange(len(kinds), device=self.device) * 0.618  # of the circle of hues
        rgb = torch.tensor([0, 1 / 3, 2 / 3], device=self.device)
        hue = 0.5 + 0.5 * torch.cos(2 * math.pi * (turn[:, None] - rgb))  # neighbours far apart
        self._look = Look(
            size=self.size,
            aspect=self.aspect,
            difficulty=self.difficulty,
            hint=self.hint,
            shape_of=torch.tensor(shape_of, device=self.device),
            texture_of=torch.tensor(texture_of, device=self.device),
            colour_of=hue[:, None],
        )

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not -self.n <= index < self.n:
            raise IndexError(f"index {index} of {self.n} images")
        images, labels = self.batch([index % self.n])
        return images[0], int(labels[0])

    def batch(self, indices: Iterable[int], size: int | None = None) -> tuple[Images, Tensor]:
        """Images uint8 (N, 3, H, W), labels int64 (N,), on `device`; a list where sizes differ.

        indices: N integers. size: smallest side in pixels, in place of the set's own.
        """
        index = self._checked(indices)
        return self._render(index, size), self.labels(index)

    def labels(self, indices: Iterable[int] | None = None) -> Tensor:
        """Labels int64 (N,); of the whole set without `indices`."""
        index = self._checked(range(self.n) if indices is None else indices)
        return index % len(self.classes)

    def boxes(self, indices: Iterable[int]) -> Tensor:
        """The object's tight bounding box: centre x, centre y, width, height, float32 (N, 4).

        All four are fractions of the image's sides (App. A's parametrisation).
        """
        scene = self.scenes(indices)
        sides = torch.cat([scene.width, scene.height], dim=1)  # (N, 2)
        low, high = torch.stack(corners(scene.outline), dim=1).aminmax(dim=2)  # (N, 2)
        return torch.cat([(low + high) / 2 / sides, (high - low) / sides], dim=1)

    def scenes(self, indices: Iterable[int]) -> Scene:
        """The numbers behind N pictures: every thing in them, from back to front."""
        return self._scenes(self._checked(indices))

    def scales(self, indices: Iterable[int]) -> Tensor:
        """The object's diameter over the image's smallest side, float32 (N,)."""
        return 2 * self.scenes(indices).outline.radius[:, 0]

    def _checked(self, indices: Iterable[int]) -> Tensor:
        values = indices if isinstance(indices, Tensor) else list(indices)
        index = torch.as_tensor(values, dtype=torch.int64, device=self.device).reshape(-1)
        if len(index) and not (int(index.min()) >= 0 and int(index.max()) < self.n):
            reach = f"indices reach from {int(index.min())} to {int(index.max())}"
            raise IndexError(f"{reach}: expected 0 to {self.n - 1}")
        return index

    def _numbers(self, index: Tensor, count: int) -> Tensor:
        return uniforms(hash_keys(self.seed, index * 3 + SPLITS.index(self.split)), count)

    def _scenes(self, index: Tensor) -> Scene:
        return draw_scene(self._look, self._numbers(index, COLUMN_COUNT), index % len(self.classes))

    def _frames(self, index: Tensor, size: int | None) -> Tensor:
        """Smallest side, height and width in pixels, int64 (N, 3)."""
        side, width, height = frame(self._look, self._numbers(index, FRAME_COLUMNS))
        if size is not None:
            side = torch.full_like(side, whole("size", size, low=8))
        parts = [side, torch.floor(side * height + 1e-4), torch.floor(side * width + 1e-4)]
        return torch.cat(parts, dim=1).long()

    def _render(self, index: Tensor, size: int | None) -> Images:
        needs(len(index) > 0, "indices", [], "at least one index")
        frames, which = self._frames(index, size).unique(dim=0, return_inverse=True)
        pictures: list = [None] * len(index)
        for f, (side, *shape) in enumerate(frames.tolist()):
            members = (which == f).nonzero()[:, 0]
            out = torch.empty(len(members), 3, *shape, dtype=torch.uint8, device=self.device)
            self._fill(out, index[members], side)
            if len(frames) == 1:
                return out
            for i, picture in zip(members.tolist(), out):
                pictures[i] = picture
        return pictures

    def _fill(self, out: Tensor, index: Tensor, side: int) -> None:
        """Pictures of one size into `out` (N, 3, H, W), a chunk that fits the cache at a time."""
        # Measured: 1.1 times as fast. Once 28 MiB were freed, glibc keeps later blocks up to that
        # size, so that the maps of each chunk need no new pages from the system.
        torch.empty(28 * 2**20, dtype=torch.uint8)
        height, width = out.shape[2:]
        y = (torch.arange(height, device=self.device) + 0.5) / side
        x = (torch.arange(width, device=self.device) + 0.5) / side
        pixels = _PIXELS_ON_CPU if self.device.type == "cpu" else _PIXELS_ELSEWHERE
        chunk = max(1, pixels // (height * width))
        for start in range(0, len(index), _SCENES_AT_ONCE):
            scenes = self._scenes(index[start : start + _SCENES_AT_ONCE])
            for at in range(0, len(scenes.width), chunk):
                part = paint(scenes.rows(at, at + chunk), x, y, side)
                out[start + at : start + at + len(part)] = part


def _names(shapes: Iterable[str], textures: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{shape}-{texture}" for shape in shapes for texture in textures)


def _class_names(classes: int | Sequence[str]) -> tuple[str, ...]:
    if isinstance(classes, int):
        shapes, textures = _GRIDS[choice("classes", classes, _GRIDS)]
        return _names(list(SHAPES)[:shapes], list(TEXTURES)[:textures])
    known = _names(SHAPES, list(TEXTURES))
    names = tuple(classes)
    right = len(names) >= 2 and len(set(names)) == len(names) and set(names) <= set(known)
    needs(right, "classes", list(names), f"two or more different names among {list(known)}")
    return names
