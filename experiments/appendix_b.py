"""Appendix B in miniature: book/preregistration_b.md says what is run and what decides.

    python -m experiments.appendix_b run     # do what is missing; stop it and call it again
    python -m experiments.appendix_b plan    # what is done and what is missing

One JSON a seed lies in results/appendix-b/.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.record import provenance
from experiments.loop import Schedule, measured_start, train
from vggbook.book import miniature
from vggbook.data import (
    SHAPES,
    TEXTURES,
    ArrayDataset,
    Loader,
    ShapesDataset,
    in_memory,
    isotropic_resize,
    mean_rgb,
    pca_rgb,
)
from vggbook.evaluate import predict
from vggbook.features import describe_images, fit_svm, mean_class_recall
from vggbook.model import build

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "appendix-b"


@dataclass(frozen=True)
class Design:
    """What all seeds share. Sizes in pixels are the paper's times 64 / 224."""

    train: int = 30  # pictures a class, as for Caltech-101
    test: int = 50
    scales: tuple[int, ...] = (73, 110, 146)  # the paper's 256, 384, 512
    one_scale: int = 110
    difficulty: float = 0.15  # as in the miniatures' training
    hint: float = 0.5
    pixels: int = 32  # side of the picture whose numbers are the raw descriptor
    crop: int = 64
    width: float = 0.125
    updates: int = 512  # of a net from scratch
    batch_size: int = 32
    rate: float = 0.05
    seeds: tuple[int, ...] = tuple(range(500, 508))


DESIGN = Design()


def unseen_classes() -> tuple[str, ...]:
    """The twelve pairs of a shape and a texture that no miniature was trained on."""
    seen = set(miniature("D").classes)
    pairs = (f"{shape}-{texture}" for shape in SHAPES for texture in TEXTURES)
    return tuple(pair for pair in pairs if pair not in seen)


def small_set(design: Design, split: str, seed: int) -> ArrayDataset:
    """The pictures of a split, drawn at the largest scale; labels go round the classes."""
    classes = unseen_classes()
    each = design.train if split == "train" else design.test
    shapes = ShapesDataset(
        split,
        each * len(classes),
        seed=seed,
        size=max(design.scales),
        classes=classes,
        difficulty=design.difficulty,
        hint=design.hint,
    )
    return in_memory(shapes)


def pixel_descriptors(images: Tensor, side: int) -> Tensor:
    """The numbers of a small picture, without their mean, L2-normalised: (N, 3 side side)."""
    x = isotropic_resize(images, side).float().flatten(1)
    return F.normalize(x - x.mean(1, keepdim=True), dim=1)


def descriptors(design: Design, images: Tensor) -> dict[str, Tensor]:
    """Every description of (N, 3, H, W) pictures that the plan compares."""
    found = {}
    for name in ("A", "D"):
        net = miniature(name).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):  # as the miniatures were trained and tested
            stacked = describe_images(net, images, design.scales, "stack").float()
        each = stacked.unflatten(1, (len(design.scales), -1))  # (N, scales, 512)
        found[f"{name} stack"] = stacked
        found[name] = F.normalize(each.mean(1), dim=1)
        one = each[:, design.scales.index(design.one_scale)]
        found[f"{name} one scale"] = F.normalize(one, dim=1)
    found["A and D"] = F.normalize(torch.cat([found["A"], found["D"]], dim=1), dim=1)
    found["pixels"] = pixel_descriptors(images, design.pixels)
    return found


def from_scratch(
    design: Design, config: str, seed: int, few: ArrayDataset, others: ArrayDataset
) -> float:
    """Mean class recall of the same net, trained on the small set alone."""
    mean = mean_rgb(few)
    gain = 1 / 64
    base = in_memory(few, size=design.scales[0])
    loader = Loader(
        base,
        design.batch_size,
        crop=design.crop,
        scales=design.scales[0],
        mean=mean,
        colour=pca_rgb(base),
        seed=seed,
        gain=gain,
    )

    def prepare(images: Tensor) -> Tensor:
        return (images.float() - mean[:, None, None]) * gain

    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    shape = {"width": design.width, "image_size": design.crop, "dropout": 0.0}
    net = build(config, 12, **shape, generator=generator)
    net = measured_start(net, prepare(base.images[:256, :, : design.crop, : design.crop]))
    train(net, loader, Schedule(design.updates, design.rate))
    posteriors = predict(
        net, others.images, scales=design.scales, preprocess=prepare, dtype=torch.bfloat16
    )
    return mean_class_recall(posteriors.argmax(1), others.labels)


def run(seed: int, design: Design = DESIGN) -> dict:
    """Everything the plan compares, on the small set of a seed. Returns what its JSON holds."""
    torch.manual_seed(seed)
    began = time.monotonic()
    few = small_set(design, "train", seed)
    others = small_set(design, "test", seed)
    seconds = {}
    recall = {}
    strength = {}
    described = zip(
        descriptors(design, few.images).items(), descriptors(design, others.images).values()
    )
    for (name, x), z in described:
        machine = fit_svm(x, few.labels)
        recall[name] = mean_class_recall(machine.predict(z), others.labels)
        strength[name] = machine.C
    seconds["features"] = time.monotonic() - began
    for config in ("A", "D"):
        began = time.monotonic()
        recall[f"{config} from scratch"] = from_scratch(design, config, seed, few, others)
        seconds[f"{config} from scratch"] = time.monotonic() - began
    return {
        "provenance": provenance("cpu", seed),
        "design": {key: value for key, value in asdict(design).items() if key != "seeds"},
        "run": {"seed": seed, "classes": unseen_classes()},
        "recall": recall,
        "C": strength,
        "seconds": seconds,
    }


def path(seed: int, results: Path = RESULTS) -> Path:
    """The JSON of a seed."""
    return results / f"seed{seed}.json"


def write(where: Path, record: dict) -> None:
    """Written whole or not at all."""
    where.parent.mkdir(parents=True, exist_ok=True)
    temporary = where.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, where)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.appendix_b", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("do", choices=("run", "plan"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(DESIGN.seeds))
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    given = parser.parse_args(argv)
    for seed in given.seeds:
        where = path(seed, given.results)
        if given.do == "run" and not where.exists():
            record = run(seed)
            write(where, record)
            took = sum(record["seconds"].values())
            print({name: round(r, 1) for name, r in record["recall"].items()}, f"{took:.0f} s")
        print(f"seed {seed}: {'done' if where.exists() else 'missing'}", flush=True)


if __name__ == "__main__":
    main()
