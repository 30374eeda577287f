"""Two real photographs that every reader already has: scikit-learn ships them, nothing is downloaded.

`photograph("flower")` and `photograph("china")` are 427 x 640 pixels; `CREDITS[name]` is the text to show beside them.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

_LICENCE = "CC BY 2.0, some rights reserved; shipped with scikit-learn"
CREDITS = {
    # scikit-learn's README names danielbuechele for both, but its source link for the flower is vultilion's page.
    "flower": f"Dahlia. Photograph: vultilion, flickr.com/photos/vultilion/6056698931 ({_LICENCE}).",
    "china": f"Summer Palace, Beijing. Photograph: danielbuechele, flickr.com/photos/danielbuechele/6061409035 ({_LICENCE}).",
}


def photograph_path(name: str = "flower") -> Path:
    """Path of the JPEG file of `photograph(name)`; the same errors."""
    if name not in CREDITS:
        raise ValueError(f"name={name!r}: expected one of {sorted(CREDITS)}")
    spec = find_spec("sklearn")  # finds the folder without importing the package
    for root in (spec.submodule_search_locations or []) if spec else []:
        path = Path(root, "datasets", "images", f"{name}.jpg")
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"photograph {name!r} comes with scikit-learn, which is not installed: pip install scikit-learn"
    )


def photograph(name: str = "flower") -> torch.Tensor:
    """A real photograph as a uint8 tensor (3, 427, 640), RGB, 0..255.

    name: "flower" or "china". Raises ValueError for another name, FileNotFoundError where scikit-learn is missing.
    """
    import numpy as np
    from PIL import Image

    with Image.open(photograph_path(name)) as image:
        return (
            torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()
        )  # (3, H, W)
