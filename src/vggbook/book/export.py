"""A trained net as one text file for the page "See it think": ``python -m vggbook.book.export``.

The file is JSON: the layers in order, the classes, what is done to the pixels, and all weights as
8-bit whole numbers with one scale an output channel. :func:`read` turns it back into a network, so
that PyTorch and the page compute with the same rounded weights.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_weights

from .. import checks
from ..checks import needs
from ..configs import CONFIGS
from ..model import Network, build
from ..weights import Preprocessing, first_channels

FORMAT = "vggbook net 1"
LARGEST = 40_000_000  # weights; a page cannot hold the full-width nets
PAGE_CALL = "vggThink.add"  # what the page's own files hand their net to


class NetFileError(ValueError):
    """A file does not hold an exported net; the message says which file, and why."""


def _folded(conv: nn.Conv2d, norm: Any) -> tuple[Tensor, Any]:
    """Weights and biases of a convolution, the batch normalisation after it, if any, folded in."""
    if norm is None:
        return conv.weight, conv.bias
    statistics = norm.running_mean, norm.running_var, norm.eps
    return fuse_conv_bn_weights(conv.weight, conv.bias, *statistics, norm.weight, norm.bias)


def _layers(net: Network) -> Iterator[tuple[dict[str, Any], tuple[Tensor, Tensor] | None]]:
    """Each layer's description, with its weights and biases where it has some, in order."""
    names = iter(net.config.layer_names)
    modules = list(net.features)
    for module, following in zip(modules, [*modules[1:], None]):
        if isinstance(module, nn.Conv2d):
            norm = following if isinstance(following, nn.BatchNorm2d) else None
            layer = {
                "name": next(names),
                "kind": "conv",
                "in": module.in_channels,
                "out": module.out_channels,
                "kernel": module.kernel_size[0],
                "stride": module.stride[0],
                "pad": module.padding[0],
                "groups": module.groups,
            }
            yield layer, _folded(module, norm)
        elif isinstance(module, nn.MaxPool2d):
            pool = {"kernel": module.kernel_size, "stride": module.stride, "ceil": module.ceil_mode}
            yield {"name": next(names), "kind": "pool", **pool}, None
        elif isinstance(module, nn.LocalResponseNorm):
            constants = {"size": module.size, "beta": module.beta, "k": module.k}
            alpha = module.alpha / module.size  # the sum is multiplied by it, as the paper has it
            yield {"name": next(names), "kind": "lrn", **constants, "alpha": alpha}, None
    classifier: Any = net.classifier  # a Sequential, as vggbook.build makes it
    linear = [module for module in classifier if isinstance(module, nn.Linear)]
    for name, module in zip(net.config.fc_names, linear):
        layer = {"name": name, "kind": "fc", "in": module.in_features, "out": module.out_features}
        yield layer, (module.weight, module.bias)


def _quantised(weight: Tensor, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers from -levels to levels (out, ...) and one scale an output channel (out,)."""
    rows = weight.detach().float().flatten(1)  # (out, in k k)
    scale = rows.abs().amax(1).clamp(min=1e-12) / levels  # (out,)
    whole = (rows / scale[:, None]).round().to(torch.int8)
    return whole.numpy(), scale.numpy()


def _packed(parts: list[np.ndarray], kind: str) -> str:
    """Numbers as little-endian bytes, compressed (raw deflate), in base64."""
    data = b"".join(np.ascontiguousarray(part.astype(kind)).tobytes() for part in parts)
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    return base64.b64encode(squeeze.compress(data) + squeeze.flush()).decode()


def _unpacked(text: str, kind: str) -> Tensor:
    """The numbers that :func:`_packed` was given, as float32, in one row."""
    numbers = np.frombuffer(zlib.decompress(base64.b64decode(text), -15), dtype=kind)
    return torch.from_numpy(numbers.astype(np.float32))


def describe(
    net: Network,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    name: str = "",
    note: str = "",
    levels: int = 127,
) -> dict[str, Any]:
    """What the file holds, as plain data.

    ``net``: one of :func:`vggbook.build`'s; batch normalisation is folded in. ``classes``: a name
    for each output. ``preprocessing``: what is done to RGB pixels of 0..255. ``note``: one line on
    where the net comes from. ``levels``: weights become whole numbers from minus to plus it; fewer
    than 127 make a smaller file. Raises TypeError for another kind of model, ValueError for classes
    that do not fit and for a net too large for a page.
    """
    if not isinstance(net, Network):
        kind = type(net).__name__
        raise TypeError(f"net is a {kind}: expected a network of vggbook.build")
    checks.whole("levels", levels, 1, 127)
    found = list(_layers(net))
    layers = [layer for layer, _ in found]
    outputs = layers[-1]["out"]
    named = f"a name for each of the {outputs} outputs"
    needs(len(classes) == outputs, "classes", len(classes), named)
    parameters = [both for _, both in found if both is not None]
    count = sum(weight.numel() for weight, _ in parameters)
    small = f"at most {LARGEST:,}: build a narrower one"
    needs(count <= LARGEST, "net", f"{count:,} weights", small)
    quantised = [_quantised(weight, levels) for weight, _ in parameters]
    biases = [bias.detach().float().numpy() for _, bias in parameters]
    text = _packed([whole for whole, _ in quantised], "<i1")
    return {
        "format": FORMAT,
        "name": name or net.config.name,
        "config": net.config.name,
        "note": note,
        "classes": [str(label) for label in classes],
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "bgr": preprocessing.bgr,
        "size": list(net.image_size),
        "layers": layers,
        "count": count,
        "weights": text,
        "scales": _packed([scale for _, scale in quantised], "<f4"),
        "biases": _packed(biases, "<f4"),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def write(data: dict[str, Any], path: str | os.PathLike) -> Path:
    """Write a description, whole or not at all; a ``.js`` file becomes a script for the page."""
    path = Path(path)
    text = json.dumps(data, separators=(",", ":"))
    if path.suffix == ".js":
        text = f"{PAGE_CALL}({text});\n"
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(text.encode())
    os.replace(temporary, path)
    return path


def load(path: str | os.PathLike) -> dict[str, Any]:
    """The description in a file that :func:`write` wrote. NetFileError for anything else."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8").strip()
        data = json.loads(text.removeprefix(f"{PAGE_CALL}(").removesuffix(");"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise NetFileError(f"{path.name}: no exported net ({error})") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise NetFileError(f"{path.name}: no exported net, its format is not {FORMAT!r}")
    if hashlib.sha256(data["weights"].encode()).hexdigest() != data["sha256"]:
        damaged = "the weights do not fit their checksum; export the net again"
        raise NetFileError(f"{path.name}: {damaged}")
    return data


def read(path: str | os.PathLike) -> Network:
    """The network in an exported file, its weights rounded, in evaluation mode; for ``predict``."""
    data = load(path)
    convs = [layer for layer in data["layers"] if layer["kind"] == "conv"]
    config = CONFIGS[data["config"]]
    width = convs[0]["out"] / first_channels(config)
    hidden = [layer["out"] for layer in data["layers"] if layer["kind"] == "fc"][:-1]
    config = replace(config, fc=tuple(round(out / width) for out in hidden))
    net = build(
        config, len(data["classes"]), width=width, image_size=tuple(data["size"]), init="torch"
    )
    modules = [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    sizes = [module.weight.numel() for module in modules]
    outputs = [len(module.weight) for module in modules]
    whole = _unpacked(data["weights"], "<i1")
    layers = f"the layers of {config.name} at width {width:g}"
    needs(sum(sizes) == len(whole), "path", str(path), layers)
    scales = _unpacked(data["scales"], "<f4").split(outputs)
    biases = _unpacked(data["biases"], "<f4").split(outputs)
    for module, numbers, scale, bias in zip(modules, whole.split(sizes), scales, biases):
        weight = numbers.view(len(scale), -1) * scale[:, None]  # (out, in k k)
        module.weight.data = weight.view_as(module.weight)
        module.bias = nn.Parameter(bias)
    means = tuple(data["mean"]), tuple(data["std"])
    net.preprocessing = Preprocessing(data["name"], *means, bgr=data["bgr"])
    net.classes = tuple(data["classes"])
    return net.eval()


def main(argv: Sequence[str] | None = None) -> None:
    """Export a run of ``vggbook.train`` for the page "See it think"."""
    parser = argparse.ArgumentParser(prog="python -m vggbook.book.export", description=main.__doc__)
    parser.add_argument("checkpoint", help="last.pt or best.pt of a run")
    parser.add_argument("out", type=Path, help="the file to write, for instance my_net.json")
    parser.add_argument("--name", default="", help="what the page calls the net")
    given = parser.parse_args(argv)
    from ..train import CheckpointError, load_run

    try:
        needs(given.out.parent.is_dir(), "out", str(given.out), "a file in a folder that exists")
        run = load_run(given.checkpoint)
        std = (1 / run.recipe.gain,) * 3
        preprocessing = Preprocessing(run.recipe.config, tuple(run.mean.tolist()), std)
        note = f"trained for {len(run.history)} epochs; {run.ended or 'training had not ended'}"
        data = describe(run.model, run.classes, preprocessing, given.name, note)
        write(data, given.out)
    except (OSError, ValueError, TypeError, CheckpointError) as error:
        sys.exit(f"vggbook.book.export: {error}")
    size = given.out.stat().st_size
    print(f"{given.out}: {data['count']:,} weights in 8 bits, {size / 1000:,.0f} kB")


if __name__ == "__main__":
    main()
