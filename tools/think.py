"""Write what the page "See it think" needs: ``python -m tools.think``.

``scenes.js`` holds the numbers of a few test pictures of the procedural set, and its tables of
outlines and textures. The page draws and computes anew; tests compare it with the package in a
browser. The net (``net-D.js``) is an exported miniature.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from vggbook import book
from vggbook.book import export
from vggbook.data import SHAPES, TEXTURES, ShapesDataset

FOLDER = Path(__file__).resolve().parents[1] / "book" / "_static" / "think"
SEED = 7
PICTURES = (0, 5, 10, 15, 20, 27, 31, 38)  # indices in the test split: eight classes
DIGITS = 6  # of the numbers, in units of the picture's side


def shapes(classes: tuple[str, ...] | int = 12) -> ShapesDataset:
    """The set that the page's pictures come from."""
    return ShapesDataset("test", max(PICTURES) + 1, seed=SEED, size=64, classes=classes)


def _numbers(value: torch.Tensor) -> object:
    """A tensor as plain numbers; whole ones stay whole."""
    if value.dtype in (torch.int64, torch.bool):
        return value.tolist()
    return json.loads(
        json.dumps(value.double().tolist()), parse_float=lambda t: round(float(t), DIGITS)
    )


def _columns(group: dict, row: int) -> list[dict]:
    """What a group of things (waves, bands, plain shapes) holds for one picture, a dict each."""
    count = next(iter(group.values())).shape[1]
    return [{key: _numbers(value[row, i]) for key, value in group.items()} for i in range(count)]


def scenes(dataset: ShapesDataset) -> list[dict]:
    """The pictures' numbers by name, in units of the picture's side."""
    found = dataset.scene(list(PICTURES))
    singles = ("object", "ground", "light")
    several = ("waves", "bands", "plain")
    return [
        {"label": index % len(dataset.classes)}
        | {name: _columns(found[name], row)[0] for name in singles}
        | {name: _columns(found[name], row) for name in several}
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
    """Write all files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "scenes.js").write_text(scene_script(), encoding="utf-8")
    net = book.miniature("page")
    data = export.describe(net, net.classes, net.preprocessing, "D", net.provenance["note"])
    export.write(data, FOLDER / "net-D.js")


if __name__ == "__main__":
    main()
