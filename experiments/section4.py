"""Section 4 in miniature: the paper's comparisons, re-run small and paired over seeds.

    python -m experiments.section4 plan                     # the runs of a grid, what is done, what is missing
    python -m experiments.section4 run                      # do what is missing; stop it at any moment and call it again
    python -m experiments.section4 run --seeds 0 2 4        # beside another process with --seeds 1 3: one thread each, one seed a core
    python -m experiments.section4 run --seeds 0 1 --only D/256 --grid gpu

Every size of the paper is multiplied by the same factor, crop / 224. One JSON a run lies in results/section4-<grid>/, written when the
run is complete; nets and posteriors wait in _build/section4-<grid>/ for the runs that start from them. The same file serves a
CPU and a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from benchmarks.record import provenance
from vggbook import CONFIGS
from vggbook.data import ShapesDataset, in_memory
from vggbook.evaluate import predict, test_scales
from vggbook.train import Recipe, fit

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Grid:
    """What all runs of a grid share. Sizes in pixels are the paper's times ``crop`` / 224."""

    name: str = "small"
    crop: int = 64
    width: float = 0.125
    train: int = 8192
    val: int = 2048
    test: int = 4096
    difficulty: float = 0.25
    hint: float = 0.5
    batch_size: int = 64
    lr: float = 0.02
    gain: float = (
        1 / 64
    )  # a deviation: He initialisation expects inputs of unit scale, mean-subtracted pixels spread over +-128
    patience: int = 3
    max_epochs: int = 60
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def pixels(self, paper: int) -> int:
        """A size of the paper on this grid: 256 -> 73, 384 -> 110, 512 -> 146 for a crop of 64."""
        return round(paper * self.crop / 224)


GRIDS = {
    "small": Grid(),
    "gpu": Grid("gpu", crop=112, width=1.0, train=65536, test=8192, batch_size=256, max_epochs=30, seeds=(0, 1, 2)),
}


@dataclass(frozen=True)
class Plan:
    """One training: ``S`` in the paper's pixels; ``start`` is "random", "A" (layers from A) or the run whose net it goes on from."""

    config: str
    S: int | tuple[int, int]
    start: str

    @property
    def name(self) -> str:
        jitter = "-".join(map(str, self.S)) if isinstance(self.S, tuple) else str(self.S)
        return f"{self.config}/{jitter}" + ("/random" if self.start == "random" and self.config in "BCDE" else "")


_JITTER = (256, 512)
PLANS = (
    Plan("A", 256, "random"),
    Plan("A-LRN", 256, "random"),
    Plan("B-5x5", 256, "random"),
    Plan("B", 256, "random"),  # for the comparison with B-5x5, which has no A to start from
    *(Plan(config, 256, "A/256") for config in "BCDE"),
    *(Plan(config, 384, f"{config}/256") for config in "CDE"),
    *(Plan(config, _JITTER, f"{config}/384") for config in "CDE"),
)
FUSIONS = (("D/256-512", "E/256-512"),)


def methods(plan: Plan) -> list[tuple[str, tuple[int, ...], bool]]:
    """(method, scales in the paper's pixels, flip) of every evaluation of a run: Tables 3, 4, 5 and the centre crop of Sect. 4.1."""
    single, several = test_scales(plan.S, single=True), test_scales(plan.S)
    ways = [("centre_crop", single, False), ("dense", single, True), ("dense", several, True)]
    if isinstance(plan.S, tuple):
        ways += [("multi_crop", several, True), ("both", several, True)]
    return ways


def key(method: str, scales: tuple[int, ...]) -> str:
    """Name of an evaluation in the JSON: method@Q1,Q2 in the paper's pixels."""
    return f"{method}@{','.join(map(str, scales))}"


class Section4:
    """A grid on a device, with its folders."""

    def __init__(
        self, grid: Grid, device: str = "cpu", results: Path | None = None, work: Path | None = None, say=print
    ):
        self.grid, self.device, self.say = grid, device, say
        self.results = results or ROOT / "results" / f"section4-{grid.name}"
        self.work = work or ROOT / "_build" / f"section4-{grid.name}"
        self._sets: dict[tuple, object] = {}

    def data(self, split: str, seed: int, S: int | None = None):
        """A split rendered once at the largest scale and held in memory; training sets of one fixed S are rescaled once."""
        wanted = (split, seed, S)
        if wanted not in self._sets:
            self._sets = {
                name: value for name, value in self._sets.items() if name[1] == seed
            }  # one seed at a time in memory
            g = self.grid
            count = {"train": g.train, "val": g.val, "test": g.test}[split]
            shapes = ShapesDataset(split, count, seed=seed, size=g.pixels(512), difficulty=g.difficulty, hint=g.hint,
                                   device=self.device)  # fmt: skip
            self._sets[wanted] = in_memory(shapes, size=S and g.pixels(S), device=self.device)
        return self._sets[wanted]

    def path(self, name: str, seed: int) -> Path:
        return self.results / f"{name.replace('/', '_')}_seed{seed}.json"

    def folder(self, name: str, seed: int) -> Path:
        return self.work / f"{name.replace('/', '_')}_seed{seed}"

    def recipe(self, plan: Plan, seed: int) -> Recipe:
        """The paper's recipe (Sect. 3.1) at the grid's sizes; nets that go on from another scale start at a tenth of the rate."""
        g = self.grid
        S = tuple(map(g.pixels, plan.S)) if isinstance(plan.S, tuple) else g.pixels(plan.S)
        base = Recipe(plan.config, crop=g.crop, scales=S, batch_size=g.batch_size, lr=g.lr, width=g.width, gain=g.gain, seed=seed,
                      patience=g.patience, max_epochs=g.max_epochs)  # fmt: skip
        return base if plan.S == 256 else replace(base, lr=g.lr / 10, lr_drops=2)

    def run(self, plan: Plan, seed: int) -> dict:
        """Train and evaluate one net; returns what its JSON holds. Does nothing where the JSON exists."""
        target, folder = self.path(plan.name, seed), self.folder(plan.name, seed)
        if target.exists():
            return json.loads(target.read_text())
        began, S = time.monotonic(), plan.S if isinstance(plan.S, int) else None
        start = None
        if plan.start != "random":
            start = self.folder(plan.start, seed) / "last.pt"
            if not start.exists():
                raise FileNotFoundError(
                    f"{plan.name}, seed {seed}, starts from {plan.start}: run that first ({start.name} is missing)"
                )
        train = self.data("train", seed, S)
        result = fit(self.recipe(plan, seed), train, self.data("val", seed, S), out=folder, init_from=start,
                     device=self.device, log=None)  # fmt: skip
        trained = time.monotonic() - began
        errors, test = {}, self.data("test", seed)
        prepare = lambda x: (x.float() - result.mean.to(x.device)[:, None, None]) * self.grid.gain
        for method, scales, flip in methods(plan):
            Q = tuple(map(self.grid.pixels, scales))
            way, grid = ("multi_crop", 1) if method == "centre_crop" else (method, 5)
            posteriors = torch.cat(
                [
                    predict(result.model, test.images[i : i + 256], way, Q, flip, grid=grid, preprocess=prepare)
                    for i in range(0, len(test), 256)
                ]
            )  # (test, classes)
            errors[key(method, scales)] = error_rates(posteriors, test.labels.cpu())
            torch.save(posteriors, folder / f"{key(method, scales)}.pt")
        record = {
            "run": {**asdict(plan), "name": plan.name, "seed": seed},
            "errors": errors,
            "curve": result.history.rows,
            "ended": result.ended,
            "seconds": {"train": round(trained, 1), "all": round(time.monotonic() - began, 1)},
        }
        return self.write(target, record, seed)

    def fuse(self, names: tuple[str, ...], seed: int) -> dict:
        """Average the stored posteriors of several nets (Sect. 4.4)."""
        name = "+".join(names)
        target = self.path(name, seed)
        if target.exists():
            return json.loads(target.read_text())
        files = [self.folder(n, seed) for n in names]
        shared = sorted(set.intersection(*({f.stem for f in folder.glob("*@*.pt")} for folder in files)))
        if not shared:
            raise FileNotFoundError(f"{name}, seed {seed}: no stored posteriors; run {' and '.join(names)} first")
        labels = self.data("test", seed).labels.cpu()
        mean = lambda stem: sum(torch.load(folder / f"{stem}.pt", weights_only=True) for folder in files) / len(files)
        errors = {stem: error_rates(mean(stem), labels) for stem in shared}
        return self.write(target, {"run": {"name": name, "nets": list(names), "seed": seed}, "errors": errors}, seed)

    def write(self, target: Path, record: dict, seed: int) -> dict:
        """Provenance added, written whole or not at all."""
        record = {
            "provenance": {**provenance(self.device, seed), "data_seed": seed},
            "grid": asdict(self.grid),
            **record,
        }
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(".tmp")
        temporary.write_text(json.dumps(record, indent=1) + "\n")
        os.replace(temporary, target)
        return json.loads(target.read_text())

    def everything(self, seeds, only: list[str] | None = None) -> None:
        """All runs that are missing, a seed at a time, so that an interrupted grid holds whole seeds."""
        for seed in seeds:
            for plan in PLANS:
                if (not only or plan.name in only) and not self.path(plan.name, seed).exists():
                    record = self.run(plan, seed)
                    single = key("dense", test_scales(plan.S, single=True))
                    self.say(f"seed {seed}  {plan.name:14} {len(record['curve']):3d} epochs  dense top-1 error "
                             f"{record['errors'][single]['top1']:5.1f} %  {record['seconds']['all']:.0f} s")  # fmt: skip
            for names in FUSIONS:
                if not only and not self.path("+".join(names), seed).exists():
                    self.fuse(names, seed)


def error_rates(posteriors: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Top-1 and top-5 error in per cent of posteriors (N, classes) against labels (N,)."""
    best = posteriors.topk(min(5, posteriors.shape[1])).indices
    right = best == labels[:, None]
    return {
        "top1": 100 * (1 - float(right[:, 0].double().mean())),
        "top5": 100 * (1 - float(right.any(1).double().mean())),
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.section4", description=__doc__.partition("\n")[0])
    parser.add_argument("do", choices=("plan", "run"))
    parser.add_argument("--grid", choices=tuple(GRIDS), default="small")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: the grid's")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[p.name for p in PLANS], help="runs, e.g. D/256")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args(argv)
    grid = GRIDS[given.grid]
    section, seeds = Section4(grid, given.device), given.seeds or grid.seeds
    if given.do == "run":
        section.everything(seeds, given.only)
    for plan in PLANS:
        done = [seed for seed in seeds if section.path(plan.name, seed).exists()]
        print(
            f"{plan.name:14} from {plan.start:8} {CONFIGS[plan.config].weight_layers:3d} weight layers  seeds done: {done or 'none'}"
        )


if __name__ == "__main__":
    sys.exit(main())
