"""Appendix A in miniature: book/preregistration_a.md says what is run and what decides.

    python -m experiments.appendix_a run              # do what is missing; stop it at any moment
    python -m experiments.appendix_a run --seeds 300 --results _build/pilot
    python -m experiments.appendix_a plan

One JSON a run lies in results/appendix-a/. Nets start from the book's miniatures A and D.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from benchmarks.record import provenance
from experiments.section4_two import ROOT, write
from vggbook.book import miniature
from vggbook.data import ShapesDataset
from vggbook.localise import box_error, centre_boxes, fit_boxes, iou, localise, regressor
from vggbook.model import Network


@dataclass(frozen=True)
class Design:
    """What all runs share; sizes in pixels, with crops of 64."""

    train: int = 2048
    test: int = 1024  # for the centre crop
    dense: int = 128  # the first of them, for the full protocol
    S: int = 96
    Q: tuple[int, ...] = (96, 128)
    drawn: int = 128  # smallest side at which test pictures are drawn
    difficulty: float = 0.15
    hint: float = 0.5
    lr: float = 1e-2
    epochs: int = 3
    batch_size: int = 32


class Run(NamedTuple):
    """A net to start from, one box for all classes or one a class, and what is trained."""

    net: str
    per_class: bool
    layers: str

    @property
    def name(self) -> str:
        """D_PCR_all."""
        return f"{self.net}_{'PCR' if self.per_class else 'SCR'}_{self.layers}"


RUNS = (
    Run("D", True, "all"),
    Run("D", True, "fc"),
    Run("D", False, "fc"),
    Run("A", True, "all"),
)
SEEDS = (400, 401, 402, 403, 404)
LONGER = {"epochs": 12, "Q": (96,)}  # what the second look changes
FULL = "D_PCR_all"  # the run that the full protocol tests too


class Pictures(NamedTuple):
    """uint8 (N, 3, h, w), labels (N,), boxes (N, 4)."""

    images: Tensor
    labels: Tensor
    boxes: Tensor


def pictures(design: Design, split: str, seed: int) -> Pictures:
    """A split of a seed."""
    count, size = design.train, design.S
    if split == "test":
        count, size = design.test, design.drawn
    how = {"difficulty": design.difficulty, "hint": design.hint}
    shapes = ShapesDataset(split, count, seed=seed, size=size, **how)
    images, labels = shapes.batch(range(count))
    return Pictures(images, labels, shapes.boxes(range(count)))


def top5_error(model: Network, net: Network, test: Pictures, scales: Sequence[int]) -> float:
    """Share of pictures, in per cent, where none of five answers has the class and a good box."""
    missed = 0
    for image, label, box in zip(*test, strict=True):
        named = [f.box for f in localise([model], net, image, scales) if f.label == int(label)]
        missed += not named or box_error(named[0][None], box[None]) > 0
    return 100 * missed / len(test.labels)


def train_and_test(design: Design, run: Run, seed: int, train: Pictures, test: Pictures) -> dict:
    """One run; what its JSON holds."""
    began = time.monotonic()
    net = miniature(run.net)
    model = regressor(net, run.per_class, seed)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # as the miniatures were trained
    how = {"lr": design.lr, "epochs": design.epochs, "batch_size": design.batch_size}
    losses = fit_boxes(model, *train, layers=run.layers, seed=seed, **how)
    trained = time.monotonic()
    found = centre_boxes(model, test.images, test.labels, design.S)
    overlaps = iou(found, test.boxes)
    few = Pictures(*(part[: design.dense] for part in test))
    errors = {
        "centre": box_error(found, test.boxes),
        "centre, first": box_error(found[: design.dense], few.boxes),
    }
    if run.name == FULL:
        errors["full"] = top5_error(model, net, few, design.Q)
    return {
        "provenance": provenance("cpu", seed),
        "design": asdict(design),
        "run": {"name": run.name, "seed": seed, "start": net.provenance["sha256"]},
        "errors": errors,
        "mean_iou": float(overlaps.mean()),
        "loss": [sum(losses[i : i + 16]) / 16 for i in range(0, len(losses), 16)],
        "boxes": found[:64].tolist(),
        "seconds": {"train": trained - began, "all": time.monotonic() - began},
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.appendix_a", description=__doc__)
    parser.add_argument("do", choices=("run", "plan"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "appendix-a")
    parser.add_argument("--longer", action="store_true", help="the plan's second look")
    given = parser.parse_args(argv)
    design = replace(Design(), **(LONGER if given.longer else {}))
    for seed in given.seeds:
        paths = {run: given.results / f"{run.name}_seed{seed}.json" for run in RUNS}
        missing = [run for run in RUNS if not paths[run].exists()]
        if missing and given.do == "run":
            train, test = (pictures(design, split, seed) for split in ("train", "test"))
            for run in missing:
                record = train_and_test(design, run, seed, train, test)
                write(paths[run], record)
        for run in RUNS:
            print(f"{run.name} seed {seed}: {'done' if paths[run].exists() else 'missing'}")


if __name__ == "__main__":
    main()
