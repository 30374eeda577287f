"""Killed at moments drawn from a seed, in real processes: nothing is lost that was promised, and
the end is the undisturbed one, to the bit.

Promised are: a training that saves after every step loses one step at most; an experiment loses the
run it is at. A build that is killed: test_first_run.py.
"""

import json
import multiprocessing
import random
import signal
from pathlib import Path

import pytest
import torch
from killed import RUNS, STEPS, Moment, experiment, train

from vggbook.train import CheckpointError, load_checkpoint

SIGNALS = (signal.SIGKILL, signal.SIGTERM)


@pytest.fixture(scope="module")
def context():
    """Children of a process that has imported everything and computed nothing."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["killed", "filelock", "torch._dynamo"])
    return found


def ended(context, work, *arguments) -> int:
    """Exit status of a child."""
    child = context.Process(target=work, args=arguments)
    child.start()
    child.join(120)
    if child.exitcode is None:
        child.kill()
        pytest.fail(f"{work.__name__}{arguments} hangs")
    return child.exitcode


def same(a: object, b: object) -> bool:
    """Equal to the bit, all the way down, apart from the clock."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        clock = ("images_per_s", "seconds", "provenance")
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k not in clock)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.fixture(scope="module")
def whole_run(context, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert ended(context, train, folder, None, folder, 10.0) == 0
    return load_checkpoint(folder / "last.pt")


def kept(folder: Path) -> int:
    """Steps in the newest whole checkpoint; of the two, one is always whole."""
    for name in ("last.pt", "previous.pt"):
        try:
            return len(load_checkpoint(folder / name)["losses"])
        except CheckpointError:
            pass
    return 0


def moments(seed: int) -> list[Moment]:
    """One kill in each place, in any order. A child has three steps at least before it, so that
    four of them do not finish the run."""
    draw = random.Random(seed)
    found = [
        Moment("step", draw.randint(2, 4), number=draw.choice(SIGNALS)),
        Moment("validation", draw.randint(1, 3), number=draw.choice(SIGNALS)),
        Moment("writing", draw.randint(1, 4), draw.random(), draw.choice(SIGNALS)),
        Moment("renaming", draw.randint(1, 6), number=draw.choice(SIGNALS)),
    ]
    draw.shuffle(found)
    return found


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3))])
def test_training_loses_a_step_and_ends_with_the_same_bits(seed, context, whole_run, tmp_path):
    out, steps = tmp_path / "run", tmp_path / "steps"
    for moment in moments(seed):
        before = kept(out)
        steps.write_text("")
        assert ended(context, train, out, moment, steps) == -moment.number, moment
        begun = before + len(steps.read_text())
        assert min(begun, STEPS) - 1 <= kept(out) <= begun, moment
    assert kept(out) > 0
    assert ended(context, train, out, None, steps, 10.0) == 0
    last = load_checkpoint(out / "last.pt")
    for name in ("model", "optimizer", "plateau", "losses", "rows", "ended"):
        assert same(last[name], whole_run[name]), name


def results(folder: Path) -> dict[str, dict]:
    return {p.name: json.loads(p.read_text()) for p in sorted((folder / "results").glob("*.json"))}


@pytest.mark.slow
def test_an_experiment_loses_the_run_it_is_at(context, tmp_path):
    whole, out, steps = (tmp_path / name for name in ("whole", "out", "steps"))
    assert ended(context, experiment, whole, None, steps) == 0
    draw = random.Random(5)
    planned = [
        Moment("step", draw.randint(2, 4), number=signal.SIGKILL),
        Moment("writing", 2, draw.random(), signal.SIGTERM),
        Moment("renaming", 1, number=signal.SIGKILL),
        Moment("validation", 1, number=signal.SIGTERM),
    ]
    for moment in planned:
        before = {p: p.read_bytes() for p in (out / "results").glob("*.json")}
        assert ended(context, experiment, out, moment, steps) == -moment.number, moment
        assert all(p.read_bytes() == content for p, content in before.items())
    assert ended(context, experiment, out, None, steps) == 0
    assert len(results(out)) == len(RUNS) and same(results(out), results(whole))
    for path in (whole / "work").glob("*.pt"):
        one, other = (torch.load(p, weights_only=True) for p in (path, out / "work" / path.name))
        assert same(one, other), path.name
