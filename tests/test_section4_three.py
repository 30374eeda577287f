"""The third plan's experiment at a toy size: what it changes in the second's."""

from dataclasses import replace

import pytest
import torch
from tiny_training import TOY
from torch import nn

from experiments import section4_two
from experiments.section4_three import (
    DESIGN,
    FEW,
    SECONDARY,
    NormalisedExperiment,
    main,
    measure_statistics,
    order,
)
from experiments.section4_two import PRIMARY, Training
from vggbook.book import recorded

CHANGED = ("crop", "width", "train", "test", "updates", "branch_updates")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    design = replace(DESIGN, seeds=(3,), **{field: getattr(TOY, field) for field in CHANGED})
    places = {name: tmp_path_factory.mktemp(name) for name in ("results", "work")}
    return NormalisedExperiment(design, **places, say=lambda line: None)


def test_statistics_are_those_of_the_batches_and_the_weights_stay():
    """Against the mean and variance of all inputs at once, worked out without the layer."""

    class Four:
        def epoch(self, number):
            generator = torch.Generator().manual_seed(number)
            for _ in range(4):
                yield torch.randn(16, 3, 5, 5, generator=generator) * 3 + 2, None, None

    net = nn.Sequential(nn.BatchNorm2d(3))
    net(torch.randn(8, 3, 5, 5))  # other statistics, from before
    weights = [p.clone() for p in net.parameters()]
    measure_statistics(net, Four(), 4)
    inputs = torch.stack([images for images, _, _ in Four().epoch(0)])  # (4, 16, 3, 5, 5)
    assert torch.allclose(net[0].running_mean, inputs.mean((0, 1, 3, 4)), atol=1e-4)
    variances = torch.stack([batch.transpose(0, 1).flatten(1).var(1) for batch in inputs])
    assert torch.allclose(net[0].running_var, variances.mean(0), rtol=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(weights, net.parameters()))
    assert net[0].momentum == 0.1 and not net.training


def test_a_run_and_its_branch_are_normalised_and_recorded(toy):
    toy.everything([(Training("D"), 3), (Training("D", (256, 512)), 3)])
    record = recorded.read(toy.path("D/256-512", 3))
    assert record["run"]["start"] == "D/256" and record["design"]["batch_norm"] is True
    assert set(record["errors"]) == {"dense@384", "dense@256,384,512"}
    saved = torch.load(toy.weights("D/256-512", 3), weights_only=True)["net"]
    means = [value for key, value in saved.items() if key.endswith("running_mean")]
    assert len(means) == 13 and all(mean.abs().max() > 0 for mean in means)


def test_the_order_is_that_of_the_plan():
    runs = order((300, 301))
    primary, secondary = runs[: 2 * len(PRIMARY)], runs[2 * len(PRIMARY) :]
    assert primary == [(training, seed) for seed in (300, 301) for training in PRIMARY]
    assert secondary == [(training, seed) for seed in (300, 301) for training in SECONDARY]


def test_seeds_are_fresh():
    assert len(set(DESIGN.seeds)) == 8
    assert not {100, 101, 102, *section4_two.DESIGN.seeds} & set(DESIGN.seeds)


def test_few_pictures_are_the_same_design_and_end_with_the_jittered_net(capsys):
    main(["plan", "--few"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["D/256", "D/384", "D/256-512"]
    assert len(lines) == 3 * len(FEW.seeds)
    assert {k for k, v in vars(FEW).items() if vars(DESIGN)[k] != v} == {"name", "train", "seeds"}
