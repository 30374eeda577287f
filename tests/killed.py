"""Work that ends itself by a signal in the middle: the children's side of test_kills.py."""

import io
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tiny_training import TINY, TOY, pictures, quiet

from experiments.section4_two import Experiment, Training
from vggbook.model import Network

RECIPE = replace(TINY, lr=0.02, max_epochs=3, patience=0, colour=True)
STEPS = 15  # of the whole run: 40 images, 8 a batch, 3 epochs
RUNS = [(Training("A"), 3), (Training("A", 384), 3), (Training("B"), 3)]


@dataclass(frozen=True)
class Moment:
    """The ``entry``-th entry into a place: a training "step", a batch of "validation", the
    "writing" of a file, cut after a share of its bytes, or its "renaming".
    """

    place: str
    entry: int
    share: float = 0.0
    number: int = signal.SIGKILL


def arm(moment: Moment, steps: Path) -> None:
    """From now on this process counts, ends at the moment, and notes each step in a file."""
    entered = dict.fromkeys(("step", "validation", "writing", "renaming"), 0)
    network, save, move = Network.forward, torch.save, os.replace

    def due(place: str) -> bool:
        entered[place] += 1
        return place == moment.place and entered[place] == moment.entry

    def end() -> None:
        os.kill(os.getpid(), moment.number)
        signal.pause()

    def forward(net: Network, images: torch.Tensor) -> torch.Tensor:
        if due("step" if net.training else "validation"):
            end()
        if net.training:
            with steps.open("a") as file:
                file.write(".")
        return network(net, images)

    def cut(state: object, file: object) -> None:
        if due("writing"):
            buffer = io.BytesIO()
            save(state, buffer)
            part = buffer.getvalue()[: int(moment.share * buffer.tell())]
            opened = file if hasattr(file, "write") else open(file, "wb")  # noqa: SIM115
            opened.write(part)
            opened.flush()
            end()
        save(state, file)

    def renamed(source: str, target: str) -> None:
        if due("renaming"):
            end()
        move(source, target)

    Network.forward, torch.save, os.replace = forward, cut, renamed


def train(out: Path, moment: Moment | None, steps: Path, save_minutes: float = 0.0) -> None:
    """A run that saves after every step."""
    torch.set_num_threads(1)
    if moment:
        arm(moment, steps)
    quiet(RECIPE, pictures(40), pictures(24, seed=1), out, save_minutes=save_minutes)


def experiment(out: Path, moment: Moment | None, steps: Path) -> None:
    """Three runs of the second plan at a toy size; the second goes on from the first."""
    torch.set_num_threads(1)
    if moment:
        arm(moment, steps)
    places = {"results": out / "results", "work": out / "work"}
    Experiment(TOY, **places, say=lambda line: None).everything(RUNS, wait=0.1)
