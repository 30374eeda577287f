"""Painting the scenes of the procedural set: every edge covers its pixels by the part it hides.

x (W,) and y (H,) are the pixels' centres, in units of the smallest side; `pixels` is that side's
length. Maps are float32 (N, K, H, W): a chunk of scenes small enough to stay in the cache, so most
steps work in place.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .scenes import SHAPES, TEXTURES, Outline, Scene, Texture


def paint(scene: Scene, x: Tensor, y: Tensor, pixels: int) -> Tensor:
    """Pictures of N scenes, back to front, uint8 (N, 3, H, W)."""
    from_middle = (x - 0.5, y - 0.5)
    picture = _ground(scene, x, y)
    _add_waves(picture, scene, x, y)
    covered = _band_coverage(scene, *from_middle, pixels)
    _weave(picture, covered, scene.bands.texture, *from_middle, pixels)
    covered = coverage(scene.plain.outline, x, y, pixels)
    covered *= _px(scene.plain.present)
    _lay(picture, covered, scene.plain.colour)
    covered = coverage(scene.outline, x, y, pixels)
    _weave(picture, covered, scene.texture, x, y, pixels)
    picture *= _light(scene, *from_middle)
    picture += 0.5
    return picture.clamp_(0, 255).to(torch.uint8)


def corners(outline: Outline, count: int = 96) -> tuple[Tensor, Tensor]:
    """x and y (N, count) of outlines' (N, 1) corners, inner ones too; beyond 2n they repeat."""
    n, inner = _shape_table(outline.shape)
    k = torch.arange(count, device=n.device)
    radius = torch.where(k % 2 == 0, 1.0, inner) * outline.radius
    across = radius * torch.cos(k * math.pi / n)
    along = radius * torch.sin(k * math.pi / n) * outline.tilt
    cos = torch.cos(outline.angle)
    sin = torch.sin(outline.angle)
    return outline.x + cos * across - sin * along, outline.y + sin * across + cos * along


def coverage(outline: Outline, x: Tensor, y: Tensor, pixels: int) -> Tensor:
    """How much of each pixel star polygons cover, 0..1."""
    n, inner = _shape_table(outline.shape)
    half = math.pi / n  # angle from an outer corner to the next inner one
    # the normal of that edge
    edge = torch.atan2(1 - inner * torch.cos(half), inner * torch.sin(half))
    cos = torch.cos(outline.angle) / outline.radius
    sin = torch.sin(outline.angle) / outline.radius
    tilt = _px(outline.tilt)
    dx = x - _px(outline.x)
    dy = y[:, None] - _px(outline.y)
    # The shape's own plane: outer radius 1, upright.
    across = _px(cos) * dx + _px(sin) * dy
    along = (_px(cos) / tilt) * dy - (_px(sin) / tilt) * dx
    half, edge = _px(half), _px(edge)
    angle = torch.atan2(along, across)
    turns = (angle / (2 * half)).round_()
    turns *= 2 * half
    angle -= turns
    angle.abs_()  # every half corner is folded onto the first one
    distance = (across * across).addcmul_(along, along).sqrt_()
    angle -= edge
    distance *= angle.cos_()
    distance -= torch.cos(edge)  # from the edge, in radii
    distance *= _px(-outline.radius * pixels)
    distance += 0.5
    return distance.clamp_(0, 1)


def _ground(scene: Scene, x: Tensor, y: Tensor) -> Tensor:
    near = _px(scene.ground.near)
    return _ramp(scene.ground.angle, x, y, 0.5, 0.5) * (_px(scene.ground.far) - near) + near


def _add_waves(picture: Tensor, scene: Scene, x: Tensor, y: Tensor) -> None:
    waves = scene.waves
    kx = waves.wavenumber * torch.cos(waves.angle)
    ky = waves.wavenumber * torch.sin(waves.angle)
    swell = _cosine(kx, ky, waves.phase, x, y)
    for k in range(swell.shape[1]):
        picture += swell[:, k : k + 1] * _px(waves.colour[:, k])


def _band_coverage(scene: Scene, x: Tensor, y: Tensor, pixels: int) -> Tensor:
    half = _px(scene.bands.half)
    covered = half - _ramp(scene.bands.angle, x, y, 1, -_px(scene.bands.offset)).abs_()
    covered *= pixels
    covered += 0.5 * (half > 0)
    return covered.clamp_(0, 1)


def _lay(picture: Tensor, covered: Tensor, colour: Tensor) -> None:
    """Paint colours (N, K, 3) where `covered` (N, K, H, W) is 1, one of the K after the other."""
    for k in range(covered.shape[1]):
        part = covered[:, k : k + 1]
        picture *= 1 - part
        picture += part * _px(colour[:, k])


def _light(scene: Scene, x: Tensor, y: Tensor) -> Tensor:
    shade = _ramp(scene.light.angle, x, y, _px(scene.light.slope), 1)
    shade *= _px(scene.light.gain) * 255
    return shade


def _weave(
    picture: Tensor, covered: Tensor, texture: Texture, x: Tensor, y: Tensor, pixels: int
) -> None:
    """Paint textures where `covered` is 1; edges are smooth, and fade below two pixels a period."""
    table = torch.tensor(list(TEXTURES.values()), device=x.device)[texture.kind]  # (N, K, 5)
    a, b, c, d, e = table.movedim(-1, 0)[..., None, None]
    k = texture.wavenumber
    cos, sin = torch.cos(texture.lean), torch.sin(texture.lean)
    u = _cosine(k * cos, k * sin, texture.u, x, y)
    v = _cosine(-k * sin, k * cos, texture.v, x, y)
    bright = v * c
    bright += a
    bright += u * d
    bright *= u
    v *= b
    bright += v
    bright += e
    bright *= _px(pixels / k)  # pixels a radian
    bright += 0.5
    bright.clamp_(0, 1)
    for i in range(covered.shape[1]):
        part = covered[:, i : i + 1]
        picture *= 1 - part
        picture += part * _px(texture.dark[:, i])
        picture += part * bright[:, i : i + 1] * _px(texture.light[:, i] - texture.dark[:, i])


def _px(t: Tensor) -> Tensor:
    """(N, C) or (N, 1, C) -> (N, C, 1, 1), to broadcast over pixels."""
    return t.reshape(len(t), -1, 1, 1)


def _ramp(angle: Tensor, x: Tensor, y: Tensor, slope: Any, offset: Any) -> Tensor:
    """slope * (the coordinate along `angle`) + offset, for angles (N, K)."""
    cos = torch.cos(angle)[:, :, None, None]
    sin = torch.sin(angle)[:, :, None, None]
    return slope * cos * x + (slope * sin * y[:, None] + offset)


def _cosine(kx: Tensor, ky: Tensor, phase: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """cos(kx x + ky y + phase) for (N, K) waves; the addition theorem saves a cosine a pixel."""
    column = (kx[:, :, None] * x + phase[:, :, None])[:, :, None, :]
    row = (ky[:, :, None] * y)[:, :, :, None]
    wave = torch.cos(column) * torch.cos(row)
    wave -= torch.sin(column) * torch.sin(row)
    return wave


def _shape_table(kind: Tensor) -> tuple[Tensor, Tensor]:
    """Corners, and inner over outer radius, of shapes (N, K)."""
    table = torch.tensor(list(SHAPES.values()), device=kind.device)[kind]  # (N, K, 2)
    return table[..., 0], table[..., 1]
