"""Write what the page "See it think" needs: ``python -m tools.think``.

``scenes.js`` holds the numbers of a few test pictures of the procedural set, and its tables of
outlines and textures. The page draws and computes anew; tests compare it with the package in a
browser. The net (``net-D.js``) comes from experiments/page_net.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from vggbook.data import SHAPES, TEXTURES, ShapesDataset
from vggbook.data.scenes import Outline, Texture

FOLDER = Path(__file__).resolve().parents[1] / "book" / "_static" / "think"
SEED = 7
PICTURES = (0, 5, 10, 15, 20, 27, 31, 38)  # indices in the test split: eight classes
DIGITS = 6  # of the numbers, in units of the picture's side


def shapes() -> ShapesDataset:
    """The set that the page's pictures come from."""
    return ShapesDataset("test", max(PICTURES) + 1, seed=SEED, size=64, difficulty=0.15)


def _numbers(value: torch.Tensor) -> object:
    """A tensor as plain numbers; whole ones stay whole."""
    if value.dtype in (torch.int64, torch.bool):
        return value.tolist()
    return json.loads(
        json.dumps(value.double().tolist()), parse_float=lambda t: round(float(t), DIGITS)
    )


def _outline(outline: Outline) -> dict[str, torch.Tensor]:
    names = {"shape": "shape", "r": "radius", "angle": "angle", "tilt": "tilt", "x": "x", "y": "y"}
    return {short: getattr(outline, name) for short, name in names.items()}


def _texture(texture: Texture) -> dict[str, torch.Tensor]:
    fields = texture._asdict()
    return {"texture": fields.pop("kind"), "k": fields.pop("wavenumber"), **fields}


def _things(group: dict[str, torch.Tensor], row: int) -> list[dict]:
    """The things of a kind (waves, bands, plain shapes) in one picture, a dict each."""
    count = next(iter(group.values())).shape[1]
    return [{key: _numbers(value[row, i]) for key, value in group.items()} for i in range(count)]


def scenes(dataset: ShapesDataset) -> list[dict]:
    """The pictures' numbers by name, in units of the picture's side."""
    found = dataset.scenes(list(PICTURES))
    waves, bands, plain = found.waves._asdict(), found.bands._asdict(), found.plain
    several = {
        "waves": {"k": waves.pop("wavenumber"), **waves},
        "bands": _texture(bands.pop("texture")) | bands,
        "plain": _outline(plain.outline) | {"colour": plain.colour, "present": plain.present},
    }
    single = {
        "object": _outline(found.outline) | _texture(found.texture),
        "ground": found.ground._asdict(),
        "light": found.light._asdict(),
    }
    return [
        {"label": index % len(dataset.classes)}
        | {name: _things(group, row)[0] for name, group in single.items()}
        | {name: _things(group, row) for name, group in several.items()}
        for row, index in enumerate(PICTURES)
    ]


def scene_script() -> str:
    """The text of scenes.js."""
    dataset = shapes()
    data = {
        "classes": dataset.classes,
        "shapeNames": list(SHAPES),
        "textureNames": list(TEXTURES),
        "shapes": list(SHAPES.values()),
        "textures": list(TEXTURES.values()),
        "scenes": scenes(dataset),
    }
    text = json.dumps(data, separators=(",", ":"))
    return f"// Written by `python -m tools.think`.\nwindow.vggScenes = {text};\n"


def main() -> None:
    """Write the scenes."""
    (FOLDER / "scenes.js").write_text(scene_script(), encoding="utf-8")


if __name__ == "__main__":
    main()
