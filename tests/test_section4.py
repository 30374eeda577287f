"""The grid of chapter 8's experiments, on a toy size: what runs, what is written, what is not run
twice.
"""

import json
import time
from dataclasses import replace

import pytest
import torch

from experiments.section4 import GRIDS, PLANS, Grid, Section4, error_rates, key, methods, start_name
from vggbook.book import recorded

TOY = Grid(
    "toy",
    crop=32,
    train=96,
    val=48,
    test=48,
    batch_size=32,
    max_epochs=1,
    start_epochs=1,
    crop_test=24,
    width=0.03125,
)


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    return Section4(
        TOY,
        results=tmp_path_factory.mktemp("results"),
        work=tmp_path_factory.mktemp("work"),
        say=lambda line: None,
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
    parts = [
        torch.load(section.folder(n, 3) / "dense@256.pt", weights_only=True)
        for n in ("A/256", "D/256")
    ]
    wrong = ((parts[0] + parts[1]).argmax(1) != labels).double().mean()
    assert fused["errors"]["dense@256"]["top1"] == pytest.approx(100 * float(wrong))


def test_the_rows_of_table_5_are_of_the_same_images(section):
    for name in ("D/384", "D/256-512"):
        record = section.run(next(plan for plan in PLANS if plan.name == name), 3)
    stored = {
        m: torch.load(section.folder(name, 3) / f"{m}@256,384,512.pt", weights_only=True)
        for m in ("dense", "dense_of_crops", "multi_crop", "both")
    }
    assert torch.equal(stored["dense_of_crops"], stored["dense"][: TOY.crop_test])
    assert torch.allclose(stored["both"], (stored["dense_of_crops"] + stored["multi_crop"]) / 2)
    assert {m: record["errors"][f"{m}@256,384,512"]["n"] for m in stored} == {
        "dense": TOY.test,
        "dense_of_crops": TOY.crop_test,
        "multi_crop": TOY.crop_test,
        "both": TOY.crop_test,
    }
    from vggbook.evaluate import predict
    from vggbook.train import load_run

    run, test = load_run(section.folder(name, 3) / "last.pt"), section.data("test", 3)
    direct = predict(
        run.model,
        test.images[: TOY.crop_test],
        "both",
        tuple(map(TOY.pixels, (256, 384, 512))),
        preprocess=lambda x: (x.float() - run.mean[:, None, None]) * TOY.gain,
    )
    assert torch.allclose(stored["both"], direct, atol=1e-5)


@pytest.mark.parametrize("scheme, norm", [("he", True), ("A", False)])
def test_a_start_is_recorded_whatever_becomes_of_it(section, scheme, norm):
    record = section.start(scheme, norm, 3)
    assert (
        len(record["losses"]) == TOY.train // TOY.batch_size and record["run"]["batch_norm"] is norm
    )


def test_a_start_that_diverges_says_so(tmp_path, monkeypatch):
    from experiments import section4
    from vggbook.train import Diverged

    def burst(*args, **keywords):
        raise Diverged("the loss is nan", 7, 0.02, None)

    monkeypatch.setattr(section4, "fit", burst)
    record = Section4(TOY, results=tmp_path, work=tmp_path / "work").start("paper", False, 3)
    assert record["diverged"] == "loss not finite at step 7" and not record["losses"]


def test_a_run_without_its_start_is_refused(section):
    plan = next(plan for plan in PLANS if plan.name == "E/384")
    with pytest.raises(FileNotFoundError, match="starts from E/256"):
        section.run(plan, 4)


def test_rates_against_counting():
    posteriors = torch.eye(6)[[0, 1, 2, 3]] + torch.arange(6) * 1e-3
    labels = torch.tensor([0, 1, 2, 0])
    assert error_rates(posteriors, labels)["top1"] == 25.0
    assert (
        error_rates(posteriors, torch.tensor([0, 1, 2, 0]))["top5"] == 25.0
    )  # class 0 has the least of the rest


def test_an_unfinished_file_is_never_taken_for_a_result(section, monkeypatch):
    grid = replace(TOY, seeds=(9,))
    broken = Section4(grid, results=section.results, work=section.work, say=print)
    monkeypatch.setattr(json, "dumps", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        broken.write(broken.path("A/256", 9), {}, 9)
    assert not broken.path("A/256", 9).exists()


def test_two_processes_share_the_runs_out(tmp_path, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    said, made = [], []
    pair = [
        Section4(
            replace(TOY, seeds=(5, 6)),
            results=tmp_path / "results",
            work=tmp_path / "work",
            say=said.append,
        )
        for _ in range(2)
    ]
    for section in pair:
        for way in ("run", "start", "fuse"):

            def make(*given, section=section):
                *what, seed = given
                name = section4_name(what)
                made.append((name, seed))
                time.sleep(0.01)
                return section.write(section.path(name, seed), {"run": {"name": name}}, seed)

            monkeypatch.setattr(section, way, make)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda section: section.everything((5, 6), wait=0.01), pair))
    assert sorted(made) == sorted(
        (job.name, seed) for seed in (5, 6) for job in pair[0].jobs(seed)
    ) and len(said) == len(made)
    for seed in (5, 6):
        order = [name for name, s in made if s == seed]
        assert all(
            order.index(need) < order.index(job.name)
            for job in pair[0].jobs(seed)
            for need in job.needs
        )


def section4_name(what):
    if isinstance(what[0], tuple):
        return "+".join(what[0])
    return start_name(*what) if isinstance(what[0], str) else what[0].name
