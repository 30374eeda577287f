"""Write what the explorer's page needs: ``python -m tools.explorer``.

``configs.js`` is Table 1 as the page's script reads it, from :mod:`vggbook.configs`; a test asserts
that the file is up to date. ``photo.jpg`` is the middle of a photograph that scikit-learn ships,
made small. The arithmetic is done anew in ``arithmetic.js`` and the scripts beside it, and tested
against the package in a browser.
"""

from __future__ import annotations

import json
from pathlib import Path

from vggbook.arithmetic import smallest_image
from vggbook.configs import CONFIGS, LRN, Conv

FOLDER = Path(__file__).resolve().parents[1] / "book" / "_static" / "explorer"
PHOTO, SIDE, QUALITY = "flower", 400, 78


def layer_data(name: str, layer) -> dict:
    if isinstance(layer, Conv):
        return {
            "name": name,
            "kind": "conv",
            "channels": layer.channels,
            "kernel": layer.kernel,
            "stride": layer.stride,
            "pad": layer.pad,
            "groups": layer.groups,
        }
    if isinstance(layer, LRN):
        return {"name": name, "kind": "lrn"}
    return {
        "name": name,
        "kind": "pool",
        "kernel": layer.kernel,
        "stride": layer.stride,
        "ceil": layer.ceil,
    }


def config_data() -> list[dict]:
    """All configurations as plain data, in the order of CONFIGS."""
    return [
        {
            "name": config.name,
            "source": config.source,
            "depth": config.weight_layers,
            "smallest": smallest_image(config),
            "layers": [layer_data(*pair) for pair in zip(config.layer_names, config.layers)],
            "fc": [
                {"name": name, "width": width}
                for name, width in zip(config.fc_names, [*config.fc, None])
            ],
        }
        for config in CONFIGS.values()
    ]


def config_script() -> str:
    """The text of configs.js: one configuration a line."""
    lines = ",\n".join(json.dumps(config, separators=(",", ":")) for config in config_data())
    head = "// Written by `python -m tools.explorer` from src/vggbook/configs.py."
    return f"{head}\nwindow.vggConfigs = [\n{lines}\n];\n"


def photo() -> None:
    """The photograph's middle square, SIDE pixels wide."""
    from PIL import Image

    from vggbook.book.photos import photograph_path

    with Image.open(photograph_path(PHOTO)) as image:
        w, h = image.size
        left, top, side = (w - min(w, h)) // 2, (h - min(w, h)) // 2, min(w, h)
        square = image.convert("RGB").crop((left, top, left + side, top + side))
    square.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(
        FOLDER / "photo.jpg", quality=QUALITY, optimize=True, progressive=True
    )


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "configs.js").write_text(config_script(), encoding="utf-8")
    photo()
