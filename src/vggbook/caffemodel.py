"""The authors' files: Caffe's binary protocol buffers, read without Caffe."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .configs import Config, Conv

# Field numbers of NetParameter: in `layers` (V1, the VGG release) and in `layer` (later Caffe).
_LAYER_FIELDS = {2: (4, 6), 100: (1, 7)}  # field of the net: its layers' name, their blobs
_BLOB_DATA = 5
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


def read_caffemodel(path: str | os.PathLike) -> dict[str, list[Tensor]]:
    """Blobs of a binary ``.caffemodel`` by layer name, flat float32: weights, then biases.

    Raises ValueError for a file that is empty, damaged, or no Caffe model.
    """
    name = Path(path).name
    if not Path(path).stat().st_size:
        raise ValueError(f"{name}: is empty: expected a Caffe model")
    try:
        with Path(path).open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        blobs = _blobs(memoryview(content))
    except (ValueError, IndexError, StopIteration, TypeError, UnicodeDecodeError) as error:
        reason = str(error) or "a layer has no name"
        raise ValueError(f"{name}: not a complete Caffe model ({reason})") from None
    if not blobs:
        raise ValueError(f"{name}: no layer with weights; is it a Caffe model (.caffemodel)?")
    return blobs


def caffe_keys(config: Config) -> dict[str, str]:
    """Caffe's layer names to this package's modules: conv1_1 is features.0, fc6 is classifier.0."""
    keys = {}
    position = 0
    for name, layer in zip(config.layer_names, config.layers):
        keys[name] = f"features.{position}"
        position += 2 if isinstance(layer, Conv) else 1  # a convolution and its ReLU
    for i in range(len(config.fc) + 1):
        keys[f"fc{6 + i}"] = f"classifier.{3 * i}"
    return keys


def caffe_state(blobs: dict[str, list[Tensor]], config: Config) -> dict[str, Tensor]:
    """Blobs under the names of a state dict; still flat."""
    keys = caffe_keys(config)
    state = {}
    for name, pair in blobs.items():
        for part, blob in zip(("weight", "bias"), pair):
            state[f"{keys.get(name, name)}.{part}"] = blob
    return state


def _blobs(net: memoryview) -> dict[str, list[Tensor]]:
    blobs: dict[str, list[Tensor]] = {}
    for number, layer in _fields(net):
        if number not in _LAYER_FIELDS:
            continue
        name_field, blob_field = _LAYER_FIELDS[number]
        fields = list(_fields(layer))
        name = next(bytes(value).decode() for key, value in fields if key == name_field)
        for blob in (value for key, value in fields if key == blob_field):
            parts = [np.frombuffer(v, "<f4") for key, v in _fields(blob) if key == _BLOB_DATA]
            if parts:
                blobs.setdefault(name, []).append(torch.from_numpy(np.concatenate(parts)))
    return blobs


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The fields of one message: (number, bytes); nested messages stay bytes, integers vanish."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = divmod(key, 8)
        if kind == _VARINT:  # an integer; names and numbers of layers are bytes
            _, at = _varint(data, at)
            continue
        if kind == _BYTES:
            length, at = _varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind} at byte {at}")
        if at + length > len(data):
            raise ValueError(f"a field of {length} bytes at byte {at} of {len(data)}")
        yield number, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The integer that begins at byte `at`, seven bits a byte, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        shift += 7
        if byte < 128:
            return value, at
