"""The rules of testing (Sect. 3.2, 4.1, 4.2): scales, crop grids, score maps, what each costs."""

from __future__ import annotations

from ..arithmetic import last_map, walk
from ..checks import is_whole, needs, whole
from ..configs import Config, Size, check_size


def test_scales(S: int | tuple[int, int], single: bool = False, step: int = 32) -> tuple[int, ...]:
    """The paper's test scales Q for a net trained at S (Sect. 4.1, 4.2), ascending, in pixels.

    Fixed S: {S - step, S, S + step}, or S alone where ``single``. Jittered (S_min, S_max):
    {S_min, their mean, S_max}, or the mean.
    """
    if not isinstance(S, tuple | list):
        step = whole("step", step, low=1)
        S = whole("S", S, low=step + 1)
        return (S,) if single else (S - step, S, S + step)
    right = len(S) == 2 and all(is_whole(side, low=1) for side in S) and S[0] < S[1]
    needs(right, "S", S, "a whole number, or a pair (S_min, S_max) of them, S_min < S_max")
    low, high = S
    mean = (low + high) // 2
    return (mean,) if single else (low, mean, high)


test_scales.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever pytest thinks


def score_map_size(config: str | Config, image_size: int | Size, crop: int = 224) -> Size:
    """Height and width of the class score map of an image, for a net trained on ``crop`` pixels."""
    enough = min(check_size(image_size)) >= whole("crop", crop, low=1)
    needs(enough, "image_size", image_size, f"at least the crop, {crop} pixels, on both sides")
    _, kernel_h, kernel_w = last_map(config, crop)
    _, h, w = last_map(config, image_size)
    return h - kernel_h + 1, w - kernel_w + 1


def dense_macs(
    config: str | Config,
    image_size: int | Size,
    crop: int = 224,
    num_classes: int = 1000,
    width: float = 1.0,
) -> int:
    """Multiply-adds of one dense evaluation of an image, without its mirror image.

    The convolutions go over the whole image, the FC layers over each position of the score map.
    """
    h, w = score_map_size(config, image_size, crop)
    whole_image = walk(config, num_classes, width=width, image_size=image_size)
    one_crop = walk(config, num_classes, width=width, image_size=crop)
    convs = sum(row.macs for row in whole_image if row.kind != "fc")
    return convs + h * w * sum(row.macs for row in one_crop if row.kind == "fc")


def crop_grid(size: Size, crop: int | Size = 224, grid: int = 5) -> list[tuple[int, int]]:
    """(top, left) of the ``grid`` x ``grid`` crops of an image of ``size`` (Sect. 3.2).

    They are evenly spread from border to border; one crop (``grid=1``) is the centre crop.
    """
    high, wide = check_size(crop, "crop")
    whole("grid", grid, low=1)
    fits = size[0] >= high and size[1] >= wide
    needs(fits, "size", tuple(size), f"an image that crops of {high} x {wide} pixels fit into")
    tops = _spread(size[0] - high, grid)
    lefts = _spread(size[1] - wide, grid)
    return [(top, left) for top in tops for left in lefts]


def _spread(space: int, grid: int) -> list[int]:
    """``grid`` whole numbers from 0 to ``space``; the middle where there is one."""
    if grid == 1:
        return [space // 2]
    return [round(space * i / (grid - 1)) for i in range(grid)]
