"""Feeding the nets: data sets, the paper's training crops, a repeatable loader (Sect. 3.1, 3.3).

Units everywhere: images are RGB, 0..255; stored images are uint8 (3, H, W); batches that go into a
net are float32 (N, 3, crop, crop) with the mean RGB subtracted *and nothing else* (no division by a
standard deviation). What a data set is stands in `sets`.
"""

from ..inputs import as_pixels
from .crops import colour_shift, isotropic_resize, random_crop_flip
from .files import UnreadableImage, load_image
from .keyed import hash_keys, mix, uniforms
from .loader import Loader
from .published import open_dataset
from .scenes import SHAPES, TEXTURES
from .sets import ArrayDataset, Fetched, FolderDataset, fetch, fetch_blocks, in_memory
from .shapes import ShapesDataset
from .statistics import Eigen, mean_rgb, pca_rgb

__all__ = [
    "SHAPES",
    "TEXTURES",
    "ArrayDataset",
    "Eigen",
    "Fetched",
    "FolderDataset",
    "Loader",
    "ShapesDataset",
    "UnreadableImage",
    "as_pixels",
    "colour_shift",
    "fetch",
    "fetch_blocks",
    "hash_keys",
    "in_memory",
    "isotropic_resize",
    "load_image",
    "mean_rgb",
    "mix",
    "open_dataset",
    "pca_rgb",
    "random_crop_flip",
    "uniforms",
]
