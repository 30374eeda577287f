"""Kill training at random moments and let it go on: `python tests/killed_training.py --trials 20`.

Every run is a process of its own, ended by SIGKILL. Prints one line of JSON.
"""

import argparse
import json
import multiprocessing
import os
import random
import tempfile
import time
from pathlib import Path

import torch

from vggbook.data import ArrayDataset
from vggbook.train import Recipe, fit, load_checkpoint

RECIPE = Recipe(
    "A",
    crop=32,
    scales=(32, 48),
    batch_size=8,
    width=1 / 32,
    gain=1 / 64,
    lr=0.02,
    max_epochs=3,
    patience=0,
)


def sets() -> tuple[ArrayDataset, ArrayDataset]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (64, 3, 40, 40), dtype=torch.uint8, generator=generator)
    labels = torch.arange(64) % 4
    return ArrayDataset(images[:40], labels[:40], "abcd"), ArrayDataset(
        images[40:], labels[40:], "abcd"
    )


def train(out: Path, save_minutes: float) -> None:
    torch.set_num_threads(1)
    fit(RECIPE, *sets(), out, save_minutes=save_minutes, log=None)


def same(a: object, b: object) -> bool:
    """Equal to the bit, all the way down."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k != "images_per_s")
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    # children of a process that has imported everything and computed nothing
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vggbook.train", "numpy", "filelock", "torch._dynamo"])

    def child(out: Path, save_minutes: float) -> multiprocessing.Process:
        process = context.Process(target=train, args=(out, save_minutes))
        process.start()
        return process

    def finished(process: multiprocessing.Process) -> None:
        process.join(120)
        assert process.exitcode == 0, f"a run that nobody disturbed ended with {process.exitcode}"

    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # many small files
    with tempfile.TemporaryDirectory(dir=memory) as temporary:
        whole_run = Path(temporary, "whole")
        finished(child(whole_run, 0.0))
        begin = time.monotonic()
        finished(child(Path(temporary, "timed"), 0.0))
        seconds = time.monotonic() - begin
        whole = load_checkpoint(whole_run / "last.pt")
        result = {
            "trials": args.trials,
            "kills": 0,
            "mid_epoch": 0,
            "equal": 0,
            "undisturbed_seconds": round(seconds, 2),
        }
        for trial in range(args.trials):
            out = Path(temporary, str(trial))
            for _ in range(4):
                process = child(out, draw.choice((0.0, 0.0, 0.001)))
                process.join(draw.uniform(0, 0.8 * seconds))
                if process.exitcode is not None:
                    break
                process.kill()
                process.join(60)
                result["kills"] += 1
                found = [p for p in (out / "last.pt", out / "previous.pt") if p.exists()]
                result["mid_epoch"] += bool(found) and load_checkpoint(found[0])["step"] > 0
            finished(child(out, 10.0))  # to the end; where it is there already, nothing changes
            last = load_checkpoint(out / "last.pt")
            result["equal"] += all(
                same(last[k], whole[k])
                for k in ("model", "optimizer", "plateau", "losses", "rows", "ended")
            )
        print(json.dumps(result))


if __name__ == "__main__":
    main()
