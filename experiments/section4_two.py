"""Section 4 in miniature, second plan: book/preregistration_2.md says what is run, in which order,
and what decides.

    python -m experiments.section4_two run          # do what is missing; stop it at any moment and
    call it again
    python -m experiments.section4_two plan         # what is done and what is missing
    python -m experiments.section4_two run --seeds 100 --pilot --only A/256

Call the first line once for each core: the processes share the runs out among them, seed by seed.
One JSON a run lies in
results/section4-two/; nets wait in _build/section4-two/ for the runs that start from them. The
same file serves a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from filelock import FileLock, Timeout  # PyTorch depends on it
from torch import Tensor

from benchmarks.record import provenance
from experiments.loop import Schedule, measured_start, train
from vggbook.data import ArrayDataset, Loader, ShapesDataset, in_memory, mean_rgb, pca_rgb
from vggbook.evaluate import predict, test_scales
from vggbook.model import Network, build

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Design:
    """What all runs share. Sizes in pixels are the paper's times ``crop`` / 224."""

    name: str = "section4-two"
    crop: int = 64
    width: float = 0.125
    train: int = 8192
    test: int = 4096
    difficulty: float = 0.15
    hint: float = 0.5
    batch_size: int = 32
    dropout: float = 0.0
    gain: float = 1 / 64  # what multiplies the mean-subtracted pixels
    updates: int = 6144
    rate: float = 0.05
    branch_updates: int = 2048  # of a net that goes on from S = 256
    branch_rate: float = 0.02
    gate: float = 10.0  # largest error, in per cent, on the pictures of a finished training
    seeds: tuple[int, ...] = tuple(range(200, 208))

    def pixels(self, paper: int) -> int:
        """A size of the paper here: 256 -> 73, 384 -> 110, 512 -> 146."""
        return round(paper * self.crop / 224)


DESIGN = Design()


@dataclass(frozen=True)
class Training:
    """One run; ``S`` in the paper's pixels. A run at S other than 256 goes on from its
    configuration's net at S = 256."""

    config: str
    S: int | tuple[int, int] = 256

    @property
    def name(self) -> str:
        """A/256, D/256-512."""
        parts = self.S if isinstance(self.S, tuple) else (self.S,)
        return f"{self.config}/{'-'.join(map(str, parts))}"

    @property
    def start(self) -> str | None:
        """Name of the run that this one goes on from."""
        return None if self.S == 256 else f"{self.config}/256"


JITTER = (256, 512)
PRIMARY = (
    *(Training("A"), Training("D"), Training("B"), Training("B-5x5")),
    *(Training("D", 384), Training("D", JITTER)),
)
MINIATURES = (
    Training("A"),
    Training("D"),
    Training("D", JITTER),
    Training("E"),
    Training("E", JITTER),
)
SECONDARY = (Training("C"), Training("E"), Training("A-LRN"))


def order(seeds: Sequence[int]) -> list[tuple[Training, int]]:
    """All runs, in the order in which they are made: the book's miniatures, the primary runs seed
    by seed, the secondary ones."""
    runs = [(training, seeds[0]) for training in MINIATURES]
    for group in (PRIMARY, SECONDARY):
        runs += [(training, seed) for seed in seeds for training in group]
    return list(dict.fromkeys(runs))


def error_rates(posteriors: Tensor, labels: Tensor) -> dict[str, float]:
    """Number of pictures, top-1 and top-5 error in per cent of posteriors (N, classes) against
    labels (N,)."""
    right = posteriors.topk(5).indices == labels[:, None]  # (N, 5)
    top1 = 100 * (1 - right[:, 0].double().mean().item())
    top5 = 100 * (1 - right.any(1).double().mean().item())
    return {"n": len(labels), "top1": top1, "top5": top5}


class Experiment:
    """A design on a device, with its folders."""

    def __init__(
        self,
        design: Design = DESIGN,
        device: str = "cpu",
        results: Path | None = None,
        work: Path | None = None,
        say: Callable[[str], object] = print,
    ):
        self.design = design
        self.device = device
        self.results = results or ROOT / "results" / design.name
        self.work = work or ROOT / "_build" / design.name
        self.say = say
        self._sets: dict[tuple, ArrayDataset] = {}

    def path(self, name: str, seed: int) -> Path:
        """The JSON of a run."""
        return self.results / f"{name.replace('/', '_')}_seed{seed}.json"

    def weights(self, name: str, seed: int) -> Path:
        """The net of a run."""
        return self.work / f"{name.replace('/', '_')}_seed{seed}.pt"

    def pictures(self, split: str, seed: int, S: int = 512) -> ArrayDataset:
        """A split of a seed, drawn once at the largest scale and rescaled from there; one seed at
        a time is kept."""
        if (split, seed, S) not in self._sets:
            self._sets = {key: kept for key, kept in self._sets.items() if key[1] == seed}
            d = self.design
            if S != 512:
                self._sets[split, seed, S] = in_memory(
                    self.pictures(split, seed), size=d.pixels(S), device=self.device
                )
            else:
                count = d.train if split == "train" else d.test
                shapes = ShapesDataset(
                    split,
                    count,
                    seed=seed,
                    size=d.pixels(512),
                    difficulty=d.difficulty,
                    hint=d.hint,
                    device=self.device,
                )
                self._sets[split, seed, S] = in_memory(shapes, device=self.device)
        return self._sets[split, seed, S]

    def build(self, config: str, generator: torch.Generator, batch_norm: bool = False) -> Network:
        """A net with the weights that it is born with."""
        d = self.design
        shape = {"width": d.width, "image_size": d.crop, "dropout": d.dropout}
        return build(config, 12, batch_norm, **shape, generator=generator)

    def train(self, net: Network, loader: Loader, schedule: Schedule) -> list[dict]:
        """Train a net in place; returns the curve."""
        return train(net, loader, schedule)

    def start(self, training: Training, seed: int, mean: Tensor) -> Network:
        """The net before its first update: measured, or that of S = 256."""
        d = self.design
        net = self.build(training.config, torch.Generator().manual_seed(seed))
        if training.start is None:
            few = self.pictures("train", seed, 256).images[:256, :, : d.crop, : d.crop]
            return measured_start(net.to(self.device), self.prepare(few, mean))
        before = torch.load(self.weights(training.start, seed), weights_only=True)
        net.load_state_dict(before["net"])
        return net.to(self.device)

    def prepare(self, images: Tensor, mean: Tensor) -> Tensor:
        """Pixels of 0..255 as the nets see them."""
        return (images.float() - mean.to(images.device)[:, None, None]) * self.design.gain

    def run(self, training: Training, seed: int) -> dict:
        """Train and test one net; write its net and its JSON. Returns what the JSON holds."""
        d = self.design
        began = time.monotonic()
        base = self.pictures("train", seed, 256)
        mean = mean_rgb(base)
        S = training.S
        pictures = self.pictures("train", seed, S if isinstance(S, int) else 512)
        # another order than the first training's; the same one for both branches
        order_seed = seed if training.start is None else seed + 10_000
        loader = Loader(
            pictures,
            d.batch_size,
            crop=d.crop,
            scales=tuple(map(d.pixels, S)) if isinstance(S, tuple) else d.pixels(S),
            mean=mean,
            colour=pca_rgb(base),
            seed=order_seed,
            device=self.device,
            gain=d.gain,
        )
        schedule = Schedule(d.updates, d.rate)
        if training.start is not None:
            schedule = replace(schedule, updates=d.branch_updates, rate=d.branch_rate)
        torch.manual_seed(seed)
        net = self.start(training, seed, mean)
        curve = self.train(net, loader, schedule)
        trained = time.monotonic()
        torch.save({"net": net.state_dict(), "mean": mean}, self.weights(training.name, seed))
        single = test_scales(S, single=True)
        seen = self.score(net, mean, self.pictures("train", seed), single, count=2048)
        errors = {f"dense@{single[0]}": self.score(net, mean, self.pictures("test", seed), single)}
        if S == 256:
            errors["centre@256"] = self.score(
                net,
                mean,
                self.pictures("test", seed),
                single,
                method="multi_crop",
                grid=1,
                flip=False,
            )
        if training.config in "DE":
            several = test_scales(S)
            key = f"dense@{','.join(map(str, several))}"
            errors[key] = self.score(net, mean, self.pictures("test", seed), several)
        record = {
            "provenance": provenance(self.device, seed),
            "design": {key: value for key, value in asdict(d).items() if key != "seeds"},
            "run": {"name": training.name, "seed": seed, "start": training.start or "measured"},
            "schedule": asdict(schedule),
            "train_error": seen["top1"],
            "trained_to_its_end": seen["top1"] <= d.gate,
            "errors": errors,
            "seconds": {"train": trained - began, "all": time.monotonic() - began},
            "curve": curve,
        }
        write(self.path(training.name, seed), record)
        return record

    def score(
        self,
        net: Network,
        mean: Tensor,
        pictures: ArrayDataset,
        scales,
        count: int | None = None,
        **how,
    ) -> dict[str, float]:
        """Errors of a net at the paper's ``scales``, on the first ``count`` pictures."""
        posteriors = predict(
            net,
            pictures.images[:count],
            scales=tuple(map(self.design.pixels, scales)),
            preprocess=lambda images: self.prepare(images, mean),
            dtype=torch.bfloat16,
            **how,
        )
        return error_rates(posteriors, pictures.labels[:count].cpu())

    def everything(self, runs: Sequence[tuple[Training, int]], wait: float = 5.0) -> None:
        """Do what is missing, in its order. Several processes may: each takes what none of the
        others is at."""
        self.work.mkdir(parents=True, exist_ok=True)
        self.results.mkdir(parents=True, exist_ok=True)
        while missing := [(t, s) for t, s in runs if not self.path(t.name, s).exists()]:
            if not any(self.take(training, seed) for training, seed in missing):
                time.sleep(wait)  # what is left is being done elsewhere, or waits for it

    def take(self, training: Training, seed: int) -> bool:
        """Do a run unless it is done, must wait, or another process is at it."""
        if training.start and not self.path(training.start, seed).exists():
            return False
        try:
            with FileLock(f"{self.weights(training.name, seed)}.taken", timeout=0):
                if self.path(training.name, seed).exists():
                    return False
                record = self.run(training, seed)
        except Timeout:
            return False
        top1 = {way: round(error["top1"], 1) for way, error in record["errors"].items()}
        seen, took = record["train_error"], record["seconds"]["all"]
        self.say(f"{training.name} seed {seed}: seen {seen:.1f}, {top1}, {took:.0f} s")
        return True


def write(path: Path, record: dict) -> None:
    """Written whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def parser(prog: str, doc: str) -> argparse.ArgumentParser:
    """What the second and the third plan's commands have in common."""
    found = argparse.ArgumentParser(prog=prog, description=doc.partition("\n")[0])
    found.add_argument("do", choices=("run", "plan"))
    found.add_argument("--seeds", type=int, nargs="+", help="the plan's without it")
    found.add_argument("--only", nargs="+", metavar="NAME", help="runs, for instance D/256")
    found.add_argument("--results", type=Path, help="folder of the JSON files")
    found.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return found


def carry_out(
    experiment: Experiment, runs: Sequence[tuple[Training, int]], given: argparse.Namespace
) -> None:
    """Do what is asked for of ``runs``, and say which are done."""
    runs = [run for run in runs if not given.only or run[0].name in given.only]
    if given.do == "run":
        experiment.everything(runs)
    for training, seed in runs:
        done = experiment.path(training.name, seed).exists()
        print(f"{training.name:10} seed {seed}: {'done' if done else 'missing'}")


def main(argv: list[str] | None = None) -> None:
    command = parser("python -m experiments.section4_two", __doc__)
    command.add_argument("--pilot", action="store_true", help="write to results/section4-two-pilot")
    command.add_argument(
        "--set", nargs="+", default=[], metavar="FIELD=VALUE", help="pilot: another design"
    )
    given = command.parse_args(argv)
    design = DESIGN
    for field, value in (pair.split("=") for pair in given.set):
        design = replace(design, **{field: type(getattr(DESIGN, field))(value)})
    if given.pilot:
        design = replace(design, name=DESIGN.name + "-pilot")
    elif given.set:
        command.error("--set changes the plan: only with --pilot")
    experiment = Experiment(design, given.device, given.results)
    carry_out(experiment, order(given.seeds or design.seeds), given)


if __name__ == "__main__":
    main()
