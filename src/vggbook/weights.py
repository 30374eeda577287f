"""Trained weights as others publish them, each with the preprocessing it was trained with (Sect. 2.1, 3.2).

Three families of weights share the paper's networks and nothing else:

========== ============================================ =====================================
family     input                                        files
========== ============================================ =====================================
paper      RGB, 0..255, minus the mean RGB              those of ``vggbook.train``
authors    BGR, 0..255, minus the mean (103.939, ...)   ``.caffemodel``, and its ``.pth`` ports
torchvision RGB, 0..1, minus a mean, divided by a std   ``vgg16-397923af.pth`` and the others
========== ============================================ =====================================

Feeding one family with the preprocessing of another raises no error; it only costs accuracy. So a network that is loaded here
carries ``model.preprocessing``, and :mod:`vggbook.evaluate` uses it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn

from .arithmetic import walk
from .configs import CONFIGS, Config, Conv, resolve
from .model import Network, build


@dataclass(frozen=True)
class Preprocessing:
    """(image - mean) / std on RGB values of 0..255, one number a channel; then to BGR where ``bgr``.

    ``mean`` and ``std`` are in R, G, B order and in grey levels whatever the family. The paper divides by nothing (std 1).
    """

    name: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    bgr: bool = False

    def __call__(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) RGB of 0..255, uint8 or floating, to float32 of the same shape."""
        mean, std = (
            torch.tensor(v, device=images.device).view(3, 1, 1) for v in (self.mean, self.std)
        )
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
_NAME = re.compile(r"(vgg1[1369])(_bn)?-([0-9a-f]{8,64})")  # vgg16_bn-6c64b313.pth
_PORT = {
    "classifier.1.": "classifier.0.",
    "classifier.4.": "classifier.3.",
}  # Johnson's files count the layers of Torch 7


def imagenet_names() -> list[str]:
    """Names of the 1000 classes of ILSVRC-2012 in the order of their sorted WordNet ids, which all VGG-16 and VGG-19 files share.

    (The Caffe releases of VGG-F, M and S have another order.)
    """
    from torchvision.models import VGG16_Weights

    return list(VGG16_Weights.IMAGENET1K_V1.meta["categories"])


def check_sha256(path: Path, sha256: str | None) -> None:
    """Raise ValueError unless the file's SHA-256 is, or starts with, ``sha256``; None checks nothing."""
    if sha256 is None:
        return
    if not re.fullmatch(r"[0-9a-fA-F]{8,64}", sha256):
        raise ValueError(f"sha256={sha256!r}: 8 to 64 hexadecimal digits are needed")
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if not digest.hexdigest().startswith(sha256.lower()):
        raise ValueError(
            f"{path.name}: SHA-256 is {digest.hexdigest()}, expected {sha256}: the file is damaged or another one"
        )


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of one protocol-buffer message: (number, value); nested messages stay bytes."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(data):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            yield number, varint()
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"wire type {kind} at byte {at}")
        length = varint() if kind == 2 else 12 - kind * 4 if kind == 1 else 4
        if at + length > len(data):
            raise ValueError(f"a field of {length} bytes at byte {at} of {len(data)}")
        yield number, data[at : at + length]
        at += length


def read_caffemodel(path: str | os.PathLike) -> dict[str, list[Tensor]]:
    """Blobs of a binary ``.caffemodel`` by layer name, flat float32: weights, then biases. Caffe itself is not needed.

    Reads NetParameter in both of its layouts: ``layers`` (V1, the VGG release) and ``layer`` (later Caffe).
    """
    import numpy as np

    blobs: dict[str, list[Tensor]] = {}
    try:
        buffer = memoryview(np.memmap(path, mode="r", dtype=np.uint8)).cast("B")
        for number, layer in _fields(buffer):
            name_field, blob_field = {2: (4, 6), 100: (1, 7)}.get(number, (None, None))
            if name_field is None:
                continue
            fields = list(_fields(layer))
            name = next(bytes(value).decode() for key, value in fields if key == name_field)
            for blob in (value for key, value in fields if key == blob_field):
                parts = [np.frombuffer(value, "<f4") for key, value in _fields(blob) if key == 5]
                if parts:
                    blobs.setdefault(name, []).append(torch.from_numpy(np.concatenate(parts)))
    except (ValueError, IndexError, StopIteration, TypeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{Path(path).name}: not a complete Caffe model ({error or 'a layer has no name'})"
        ) from None
    if not blobs:
        raise ValueError(
            f"{Path(path).name}: no layer with weights; is it a Caffe model (.caffemodel)?"
        )
    return blobs


def _caffe_keys(config: Config) -> dict[str, str]:
    """Caffe's layer names to this package's modules: conv1_1 is features.0, fc6 is classifier.0."""
    keys, at = {}, 0
    for name, layer in zip(config.layer_names, config.layers):
        keys[name] = f"features.{at}"
        at += 2 if isinstance(layer, Conv) else 1  # a convolution and its ReLU
    return keys | {f"fc{6 + i}": f"classifier.{3 * i}" for i in range(len(config.fc) + 1)}


def _guess(state: Mapping[str, Tensor]) -> Config | None:
    """The configuration whose convolutions have the shapes of the file, at any width; None where none has."""
    kernels = [
        tuple(t.shape) for key, t in state.items() if key.startswith("features.") and t.ndim == 4
    ]
    for config in CONFIGS.values() if kernels else ():
        rows = walk(config, 1, width=kernels[0][0] / config.layers[0].channels)
        if [(shape[0], shape[2]) for shape in kernels] == [
            (r.output_shape[0], r.kernel) for r in rows if r.kind == "conv"
        ]:
            return config
    return None


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str = "weights") -> nn.Module:
    """``load_state_dict`` with ``strict=True`` whose error names the first key that does not fit. Returns the model."""
    own = model.state_dict()
    for key in [*own, *(key for key in state if key not in own)]:
        has = tuple(state[key].shape) if key in state else "nothing"
        needs = tuple(own[key].shape) if key in own else "nothing"
        if has != needs and not key.endswith("num_batches_tracked"):
            fits = _guess(state)
            hint = f"; the convolutions of the file are those of {fits.name}" if fits else ""
            name = getattr(getattr(model, "config", None), "name", type(model).__name__)
            raise ValueError(
                f"{source} does not fit {name}: first mismatch {key}: file {has}, network {needs}{hint}"
            )
    model.load_state_dict(state, assign=next(model.parameters()).is_meta)
    return model


def _read(path: Path) -> tuple[dict, str | Preprocessing | None, dict]:
    """(state dict or blobs, family or None where the file does not tell, what else it tells)."""
    if path.suffix == ".caffemodel":
        return read_caffemodel(path), "authors", {}
    for mmap in (
        True,
        False,
    ):  # files of before torch 1.6, torchvision's among them, cannot be mapped
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
            break
        except Exception as error:  # torch raises half a dozen kinds for a damaged file
            if mmap and "mmap" in str(error):
                continue
            what = (
                "holds more than weights, it is not opened"
                if isinstance(error, UnpicklingError)
                else "cannot be read"
            )
            raise ValueError(f"{path.name}: {what} ({str(error).splitlines()[0]})") from None
    if (
        isinstance(state, dict) and {"model", "recipe", "mean", "classes"} <= state.keys()
    ):  # of vggbook.train
        recipe, mean = state["recipe"], tuple(map(float, state["mean"]))
        told = {
            "config": recipe["config"],
            "image_size": recipe["crop"],
            "class_names": list(state["classes"]),
        }
        return state["model"], Preprocessing("paper", mean, (1 / recipe["gain"],) * 3), told
    for wrapper in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if (
        not isinstance(state, Mapping)
        or not state
        or not all(isinstance(t, Tensor) for t in state.values())
    ):
        raise ValueError(
            f"{path.name}: holds a {type(state).__name__}, a state dict of tensors is needed"
        )
    if "classifier.1.weight" in state and "classifier.0.weight" not in state:
        rename = lambda key: next(
            (new + key[len(old) :] for old, new in _PORT.items() if key.startswith(old)), key
        )
        return {rename(key): tensor for key, tensor in state.items()}, "authors", {}
    return dict(state), "torchvision" if _NAME.match(path.name) else None, {}


def load_weights(
    source: str | os.PathLike,
    config: str | Config | None = None,
    *,
    family: str | Preprocessing | None = None,
    sha256: str | None = None,
    image_size: int = 224,
) -> Network:
    """A network with trained weights, in evaluation mode, with ``.preprocessing`` and ``.class_names`` (None if unknown).

    ``source``: a local ``.pth`` or ``.caffemodel``; or torchvision's name (vgg11 to vgg19, with ``_bn``), which is taken from the
    hub's cache or fetched into it. ``config`` is inferred from the file where it is None. ``family``: one of ``FAMILIES``, or a
    Preprocessing; needed only where the file does not tell. ``sha256``: full, or its first 8 digits or more; torchvision's file
    names carry the digits and are always checked. Nothing but tensors is unpickled.

    Raises FileNotFoundError, and ValueError for a wrong checksum, an unknown family, or weights of another configuration (naming
    the first key that does not fit).
    """
    if isinstance(family, str) and family not in FAMILIES:
        raise ValueError(
            f"family={family!r}: choose one of {', '.join(map(repr, FAMILIES))}, or give a Preprocessing"
        )
    path = Path(source)
    if match := re.fullmatch(r"(vgg1[1369])(_bn)?", str(source)):
        from torchvision.models import get_model_weights

        url = get_model_weights(str(source)).IMAGENET1K_V1.url
        path = Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[1])
        if not path.exists():
            torch.hub.load_state_dict_from_url(url, check_hash=True, weights_only=True)
        family, config = family or "torchvision", config or _TORCHVISION[match[1]]
    elif not path.is_file():
        raise FileNotFoundError(
            f"source={str(source)!r}: no such file; torchvision's names are vgg11 to vgg19, vgg16_bn"
        )
    name = _NAME.match(path.name)
    check_sha256(path, sha256 or (name and name[3]))
    state, found, told = _read(path)
    family, config, image_size = (
        family or found,
        config or told.get("config"),
        told.get("image_size", image_size),
    )
    if family is None:
        raise ValueError(
            f"family=None: {path.name} does not tell how its images were prepared; choose one of {', '.join(FAMILIES)}"
        )
    if path.suffix == ".caffemodel":
        config = resolve(config or ("E" if "conv5_4" in state else "D"))
        keys = _caffe_keys(config)
        state = {
            f"{keys.get(n, n)}.{part}": b
            for n, pair in state.items()
            for part, b in zip(("weight", "bias"), pair)
        }
    config = resolve(config) if config else _guess(state)
    if config is None:
        raise ValueError(
            f"config=None: the shapes in {path.name} are those of no configuration; name one"
        )
    first, last = state.get("features.0.bias"), state.get(f"classifier.{3 * len(config.fc)}.bias")
    classes, width = (
        1000 if last is None else len(last),
        1.0 if first is None else len(first) / config.layers[0].channels,
    )
    batch_norm = any(key.endswith("running_mean") for key in state)
    model = build(config, classes, batch_norm, width, image_size, device="meta")
    for key, own in model.state_dict().items() if path.suffix == ".caffemodel" else ():
        if key in state and state[key].numel() == own.numel():
            state[key] = state[key].view(own.shape)  # Caffe's blobs are flat here
    load_state(model, state, path.name)
    model.preprocessing = FAMILIES[family] if isinstance(family, str) else family
    model.class_names = told.get("class_names") or (imagenet_names() if classes == 1000 else None)
    return model.eval()
