"""Testing as the paper tests (Sect. 3.2, 4): dense evaluation, several scales, 50 crops a scale, both, several nets.

``predict`` gives class posteriors, ``evaluate`` the errors over a data set, ``python -m vggbook.evaluate --help`` the same from a
shell (under ``torchrun`` the set is shared out, with the same result). Images are RGB, uint8 or floating, 0..255, of any sizes.

Where the soft-max sits: the paper averages posteriors over flips, scales, crops and nets, so the soft-max comes before all these
averages. For the positions of one score map the text leaves it open (its "sum-pooled" must be a mean: a sum over 36 positions
before the soft-max saturates it). Here it comes first there too, ``average="posterior"``; ``average="logit"`` is the other reading.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import torch
from torch import Tensor, nn

from .arithmetic import walk
from .configs import Config, check_size
from .data import _rgb, isotropic_resize, open_dataset
from .model import to_dense
from .paper import tables
from .weights import FAMILIES, load_weights

METHODS = ("dense", "multi_crop", "both")


# --- rules and arithmetic ---------------------------------------------------------------------------------------------------------
def _pixels(argument: str, value, least: int = 1) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(
            f"{argument}={value!r}: a whole number of pixels, at least {least}, is needed"
        )
    return int(value)


def test_scales(S: int | tuple[int, int], single: bool = False, step: int = 32) -> tuple[int, ...]:
    """The paper's test scales Q for a net trained at S (Sect. 4.1, 4.2), ascending, in pixels.

    Fixed S: {S - step, S, S + step}, or S alone where ``single``. Jittered (S_min, S_max): {S_min, their mean, S_max}, or the mean.
    """
    if isinstance(S, (tuple, list)):
        if len(S) != 2 or _pixels("S", S[0]) >= _pixels("S", S[1]):
            raise ValueError(
                f"S={S!r}: a number, or a pair (S_min, S_max) with S_min < S_max, is needed"
            )
        low, high = S
        mean = (low + high) // 2
        return (mean,) if single else (low, mean, high)
    _pixels("S", S, _pixels("step", step) + 1)
    return (S,) if single else (S - step, S, S + step)


test_scales.__test__ = False  # not a test, whatever its name says to pytest


def score_map_size(
    config: str | Config, image_size: int | tuple[int, int], crop: int = 224
) -> tuple[int, int]:
    """Height and width of the class score map of an image of ``image_size`` for a net trained on ``crop`` pixels."""
    last = lambda size: (
        next(
            row for row in reversed(walk(config, 1, image_size=size)) if row.kind != "fc"
        ).output_shape
    )
    if min(check_size(image_size)) < crop:
        raise ValueError(
            f"image_size={image_size!r}: at least the crop, {crop} pixels, is needed on both sides"
        )
    kernel, side = last(crop), last(image_size)
    return side[1] - kernel[1] + 1, side[2] - kernel[2] + 1


def dense_macs(
    config: str | Config,
    image_size: int | tuple[int, int],
    crop: int = 224,
    num_classes: int = 1000,
    width: float = 1.0,
) -> int:
    """Multiply-adds of one dense evaluation: convolutions over the whole image, FC layers at each position of the score map."""
    h, w = score_map_size(config, image_size, crop)
    convs = sum(
        row.macs
        for row in walk(config, num_classes, width=width, image_size=image_size)
        if row.kind != "fc"
    )
    return convs + h * w * sum(
        row.macs
        for row in walk(config, num_classes, width=width, image_size=crop)
        if row.kind == "fc"
    )


def crop_grid(
    size: tuple[int, int], crop: int | tuple[int, int] = 224, grid: int = 5
) -> list[tuple[int, int]]:
    """(top, left) of the ``grid`` x ``grid`` crops of an image of ``size``, evenly spread from border to border (Sect. 3.2).

    One crop (``grid=1``) is the centre crop.
    """
    crop = check_size(crop)
    if not isinstance(grid, Integral) or grid < 1:
        raise ValueError(f"grid={grid!r}: at least 1 crop a side is needed; the paper has 5")
    if min(size[0] - crop[0], size[1] - crop[1]) < 0:
        raise ValueError(f"size={tuple(size)}: crops of {crop[0]} x {crop[1]} pixels do not fit")
    along = lambda space: (
        [round(space * i / (grid - 1)) for i in range(grid)] if grid > 1 else [space // 2]
    )
    return [(top, left) for top in along(size[0] - crop[0]) for left in along(size[1] - crop[1])]


# --- posteriors -------------------------------------------------------------------------------------------------------------------
def fuse(posteriors: Sequence[Tensor]) -> Tensor:
    """Average of several nets' (or methods') posteriors, each (N, classes) (Sect. 4.4)."""
    shapes = [tuple(p.shape) for p in posteriors]
    if len(set(shapes)) != 1 or len(shapes[0]) != 2:
        raise ValueError(
            f"posteriors have shapes {shapes}: the same (N, classes) is needed for all, over one list of classes"
        )
    return torch.stack(list(posteriors)).mean(0)


def _classes(model: nn.Module) -> int:
    heads = [module.out_features for module in model.modules() if isinstance(module, nn.Linear)]
    if not heads:
        raise TypeError(
            f"models: {type(model).__name__} has no FC layer to tell its number of classes"
        )
    return heads[-1]


def _nets(models: nn.Module | Sequence[nn.Module]) -> list[nn.Module]:
    nets = list(models) if isinstance(models, (list, tuple)) else [models]
    if not nets or not all(isinstance(net, nn.Module) for net in nets):
        raise TypeError(
            f"models={models!r}: a network or a non-empty sequence of networks is needed"
        )
    counts = [_classes(net) for net in nets]
    if len(set(counts)) > 1:
        raise ValueError(
            f"models have {' and '.join(map(str, counts))} classes: only nets over the same classes can be fused"
        )
    return nets


def _check_scales(scales, crop: int) -> list[int]:
    scales = [scales] if isinstance(scales, Integral) else list(scales)
    if not scales:
        raise ValueError(
            "scales=(): at least one test scale Q is needed, for instance (256, 384, 512)"
        )
    for q in scales:
        if _pixels("scales", q) < crop:
            raise ValueError(
                f"scales: Q={q} is below the crop size of the network, {crop} pixels: nothing could be scored"
            )
    return sorted(
        map(int, scales)
    )  # in one order, so that the sum of the posteriors is the same to the last bit


def _check_images(images) -> None:
    for i, image in enumerate(images):
        if (
            not isinstance(image, Tensor)
            or image.ndim != 3
            or image.shape[0] != 3
            or 0 in image.shape
        ):
            found = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise ValueError(
                f"images[{i}] is {found}: an RGB tensor (3, H, W) is needed, 0..255 (load_image gives one)"
            )


@contextmanager
def _testing(nets: list[nn.Module]) -> Iterator[None]:
    """Evaluation mode and no gradients; afterwards every module is as it was."""
    modes = [(module, module.training) for net in nets for module in net.modules()]
    try:
        for net in nets:
            net.eval()
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _buckets(images, scale: int, max_pixels: int) -> Iterator[tuple[list[int], Tensor]]:
    """Images rescaled from the original to smallest side ``scale``, those of equal size together: (indices, (n, 3, h, w)).

    No more than an eighth of ``max_pixels`` at a time (small batches stay in the cache), or one image where a single one is larger.
    """
    block = max(64, max_pixels // scale**2)  # images held rescaled at a time
    for start in range(0, len(images), block):
        resized = isotropic_resize(images[start : start + block], scale)
        groups: dict = {}
        for i, image in enumerate(resized):
            groups.setdefault(image.shape[1:], []).append(i)
        for (h, w), members in groups.items():
            room = max(1, max_pixels // 8 // (h * w))
            for part in (members[at : at + room] for at in range(0, len(members), room)):
                batch = (
                    resized[part]
                    if isinstance(resized, Tensor)
                    else torch.stack([resized[i].float() for i in part])
                )
                yield [start + i for i in part], batch


def _mean(scores: Tensor, average: str) -> Tensor:
    """(..., positions, classes) -> (..., classes): soft-max, then mean over positions; or the other way round for "logit"."""
    scores = scores.float()
    return scores.softmax(-1).mean(-2) if average == "posterior" else scores.mean(-2).softmax(-1)


class _Scorer:
    """One net with its dense twin; posteriors of a batch that is already rescaled."""

    def __init__(self, net: nn.Module, preprocess, grid: int, average: str, max_pixels: int, dtype):
        self.net, self.twin, self.preprocess = net, to_dense(net), preprocess
        self.grid, self.average, self.max_pixels, self.dtype = grid, average, max_pixels, dtype
        self.weight = next(net.parameters())

    def prepare(self, images: Tensor) -> Tensor:
        x = self.preprocess(images.to(self.weight.device))  # (N, 3, H, W)
        return x.to(self.weight.dtype).contiguous(memory_format=torch.channels_last)

    def dense(self, x: Tensor) -> Tensor:
        maps = self.twin(x, self.max_pixels)  # (N, K, H', W')
        return _mean(maps.flatten(2).transpose(1, 2), self.average)  # (N, K)

    def multi_crop(self, x: Tensor) -> Tensor:
        h, w = self.twin.image_size
        crops = [
            x[..., t : t + h, l : l + w] for t, l in crop_grid(x.shape[2:], (h, w), self.grid)
        ]  # views of x
        room = max(1, self.max_pixels // 8 // (len(x) * h * w))
        scores = [self.net(torch.cat(crops[i : i + room])) for i in range(0, len(crops), room)]
        return _mean(
            torch.cat(scores).unflatten(0, (len(crops), len(x))).transpose(0, 1), self.average
        )  # (N, K)

    def __call__(self, x: Tensor, method: str) -> Tensor:
        if self.dtype is None:
            return getattr(self, method)(x)
        with torch.autocast(x.device.type, self.dtype):
            return getattr(self, method)(x)


def predict(
    models: nn.Module | Sequence[nn.Module],
    images: Tensor | Sequence[Tensor],
    method: str = "dense",
    scales: int | Sequence[int] = (256, 384, 512),
    flip: bool = True,
    *,
    grid: int = 5,
    average: str = "posterior",
    preprocess: Callable[[Tensor], Tensor] | None = None,
    max_pixels: int | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Class posteriors (N, classes), float32 on the CPU, rows summing to 1 (Sect. 3.2, 4.2 to 4.4).

    ``models``: a network or several, whose posteriors are averaged. ``images``: (N, 3, H, W), or a list of (3, H, W) of differing
    sizes, RGB of 0..255, uint8 or floating; each is rescaled from the original to smallest side Q for every Q of ``scales``, up or
    down, keeping its proportions. ``method``: "dense" scores the whole image; "multi_crop" the mean of ``grid`` x ``grid`` crops
    (``grid=1``: the centre crop); "both" averages the two. ``flip`` also averages over the mirrored image.

    ``average``: "posterior" or "logit", over positions and crops, see the module's text. ``preprocess`` maps (N, 3, H, W) of 0..255
    to the net's input; by default each model's own ``.preprocessing``, else the paper's (RGB minus the released mean).
    ``max_pixels`` bounds the input of one forward pass, and so the memory (a larger image is scored in strips); the result does not
    depend on it. ``dtype``: autocast.

    Raises ValueError or TypeError for images that are no RGB tensors, an empty scale list, a Q below the crop size, nets over
    different classes, and posteriors that are not finite.
    """
    nets = _nets(models)
    if method not in METHODS:
        raise ValueError(f"method={method!r}: choose one of {', '.join(map(repr, METHODS))}")
    if average not in ("posterior", "logit"):
        raise ValueError(f"average={average!r}: choose 'posterior' or 'logit'")
    _check_images(images)
    if max_pixels is None:
        max_pixels = 2**26 if next(nets[0].parameters()).is_cuda else 2**21
    with _testing(nets):
        scorers = [
            _Scorer(
                net,
                preprocess or getattr(net, "preprocessing", FAMILIES["paper"]),
                grid,
                average,
                max_pixels,
                dtype,
            )
            for net in nets
        ]
        scales = _check_scales(scales, max(max(s.twin.image_size) for s in scorers))
        total = torch.zeros(len(images), _classes(nets[0]))
        methods = ("dense", "multi_crop") if method == "both" else (method,)
        for scale in scales:
            for indices, batch in _buckets(images, scale, max_pixels):
                for k, score in enumerate(scorers):
                    x = score.prepare(batch)
                    views = (x, x.flip(3)) if flip else (x,)
                    part = sum(score(view, way) for way in methods for view in views).cpu()
                    if not part.isfinite().all():
                        bad = indices[int((~part.isfinite().all(1)).nonzero()[0])]
                        raise ValueError(
                            f"models[{k}] gives posteriors that are not finite for images[{bad}] at Q={scale}: "
                            "its weights or the preprocessing are broken"
                        )
                    total[indices] += part
    return total / (len(scales) * len(scorers) * len(methods) * (2 if flip else 1))


# --- a whole data set -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Evaluation:
    """Result of ``evaluate``: ``confusion`` (K, K) counts, rows are true classes; ``hits5`` (K,) images whose class is in the top 5."""

    confusion: Tensor
    hits5: Tensor
    classes: tuple[str, ...]

    @property
    def n(self) -> int:
        """Number of images."""
        return int(self.confusion.sum())

    @property
    def top1(self) -> float:
        """Share of misclassified images, in per cent (Sect. 4)."""
        return 100 * (1 - int(self.confusion.diag().sum()) / self.n)

    @property
    def top5(self) -> float:
        """Share of images whose class is not among the five best, in per cent (Sect. 4)."""
        return 100 * (1 - int(self.hits5.sum()) / self.n)

    @property
    def per_class(self) -> Tensor:
        """Top-1 error of each class in per cent, (K,); nan for a class without images."""
        return 100 * (1 - self.confusion.diag() / self.confusion.sum(1))

    def as_dict(self) -> dict:
        """Plain numbers, for a JSON file."""
        return {
            "n": self.n,
            "top1": self.top1,
            "top5": self.top5,
            "confusion": self.confusion.tolist(),
        }

    def __str__(self) -> str:
        return f"top-1 error {self.top1:.2f} %, top-5 error {self.top5:.2f} % ({self.n:,} images, {len(self.classes)} classes)"


def _fetch(dataset, indices: list[int], classes: int) -> tuple[Tensor | list[Tensor], Tensor]:
    """Images and checked labels of a data set (see :mod:`vggbook.data`)."""
    if hasattr(dataset, "batch"):
        images, labels = dataset.batch(indices)
        labels = labels.cpu()
    else:
        items = [dataset[i] for i in indices]
        for i, item in zip(indices, items):
            if not isinstance(item, (tuple, list)) or len(item) != 2 or item[1] is None:
                raise ValueError(
                    f"dataset[{i}] has no label: an error needs (image, label); predict() works without"
                )
        images = [image if isinstance(image, Tensor) else _rgb(image) for image, _ in items]
        labels = torch.tensor([int(label) for _, label in items])
    for i, label in zip(indices, labels.tolist()):
        if not 0 <= label < classes:
            raise ValueError(f"dataset[{i}] has label {label}: 0 to {classes - 1} is needed")
    return images, labels


def evaluate(
    models: nn.Module | Sequence[nn.Module],
    dataset,
    method: str = "dense",
    scales: int | Sequence[int] = (256, 384, 512),
    flip: bool = True,
    *,
    block: int = 64,
    progress: bool | None = None,
    **keywords,
) -> Evaluation:
    """Top-1 and top-5 error, confusion and per-class errors over a data set (Sect. 4); further keywords go to ``predict``.

    ``dataset``: ``len``, ``dataset[i] -> (image, label)`` or ``dataset.batch(indices)``, see :mod:`vggbook.data`. Never more than
    ``block`` of its images are held. With torch.distributed running, the blocks are dealt out to the processes and the counts
    added up: every process returns the same result as one process would. ``progress``: a bar (default: where a terminal shows it).
    """
    nets = _nets(models)
    classes = _classes(nets[0])
    names = tuple(getattr(dataset, "classes", None) or range(classes))
    if len(names) != classes:
        raise ValueError(
            f"dataset has {len(names)} classes, the network {classes}: labels would not mean the same"
        )
    if len(dataset) < 1 or block < 1:
        raise ValueError(
            f"dataset has {len(dataset)} images, block={block}: at least one is needed of both"
        )
    spread = torch.distributed.is_available() and torch.distributed.is_initialized()
    rank, world = (
        (torch.distributed.get_rank(), torch.distributed.get_world_size()) if spread else (0, 1)
    )
    counts = torch.zeros(
        classes, classes + 1, dtype=torch.int64
    )  # confusion, and the top-5 hits in the last column
    starts = range(rank * block, len(dataset), world * block)
    if progress if progress is not None else sys.stderr.isatty() and rank == 0:
        from tqdm import tqdm

        starts = tqdm(starts, unit=" blocks", desc=f"{method} {scales}")
    for start in starts:
        indices = list(range(start, min(start + block, len(dataset))))
        images, labels = _fetch(dataset, indices, classes)
        best = (
            predict(nets, images, method, scales, flip, **keywords).topk(min(5, classes)).indices
        )  # (n, 5)
        counts.index_put_((labels, best[:, 0]), torch.ones_like(labels), accumulate=True)
        counts[:, -1] += torch.bincount(labels[(best == labels[:, None]).any(1)], minlength=classes)
    if spread:
        device = (
            next(nets[0].parameters()).device
            if torch.distributed.get_backend() == "nccl"
            else "cpu"
        )
        counts = counts.to(device)
        torch.distributed.all_reduce(counts)
    return Evaluation(counts[:, :-1].cpu(), counts[:, -1].cpu(), names)


# --- the shell --------------------------------------------------------------------------------------------------------------------
def paper_rows(
    configs: Sequence[str], method: str = "dense", scales: Sequence[int] = (256, 384, 512)
) -> list[dict]:
    """The paper's rows for these nets (one, or D and E together), method and test scales: table, S, top1, top5 in per cent."""
    scales, rows, found = sorted(scales), tables(), []
    if len(configs) == 1 and method == "dense":
        table = "table_3" if len(scales) == 1 else "table_4"
        for config, S, Q, top1, top5 in rows[table]["rows"]:
            if config == configs[0] and scales == sorted(Q if isinstance(Q, list) else [Q]):
                found.append(
                    {"table": table[-1], "config": config, "S": S, "top1": top1, "top5": top5}
                )
    elif scales == [256, 384, 512]:
        way = {"dense": "dense", "multi_crop": "multi-crop", "both": "multi-crop & dense"}[method]
        single = [([c], way_, a, b) for c, way_, a, b in rows["table_5"]["rows"]]
        fused = [
            ([m[0] for m in nets], way_, a, b)
            for nets, way_, a, b, _ in rows["table_6"]["rows"]
            if len(nets) == 2
        ]
        for table, entries in (("5", single), ("6", fused)):
            for nets, way_, top1, top5 in entries:
                if nets == sorted(configs) and way_ == way:
                    found.append(
                        {
                            "table": table,
                            "config": "+".join(nets),
                            "S": [256, 512],
                            "top1": top1,
                            "top5": top5,
                        }
                    )
    return found


def main(argv: Sequence[str] | None = None) -> Evaluation:
    """``python -m vggbook.evaluate``: errors on a folder of images in ImageNet's layout, beside the paper's rows."""
    parser = argparse.ArgumentParser(prog="python -m vggbook.evaluate", description=main.__doc__)
    add = parser.add_argument
    add(
        "--data",
        required=True,
        help="folder with val/class/image inside; or its val, train or test itself",
    )
    add(
        "--weights",
        required=True,
        nargs="+",
        help=".pth or .caffemodel file, or torchvision's name; several are fused",
    )
    add("--config", help="A, B, C, D, E, ...; inferred from the file by default")
    add(
        "--family",
        choices=list(FAMILIES),
        help="how images are prepared, where the file does not tell",
    )
    add("--sha256", nargs="+", help="checksums of the files, in their order")
    add("--method", default="dense", choices=METHODS)
    add(
        "--scales",
        nargs="+",
        type=int,
        default=[256, 384, 512],
        metavar="Q",
        help="smallest sides of the test images",
    )
    add("--crop", type=int, default=224, help="pixels a side that the net was trained on")
    add("--grid", type=int, default=5, help="crops a side; 1 is the centre crop")
    add("--no-flip", action="store_true", help="leave out the mirrored images")
    add("--average", default="posterior", choices=("posterior", "logit"))
    add("--block", type=int, default=64, help="images held at a time")
    add("--device", help="default: cuda where there is one")
    add("--json", help="also write the result, confusion included, to this file")
    args = parser.parse_args(argv)
    if args.sha256 and len(args.sha256) != len(args.weights):
        parser.error(
            f"--sha256 has {len(args.sha256)} checksums for {len(args.weights)} files of --weights"
        )
    spread = "WORLD_SIZE" in os.environ and "RANK" in os.environ
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if spread:
        if device == "cuda":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        path = Path(args.data)
        dataset = open_dataset(
            "folder",
            *((path.parent, path.name) if path.name in ("train", "val", "test") else (path, "val")),
        )
        nets = [
            load_weights(
                source, args.config, family=args.family, sha256=digest, image_size=args.crop
            ).to(device)
            for source, digest in zip(args.weights, args.sha256 or [None] * len(args.weights))
        ]
        dtype = torch.bfloat16 if device == "cuda" else None
        result = evaluate(
            nets,
            dataset,
            args.method,
            args.scales,
            not args.no_flip,
            grid=args.grid,
            average=args.average,
            block=args.block,
            dtype=dtype,
        )
    finally:
        if spread:
            torch.distributed.destroy_process_group()
    if int(os.environ.get("RANK", 0)) == 0:
        configs = [net.config.name for net in nets]
        print(
            f"{'+'.join(configs)}, {args.method}, Q = {', '.join(map(str, args.scales))}: {result}"
        )
        plain = not args.no_flip and args.grid == 5 and args.average == "posterior"
        for row in paper_rows(configs, args.method, args.scales) if plain else []:
            S = "[{};{}]".format(*row["S"]) if isinstance(row["S"], list) else row["S"]
            print(
                f"  paper, Table {row['table']}, {row['config']}, S = {S}: top-1 error {row['top1']} %, top-5 error {row['top5']} %"
            )
        if args.json:
            with open(args.json, "w", encoding="utf-8") as file:
                json.dump(
                    {
                        **result.as_dict(),
                        "classes": [str(c) for c in result.classes],
                        "arguments": vars(args),
                    },
                    file,
                )
    return result


if __name__ == "__main__":
    main()
