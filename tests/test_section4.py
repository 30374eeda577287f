"""The grid of chapter 8's experiments, on a toy size: what runs, what is written, what is not run twice."""

import json
from dataclasses import replace

import pytest
import torch

from experiments.section4 import GRIDS, PLANS, Grid, Section4, error_rates, key, methods
from vggbook import recorded

TOY = Grid("toy", crop=32, train=96, val=48, test=48, batch_size=32, max_epochs=1, width=0.03125)


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    return Section4(
        TOY, results=tmp_path_factory.mktemp("results"), work=tmp_path_factory.mktemp("work"), say=lambda line: None
    )


def test_sizes_keep_the_papers_proportions():
    for grid in GRIDS.values():
        for paper in (224, 256, 288, 352, 384, 416, 512):
            assert abs(grid.pixels(paper) / grid.crop - paper / 224) < 0.5 / grid.crop + 1e-9


def test_every_run_can_start_where_it_says():
    seen = set()
    for plan in PLANS:  # in this order they are run
        assert plan.start == "random" or plan.start in seen, plan
        seen.add(plan.name)
    assert len(seen) == len(PLANS)


def test_a_run_writes_its_errors_with_provenance_and_is_not_run_again(section):
    for name in ("A/256", "D/256"):
        plan = next(plan for plan in PLANS if plan.name == name)
        record = section.run(plan, 3)
    path = section.path("D/256", 3)
    assert recorded.read(path) == record
    assert set(record["errors"]) == {key(method, scales) for method, scales, _ in methods(plan)}
    assert all(0 <= error["top5"] <= error["top1"] <= 100 for error in record["errors"].values())
    before = path.stat().st_mtime_ns
    section.run(plan, 3)
    assert path.stat().st_mtime_ns == before
    posteriors = torch.load(section.folder("D/256", 3) / "dense@256.pt", weights_only=True)
    assert torch.allclose(posteriors.sum(1), torch.ones(TOY.test), atol=1e-5)


def test_nets_are_fused_from_their_posteriors(section):
    fused = section.fuse(("A/256", "D/256"), 3)
    labels = section.data("test", 3).labels
    parts = [torch.load(section.folder(n, 3) / "dense@256.pt", weights_only=True) for n in ("A/256", "D/256")]
    wrong = ((parts[0] + parts[1]).argmax(1) != labels).double().mean()
    assert fused["errors"]["dense@256"]["top1"] == pytest.approx(100 * float(wrong))


def test_a_run_without_its_start_is_refused(section):
    plan = next(plan for plan in PLANS if plan.name == "E/384")
    with pytest.raises(FileNotFoundError, match="starts from E/256"):
        section.run(plan, 4)


def test_rates_against_counting():
    posteriors = torch.eye(6)[[0, 1, 2, 3]] + torch.arange(6) * 1e-3
    labels = torch.tensor([0, 1, 2, 0])
    assert error_rates(posteriors, labels)["top1"] == 25.0
    assert error_rates(posteriors, torch.tensor([0, 1, 2, 0]))["top5"] == 25.0  # class 0 has the least of the rest


def test_an_unfinished_file_is_never_taken_for_a_result(section, monkeypatch):
    grid = replace(TOY, seeds=(9,))
    broken = Section4(grid, results=section.results, work=section.work, say=print)
    monkeypatch.setattr(json, "dumps", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        broken.write(broken.path("A/256", 9), {}, 9)
    assert not broken.path("A/256", 9).exists()
