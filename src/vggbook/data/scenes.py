"""The scenes of the procedural set: from a picture's random numbers to shapes, textures and light.

Lengths are in units of the picture's smallest side; colours are RGB on 0..1. N scenes are drawn at
once; K is the number of things of a kind in a scene.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

SHAPES = {  # star polygons: corners, and inner over outer radius; cos(pi / n) makes edges straight
    "disc": (48, math.cos(math.pi / 48)),
    "square": (4, math.cos(math.pi / 4)),
    "triangle": (3, 0.5),
    "star": (5, 0.45),
    "hexagon": (6, math.cos(math.pi / 6)),
    "spark": (4, 0.42),
}
TEXTURES = {  # light where a cos u + b cos v + c cos u cos v + d cos^2 u + e > 0; u is across v
    "stripes": (1.0, 0.0, 0.0, 0.0, 0.0),
    "checks": (0.0, 0.0, 1.0, 0.0, 0.0),
    "dots": (1.0, 1.0, 0.0, 0.0, -0.7),
    "bars": (0.5, 0.0, 0.0, 2.0, -1.0),  # thick and thin in turn
}

# The uniform numbers behind a picture, column by column: what each is for, and how many. Pictures
# stay as they are only while this table does: what a scene needs anew is appended.
COLUMNS = (
    ("aspect", 1), ("side", 1),
    ("object.radius", 1), ("object.angle", 1), ("object.tilt", 1), ("object.x", 1), ("object.y", 1),
    ("object.paint", 3), ("object.contrast", 3), ("object.lean", 1), ("object.period", 1),
    ("object.u", 1), ("object.v", 1),
    ("ground.near", 3), ("ground.far", 3), ("ground.angle", 1),
    ("waves.angle", 3), ("waves.length", 3), ("waves.phase", 3), ("waves.colour", 9),
    ("bands.texture", 2), ("bands.paint", 6), ("bands.contrast", 6), ("bands.lean", 2),
    ("bands.period", 2), ("bands.u", 2), ("bands.v", 2), ("bands.radius", 2), ("bands.angle", 2),
    ("bands.offset", 2), ("bands.width", 2), ("bands.present", 2),
    ("plain.shape", 3), ("plain.radius", 3), ("plain.angle", 3), ("plain.tilt", 3), ("plain.x", 3),
    ("plain.y", 3), ("plain.colour", 9), ("plain.present", 3),
    ("light.angle", 1), ("light.slope", 1), ("light.gain", 1),
)  # fmt: skip
COLUMN_COUNT = sum(count for _, count in COLUMNS)
FRAME_COLUMNS = 2  # the first ones decide the picture's size

Span = tuple[float, float]  # smallest, largest
Room = tuple[Tensor, Tensor]  # width and height of the pictures, (N, 1)
Numbers = dict[str, Tensor]  # column name -> (N, count)


class Look(NamedTuple):
    """What the scenes of a set have in common; see `ShapesDataset` for the first four."""

    size: tuple[int, int]
    aspect: Span
    difficulty: float
    hint: float
    shape_of: Tensor  # (classes,), rows of SHAPES
    texture_of: Tensor  # (classes,), rows of TEXTURES
    colour_of: Tensor  # (classes, 1, 3), the paint that a hint points to


class Outline(NamedTuple):
    """Star polygons, every field (N, K)."""

    shape: Tensor  # row of SHAPES
    radius: Tensor
    angle: Tensor
    tilt: Tensor  # foreshortening: height over width
    x: Tensor
    y: Tensor


class Texture(NamedTuple):
    """Two colours that alternate along two directions at right angles, every field (N, K)."""

    kind: Tensor  # row of TEXTURES
    lean: Tensor  # angle of the first direction
    wavenumber: Tensor  # radians a unit of length
    u: Tensor  # phases
    v: Tensor
    dark: Tensor  # (N, K, 3)
    light: Tensor  # (N, K, 3)


class Ground(NamedTuple):
    """A gradient from one colour to another."""

    near: Tensor  # (N, 1, 3)
    far: Tensor  # (N, 1, 3)
    angle: Tensor  # (N, 1)


class Waves(NamedTuple):
    """Plane waves of colour over the ground."""

    angle: Tensor  # (N, K)
    wavenumber: Tensor  # (N, K), radians a unit of length
    phase: Tensor  # (N, K)
    colour: Tensor  # (N, K, 3), amplitude


class Bands(NamedTuple):
    """Textured strips across the whole picture, every field (N, K)."""

    angle: Tensor
    offset: Tensor  # from the middle
    half: Tensor  # half of the width; 0 where there is none
    texture: Texture


class Plain(NamedTuple):
    """Shapes without a texture."""

    outline: Outline
    colour: Tensor  # (N, K, 3)
    present: Tensor  # (N, K), 0 or 1


class Light(NamedTuple):
    """Brightness that changes along one direction, every field (N, 1)."""

    angle: Tensor
    slope: Tensor
    gain: Tensor


class Scene(NamedTuple):
    """Everything in N pictures, from back to front."""

    width: Tensor  # (N, 1)
    height: Tensor  # (N, 1)
    ground: Ground
    waves: Waves
    bands: Bands
    plain: Plain
    outline: Outline  # of the object
    texture: Texture  # of the object
    light: Light

    def rows(self, start: int, stop: int) -> Scene:
        """The scenes start to stop."""
        return _rows(self, start, stop)


def _rows(part: Any, start: int, stop: int) -> Any:
    if isinstance(part, Tensor):
        return part[start:stop]
    return type(part)(*(_rows(field, start, stop) for field in part))


def named_columns(u: Tensor) -> Numbers:
    """Uniform numbers (N, COLUMN_COUNT) by the names of COLUMNS."""
    counts = [count for _, count in COLUMNS]
    return {name: column for (name, _), column in zip(COLUMNS, u.split(counts, dim=1))}


def frame(look: Look, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Smallest side in pixels (N, 1), width and height in its units (N, 1), from two columns."""
    low, high = look.size
    first, second = u[:, :FRAME_COLUMNS].split(1, dim=1)  # (N, 1) each
    aspect = _log_between(first, *look.aspect)
    side = torch.floor(_between(second, low, high + 1)).clamp(max=high)
    return side, aspect.clamp(min=1), (1 / aspect).clamp(min=1)


def draw_scene(look: Look, u: Tensor, labels: Tensor) -> Scene:
    """The scenes behind uniform numbers (N, COLUMN_COUNT) for classes (N,)."""
    d = look.difficulty
    n = named_columns(u)
    _, width, height = frame(look, u)
    room = (width, height)
    label = labels[:, None]  # (N, 1)
    smallest = 0.30 - 0.48 * d + 0.28 * d * d
    thing = _outline(n, "object", look.shape_of[label], (smallest, 0.42), room, d)
    paint = (1 - look.hint) * _colour(n["object.paint"]) + look.hint * look.colour_of[labels]
    texture = _texture(n, "object", look.texture_of[label], paint, thing.radius, d)
    plain_shapes = _any_of(look.shape_of, n["plain.shape"])
    plain = Plain(
        outline=_outline(n, "plain", plain_shapes, (0.06, 0.35), room, d),
        colour=_colour(n["plain.colour"]),
        present=(n["plain.present"] < d).float(),
    )
    waves = Waves(
        angle=_angle(n["waves.angle"]),
        wavenumber=_log_between(n["waves.length"], 6, 60),
        phase=_angle(n["waves.phase"]),
        colour=(_colour(n["waves.colour"]) - 0.5) * 0.3 * d,
    )
    light = Light(
        angle=_angle(n["light.angle"]),
        slope=_between(n["light.slope"], 0, 0.8 * d),
        gain=1 + d * _between(n["light.gain"], -0.4, 0.2),
    )
    bands = _bands(n, look.texture_of, d)
    return Scene(width, height, _ground(n, d), waves, bands, plain, thing, texture, light)


def _ground(n: Numbers, difficulty: float) -> Ground:
    pale = 0.4 + 0.6 * difficulty  # how far the colours reach from grey
    return Ground(
        near=0.5 + pale * (_colour(n["ground.near"]) - 0.5),
        far=0.5 + pale * (_colour(n["ground.far"]) - 0.5),
        angle=_angle(n["ground.angle"]),
    )


def _bands(n: Numbers, textures: Tensor, difficulty: float) -> Bands:
    radius = _log_between(n["bands.radius"], 0.10, 0.42)  # of an object with such a texture
    kind = _any_of(textures, n["bands.texture"])
    present = n["bands.present"] < 0.7 * difficulty
    return Bands(
        angle=_angle(n["bands.angle"]),
        offset=_between(n["bands.offset"], -0.5, 0.5),
        half=_between(n["bands.width"], 0.05, 0.2) * present,
        texture=_texture(n, "bands", kind, _colour(n["bands.paint"]), radius, difficulty),
    )


def _outline(
    n: Numbers, part: str, shape: Tensor, radii: Span, room: Room, difficulty: float
) -> Outline:
    width, height = room
    radius = _log_between(n[f"{part}.radius"], *radii)
    return Outline(
        shape=shape,
        radius=radius,
        angle=_angle(n[f"{part}.angle"]),
        tilt=1 - _between(n[f"{part}.tilt"], 0, 0.4 * difficulty),
        x=radius + (width - 2 * radius) * n[f"{part}.x"],
        y=radius + (height - 2 * radius) * n[f"{part}.y"],
    )


def _texture(
    n: Numbers, part: str, kind: Tensor, paint: Tensor, radius: Tensor, difficulty: float
) -> Texture:
    middle = 0.25 + 0.5 * paint
    swing = 0.2 + _colour(n[f"{part}.contrast"])  # light is the brighter one in every channel
    swing = (0.45 - 0.2 * difficulty) * swing / swing.norm(dim=2, keepdim=True)
    period = _log_between(n[f"{part}.period"], 0.45, 0.75)  # in radii
    return Texture(
        kind=kind,
        lean=_angle(n[f"{part}.lean"]),
        wavenumber=2 * math.pi / period / radius,
        u=_angle(n[f"{part}.u"]),
        v=_angle(n[f"{part}.v"]),
        dark=middle - swing,
        light=middle + swing,
    )


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u


def _log_between(u: Tensor, low: float, high: float) -> Tensor:
    return torch.exp(_between(u, math.log(low), math.log(high)))


def _angle(u: Tensor) -> Tensor:
    return _between(u, 0, 2 * math.pi)


def _colour(u: Tensor) -> Tensor:
    """(N, 3 K) -> (N, K, 3)."""
    return u.reshape(len(u), -1, 3)


def _any_of(kinds: Tensor, u: Tensor) -> Tensor:
    """One of `kinds` (M,) for each number (N, K)."""
    return kinds[(u * len(kinds)).long()]
