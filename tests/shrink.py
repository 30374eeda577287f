"""A profile's own file with all sizes divided by one rule: its path through a chapter can be walked
on any CPU.
"""

from __future__ import annotations

from typing import Any

SIDE = 32  # pixels of a crop: the smallest image that five poolings leave something of
DIVISOR = 64  # of what is counted: images, steps, epochs
WIDTH = 16  # nets become a sixteenth of their width at most
LEAST = {  # a count is divided, but not below this
    "train": 128,
    "images": 128,
    "test": 48,
    "val_images": 48,
    "batch": 4,
    "batch_size": 8,
    "rounds": 3,
    "d_batch": 2,
    "d_rounds": 3,
    "max_epochs": 1,
    "deep_epochs": 1,
    "product": 128,
    "imagenette": 10,
}
SIDES = ("crop", "scales", "image", "signal_size")
WIDTHS = ("width", "photo_width")


def _smaller(key: str, value: Any, ratio: float) -> Any:
    """One value: a count divided, a side in proportion, a width bounded; anything else as it is."""
    if isinstance(value, dict):
        return {k: _smaller(k, v, ratio) for k, v in value.items()}
    if key in SIDES:
        if isinstance(value, list):
            return [max(SIDE, round(side * ratio)) for side in value]
        return max(SIDE, round(value * ratio))
    if key in WIDTHS:
        return min(value, 1 / WIDTH)
    if key == "seeds":
        return value[:2]
    if key in LEAST and value:
        return max(LEAST[key], value // DIVISOR)
    return value


def shrink(data: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A profile's data with device ``cpu`` and sizes for seconds; names, methods and types stay.

    In a chapter all sides shrink in the proportion in which its crop (or its image) becomes 32
    pixels.
    """
    small = {"common": {**data["common"], "device": "cpu"}}
    for chapter, values in data.items():
        if chapter != "common":
            side = values.get("image") or values.get("recipe", {}).get("crop", SIDE)
            small[chapter] = {k: _smaller(k, v, SIDE / side) for k, v in values.items()}
    return small
