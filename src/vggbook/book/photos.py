"""Two real photographs that every reader already has: scikit-learn ships them.

`photograph("flower")` and `photograph("china")` are 427 x 640 pixels; `CREDITS[name]` is the text
to show beside them.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from ..checks import choice

_FLICKR = "flickr.com/photos"
_LICENCE = "CC BY 2.0, some rights reserved; shipped with scikit-learn"
CREDITS = {
    # scikit-learn's README names danielbuechele for both, but its source link for the flower is
    # vultilion's page.
    "flower": f"Dahlia. Photograph: vultilion, {_FLICKR}/vultilion/6056698931 ({_LICENCE}).",
    "china": "Summer Palace, Beijing. Photograph: danielbuechele, "
    f"{_FLICKR}/danielbuechele/6061409035 ({_LICENCE}).",
}


def photograph_path(name: str = "flower") -> Path:
    """Path of the JPEG file of `photograph(name)`; the same errors."""
    choice("name", name, sorted(CREDITS))
    spec = find_spec("sklearn")  # finds the folder without importing the package
    roots = (spec.submodule_search_locations if spec else None) or []
    for root in roots:
        path = Path(root, "datasets", "images", f"{name}.jpg")
        if path.is_file():
            return path
    missing = f"photograph {name!r} comes with scikit-learn, which is not installed"
    raise FileNotFoundError(f"{missing}: pip install scikit-learn")


def photograph(name: str = "flower") -> Tensor:
    """A real photograph as a uint8 tensor (3, 427, 640), RGB, 0..255.

    name: "flower" or "china". Raises ValueError for another name, FileNotFoundError where
    scikit-learn is missing.
    """
    from ..data.files import load_image

    return load_image(photograph_path(name))
