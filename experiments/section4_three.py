"""Section 4 in miniature, third plan: book/preregistration_3.md says what is run and what decides.

    python -m experiments.section4_three run        # do what is missing; stop it at any moment and
    call it again
    python -m experiments.section4_three plan       # what is done and what is missing
    python -m experiments.section4_three run --few  # jitter again, on an eighth of the pictures

The second plan's experiment on harder pictures, with batch normalisation after each convolution.
Call the first line once for each core: the processes share the runs out among them, seed by seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from experiments.loop import Schedule, batches, train
from experiments.section4_two import (
    JITTER,
    PRIMARY,
    Design,
    Experiment,
    Training,
    carry_out,
    parser,
)
from vggbook.data import Loader
from vggbook.model import Network

SECONDARY = (Training("C"), Training("E"))
STATISTICS = 100  # batches over which the averaged net's normalisation is measured anew


@dataclass(frozen=True)
class NormalisedDesign(Design):
    """The second plan's design with what the third changes."""

    name: str = "section4-three"
    difficulty: float = 0.25
    updates: int = 4608
    rate: float = 0.1
    branch_rate: float = 0.05
    batch_norm: bool = True
    seeds: tuple[int, ...] = tuple(range(300, 308))


DESIGN = NormalisedDesign()
FEW = replace(DESIGN, name="section4-three-few", train=1024, seeds=(300, 301, 302, 303))
JITTERED = (Training("D"), Training("D", 384), Training("D", JITTER))


def order(seeds: Sequence[int]) -> list[tuple[Training, int]]:
    """All runs in the order in which they are made: the primary ones seed by seed, then the
    others."""
    return [(training, s) for group in (PRIMARY, SECONDARY) for s in seeds for training in group]


def measure_statistics(net: Network, loader: Loader, count: int = STATISTICS) -> None:
    """Set each normalisation's mean and variance to what they are over ``count`` batches.

    Those that were followed in training belong to the weights of each moment, not to the mean of
    the weights.
    """
    normalisations = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [module.momentum for module in normalisations]
    for module in normalisations:
        module.reset_running_stats()
        module.momentum = None  # a plain mean over the batches
    net.train()
    with torch.no_grad():
        for images, _ in batches(loader, count):
            net(images.contiguous(memory_format=torch.channels_last))
    for module, momentum in zip(normalisations, momenta):
        module.momentum = momentum
    net.eval()


class NormalisedExperiment(Experiment):
    """The second plan's experiment with batch normalisation."""

    def build(self, config: str, generator: torch.Generator, batch_norm: bool = True) -> Network:
        return super().build(config, generator, batch_norm)

    def train(self, net: Network, loader: Loader, schedule: Schedule) -> list[dict]:
        curve = train(net, loader, schedule)
        measure_statistics(net, loader)
        return curve


def main(argv: list[str] | None = None) -> None:
    command = parser("python -m experiments.section4_three", __doc__)
    command.add_argument("--few", action="store_true", help="D and its branches on 1,024 pictures")
    given = command.parse_args(argv)
    design = FEW if given.few else DESIGN
    runs = order(given.seeds or design.seeds)
    if given.few:
        runs = [(training, seed) for training, seed in runs if training in JITTERED]
    carry_out(NormalisedExperiment(design, given.device, given.results), runs, given)


if __name__ == "__main__":
    main()
