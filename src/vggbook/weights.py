"""Trained weights as others publish them, each with its own preprocessing (Sect. 2.1, 3.2).

Three families of weights share the paper's networks and nothing else:

========== ============================================ =====================================
family     input                                        files
========== ============================================ =====================================
paper      RGB, 0..255, minus the mean RGB              those of ``vggbook.train``
authors    BGR, 0..255, minus the mean (103.939, ...)   ``.caffemodel``, and its ``.pth`` ports
torchvision RGB, 0..1, minus a mean, divided by a std   ``vgg16-397923af.pth`` and the others
========== ============================================ =====================================

Feeding one family with the preprocessing of another raises no error; it only costs accuracy. So a
network that is loaded here carries ``model.preprocessing``, and :mod:`vggbook.evaluate` uses it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from .arithmetic import walk
from .caffemodel import caffe_state, read_caffemodel
from .checks import needs
from .configs import CONFIGS, Config, Conv, resolve
from .model import Network, build
from .released import FILE_NAME, NAMES, FetchError, fetch_weights, find_file, find_weights
from .saved import read_saved

__all__ = [
    "FAMILIES",
    "FetchError",
    "Preprocessing",
    "check_sha256",
    "fetch_weights",
    "find_file",
    "find_weights",
    "imagenet_names",
    "load_state",
    "load_weights",
    "read_caffemodel",
]


@dataclass(frozen=True)
class Preprocessing:
    """(image - mean) / std on RGB of 0..255, one number a channel; then to BGR where ``bgr``.

    ``mean`` and ``std`` are in R, G, B order and in grey levels whatever the family. The paper
    divides by nothing (std 1).
    """

    name: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    bgr: bool = False

    def __call__(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) RGB of 0..255, uint8 or floating, to float32 of the same shape."""
        mean = torch.tensor(self.mean, device=images.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(3, 1, 1)
        x = (images.float() - mean) / std  # (N, 3, H, W)
        return x.flip(1) if self.bgr else x


_AUTHORS_MEAN = (123.68, 116.779, 103.939)  # R, G, B; the release prints it as B, G, R
FAMILIES = {
    "paper": Preprocessing("paper", _AUTHORS_MEAN),
    "authors": Preprocessing("authors", _AUTHORS_MEAN, bgr=True),
    "torchvision": Preprocessing(
        "torchvision",
        (0.485 * 255, 0.456 * 255, 0.406 * 255),
        (0.229 * 255, 0.224 * 255, 0.225 * 255),
    ),
}
_TORCHVISION = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}
_TORCH7 = {  # Johnson's files count the layers of Torch 7
    f"classifier.{old}.{part}": f"classifier.{new}.{part}"
    for old, new in ((1, 0), (4, 3))
    for part in ("weight", "bias")
}
# what DistributedDataParallel and torch.compile prepend, either of them around the other
_WRAPPERS = ("module.", "_orig_mod.", "module.")
_OWN_KEYS = {"model", "recipe", "mean", "classes"}  # of the files of vggbook.train


def imagenet_names() -> list[str]:
    """Names of the 1000 classes of ILSVRC-2012, in the order of their sorted WordNet ids.

    All VGG-16 and VGG-19 files share it; the Caffe releases of VGG-F, M and S have another.
    """
    from torchvision.models import VGG16_Weights

    return list(VGG16_Weights.IMAGENET1K_V1.meta["categories"])


def digest_of(path: Path) -> str | None:
    """The first digits of the SHA-256 that a file's name carries, as torchvision's do."""
    name = FILE_NAME.match(path.name)
    return name[3] if name else None


def check_sha256(path: Path, sha256: str | None) -> None:
    """Raise ValueError unless the file's SHA-256 starts with ``sha256``; None checks nothing."""
    if sha256 is None:
        return
    known = re.fullmatch(r"[0-9a-fA-F]{8,64}", sha256) is not None
    needs(known, "sha256", sha256, "8 to 64 hexadecimal digits")
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(sha256.lower()):
        found = f"{path.name}: SHA-256 is {digest}, expected {sha256}"
        raise ValueError(f"{found}: the file is damaged or another one")


def _guess(state: Mapping[str, Tensor]) -> Config | None:
    """The configuration whose convolutions have the file's shapes, at any width, or None."""
    weights = [t for key, t in state.items() if key.startswith("features.") and t.ndim == 4]
    found = [(t.shape[0], *t.shape[2:]) for t in weights]  # output channels, sides of the kernel
    for config in CONFIGS.values() if found else ():
        rows = walk(config, width=found[0][0] / first_channels(config))
        if found == [(r.output_shape[0], r.kernel, r.kernel) for r in rows if r.kind == "conv"]:
            return config
    return None


def first_channels(config: Config) -> int:
    """Output channels of the first convolution, at width 1."""
    return next(layer.channels for layer in config.layers if isinstance(layer, Conv))


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str = "weights") -> nn.Module:
    """``load_state_dict`` with ``strict=True``, whose error names the first key that does not fit.

    Returns the model.
    """
    own = model.state_dict()
    for key in [*own, *(key for key in state if key not in own)]:
        has = tuple(state[key].shape) if key in state else "nothing"
        takes = tuple(own[key].shape) if key in own else "nothing"
        if has != takes and not key.endswith("num_batches_tracked"):
            fits = _guess(state)
            hint = f"; the convolutions of the file are those of {fits.name}" if fits else ""
            name = getattr(getattr(model, "config", None), "name", type(model).__name__)
            mismatch = f"first mismatch {key}: file {has}, network {takes}{hint}"
            raise ValueError(f"{source} does not fit {name}: {mismatch}")
    model.load_state_dict(state, assign=next(model.parameters()).is_meta)
    return model


@dataclass
class _File:
    """What a weights file holds and tells."""

    state: dict[str, Tensor]  # Caffe's blobs are flat
    family: str | Preprocessing | None = None  # None where the file does not tell
    config: str | Config | None = None
    image_size: int | None = None
    class_names: list[str] | None = None


def _read(path: Path, config: str | Config | None) -> _File:
    if path.suffix == ".caffemodel":
        blobs = read_caffemodel(path)
        net = resolve(config or ("E" if "conv5_4" in blobs else "D"))
        return _File(caffe_state(blobs, net), "authors", net)
    try:
        state = read_saved(path, "weights file", old=True, mmap=True)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None
    if isinstance(state, dict) and state.keys() >= _OWN_KEYS:
        recipe = state["recipe"]
        red, green, blue = (float(value) for value in state["mean"])
        family = Preprocessing("paper", (red, green, blue), (1 / recipe["gain"],) * 3)
        names = list(state["classes"])
        return _File(state["model"], family, recipe["config"], recipe["crop"], names)
    for wrapper in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    tensors = isinstance(state, Mapping) and all(isinstance(t, Tensor) for t in state.values())
    if not tensors or not state:
        kind = type(state).__name__
        raise ValueError(f"{path.name}: holds a {kind}, a state dict of tensors is needed")
    weights: dict[str, Tensor] = dict(state)
    for prefix in _WRAPPERS:
        consume_prefix_in_state_dict_if_present(weights, prefix)
    if "classifier.1.weight" in weights and "classifier.0.weight" not in weights:
        renamed = {_TORCH7.get(key, key): tensor for key, tensor in weights.items()}
        return _File(renamed, "authors")
    return _File(weights, "torchvision" if FILE_NAME.match(path.name) else None)


def load_weights(
    source: str | os.PathLike,
    config: str | Config | None = None,
    *,
    family: str | Preprocessing | None = None,
    sha256: str | None = None,
    image_size: int = 224,
) -> Network:
    """A network with trained weights in evaluation mode, ``.preprocessing`` and ``.class_names``.

    ``source``: a local ``.pth`` or ``.caffemodel``; or torchvision's name (vgg11 to vgg19, with
    ``_bn``), which is found on this machine or fetched: see ``fetch_weights``. ``config`` is
    inferred from the file where it is None. ``family``: one of ``FAMILIES``, or a Preprocessing;
    needed only where the file does not tell. ``sha256``: full, or its first 8 digits or more;
    torchvision's file names carry the digits and are always checked. ``class_names`` is None where
    they are not known. Nothing but tensors is unpickled.

    Raises FileNotFoundError, and ValueError for what is no weights file, a wrong checksum, an
    unknown family, or weights of another configuration (naming the first key that does not fit).
    """
    if isinstance(family, str) and family not in FAMILIES:
        known = ", ".join(map(repr, FAMILIES))
        raise ValueError(f"family={family!r}: choose one of {known}, or give a Preprocessing")
    path = Path(source)
    if str(source) in NAMES:
        path = fetch_weights(str(source))
        family = family or "torchvision"
        config = config or _TORCHVISION[str(source).removesuffix("_bn")]
    elif not path.is_file():
        names = "torchvision's names are vgg11 to vgg19, vgg16_bn"
        raise FileNotFoundError(f"source={str(source)!r}: no such file; {names}")
    check_sha256(path, sha256 or digest_of(path))
    file = _read(path, config)
    family = family or file.family
    if family is None:
        untold = f"{path.name} does not tell how its images were prepared"
        raise ValueError(f"family=None: {untold}; choose one of {', '.join(FAMILIES)}")
    model: Any = _network(file, config or file.config, file.image_size or image_size, path)
    model.preprocessing = FAMILIES[family] if isinstance(family, str) else family
    thousand = model.classifier[-1].out_features == 1000
    model.class_names = file.class_names or (imagenet_names() if thousand else None)
    return model.eval()


def _network(file: _File, config: str | Config | None, image_size: int, path: Path) -> Network:
    """The network that fits the file, with its weights; classes, width, batch norm are read off."""
    state = file.state
    net = resolve(config) if config else _guess(state)
    if net is None:
        unknown = f"the shapes in {path.name} are those of no configuration"
        raise ValueError(f"config=None: {unknown}; name one")
    first = state.get("features.0.bias")
    last = state.get(f"classifier.{3 * len(net.fc)}.bias")
    classes = 1000 if last is None else len(last)
    width = 1.0 if first is None else len(first) / first_channels(net)
    batch_norm = any(key.endswith("running_mean") for key in state)
    model = build(net, classes, batch_norm, width, image_size, device="meta")
    for key, own in model.state_dict().items():
        if key in state and state[key].ndim == 1 and state[key].numel() == own.numel():
            state[key] = state[key].view(own.shape)
    load_state(model, state, path.name)
    return model
