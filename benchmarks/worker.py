"""A process that others run beside each other: ``step`` (a rate while neighbours work) and
``parallel`` (data-parallel steps, gloo).
"""

from __future__ import annotations

import argparse
import json
import os
import time

import torch

from vggbook.roofline import stopwatch

from .steps import batch, network, times, training_step


def step_rate(given: argparse.Namespace) -> dict:
    """Images/s of the training step over ``seconds``, after one step to warm up."""
    step = setup(given)[0]
    step()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < given.seconds:
        step()
        count += given.batch
    return {"images_per_s": count / (time.perf_counter() - started)}


def setup(given: argparse.Namespace):
    model = network("B", num_classes=12, width=given.width, image_size=given.image).to(
        memory_format=torch.channels_last
    )
    data = batch(given.batch, given.image, 12, "cpu", "channels_last")
    return training_step(model, *data), model, data


def parallel(given: argparse.Namespace) -> dict:
    """Seconds of a step without exchange; under torchrun also of a DDP step and of the all-reduce
    of the gradients alone.
    """
    step, model, data = setup(given)
    many = max(1, given.rounds // 3)
    if "RANK" not in os.environ:
        return {
            "step": [s / many for s in stopwatch({"step": times(step, many)}, given.rounds)["step"]]
        }
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("gloo")
    try:
        twin = network("B", num_classes=12, width=given.width, image_size=given.image).to(
            memory_format=torch.channels_last
        )
        shared = training_step(DistributedDataParallel(twin, gradient_as_bucket_view=True), *data)
        flat = torch.randn(sum(p.numel() for p in model.parameters()))
        cases = {"step": step, "ddp": shared, "all_reduce": lambda: dist.all_reduce(flat)}

        def together(case):
            def run() -> None:
                for _ in range(many):
                    case()

            return run

        seconds: dict[str, list[float]] = {name: [] for name in cases}
        for r in range(given.rounds + 1):
            for name, case in cases.items():
                dist.barrier()  # both processes start at once
                found = stopwatch({name: together(case)}, 1, 0)[name][0]
                if r:
                    seconds[name].append(found / many)
        return {**seconds, "gradient_bytes": flat.nbytes, "rank": dist.get_rank()}
    finally:
        dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("step", "parallel"))
    for name, kind, default in (
        ("threads", int, 1),
        ("seconds", float, 3.0),
        ("image", int, 64),
        ("batch", int, 128),
        ("width", float, 0.125),
        ("rounds", int, 5),
    ):
        parser.add_argument(f"--{name}", type=kind, default=default)
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(given.threads)
    found = step_rate(given) if given.what == "step" else parallel(given)
    if not found.get("rank"):
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
