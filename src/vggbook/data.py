"""Feeding the nets: a procedural data set, real data sets, and the paper's training crops (Sect. 3.1, 3.3).

Units everywhere: images are RGB, 0..255; stored images are uint8 (3, H, W); batches that go into a net are float32 (N,
3, crop, crop) with the mean RGB subtracted *and nothing else* (no division by a standard deviation).

**A data set** here is anything with `len(ds)`, `ds[i] -> (image uint8 (3, H, W), label int)` and `ds.classes` (names).
If it also has `ds.batch(indices, size=None) -> (images, labels)` (uint8 (N, 3, H, W), or a list of (3, H, W) where
shapes differ; labels int64 (N,)) it is fed a batch at a time. torchvision sets that give PIL images are accepted too.

    ShapesDataset(split, n, seed=0, size=96, classes=12, difficulty=0.25, aspect=1.0, hint=0.5,
                  device="cpu")
        .batch(indices, size=None)  .boxes(indices) (N, 4) cx, cy, w, h  .scales(indices) (N,)  .masks(indices)  .classes
    ArrayDataset(images, labels, classes)                # uint8 held in memory, on any device
    in_memory(dataset, size=None, device="cpu")          # -> ArrayDataset: render or decode once, then crop from memory
    open_dataset(name, root, split, download=False)      # "cifar10" "stl10" "imagenette" "imagenet" "folder"
    load_image(path)                                     # -> uint8 (3, H, W), whatever the file's mode

**Statistics**, streamed: `mean_rgb(dataset) -> (3,)`, `pca_rgb(dataset) -> Eigen(values (3,), vectors (3, 3))`.

**Steps**: `isotropic_resize(images, S)`, `random_crop_flip(batch, crop, generator)`, `colour_shift(batch, eigen,
generator, std=0.1)`.

**Loader**: all of it together, for the trainer.

    loader = Loader(dataset, batch_size=256, crop=224, scales=256 | (256, 512), mean=mean_rgb(dataset),
                    colour=None | pca_rgb(dataset), flip=True, shuffle=True, augment=True, drop_last=None, seed=0,
                    rank=0, world_size=1, device="cpu", on_error="error" | "skip", workers=0, gain=1.0)
    len(loader)                                               # batches an epoch, the same on every rank
    for images, labels, indices in loader.epoch(e, start=k):  # start: batches of this epoch already done
        ...             # images float32 (n, 3, crop, crop) and labels int64 (n,) on the device, indices (n,) on the CPU

`batch_size` is the batch of the whole job; rank r of w gets its w-th part, so the global batch at step k is the same
for every world size. Nothing random is stored anywhere: the order depends on (seed, epoch), a sample's scale, crop,
flip and colour on (seed, epoch, index). So `epoch(e, start=k)` continues an interrupted epoch bit for bit, with any
number of workers and processes. `augment=False` gives centre crops at S (for validation), `shuffle=False` the set's own
order, and then the last batch may be short. `gain` multiplies the mean-subtracted pixels: the paper's value is 1;
another one is a deviation to be stated. `loader.skipped` maps the indices of unreadable images (on_error="skip") to the
reason; `len(loader.skipped)` is the count.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# --- counter-based random numbers: a value is a function of its keys, never of what was drawn before it ---------------
_MASK = 0xFFFFFFFF


def _mix(x: Tensor) -> Tensor:
    """A bijection of the 32-bit integers that scrambles them (int64 in, int64 out; no product overflows)."""
    for _ in range(2):
        x = ((x ^ (x >> 16)) * 0x45D9F3B) & _MASK
    return x ^ (x >> 16)


def _hash(*keys) -> Tensor:
    """Fold integers and int64 tensors (broadcast) into one 32-bit hash; a bijection of the last key for fixed earlier
    ones."""
    h = torch.zeros((), dtype=torch.int64)
    for key in keys:
        parts = (
            (key,)
            if isinstance(key, Tensor)
            else (torch.tensor(key >> 32 & _MASK), torch.tensor(key & _MASK))
        )
        for part in parts:
            h = _mix(((h.to(part.device) ^ part) + 0x9E3779B9) & _MASK)
    return h


def _uniforms(key: Tensor, count: int) -> Tensor:
    """(N,) hashes -> (N, count) float32 in [0, 1), the same on every device."""
    stream = _mix(torch.arange(1, count + 1, device=key.device) * 0x3C6EF372 & _MASK)
    return (_mix((key[:, None] + stream) & _MASK) >> 8).float() * 2**-24


# --- the procedural set -----------------------------------------------------------------------------------------------
SHAPES = {  # a star polygon: corners, and inner over outer radius (cos(pi/n): a straight edge from corner to corner)
    "disc": (48, math.cos(math.pi / 48)),
    "square": (4, math.cos(math.pi / 4)),
    "triangle": (3, 0.5),
    "star": (5, 0.45),
    "hexagon": (6, math.cos(math.pi / 6)),
    "spark": (4, 0.42),
}
TEXTURES = {  # light where a cos u + b cos v + c cos u cos v + d cos^2 u + e > 0; u and v are at right angles
    "stripes": (1.0, 0.0, 0.0, 0.0, 0.0),
    "checks": (0.0, 0.0, 1.0, 0.0, 0.0),
    "dots": (1.0, 1.0, 0.0, 0.0, -0.7),
    "bars": (0.5, 0.0, 0.0, 2.0, -1.0),  # thick and thin in turn
}
_GRIDS = {
    4: (2, 2),
    6: (3, 2),
    9: (3, 3),
    12: (4, 3),
    16: (4, 4),
    20: (5, 4),
    24: (6, 4),
}  # classes: shapes, textures
_SPLITS = ("train", "val", "test")
_PLAIN, _BANDS, _WAVES = 3, 2, 3  # plain shapes, textured bands and waves in the background


class ShapesDataset:
    """Pictures of one textured shape each; the class is shape *and* texture, so neither alone decides.

    Plain shapes (a shape without a texture) and textured bands (a texture without a shape) clutter every scene;
    objects' radii reach from 0.20 (0.13 at difficulty 0.5, 0.10 at 1) to 0.42 of the smallest side; colours, lighting,
    pose and foreshortening vary. A scene is a function of (seed, split, index) alone, in continuous coordinates: any
    batch, order, device or size shows the same scene. Splits and indices are hashed by a bijection, so no two samples
    of the three splits share a scene. Labels go round robin: class = index mod classes.

    split: "train", "val" or "test"; n: number of images, up to 2**30. size: smallest side in pixels, or (min, max):
    drawn per image. aspect: width / height, or (min, max): drawn per image. classes: 4, 6, 9, 12, 16, 20 or 24, or
    names "shape-texture" (SHAPES x TEXTURES), for instance to hold classes back. difficulty: 0 (large, strong contrast,
    no clutter) to 1. hint: how far the class fixes the object's paint, 0 (colour says nothing) to 1; colour alone
    never decides, but without a hint a deep net finds nothing to start from. device: where pictures are drawn; CPU and GPU agree to a grey level. ValueError for anything else,
    naming argument and value.
    """

    def __init__(
        self,
        split="train",
        n=8192,
        seed=0,
        size=96,
        classes=12,
        difficulty=0.25,
        aspect=1.0,
        hint=0.5,
        device="cpu",
    ):
        _choice("split", split, _SPLITS)
        if not 0 < n <= 2**30:
            raise ValueError(f"n={n}: expected 1 to 2**30 images")
        if not 0 <= difficulty <= 1:
            raise ValueError(f"difficulty={difficulty}: expected 0 to 1")
        if not 0 <= hint <= 1:
            raise ValueError(f"hint={hint}: expected 0 to 1")
        if isinstance(classes, int):
            _choice("classes", classes, _GRIDS)
            shapes, textures = _GRIDS[classes]
            classes = [f"{s}-{t}" for s in list(SHAPES)[:shapes] for t in list(TEXTURES)[:textures]]
        known = [f"{s}-{t}" for s in SHAPES for t in TEXTURES]
        if len(classes) < 2 or len(set(classes)) < len(classes) or not set(classes) <= set(known):
            raise ValueError(
                f"classes={list(classes)}: expected two or more different names among {known}"
            )
        self.size, self.aspect = _pair("size", size, lowest=8), _pair("aspect", aspect, lowest=0.25)
        self.split, self.n, self.seed, self.difficulty, self.hint = (
            split,
            n,
            seed,
            float(difficulty),
            float(hint),
        )
        self.device = torch.device(device)
        self.classes = tuple(classes)
        parts = [name.split("-") for name in classes]
        self._shape = torch.tensor([list(SHAPES).index(s) for s, _ in parts], device=self.device)
        self._texture = torch.tensor(
            [list(TEXTURES).index(t) for _, t in parts], device=self.device
        )
        turn = (
            torch.arange(len(classes), device=self.device) * 0.618
        )  # of the circle of hues: neighbours lie far apart
        rgb = torch.tensor([0, 1 / 3, 2 / 3], device=self.device)
        self._hue = (0.5 + 0.5 * torch.cos(2 * math.pi * (turn[:, None] - rgb)))[
            :, None
        ]  # (classes, 1, 3)

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        if not -self.n <= index < self.n:
            raise IndexError(f"index {index} of {self.n} images")
        images, labels = self.batch([index % self.n])
        return images[0], int(labels[0])

    def batch(self, indices, size=None):
        """Images uint8 (N, 3, H, W), labels int64 (N,), on `device`; a list of (3, H, W) where sizes differ.

        indices: integers (sequence or tensor, shape (N,)); size: smallest side in pixels, in place of the set's own.
        """
        return self._draw(indices, size, self._paint, torch.uint8), self.labels(indices)

    def masks(self, indices, size=None):
        """Coverage 0..1 of each pixel by the object, float32 (N, 1, H, W); a list where sizes differ."""
        return self._draw(
            indices, size, lambda scene, *grid: _star(scene["object"], *grid), torch.float32
        )

    def labels(self, indices=None):
        """Labels int64 (N,); of the whole set without `indices`."""
        return self._indices(range(self.n) if indices is None else indices) % len(self.classes)

    def boxes(self, indices):
        """The object's tight bounding box, float32 (N, 4): centre x, centre y, width, height as fractions of the
        image's sides."""
        scene = self._scene(self._indices(indices))
        o, (n, rho) = scene["object"], _shape_table(scene["object"]["shape"])
        k = torch.arange(
            96, device=self.device
        )  # every corner, inner ones too; beyond 2n they repeat
        radius = torch.where(k % 2 == 0, 1.0, rho) * o["r"]
        px, py = (
            radius * torch.cos(k * math.pi / n),
            radius * torch.sin(k * math.pi / n) * o["tilt"],
        )
        c, s = torch.cos(o["angle"]), torch.sin(o["angle"])
        xs, ys = (
            o["x"] + c * px - s * py,
            o["y"] + s * px + c * py,
        )  # (N, 96), in units of the smallest side
        (x0, x1), (y0, y1) = xs.aminmax(dim=1), ys.aminmax(dim=1)
        w, h = scene["width"][:, 0], scene["height"][:, 0]
        return torch.stack(
            [(x0 + x1) / 2 / w, (y0 + y1) / 2 / h, (x1 - x0) / w, (y1 - y0) / h], dim=1
        )

    def scales(self, indices):
        """The object's diameter over the image's smallest side, float32 (N,)."""
        return 2 * self._scene(self._indices(indices))["object"]["r"][:, 0]

    # -- from numbers to a scene: every quantity has shape (N, 1), lengths are in units of the smallest side
    def _indices(self, indices):
        indices = indices if isinstance(indices, Tensor) else list(indices)
        indices = torch.as_tensor(indices, dtype=torch.int64, device=self.device)
        if indices.numel() and not (int(indices.min()) >= 0 and int(indices.max()) < self.n):
            reach = f"indices reach from {int(indices.min())} to {int(indices.max())}"
            raise IndexError(f"{reach}: expected 0 to {self.n - 1}")
        return indices.reshape(-1)

    def _scene(self, index):
        u, at = _uniforms(_hash(self.seed, index * 3 + _SPLITS.index(self.split)), 128), 0

        def draw(count, low=0.0, high=1.0):
            nonlocal at
            at += count
            return low + (high - low) * u[:, at - count : at]  # (N, count)

        def log_draw(count, low, high):
            return torch.exp(draw(count, math.log(low), math.log(high)))

        def angle(count):
            return draw(count, 0, 2 * math.pi)

        def colour(count):
            return draw(3 * count).reshape(-1, count, 3)

        def any_of(kinds, count):
            return kinds[(draw(count) * len(kinds)).long()]

        def texture(count, kind, hue=None):
            paint = (
                colour(count) if hue is None else (1 - self.hint) * colour(count) + self.hint * hue
            )
            middle, swing = (
                0.25 + 0.5 * paint,
                0.2 + colour(count),
            )  # light is the brighter one in every channel
            swing = (0.45 - 0.2 * d) * swing / swing.norm(dim=2, keepdim=True)
            return {
                "texture": kind,
                "lean": angle(count),
                "period": log_draw(count, 0.45, 0.75),
                "u": angle(count),
                "v": angle(count),
                "dark": middle - swing,
                "light": middle + swing,
            }

        def shape(count, kind, low, high):
            r = log_draw(count, low, high)
            return {
                "shape": kind,
                "r": r,
                "angle": angle(count),
                "tilt": 1 - draw(count, 0, 0.4 * d),
                "x": r + (width - 2 * r) * draw(count),
                "y": r + (height - 2 * r) * draw(count),
            }

        d, label, aspect = (
            self.difficulty,
            (index % len(self.classes))[:, None],
            log_draw(1, *self.aspect),
        )
        width, height = aspect.clamp(min=1), (1 / aspect).clamp(min=1)
        smallest, largest = 0.30 - 0.48 * d + 0.28 * d * d, 0.42
        pale = 0.4 + 0.6 * d  # how far the ground's colours reach from grey
        return {
            "width": width,
            "height": height,
            "side": torch.floor(draw(1, self.size[0], self.size[1] + 1)).clamp(max=self.size[1]),
            "object": shape(1, self._shape[label], smallest, largest)
            | texture(1, self._texture[label], self._hue[label[:, 0]]),
            "ground": {
                "near": 0.5 + pale * (colour(1) - 0.5),
                "far": 0.5 + pale * (colour(1) - 0.5),
                "angle": angle(1),
            },
            "waves": {
                "angle": angle(_WAVES),
                "k": log_draw(_WAVES, 6, 60),
                "phase": angle(_WAVES),
                "colour": (colour(_WAVES) - 0.5) * 0.3 * d,
            },
            "bands": texture(_BANDS, any_of(self._texture, _BANDS))
            | {
                "r": log_draw(_BANDS, 0.10, 0.42),
                "angle": angle(_BANDS),
                "at": draw(_BANDS, -0.5, 0.5),
                "half": draw(_BANDS, 0.05, 0.2) * (draw(_BANDS) < 0.7 * d),
            },
            "plain": shape(_PLAIN, any_of(self._shape, _PLAIN), 0.06, 0.35)
            | {"colour": colour(_PLAIN), "present": (draw(_PLAIN) < d).float()},
            "light": {
                "angle": angle(1),
                "slope": draw(1, 0, 0.8 * d),
                "gain": 1 + d * draw(1, -0.4, 0.2),
            },
        }

    # -- from a scene to pixels, a chunk that fits the cache at a time
    def _draw(self, indices, size, paint, dtype):
        indices = self._indices(indices)
        low, high = self.size if size is None else _pair("size", size, lowest=8)
        if not len(indices) or low != int(low):
            raise ValueError(
                f"size={low}, {len(indices)} indices: expected whole pixels and at least one index"
            )
        varied = (low != high and size is None) or self.aspect[0] != self.aspect[1]
        scene = self._scene(indices) if varied else self._scene(indices[:1])
        side = (
            scene["side"][:, 0]
            if size is None
            else torch.full((len(scene["side"]),), low, device=self.device)
        )
        h, w = (torch.floor(side * scene[k][:, 0] + 1e-4) for k in ("height", "width"))
        groups, which = (
            torch.stack([side, h, w], 1)
            .long()
            .expand(len(indices), 3)
            .unique(dim=0, return_inverse=True)
        )
        torch.empty(
            7 * 2**20
        )  # freed at once: glibc then keeps blocks up to 28 MiB, which saves page faults
        pictures = [None] * len(indices)
        for g, (s, h, w) in enumerate(groups.tolist()):
            members = (which == g).nonzero()[:, 0]
            y, x = ((torch.arange(m, device=self.device) + 0.5) / s for m in (h, w))
            chunk = max(1, (2**17 if self.device.type == "cpu" else 2**24) // (h * w))
            out = torch.empty(
                len(members),
                3 if dtype == torch.uint8 else 1,
                h,
                w,
                dtype=dtype,
                device=self.device,
            )
            for start in range(0, len(members), 1024):
                scene = self._scene(indices[members[start : start + 1024]])
                for at in range(0, len(scene["side"]), chunk):
                    part = paint(_rows(scene, at, at + chunk), x, y, s)
                    out[start + at : start + at + len(part)] = part
            if len(groups) == 1:
                return out
            for i, picture in zip(members.tolist(), out):
                pictures[i] = picture
        return pictures

    def _paint(self, scene, x, y, s):
        """Back to front: ground, waves, bands, plain shapes, the object, light. Scene of N rows -> uint8 (N, 3, H,
        W)."""
        ground, waves, bands = scene["ground"], scene["waves"], scene["bands"]
        plain, thing, light = scene["plain"], scene["object"], scene["light"]
        picture = _linear(ground["angle"], x, y, 0.5, 0.5) * _px(
            ground["far"] - ground["near"]
        ) + _px(ground["near"])
        kx, ky = waves["k"] * torch.cos(waves["angle"]), waves["k"] * torch.sin(waves["angle"])
        swell = _cosine(kx, ky, waves["phase"], x, y)  # (N, waves, H, W)
        for k in range(_WAVES):
            picture.add_(swell[:, k : k + 1] * _px(waves["colour"][:, k]))
        half = _px(bands["half"])
        cover = half - _linear(bands["angle"], x - 0.5, y - 0.5, 1, -_px(bands["at"])).abs_()
        cover = cover.mul_(s).add_(0.5 * (half > 0)).clamp_(0, 1)  # (N, bands, H, W)
        _weave(picture, cover, bands, x - 0.5, y - 0.5, s)
        cover = _star(plain, x, y, s).mul_(_px(plain["present"]))  # (N, plain, H, W)
        for k in range(_PLAIN):
            part = cover[:, k : k + 1]
            picture.mul_(1 - part).add_(part * _px(plain["colour"][:, k]))
        _weave(picture, _star(thing, x, y, s), thing, x, y, s)
        shade = _linear(light["angle"], x - 0.5, y - 0.5, _px(light["slope"]), 1).mul_(
            _px(light["gain"]) * 255
        )
        return picture.mul_(shade).add_(0.5).clamp_(0, 255).to(torch.uint8)


def _rows(scene, start, stop):
    return {
        k: _rows(v, start, stop) if isinstance(v, dict) else v[start:stop] for k, v in scene.items()
    }


def _px(t):
    """(N, C) or (N, 1, C) -> (N, C, 1, 1), to broadcast over pixels."""
    return t.reshape(len(t), -1, 1, 1)


def _linear(angle, x, y, slope, offset):
    """slope * (the coordinate along `angle`) + offset, (N, K, H, W) for angles (N, K), columns x (W,), rows y (H,)."""
    c, s = (f(angle)[:, :, None, None] for f in (torch.cos, torch.sin))
    return slope * c * x + (slope * s * y[:, None] + offset)


def _cosine(kx, ky, phase, x, y):
    """cos(kx x + ky y + phase), (N, K, H, W); by the addition theorem, so that no cosine is taken a pixel."""
    a, b = (
        (kx[:, :, None] * x + phase[:, :, None])[:, :, None, :],
        (ky[:, :, None] * y)[:, :, :, None],
    )
    return (torch.cos(a) * torch.cos(b)).sub_(torch.sin(a) * torch.sin(b))


def _shape_table(kind):
    table = torch.tensor(list(SHAPES.values()), device=kind.device)[kind]  # (N, K, 2)
    return table[..., 0], table[..., 1]


def _star(o, x, y, s):
    """How much of each pixel star polygons cover, 0..1, (N, K, H, W)."""
    n, rho = _shape_table(o["shape"])
    c, k, half = torch.cos(o["angle"]) / o["r"], torch.sin(o["angle"]) / o["r"], math.pi / n
    edge = torch.atan2(
        1 - rho * torch.cos(half), rho * torch.sin(half)
    )  # direction of the edge's normal, once folded
    c, k, x0, y0, half, edge, r, tilt = (
        _px(t) for t in (c, k, o["x"], o["y"], half, edge, o["r"], o["tilt"])
    )
    dx, dy = x - x0, y[:, None] - y0
    px, py = (
        c * dx + k * dy,
        (c / tilt) * dy - (k / tilt) * dx,
    )  # the shape's own plane: outer radius 1, upright
    angle = torch.atan2(py, px)
    folded = angle.sub_(
        (angle / (2 * half)).round_().mul_(2 * half)
    ).abs_()  # every half corner onto the first one
    distance = (
        (px * px).addcmul_(py, py).sqrt_().mul_(folded.sub_(edge).cos_()).sub_(torch.cos(edge))
    )  # in radii
    return distance.mul_(-r * s).add_(0.5).clamp_(0, 1)


def _weave(picture, cover, o, x, y, s):
    """Paint textures where `cover` (N, K, H, W) is 1; edges are anti-aliased, and fade below two pixels a period."""
    a, b, c, d, e = torch.tensor(list(TEXTURES.values()), device=x.device)[o["texture"]].movedim(
        -1, 0
    )[..., None, None]
    lean, k = o["lean"], 2 * math.pi / o["period"] / o["r"]
    u = _cosine(k * torch.cos(lean), k * torch.sin(lean), o["u"], x, y)
    v = _cosine(-k * torch.sin(lean), k * torch.cos(lean), o["v"], x, y)
    t = (v * c).add_(a).add_(u * d).mul_(u).add_(v.mul_(b)).add_(e)
    t = t.mul_(_px(s / k)).add_(0.5).clamp_(0, 1)  # s / k: pixels a radian
    for i in range(cover.shape[1]):
        part, colour = cover[:, i : i + 1], o["light"][:, i] - o["dark"][:, i]
        picture.mul_(1 - part).add_(part * _px(o["dark"][:, i])).add_(
            part * t[:, i : i + 1] * _px(colour)
        )


def _choice(argument, value, allowed):
    if value not in allowed:
        raise ValueError(f"{argument}={value!r}: expected one of {', '.join(map(repr, allowed))}")


def _pair(argument, value, lowest):
    """A number or (min, max) -> (min, max), checked."""
    try:
        low, high = (value, value) if isinstance(value, (int, float)) else value
    except (TypeError, ValueError):
        raise ValueError(f"{argument}={value!r}: expected a number or a pair (min, max)") from None
    if low > high:
        raise ValueError(f"{argument}={value!r}: the minimum must not exceed the maximum")
    if low < lowest:
        raise ValueError(f"{argument}={value!r}: expected at least {lowest}")
    return low, high


# --- sets of real images ----------------------------------------------------------------------------------------------
class UnreadableImage(OSError):
    """An image file that is damaged, truncated or of a kind that has no sensible conversion to 8-bit RGB; the message
    names it."""


def load_image(path):
    """Read an image file as uint8 (3, H, W), RGB 0..255.

    Greyscale is repeated three times; 16-bit greyscale is divided by 257; transparent pixels are laid over white;
    palette and CMYK are converted; the camera's orientation tag is applied. Floating-point and wider integer files have
    no known range: `UnreadableImage`, as for damaged and truncated files.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            image.load()
            return _rgb(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, (FileNotFoundError, IsADirectoryError, PermissionError)):
            raise
        raise UnreadableImage(f"{path}: {error}") from error


def _rgb(image):
    """A PIL image of any mode -> uint8 (3, H, W)."""
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, which older Pillows open as 32
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError(
                f"integers from {grey.min()} to {grey.max()}: expected 8 or 16 bits a channel"
            )
        image = Image.fromarray(np.round(grey / 257).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError(
            "floating-point pixels have no known range: convert the file to 8 bits first"
        )
    elif image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


class ArrayDataset:
    """Images held in memory: uint8 (N, 3, H, W) or a list of (3, H, W), on any device, with labels (N,) and class
    names."""

    def __init__(self, images, labels, classes):
        labels = torch.as_tensor(labels, dtype=torch.int64)
        if len(images) != len(labels) or not len(images):
            raise ValueError(
                f"{len(images)} images, {len(labels)} labels: expected as many of both, and at least one"
            )
        for image in [images] if isinstance(images, Tensor) else images:
            if image.dtype != torch.uint8 or image.shape[-3] != 3:
                raise ValueError(
                    f"images of {image.dtype}, shape {tuple(image.shape)}: expected uint8 (3, H, W)"
                )
        self.images, self.labels, self.classes = images, labels.to(images[0].device), tuple(classes)
        _check_labels(self.labels, range(len(labels)), len(self.classes))

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.images[index], int(self.labels[index])

    def batch(self, indices, size=None):
        indices = torch.as_tensor(indices, dtype=torch.int64).tolist()
        images = _take(self.images, indices)
        return images if size is None else isotropic_resize(images, size), _take(
            self.labels, indices
        )


class FolderDataset:
    """Image files on disk, decoded when asked for: `paths`, `labels` (both of length N) and class names."""

    def __init__(self, samples, classes):
        self.paths, self.labels = (
            [str(path) for path, _ in samples],
            [label for _, label in samples],
        )
        self.classes = tuple(c if isinstance(c, str) else c[0] for c in classes)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return load_image(self.paths[index]), self.labels[index]


def open_dataset(name, root, split="train", download=False, **options):
    """A real data set through torchvision: "cifar10", "stl10", "imagenette", "imagenet", or "folder"
    (root/split/class/image).

    split: "train", "val" or "test". CIFAR-10 and STL-10 publish no validation set: every tenth training image is held
    out as "val". Imagenette and ImageNet have labelled "train" and "val" only. options go to torchvision's class
    (Imagenette: size="320px" unless given). Nothing is downloaded unless `download=True`; ImageNet must be fetched by
    hand. CIFAR-10 and STL-10 come as `ArrayDataset`, the others as `FolderDataset`. ValueError for unknown names and
    splits, FileNotFoundError where the data are not there or empty.
    """
    _choice("name", name, ("cifar10", "stl10", "imagenette", "imagenet", "folder"))
    _choice("split", split, _SPLITS[:2] if name.startswith("imagenet") else _SPLITS)
    if download and name in ("imagenet", "folder"):
        raise ValueError(
            f"download=True: {name!r} cannot be downloaded; put its files in root, with download=False"
        )
    from torchvision import datasets

    try:
        if name == "cifar10":
            source = datasets.CIFAR10(root, train=split != "test", download=download, **options)
            images = torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous()
            return _held_out(images, source.targets, source.classes, split)
        if name == "stl10":
            source = datasets.STL10(
                root, split="test" if split == "test" else "train", download=download, **options
            )
            return _held_out(torch.from_numpy(source.data), source.labels, source.classes, split)
        if name == "imagenette":
            source = datasets.Imagenette(
                root, split, download=download, **{"size": "320px", **options}
            )
            return FolderDataset(source._samples, source.classes)
        if name == "imagenet":
            source = datasets.ImageNet(root, split, **options)
            return FolderDataset(source.samples, source.classes)
        source = datasets.ImageFolder(Path(root, split), **options)
    except (
        RuntimeError,
        FileNotFoundError,
        NotADirectoryError,
    ) as error:  # RuntimeError: no good copy there
        raise FileNotFoundError(
            f"{name!r}, split {split!r}, in root={str(root)!r}: {error}"
        ) from error
    train = Path(root, "train")
    if train.is_dir() and sorted(p.name for p in train.iterdir() if p.is_dir()) != source.classes:
        raise ValueError(
            f"root={str(root)!r}: the class folders of {split!r} are not those of 'train'"
        )
    return FolderDataset(source.samples, source.classes)


def _held_out(images, labels, classes, split):
    labels = torch.as_tensor(labels).long()
    index = torch.arange(len(labels))
    keep = index if split == "test" else index[(index % 10 == 9) == (split == "val")]
    return ArrayDataset(images[keep], labels[keep], classes)


def in_memory(dataset, size=None, device="cpu", batch_size=256, on_error="error", skipped=None):
    """Render, decode or copy a whole set once -> `ArrayDataset` on `device`; size: rescale isotropically to this
    smallest side. on_error="skip" leaves unreadable images out; `skipped` takes their indices and reasons."""
    images, labels = [], []
    skipped = {} if skipped is None else skipped
    for start in range(0, len(dataset), batch_size):
        x, y, _, lost = _fetch(
            dataset, list(range(start, min(start + batch_size, len(dataset)))), on_error, size
        )
        skipped.update(lost)
        images += (
            [x.to(device)] if isinstance(x, Tensor) else [image[None].to(device) for image in x]
        )
        labels.append(y.cpu())
    same = len({x.shape[1:] for x in images}) == 1
    images = torch.cat(images) if same else [image for x in images for image in x]
    return ArrayDataset(images, torch.cat(labels), dataset.classes)


def _fetch(dataset, indices, on_error="error", size=None):
    """(images, labels, indices, skipped {index: reason}) from anything that is a data set here."""
    skipped, items = {}, []
    if hasattr(dataset, "batch"):
        images, labels = dataset.batch(indices, size)
    else:
        for i in indices:
            try:
                image, label = dataset[i]
                items.append((image if isinstance(image, Tensor) else _rgb(image), int(label), i))
            except (OSError, SyntaxError) as error:
                if on_error == "error":
                    raise UnreadableImage(f"image {i}: {error}") from error
                skipped[i] = str(error)
        if not items and skipped:
            raise UnreadableImage(
                f"no readable image in a batch of {len(skipped)}: {next(iter(skipped.values()))}"
            )
        images, labels, indices = zip(*items)
        labels = torch.tensor(labels)
        images = images if size is None else isotropic_resize(images, size)
    _check_labels(labels, indices, len(dataset.classes))
    return images, labels, indices, skipped


def _check_labels(labels, indices, count):
    wrong = ((labels < 0) | (labels >= count)).nonzero()
    if len(wrong):
        i = int(wrong[0])
        raise ValueError(
            f"label {int(labels[i])} of image {list(indices)[i]}: expected 0 to {count - 1}"
        )


# --- statistics of a set, streamed ------------------------------------------------------------------------------------
class Eigen(NamedTuple):
    """Principal components of RGB pixel values: variances `values` (3,) in squared grey levels, descending; `vectors`
    (3, 3) in columns."""

    values: Tensor
    vectors: Tensor


def _moments(dataset, batch_size, on_error="error", skipped=None):
    skipped = {} if skipped is None else skipped
    count, total, outer = (
        0,
        torch.zeros(3, dtype=torch.float64),
        torch.zeros(3, 3, dtype=torch.float64),
    )
    for start in range(0, len(dataset), batch_size):
        indices = list(range(start, min(start + batch_size, len(dataset))))
        images, _, _, lost = _fetch(dataset, indices, on_error)
        skipped.update(lost)
        for x in [images] if isinstance(images, Tensor) else images:
            pixels = x.movedim(-3, 0).reshape(3, -1).double()
            count, total = count + pixels.shape[1], total + pixels.sum(1).cpu()
            outer += (pixels @ pixels.T).cpu()
    if not count:
        raise ValueError("the data set is empty: expected at least one image")
    mean = total / count
    return mean, outer / count - mean[:, None] * mean


def mean_rgb(dataset, batch_size=256, on_error="error", skipped=None):
    """The mean RGB over all pixels of a set, float32 (3,), 0..255 (Sect. 2.1); streamed, summed in float64."""
    return _moments(dataset, batch_size, on_error, skipped)[0].float()


def pca_rgb(dataset, batch_size=256, on_error="error", skipped=None):
    """Principal components of all RGB pixels of a set -> `Eigen`, for `colour_shift`; streamed."""
    values, vectors = torch.linalg.eigh(_moments(dataset, batch_size, on_error, skipped)[1])
    vectors = torch.where(
        vectors.sum(0) < 0, -vectors, vectors
    )  # the sign is arbitrary: make brighter positive
    return Eigen(values.flip(0).clamp(min=0).float(), vectors.flip(1).float())


# --- the steps from a stored image to a training crop -----------------------------------------------------------------
def isotropic_resize(images, S):
    """Rescale to smallest side S, keeping the aspect (Sect. 3.1): bilinear with anti-aliasing, as torchvision's
    `Resize(S)` does.

    images: (3, H, W), (N, 3, H, W) or a list of (3, H, W), uint8 or float. S: pixels, or one a image (N values).
    Returns the same kind; a list where S is given per image. The longer side is rounded down. uint8 on a CPU is
    resampled in fixed point, elsewhere in float32 and rounded: they agree to one grey level.
    """
    if isinstance(S, int):
        if isinstance(images, Tensor):
            return _resize(images[None], S)[0] if images.dim() == 3 else _resize(images, S)
        S = [S] * len(images)
    S = [int(s) for s in S]
    if len(S) != len(images):
        raise ValueError(
            f"S has {len(S)} values: expected one for each of the {len(images)} images"
        )
    out = [None] * len(images)
    for members, resized in _resized(images, S):
        for i, image in zip(members, resized):
            out[i] = image
    return out


def _resized(images, S):
    """Yield (positions, (n, 3, h, w)) for images that share shape and S: so many images are rescaled in one call."""
    groups = {}
    for i, s in enumerate(S):
        groups.setdefault((images[i].shape, s), []).append(i)
    for (_, s), members in groups.items():
        whole = isinstance(images, Tensor) and len(members) == len(images)
        x = images if whole else _take(images, members)
        yield members, _resize(x if isinstance(x, Tensor) else torch.stack(x), s)


def _take(images, indices):
    if isinstance(images, Tensor):
        return images.index_select(0, torch.as_tensor(indices, device=images.device))
    return [images[i] for i in indices]


def _resize(x, s):
    h, w = x.shape[-2:]
    if s < 1:
        raise ValueError(f"S={s}: expected a smallest side of at least 1 pixel")
    size = (s, int(s * w / h)) if h <= w else (int(s * h / w), s)
    if size == (h, w):
        return x
    if x.dtype == torch.uint8 and x.device.type != "cpu":
        return _resize(x.float(), s).round_().clamp_(0, 255).to(torch.uint8)
    return F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)


def random_crop_flip(batch, crop, generator=None, flip=True):
    """A random crop an image, mirrored with probability 1/2 (Sect. 3.1): (N, 3, H, W) or a list of (3, H, W) -> (N, 3,
    crop, crop).

    ValueError where an image is smaller than the crop. `generator` may live on any device; without it torch's global
    one is used.
    """
    u = torch.rand(
        len(batch), 3, generator=generator, device=None if generator is None else generator.device
    )
    if isinstance(batch, Tensor):
        return _crop(batch, crop, u, flip)
    return torch.cat(
        [_crop(image[None], crop, u[i : i + 1], flip) for i, image in enumerate(batch)]
    )


def _crop(x, crop, u=None, flip=False):
    """Crops of (N, 3, H, W) where the uniforms u (N, 3) say: top, left, mirrored; central without them."""
    n, _, h, w = x.shape
    if not 1 <= crop <= min(h, w):
        raise ValueError(f"crop={crop}: expected 1 to {min(h, w)} for images of {h} x {w} pixels")
    if u is None:
        top, left = (h - crop) // 2, (w - crop) // 2
        return x[:, :, top : top + crop, left : left + crop]
    top, left = (u.cpu()[:, :2] * torch.tensor([h - crop + 1, w - crop + 1])).long().unbind(1)
    mirrored = (u.cpu()[:, 2] < 0.5) & flip
    if x.device.type == "cpu":  # plain copies beat a gather here
        crops = [
            image[:, t : t + crop, k : k + crop]
            for image, t, k in zip(x, top.tolist(), left.tolist())
        ]
        return torch.stack(
            [image.flip(-1) if m else image for image, m in zip(crops, mirrored.tolist())]
        )
    step = torch.arange(crop)
    columns = left[:, None] + torch.where(mirrored[:, None], crop - 1 - step, step)  # (N, crop)
    rows, columns = (top[:, None] + step).to(x.device), columns.to(x.device)
    image, channel = (torch.arange(m, device=x.device) for m in (n, x.shape[1]))
    return x[
        image[:, None, None, None],
        channel[:, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]


def colour_shift(batch, eigen, generator=None, std=0.1, alpha=None):
    """Add one random colour to each image (Krizhevsky et al., 2012, Sect. 4.1, after Sect. 3.1): float32 (N, 3, H, W),
    0..255, not clipped.

    The shift is the sum over the principal components i of vectors[:, i] * alpha_i * sqrt(values[i]), alpha_i from N(0,
    std). Units: `eigen` = (values, vectors) is that of RGB on 0..255, so values are variances in squared grey levels
    and their roots grey levels. The AlexNet text multiplies by the eigenvalue itself: on 0..255 that would be shifts of
    hundreds of grey levels; the constants in common use (0.2175, 0.0188, 0.0045, on 0..1) are standard deviations too.
    alpha: (N, 3), in place of random ones.
    """
    values, vectors = (torch.as_tensor(t, dtype=torch.float32) for t in eigen)
    if alpha is None:
        where = None if generator is None else generator.device
        alpha = std * torch.randn(len(batch), 3, generator=generator, device=where)
    shift = (alpha.to(values.device) * values.sqrt()) @ vectors.T  # (N, 3)
    return batch + shift.to(batch.device)[:, :, None, None]


class Loader:
    """Training or validation batches of a set; see the top of this module for the arguments and what makes it
    repeatable."""

    def __init__(
        self,
        dataset,
        batch_size=256,
        *,
        crop=224,
        scales=256,
        mean,
        colour=None,
        flip=True,
        shuffle=True,
        augment=True,
        drop_last=None,
        seed=0,
        rank=0,
        world_size=1,
        device="cpu",
        on_error="error",
        workers=0,
        gain=1.0,
    ):
        _choice("on_error", on_error, ("error", "skip"))
        low, high = _pair("scales", scales, lowest=1)
        if low < crop or crop < 1:
            raise ValueError(f"scales={scales!r}: the smallest side S must be at least crop={crop}")
        if not augment and low != high:
            raise ValueError(f"scales={scales!r}: expected one smallest side S where augment=False")
        if not 0 <= rank < world_size:
            raise ValueError(
                f"rank={rank}: expected 0 to {world_size - 1} for world_size={world_size}"
            )
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(
                f"batch_size={batch_size}: expected a positive multiple of the {world_size} processes"
            )
        drop_last = shuffle if drop_last is None else drop_last
        if len(dataset) < (batch_size if drop_last else 1):
            raise ValueError(
                f"batch_size={batch_size}: the data set has only {len(dataset)} images"
            )
        self.mean = torch.as_tensor(mean, dtype=torch.float32).to(device)
        if self.mean.shape != (3,):
            raise ValueError(
                f"mean of shape {tuple(self.mean.shape)}: expected the mean RGB, 3 values on 0..255"
            )
        held = getattr(dataset, "labels", None)
        if (
            workers
            and torch.device(getattr(dataset, "device", getattr(held, "device", "cpu"))).type
            != "cpu"
        ):
            raise ValueError(
                f"workers={workers}: expected 0, since a data set on a GPU is read by this process"
            )
        self.dataset, self.batch_size, self.crop, self.scales = (
            dataset,
            batch_size,
            crop,
            (int(low), int(high)),
        )
        self.colour, self.flip, self.shuffle, self.augment, self.drop_last = (
            colour,
            flip,
            shuffle,
            augment,
            drop_last,
        )
        self.seed, self.gain, self.rank, self.world_size = seed, gain, rank, world_size
        self.device, self.on_error, self.workers, self.skipped = (
            torch.device(device),
            on_error,
            workers,
            {},
        )

    def __len__(self):
        n = len(self.dataset)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def order(self, epoch):
        """The order of the whole set in this epoch, int64 (n,): sorted by a hash, the same everywhere."""
        index = torch.arange(len(self.dataset))
        return (
            torch.argsort(_hash(self.seed, epoch, -1, index), stable=True)
            if self.shuffle
            else index
        )

    def epoch(self, epoch, start=0):
        """Iterate over (images, labels, indices) of this rank, from global batch `start` of the epoch on."""
        if not 0 <= start <= len(self):
            raise ValueError(f"start={start}: expected 0 to {len(self)}, the number of batches")
        batches = self.order(epoch).split(self.batch_size)[start : len(self)]
        parts = [batch.tensor_split(self.world_size)[self.rank].tolist() for batch in batches]
        source, fast = _Crops(self, epoch), self.device.type == "cuda"
        if self.workers and parts:
            loader = torch.utils.data.DataLoader
            batches = loader(
                source, batch_size=None, sampler=parts, num_workers=self.workers, pin_memory=fast
            )
        else:
            batches = map(source.__getitem__, parts)
        for images, labels, indices, skipped in batches:
            self.skipped.update(skipped)
            images = images.to(self.device, non_blocking=fast).float()
            if self.augment and self.colour is not None:
                images = colour_shift(
                    images, self.colour, alpha=0.1 * self._normals(epoch, indices)
                )
            images = images.sub_(self.mean[:, None, None])
            images = images if self.gain == 1 else images.mul_(self.gain)
            yield images, labels.to(self.device, non_blocking=fast), indices

    def _keys(self, epoch, indices):
        return _hash(self.seed, epoch, 0, torch.as_tensor(indices, dtype=torch.int64))

    def _normals(self, epoch, indices):
        u = _uniforms(self._keys(epoch, indices), 10)[:, 4:]  # the first four place the crop
        return torch.sqrt(-2 * torch.log(1 - u[:, :3])) * torch.cos(
            2 * math.pi * u[:, 3:]
        )  # Box and Muller, (N, 3)


class _Crops:
    """A list of indices -> (uint8 crops (n, 3, crop, crop), labels (n,), indices (n,), skipped), in this process or a
    worker."""

    def __init__(self, loader, epoch):
        self.loader, self.epoch = loader, epoch

    def __getitem__(self, indices):
        at = self.loader
        if not indices:
            none = torch.empty(0, dtype=torch.int64)
            return torch.empty(0, 3, at.crop, at.crop, dtype=torch.uint8), none, none, {}
        images, labels, indices, skipped = _fetch(at.dataset, indices, at.on_error)
        indices, (low, high) = torch.as_tensor(indices), at.scales
        u = _uniforms(at._keys(self.epoch, indices), 4)
        S = (low + (u[:, 0] * (high - low + 1)).long()).tolist()
        order, crops = [], []
        for members, resized in _resized(images, S):
            order += members
            crops.append(_crop(resized, at.crop, u[members, 1:] if at.augment else None, at.flip))
        return _take(torch.cat(crops), torch.tensor(order).argsort()), labels, indices, skipped
