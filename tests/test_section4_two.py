"""The second plan's experiment at a toy size, its loop, its statistics, and what is said of bad
files."""

import json

import pytest
import torch
from tiny_training import TOY
from torch import nn

from experiments.loop import Schedule, batches, measured_start, train
from experiments.section4_two import (
    DESIGN,
    MINIATURES,
    PRIMARY,
    SECONDARY,
    Experiment,
    Training,
    error_rates,
    order,
)
from vggbook.book import grids, recorded
from vggbook.model import build


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    places = {name: tmp_path_factory.mktemp(name) for name in ("results", "work")}
    return Experiment(TOY, **places, say=lambda line: None)


def test_the_rate_rises_and_falls_at_fixed_fractions():
    schedule = Schedule(updates=1000, rate=0.1, warm_up=0.1, drops=(0.6, 0.85))
    rates = [schedule.rate_at(update) for update in range(1000)]
    assert rates[0] == pytest.approx(0.001)
    assert rates[99] == pytest.approx(0.1)
    assert (rates[599], rates[600]) == pytest.approx((0.1, 0.01))
    assert (rates[849], rates[850]) == pytest.approx((0.01, 0.001))


def test_the_loop_is_torchs_own_sgd_and_returns_the_mean_of_the_last_weights():
    """Against torch's optimizer on a net with one weight, worked step by step here."""

    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(1.0))

        def forward(self, images):
            value = self.scale * images.mean((1, 2, 3))
            return torch.stack([value, -value], 1)

    class Fixed:
        def epoch(self, number):
            for level in (0.5, -1.0, 2.0, 0.25):
                yield torch.full((1, 3, 2, 2), level), torch.tensor([0]), None

    schedule = Schedule(
        4, 0.1, warm_up=0, drops=(), average_from=0.5, clip=0.3, momentum=0.9, weight_decay=0.01
    )
    net = One()
    train(net, Fixed(), schedule, half=False)
    weight = torch.tensor(1.0, dtype=torch.float64)
    speed, last = 0.0, []
    for step, level in enumerate((0.5, -1.0, 2.0, 0.25)):
        # loss = log(1 + exp(-2 w x)); its slope is -2 x / (1 + exp(2 w x)), no longer than the clip
        slope = float(-2 * level / (1 + torch.exp(2 * weight * level)))
        slope = max(-0.3, min(0.3, slope))
        speed = 0.9 * speed + slope + 0.01 * float(weight)
        weight = weight - 0.1 * speed
        if step >= 2:
            last.append(float(weight))
    assert net.scale.item() == pytest.approx(sum(last) / 2, abs=1e-5)


def test_batches_go_on_from_epoch_to_epoch():
    class Three:
        def epoch(self, number):
            for at in range(3):
                yield number, at, None

    assert list(batches(Three(), 5)) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


@pytest.mark.parametrize("config", ["A", "D", "E", "B-5x5"])
@pytest.mark.parametrize("scale", [1.0, 64.0])
def test_a_measured_start_gives_every_layer_unit_variance_whatever_the_pixels(config, scale):
    net = build(config, 12, width=1 / 16, image_size=32, generator=torch.Generator().manual_seed(0))
    images = scale * torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    measured_start(net, images)
    sizes = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(
                lambda layer, inputs, output: sizes.append(output.std().item())
            )
    net(images)
    assert sizes[:-1] == pytest.approx([1.0] * (len(sizes) - 1), abs=1e-3)
    assert sizes[-1] == pytest.approx(0.1, abs=1e-3)


def test_miniatures_come_first_and_seeds_are_completed_one_after_the_other():
    runs = order((200, 201, 202))
    assert runs[: len(MINIATURES)] == [(training, 200) for training in MINIATURES]
    assert (
        len(set(runs)) == len(runs) == 3 * len({*PRIMARY, *SECONDARY}) + 1
    )  # the jittered E, of one seed
    last = [max(runs.index((training, seed)) for training in PRIMARY) for seed in (200, 201, 202)]
    assert last == sorted(last)
    for training, seed in runs:
        if training.start:
            start = Training(training.config)
            assert runs.index((start, seed)) < runs.index((training, seed))


def test_sizes_keep_the_papers_proportions():
    assert [DESIGN.pixels(Q) for Q in (224, 256, 384, 512)] == [64, 73, 110, 146]


def test_a_run_is_recorded_with_provenance_and_not_made_again(toy):
    runs = [(Training("D"), 3), (Training("D", (256, 512)), 3)]
    toy.everything(runs)
    path = toy.path("D/256-512", 3)
    record = recorded.read(path)
    assert record["run"] == {"name": "D/256-512", "seed": 3, "start": "D/256"}
    assert set(record["errors"]) == {"dense@384", "dense@256,384,512"}
    assert record["schedule"]["updates"] == TOY.branch_updates
    assert record["curve"][-1]["update"] == TOY.branch_updates
    before = path.stat().st_mtime_ns
    toy.everything(runs)
    assert path.stat().st_mtime_ns == before


def test_both_branches_see_the_same_pictures_in_the_same_order(toy, monkeypatch):
    orders = {}

    def look(net, loader, schedule):
        orders[loader.scales] = loader.order(0)
        return []

    monkeypatch.setattr("experiments.section4_two.train", look)
    monkeypatch.setattr("experiments.section4_two.write", lambda path, record: None)
    toy.run(Training("D", 384), 3)
    toy.run(Training("D", (256, 512)), 3)
    fixed, jittered = orders.values()
    assert len(orders) == 2 and torch.equal(fixed, jittered)


def test_error_rates_count():
    posteriors = torch.eye(12)[[0, 1, 2, 3]]
    assert error_rates(posteriors, torch.tensor([0, 1, 2, 11]))["top1"] == pytest.approx(25)


def recorded_run(folder, name, seed, **changes):
    design = {"name": "toy", "updates": 4}
    record = {
        "provenance": dict.fromkeys(recorded.PROVENANCE, ""),
        "run": {"name": name, "seed": seed},
        "design": {**design, **changes},
        "errors": {"dense@256": {"n": 8, "top1": 25.0, "top5": 0.0}},
        "seconds": {"all": 1800},
        "curve": [],
    }
    path = folder / f"{name}_seed{seed}.json"
    path.write_text(json.dumps(record))
    return path


def test_a_grid_is_read(tmp_path):
    for name in "AB":
        recorded_run(tmp_path, name, 0)
    recorded_run(tmp_path, "A", 1)
    grid = grids.load(tmp_path)
    assert (grid.names, grid.seeds, grid.hours) == (("A", "B"), (0, 1), 1.5)
    assert grid.complete("AB") == (0,)
    assert grid.errors("A", "dense@256", grid.seeds) == [25, 25]


def test_a_damaged_result_is_named(tmp_path):
    recorded_run(tmp_path, "A", 0)
    path = recorded_run(tmp_path, "B", 0)
    path.write_text(path.read_text()[:40])
    with pytest.raises(recorded.ResultError, match=r"B_seed0.json, line 1"):
        grids.load(tmp_path)


def test_runs_of_two_plans_are_named(tmp_path):
    recorded_run(tmp_path, "A", 0)
    recorded_run(tmp_path, "B", 0, updates=5)
    with pytest.raises(
        recorded.ResultError, match=r"two plans: updates is 5 in B_seed0.json, 4 in A_seed0.json"
    ):
        grids.load(tmp_path)


def test_a_missing_seed_and_a_missing_test_are_named(tmp_path):
    recorded_run(tmp_path, "A", 0)
    grid = grids.load(tmp_path)
    with pytest.raises(recorded.ResultError, match="A, seed 1: this run is missing"):
        grid.errors("A", "dense@256", (0, 1))
    with pytest.raises(recorded.ResultError, match="A, seed 0: no test 'dense@384'"):
        grid.errors("A", "dense@384", (0,))


def test_one_run_in_two_files_and_an_empty_folder_are_named(tmp_path):
    with pytest.raises(recorded.ResultError, match="no recorded run"):
        grids.load(tmp_path)
    path = recorded_run(tmp_path, "A", 0)
    (tmp_path / "copy_seed0.json").write_text(path.read_text())
    with pytest.raises(recorded.ResultError, match="both hold A, seed 0"):
        grids.load(tmp_path)
