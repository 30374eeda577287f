"""Section 4 in miniature: the paper's comparisons, re-run small and paired over seeds.

    # the runs of a grid, what is done, what is missing
    python -m experiments.section4 plan
    # do what is missing; stop it at any moment and call it again
    python -m experiments.section4 run
    # the same line once for each core: they share the runs out among them
    OMP_NUM_THREADS=1 python -m experiments.section4 run &
    python -m experiments.section4 run --seeds 0 1 --only D/256 --grid gpu

Every size of the paper is multiplied by the same factor, crop / 224. One JSON a run lies in
results/section4-<grid>/, written when the run is complete; nets and posteriors wait in
_build/section4-<grid>/ for the runs that start from them. The same file serves a CPU and a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from filelock import FileLock, Timeout  # PyTorch depends on it

from benchmarks.record import provenance
from vggbook.data import ShapesDataset, in_memory
from vggbook.evaluate import fuse, predict, test_scales
from vggbook.train import Diverged, Recipe, fit

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Grid:
    """What all runs of a grid share. Sizes in pixels are the paper's times ``crop`` / 224."""

    name: str = "small"
    crop: int = 48
    width: float = 0.125
    train: int = 3072
    val: int = 1024
    test: int = 2048
    difficulty: float = 0.26
    hint: float = 0.5
    batch_size: int = 32
    lr: float = 0.01
    # A deviation: He initialisation expects inputs of unit scale, while mean-subtracted pixels
    # spread over +-128.
    gain: float = 1 / 64
    patience: int = 2
    lr_drops: int = 2
    max_epochs: int = 32
    fine_epochs: int = 12  # of a net that goes on from another scale
    # test images of the 50-crop rows: these cost as much as all other tests together
    crop_test: int = 1024
    start_epochs: int = 3  # length of the runs that ask only whether a net leaves ln(classes)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def pixels(self, paper: int) -> int:
        """A size of the paper on this grid: 256 -> 55, 384 -> 82, 512 -> 110 for a crop of 48."""
        return round(paper * self.crop / 224)


GRIDS = {
    "small": Grid(),
    "gpu": Grid(
        "gpu",
        crop=112,
        width=1.0,
        train=65536,
        val=4096,
        test=8192,
        difficulty=0.25,
        batch_size=256,
        lr_drops=3,
        max_epochs=30,
        crop_test=4096,
        seeds=(0, 1, 2),
    ),
}


@dataclass(frozen=True)
class Job:
    """One result to be made: the results of the same seed that it needs, and what makes it."""

    name: str
    seed: int
    needs: tuple[str, ...]
    do: Callable[[], dict]


@dataclass(frozen=True)
class Plan:
    """One training: ``S`` in the paper's pixels; ``start`` is "random", "A" (layers from A) or the
    run whose net it goes on from.
    """

    config: str
    S: int | tuple[int, int]
    start: str

    @property
    def name(self) -> str:
        jitter = "-".join(map(str, self.S)) if isinstance(self.S, tuple) else str(self.S)
        return f"{self.config}/{jitter}" + (
            "/random" if self.start == "random" and self.config in "BCDE" else ""
        )


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
# how D starts: (scheme, batch norm); "A" is the paper's cure, four convolutions and the FC layers
# of the trained A
STARTS = (
    *((scheme, norm) for norm in (False, True) for scheme in ("paper", "std0.01", "glorot", "he")),
    ("A", False),
)


def start_name(scheme: str, norm: bool) -> str:
    """Name of a short run: start/he, start/he-bn, ..."""
    return f"start/{scheme}" + ("-bn" if norm else "")


def methods(plan: Plan) -> list[tuple[str, tuple[int, ...], bool]]:
    """(method, scales in the paper's pixels, flip) of every evaluation of a run: Tables 3, 4, 5 and
    the centre crop of Sect. 4.1.

    The rows of Table 5 are taken on the first ``crop_test`` test images; "dense_of_crops" is the
    dense row on the same images.
    """
    single, several = test_scales(plan.S, single=True), test_scales(plan.S)
    ways = [("centre_crop", single, False), ("dense", single, True), ("dense", several, True)]
    if isinstance(plan.S, tuple) and plan.config in "DE":  # Table 5
        ways += [
            ("dense_of_crops", several, True),
            ("multi_crop", several, True),
            ("both", several, True),
        ]
    return ways


def key(method: str, scales: tuple[int, ...]) -> str:
    """Name of an evaluation in the JSON: method@Q1,Q2 in the paper's pixels."""
    return f"{method}@{','.join(map(str, scales))}"


class Section4:
    """A grid on a device, with its folders."""

    def __init__(
        self,
        grid: Grid,
        device: str = "cpu",
        results: Path | None = None,
        work: Path | None = None,
        say=print,
    ):
        self.grid, self.device, self.say = grid, device, say
        self.results = results or ROOT / "results" / f"section4-{grid.name}"
        self.work = work or ROOT / "_build" / f"section4-{grid.name}"
        self._sets: dict[tuple, object] = {}

    def data(self, split: str, seed: int, S: int | None = None):
        """A split rendered once at the largest scale and held in memory; training sets of one fixed
        S are rescaled once.
        """
        wanted = (split, seed, S)
        if wanted not in self._sets:
            self._sets = {
                name: value for name, value in self._sets.items() if name[1] == seed
            }  # one seed at a time in memory
            g = self.grid
            count = {"train": g.train, "val": g.val, "test": g.test}[split]
            shapes = ShapesDataset(
                split,
                count,
                seed=seed,
                size=g.pixels(512),
                difficulty=g.difficulty,
                hint=g.hint,
                device=self.device,
            )
            self._sets[wanted] = in_memory(shapes, size=S and g.pixels(S), device=self.device)
        return self._sets[wanted]

    def path(self, name: str, seed: int) -> Path:
        return self.results / f"{name.replace('/', '_')}_seed{seed}.json"

    def folder(self, name: str, seed: int) -> Path:
        return self.work / f"{name.replace('/', '_')}_seed{seed}"

    def recipe(self, plan: Plan, seed: int) -> Recipe:
        """The paper's recipe (Sect. 3.1) at the grid's sizes; nets that go on from another scale
        start at a tenth of the rate.
        """
        g = self.grid
        S = tuple(map(g.pixels, plan.S)) if isinstance(plan.S, tuple) else g.pixels(plan.S)
        base = Recipe(
            plan.config,
            crop=g.crop,
            scales=S,
            batch_size=g.batch_size,
            lr=g.lr,
            width=g.width,
            gain=g.gain,
            seed=seed,
            patience=g.patience,
            lr_drops=g.lr_drops,
            max_epochs=g.max_epochs,
        )
        return (
            base
            if plan.S == 256
            else replace(
                base,
                lr=g.lr / 10,
                lr_drops=g.lr_drops - 1,
                max_epochs=min(g.fine_epochs, g.max_epochs),
            )
        )

    def run(self, plan: Plan, seed: int) -> dict:
        """Train and evaluate one net; returns what its JSON holds. Does nothing where the JSON
        exists.
        """
        target, folder = self.path(plan.name, seed), self.folder(plan.name, seed)
        if target.exists():
            return json.loads(target.read_text(encoding="utf-8"))
        began, S = time.monotonic(), plan.S if isinstance(plan.S, int) else None
        start = None
        if plan.start != "random":
            start = self.folder(plan.start, seed) / "last.pt"
            if not start.exists():
                raise FileNotFoundError(
                    f"{plan.name}, seed {seed}, starts from {plan.start}: "
                    f"run that first ({start.name} is missing)"
                )
        train = self.data("train", seed, S)
        result = fit(
            self.recipe(plan, seed),
            train,
            self.data("val", seed, S),
            out=folder,
            init_from=start,
            device=self.device,
            log=None,
        )
        trained = time.monotonic() - began
        errors, test, found = {}, self.data("test", seed), {}
        labels = test.labels.cpu()

        def prepare(x: torch.Tensor) -> torch.Tensor:
            return (x.float() - result.mean.to(x.device)[:, None, None]) * self.grid.gain

        for method, scales, flip in methods(plan):
            few = (
                self.grid.crop_test
                if method in ("dense_of_crops", "multi_crop", "both")
                else len(test)
            )
            if method == "dense_of_crops":
                posteriors = found["dense", scales][:few]
            elif method == "both":  # the mean of the two soft-max outputs (Sect. 4.3)
                posteriors = (found["dense_of_crops", scales] + found["multi_crop", scales]) / 2
            else:
                way, grid = ("multi_crop", 1) if method == "centre_crop" else (method, 5)
                images, Q = test.images[:few].split(256), tuple(map(self.grid.pixels, scales))
                posteriors = torch.cat(
                    [
                        predict(result.model, x, way, Q, flip, grid=grid, preprocess=prepare)
                        for x in images
                    ]
                )
            found[method, scales] = posteriors  # (images, classes)
            errors[key(method, scales)] = error_rates(posteriors, labels[: len(posteriors)])
            torch.save(posteriors, folder / f"{key(method, scales)}.pt")
        record = {
            "run": {**asdict(plan), "name": plan.name, "seed": seed},
            "errors": errors,
            "curve": result.history.rows,
            "ended": result.ended,
            "seconds": {"train": round(trained, 1), "all": round(time.monotonic() - began, 1)},
        }
        return self.write(target, record, seed)

    def start(self, scheme: str, norm: bool, seed: int) -> dict:
        """The first ``start_epochs`` of D at S=256, at the full rate: does it leave ln(classes)?
        (Sect. 3.1)
        """
        name = start_name(scheme, norm)
        target, folder = self.path(name, seed), self.folder(name, seed)
        if target.exists():
            return json.loads(target.read_text(encoding="utf-8"))
        began, cure = (
            time.monotonic(),
            self.folder("A/256", seed) / "last.pt" if scheme == "A" else None,
        )
        if cure and not cure.exists():
            raise FileNotFoundError(f"{name}, seed {seed}, starts from A/256: run that first")
        base = self.recipe(Plan("D", 256, "random"), seed)
        recipe = replace(
            base,
            init="he" if scheme == "A" else scheme,
            batch_norm=norm,
            max_epochs=self.grid.start_epochs,
        )
        record = {
            "run": {"name": name, "seed": seed, "config": "D", "scheme": scheme, "batch_norm": norm}
        }
        try:
            train, val = (self.data(split, seed, 256) for split in ("train", "val"))
            history = fit(
                recipe, train, val, out=folder, init_from=cure, device=self.device, log=None
            ).history
            record |= {
                "curve": history.rows,
                "losses": [round(x, 4) for x in history.losses],
                "diverged": "",
            }
        except Diverged as error:
            record |= {
                "curve": [],
                "losses": [],
                "diverged": f"loss not finite at step {error.step}",
            }
        return self.write(
            target, record | {"seconds": {"all": round(time.monotonic() - began, 1)}}, seed
        )

    def fuse(self, names: tuple[str, ...], seed: int) -> dict:
        """Average the stored posteriors of several nets (Sect. 4.4)."""
        name = "+".join(names)
        target = self.path(name, seed)
        if target.exists():
            return json.loads(target.read_text(encoding="utf-8"))
        files = [self.folder(n, seed) for n in names]
        shared = sorted(
            set.intersection(*({f.stem for f in folder.glob("*@*.pt")} for folder in files))
        )
        if not shared:
            raise FileNotFoundError(
                f"{name}, seed {seed}: no stored posteriors; run {' and '.join(names)} first"
            )
        labels = self.data("test", seed).labels.cpu()

        def mean(stem: str) -> torch.Tensor:
            return fuse([torch.load(folder / f"{stem}.pt", weights_only=True) for folder in files])

        fused = {stem: mean(stem) for stem in shared}
        errors = {
            stem: error_rates(posteriors, labels[: len(posteriors)])
            for stem, posteriors in fused.items()
        }
        return self.write(
            target,
            {"run": {"name": name, "nets": list(names), "seed": seed}, "errors": errors},
            seed,
        )

    def write(self, target: Path, record: dict, seed: int) -> dict:
        """Provenance added, written whole or not at all."""
        record = {
            "provenance": {**provenance(self.device, seed), "data_seed": seed},
            "grid": asdict(self.grid),
            **record,
        }
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(".tmp")
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, target)
        return json.loads(target.read_text(encoding="utf-8"))

    def jobs(self, seed: int, only: list[str] | None = None) -> list[Job]:
        """Everything that one seed asks for, in an order in which it can be done."""
        trainings = [
            Job(p.name, seed, () if p.start == "random" else (p.start,), partial(self.run, p, seed))
            for p in PLANS
        ]
        if only:
            return [job for job in trainings if job.name in only]
        starts = [
            Job(
                start_name(scheme, norm),
                seed,
                ("A/256",) if scheme == "A" else (),
                partial(self.start, scheme, norm, seed),
            )
            for scheme, norm in STARTS
        ]
        return (
            trainings
            + starts
            + [Job("+".join(nets), seed, nets, partial(self.fuse, nets, seed)) for nets in FUSIONS]
        )

    def everything(self, seeds, only: list[str] | None = None, wait: float = 5.0) -> None:
        """Do what is missing. Call it in as many processes as there are cores: each takes what none
        of the others is at.
        """
        jobs = [job for seed in seeds for job in self.jobs(seed, only)]
        known = {(job.name, job.seed) for job in jobs}
        while missing := [job for job in jobs if not self.path(job.name, job.seed).exists()]:
            for job in missing:
                waits = [
                    n
                    for n in job.needs
                    if (n, job.seed) in known and not self.path(n, job.seed).exists()
                ]
                if not waits and self.take(job):
                    break
            else:
                # the rest is being done, or waits for what is being done, elsewhere
                time.sleep(wait)

    def take(self, job: Job) -> bool:
        """Do a job unless it is done or another process is at it."""
        self.folder(job.name, job.seed).parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(f"{self.folder(job.name, job.seed)}.taken", timeout=0):
                if self.path(job.name, job.seed).exists():
                    return False
                record = job.do()
        except Timeout:
            return False
        errors, curve = record.get("errors", {}), record.get("curve", [])
        shown = next(
            (f"{m} {e['top1']:.1f} %" for m, e in errors.items() if m.startswith("dense@")), ""
        )
        shown = shown or (
            f"loss {curve[-1]['train_loss']:.3f}" if curve else record.get("diverged", "")
        )
        seconds = record.get("seconds", {}).get("all", 0)
        self.say(
            f"seed {job.seed}  {job.name:22} {len(curve):3d} epochs  {shown:20} {seconds:5.0f} s"
        )
        return True


def error_rates(posteriors: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Number of images, top-1 and top-5 error in per cent of posteriors (N, classes) against labels
    (N,).
    """
    best = posteriors.topk(min(5, posteriors.shape[1])).indices
    right = best == labels[:, None]
    return {
        "n": len(labels),
        "top1": 100 * (1 - float(right[:, 0].double().mean())),
        "top5": 100 * (1 - float(right.any(1).double().mean())),
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.section4", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("do", choices=("plan", "run"))
    parser.add_argument("--grid", choices=tuple(GRIDS), default="small")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: the grid's")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        choices=[p.name for p in PLANS],
        help="runs, e.g. D/256",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args(argv)
    grid = GRIDS[given.grid]
    section, seeds = Section4(grid, given.device), given.seeds or grid.seeds
    if given.do == "run":
        section.everything(seeds, given.only)
    names = [job.name for job in section.jobs(seeds[0], given.only)]
    for name in names:
        done = [seed for seed in seeds if section.path(name, seed).exists()]
        print(f"{name:22} seeds done: {' '.join(map(str, done)) or 'none'}")


if __name__ == "__main__":
    sys.exit(main())
