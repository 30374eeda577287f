"""The sections of ``python -m benchmarks``: what a processor does, against torchvision, other
set-ups, and the floor.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from vggbook import count_macs, to_dense, trace
from vggbook.data import Loader, ShapesDataset, in_memory, mean_rgb
from vggbook.dense import DenseNetwork
from vggbook.evaluate import dense_macs, predict
from vggbook.roofline import Device, data_parallel, measure, roofline, stopwatch
from vggbook.train import Recipe, fit

from .record import ROOT, Bench
from .steps import TORCHVISION, batch, inference, network, sgd, times, training_step


@dataclass
class Sizes:
    """How much is measured. ``mini``: the chapters' size of experiment, B at an eighth of the
    width, 64 pixels, 12 classes.
    """

    nets: str = "ABCDE"
    image: int = 224
    batch: int = 4
    rounds: int = 3
    mini_image: int = 64
    mini_batch: int = 128
    mini_rounds: int = 9
    images: int = 2048
    scales: tuple[int, ...] = (256, 384, 512)
    product: int | None = None
    seconds: float = 6.0
    compiled: bool = True
    torchvision: bool = True

    @classmethod
    def tiny(cls) -> Sizes:
        """Sizes that run every line and measure nothing."""
        return cls("A", 32, 1, 1, 32, 8, 1, 64, (48,), 64, 0.3, False, False)

    @classmethod
    def short(cls) -> Sizes:
        """Less of everything, for a machine that is busy or slow: one image a batch at full size,
        one test scale.
        """
        return cls(batch=1, mini_rounds=7, images=1024, scales=(256,), product=1024, seconds=3.0)

    @property
    def mini(self) -> dict:
        return {"num_classes": 12, "width": 0.125, "image_size": self.mini_image}


def floor(name: str, size: int, training: bool, **options) -> Callable[[Device], float]:
    """Machine -> images/s that it cannot exceed, kernels unfused."""
    return lambda machine: (
        roofline(name, machine, size, "eager", training, **options).images_per_second
    )


def ceilings(bench: Bench) -> None:
    """The two ceilings: large products and copies of random numbers."""
    threads = torch.get_num_threads()
    bench.ceilings = partial(measure, "cpu", rounds=3, size=bench.sizes.product)
    for count in sorted({threads, 1}):
        torch.set_num_threads(count)
        bench.probe()
        found = bench.machine
        bench.row("ceilings", f"float32 product, {count} threads", [found.flops / 1e9], "GFLOP/s")
        bench.row("ceilings", f"copy, {count} threads", [found.bandwidth / 1e9], "GB/s")
    torch.set_num_threads(threads)
    half = measure("cpu", "bfloat16", rounds=1, size=min(512, bench.sizes.product or 512))
    bench.row("ceilings", f"bfloat16 product, {threads} threads", [half.flops / 1e9], "GFLOP/s")
    bench.facts["avx512_bf16"] = bool(torch.cpu._is_avx512_bf16_supported())


def nets(bench: Bench) -> None:
    """A to E at full width against torchvision's twins: float32, channels_last, eager, the same
    optimiser.
    """
    s = bench.sizes
    for training in (True, False):
        section = "training" if training else "inference"
        for name in s.nets:
            cases, floors = {}, {}
            images, labels = batch(s.batch, s.image, 1000, "cpu", "channels_last")
            for library in ("vggbook", "torchvision"):
                if library == "torchvision" and (name not in TORCHVISION or not s.torchvision):
                    continue
                options = {"image_size": s.image} if library == "vggbook" else {}
                model = network(name, library=library, **options).to(
                    memory_format=torch.channels_last
                )
                label = name if library == "vggbook" else f"torchvision {TORCHVISION[name]}"
                cases[label] = (
                    training_step(model, images, labels) if training else inference(model, images)
                )
                floors[label] = floor(name, s.batch, training, image_size=s.image)
            against = f"torchvision {TORCHVISION[name]}" if len(cases) == 2 else None
            note = f"batch {s.batch}, {s.image} pixels, float32, channels_last"
            bench.compare(
                section,
                cases,
                s.batch,
                rounds=s.rounds,
                floors=floors,
                against=against,
                equal=True,
                note=note,
            )


def mini_step(
    bench: Bench,
    layout: str = "channels_last",
    dtype=torch.float32,
    optimiser: str = "fused",
    size: int | None = None,
):
    """A training step of the miniature."""
    s = bench.sizes
    model = network("B", **s.mini)
    if layout == "channels_last":
        model = model.to(memory_format=torch.channels_last)
    return training_step(
        model, *batch(size or s.mini_batch, s.mini_image, 12, "cpu", layout), dtype, optimiser
    )


def layouts(bench: Bench) -> None:
    """The miniature's training step: memory layouts, optimisers, precisions; and the layout for D's
    forward pass.
    """
    s = bench.sizes
    n, note = s.mini_batch, f"B, width 1/8, {s.mini_image} pixels, batch {s.mini_batch}"
    limit = floor("B", n, True, **s.mini)
    cases = {layout: times(mini_step(bench, layout), 2) for layout in ("NCHW", "channels_last")}
    bench.compare(
        "layout",
        cases,
        2 * n,
        rounds=s.mini_rounds,
        floors=dict.fromkeys(cases, limit),
        against="NCHW",
        note=note,
    )
    few = max(1, n // 8)
    cases = {
        "float32": mini_step(bench, size=few),
        "bfloat16": mini_step(bench, dtype=torch.bfloat16, size=few),
    }
    bench.compare(
        "precision",
        cases,
        few,
        rounds=3 if s.rounds > 1 else 1,
        against="float32",
        note=f"{note}, but batch {few}",
    )
    images, _ = batch(s.batch, s.image, 1000, "cpu", "NCHW")
    model = network(s.nets[-2] if len(s.nets) > 1 else s.nets, image_size=s.image)
    twin = network(model.config.name, image_size=s.image).to(memory_format=torch.channels_last)
    cases = {
        f"inference of {model.config.name}, NCHW": inference(model, images),
        f"inference of {model.config.name}, channels_last": inference(
            twin, images.contiguous(memory_format=torch.channels_last)
        ),
    }
    bench.compare(
        "layout",
        cases,
        s.batch,
        rounds=s.rounds,
        against=next(iter(cases)),
        note=f"inference, full width, {s.image} pixels",
    )


def _most_updates(machine: Device) -> float:
    """Million weights/s: weight and momentum are read and written, the gradient is read."""
    return machine.bandwidth / 20 / 1e6


def optimisers(bench: Bench) -> None:
    """SGD with momentum: a loop over tensors, grouped, fused; the update alone and the miniature's
    whole step.
    """
    s = bench.sizes
    kinds = ("loop", "foreach", "fused")
    cases, size = {}, 0
    for kind in kinds:
        model = network("A", width=1.0 if s.rounds > 1 else 0.125)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        size = sum(p.numel() for p in model.parameters())
        cases[kind] = sgd(model, kind).step
    floors = dict.fromkeys(kinds, _most_updates)
    bench.compare(
        "update",
        cases,
        size / 1e6,
        "million weights/s",
        rounds=s.rounds * 3,
        floors=floors,
        against="loop",
        note="A, full width",
    )
    cases = {kind: times(mini_step(bench, optimiser=kind), 2) for kind in kinds}
    bench.compare(
        "step by optimiser",
        cases,
        2 * s.mini_batch,
        rounds=s.mini_rounds,
        against="loop",
        note="the miniature",
    )


def compiling(bench: Bench) -> None:
    """torch.compile on the processor: the miniature's step and D's forward pass, and what the
    compiling takes.
    """
    s = bench.sizes
    if not s.compiled:
        raise RuntimeError("left out: compiling takes a C++ compiler and half a minute")
    model = network("B", **s.mini).to(memory_format=torch.channels_last)
    data = batch(s.mini_batch, s.mini_image, 12, "cpu", "channels_last")
    cases = {
        "eager": times(mini_step(bench), 2),
        "compiled": times(training_step(torch.compile(model), *data), 2),
    }
    started = time.perf_counter()
    cases["compiled"]()
    bench.facts["compile_seconds_training"] = round(time.perf_counter() - started, 1)
    bench.compare(
        "compiled training",
        cases,
        2 * s.mini_batch,
        rounds=s.mini_rounds,
        against="eager",
        note="the miniature",
    )
    images, _ = batch(s.batch, s.image, 1000, "cpu", "channels_last")
    model = network("D", image_size=s.image).to(memory_format=torch.channels_last)
    cases = {"eager": inference(model, images), "compiled": inference(torch.compile(model), images)}
    started = time.perf_counter()
    cases["compiled"]()
    bench.facts["compile_seconds_inference"] = round(time.perf_counter() - started, 1)
    bench.compare(
        "compiled inference",
        cases,
        s.batch,
        rounds=s.rounds,
        against="eager",
        note=f"D, full width, {s.image} pixels",
    )


def worker(bench: Bench, processes: int, threads: int) -> list[float]:
    """Images/s of the miniature's step in each of some processes that run at the same time."""
    s = bench.sizes
    command = [
        sys.executable,
        "-m",
        "benchmarks.worker",
        "step",
        "--threads",
        str(threads),
        "--seconds",
        str(s.seconds),
        "--image",
        str(s.mini_image),
        "--batch",
        str(s.mini_batch),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    running = [
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        for _ in range(processes)
    ]
    answers = [process.communicate(timeout=600)[0] for process in running]
    if any(process.returncode for process in running):
        raise RuntimeError(f"a worker ended with {[process.returncode for process in running]}")
    return [json.loads(answer)["images_per_s"] for answer in answers]


def threads(bench: Bench) -> None:
    """Cores shared out: one process with all threads, two with one each, two with two each."""
    found = {}
    for _ in range(3 if bench.sizes.rounds > 1 else 1):
        for processes, count in ((1, 1), (1, 2), (2, 1), (2, 2)):
            rate = sum(worker(bench, processes, count))
            shared = f"{processes} process{'es' * (processes > 1)}"
            each = f"{count} thread{'s' * (count > 1)} each"
            found.setdefault(f"{shared}, {each}", []).append(rate)
    for case, rates in found.items():
        bench.row("threads", case, rates, "images/s", note="the miniature, all processes together")


def feeding(bench: Bench) -> None:
    """The data's side: drawing scenes, cropping from memory, decoding JPEG files, against what
    training takes.
    """
    from torchvision.io import decode_jpeg, read_file

    from vggbook.book.photos import photograph_path

    s = bench.sizes
    size, n = s.mini_image * 8 // 7, min(s.images, 512)
    scenes, indices = ShapesDataset("train", s.images, size=size), torch.arange(n)
    held = in_memory(scenes)
    plain = Loader(held, s.mini_batch, crop=s.mini_image, scales=size, mean=mean_rgb(held))
    file = read_file(str(photograph_path("flower")))
    step = mini_step(bench)
    cases = {
        f"scenes drawn, {size} pixels": lambda: scenes.batch(indices),
        "crops from memory": lambda: sum(len(labels) for _, labels, _ in plain.epoch(0)),
        "training step": step,
        "JPEG decoded, 427 x 640": times(lambda: decode_jpeg(file), 20),
    }
    amount = {
        f"scenes drawn, {size} pixels": n,
        "crops from memory": s.images,
        "training step": s.mini_batch,
        "JPEG decoded, 427 x 640": 20,
    }
    bench.compare(
        "data",
        cases,
        amount,
        rounds=s.rounds + 2,
        against="training step",
        note="ratio: over what the step takes",
    )


def fitting(bench: Bench) -> None:
    """One epoch with validation: a bare loop, ``fit``, and the loop of the study notes (batch 4,
    two passes more to count errors).
    """
    s = bench.sizes
    n, size = s.images, s.mini_image * 8 // 7
    sets = [
        in_memory(ShapesDataset(split, count, size=size))
        for split, count in (("train", n), ("val", n // 4))
    ]
    mean = mean_rgb(sets[0])
    options = {
        "crop": s.mini_image,
        "scales": size,
        "batch_size": s.mini_batch,
        "width": 0.125,
        "colour": False,
        "max_epochs": 1,
        "gain": 1 / 64,
    }
    recipe = Recipe("B", lr=1e-3, **options)
    feed = {"crop": s.mini_image, "scales": size, "mean": mean, "gain": 1 / 64}
    still = {"shuffle": False, "augment": False, "flip": False}
    loader, checker = (
        Loader(sets[0], s.mini_batch, **feed),
        Loader(sets[1], s.mini_batch, **feed, **still),
    )

    def bare() -> None:
        model = recipe.net(12).to(memory_format=torch.channels_last)
        optimiser = sgd(model.train())
        for images, labels, _ in loader.epoch(0):
            optimiser.zero_grad(set_to_none=True)
            F.cross_entropy(
                model(images.contiguous(memory_format=torch.channels_last)), labels
            ).backward()
            optimiser.step()
        with torch.no_grad():
            model.eval()
            sum(
                int((model(x.contiguous(memory_format=torch.channels_last)).argmax(1) == y).sum())
                for x, y, _ in checker.epoch(0)
            )

    def passes(data):
        for images, labels, _ in data.epoch(0):
            yield images, labels

    def notes() -> None:
        """As the notes print it: batch 4, NCHW, a loss read back each step, then validation, then
        both sets again for the accuracy.
        """
        train, val = Loader(sets[0], 4, **feed), Loader(sets[1], 4, **feed, **still)
        model = recipe.net(12)
        optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
        for x, y in passes(train):
            optimiser.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimiser.step()
            loss.item()
        model.eval()
        with torch.no_grad():
            for x, y in passes(val):
                F.cross_entropy(model(x), y).item()
            for data in (train, val):
                sum(int((model(x).argmax(1) == y).sum()) for x, y in passes(data))

    cases = {
        "bare loop": bare,
        "fit": lambda: fit(recipe, *sets, mean=mean, device="cpu", log=None),
        "loop of the study notes": notes,
    }
    note = f"B, width 1/8, {s.mini_image} pixels, {n} training and {n // 4} validation images"
    bench.compare("epoch", cases, n, rounds=s.rounds, against="loop of the study notes", note=note)


def testing(bench: Bench) -> None:
    """Dense evaluation against 50 crops, both with flips: measured, over the saving in
    arithmetic.
    """
    s = bench.sizes
    name = "D" if "D" in s.nets else s.nets[0]
    model = network(name, image_size=s.image)
    model = model.to(memory_format=torch.channels_last).eval()
    crops = 50 * count_macs(name, s.image)
    for scale in s.scales:
        images = torch.randint(256, (s.batch, 3, scale, scale), dtype=torch.uint8)
        cases = {
            f"{method}, Q = {scale}": partial(predict, model, images, method, scale)
            for method in ("multi_crop", "dense")
        }
        found = bench.compare(
            "testing",
            cases,
            s.batch,
            rounds=s.rounds,
            warmup=0,
            against=f"multi_crop, Q = {scale}",
            note=f"{name}, {s.image}",
        )
        saving = crops / (2 * dense_macs(name, scale, s.image))
        row = found[f"dense, Q = {scale}"]
        row |= {"arithmetic_saving": saving, "saving_reached": row["times"]["median"] / saving}
        bench.say(f"    arithmetic saves {saving:.1f}x; reached {row['saving_reached']:.0%} of it")
        row |= rates(to_dense(model), images.float() - 128)
        bench.say(
            f"    convolutions at {row['conv_gflops']:.0f} GFLOP/s, FC layers, with "
            f"{row['fc_share']:.0%} of the operations, at {row['fc_gflops']:.0f}"
        )


@torch.inference_mode()
def rates(dense: DenseNetwork, pixels: torch.Tensor) -> dict[str, float]:
    """How fast the two parts of dense evaluation compute pixels (N, 3, H, W), and the FC layers'
    share of the operations. Convolutions by Winograd's algorithm do more than the operations that
    are counted; FC layers are plain products.
    """
    parts = {"features": partial(dense.features, pixels), "whole": partial(dense, pixels)}
    operations = {}
    for part, run in parts.items():
        with FlopCounterMode(display=False) as counter:
            run()
        operations[part] = counter.get_total_flops()
    seconds = {part: min(times) for part, times in stopwatch(parts, 3).items()}
    fc = operations["whole"] - operations["features"]
    return {
        "conv_gflops": operations["features"] / seconds["features"] / 1e9,
        "fc_gflops": fc / (seconds["whole"] - seconds["features"]) / 1e9,
        "fc_share": fc / operations["whole"],
    }


def looking(bench: Bench) -> None:
    """A table of layers: ``trace`` against torchsummary; and what the imports take."""
    from torchsummary import summary

    size = (3, 224, 224)
    model = network("D", width=1.0 if bench.sizes.rounds > 1 else 0.125)

    def torchsummary():
        with contextlib.redirect_stdout(io.StringIO()):
            summary(model, size, device="cpu")

    cases = {"trace": lambda: str(trace("D")), "torchsummary, net built before": torchsummary}
    bench.compare(
        "table of layers",
        cases,
        1,
        "s",
        rounds=bench.sizes.rounds + 2,
        against="torchsummary, net built before",
        note="D, 224 pixels",
    )

    def run(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)

    cases = {
        code: (lambda code=code: run(code))
        for code in ("pass", "import vggbook", "import torch", "import torch, vggbook")
    }
    found = stopwatch(cases, bench.sizes.rounds + 2)
    for code, seconds in found.items():
        bench.row("import", code, seconds, "s")
    extra = [
        both - alone for both, alone in zip(found["import torch, vggbook"], found["import torch"])
    ]
    bench.row("import", "vggbook over torch", extra, "s")


def printed(command: list[str], environment: dict) -> str:
    """What a command prints; it must succeed within ten minutes."""
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
    ).stdout


def _middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def scaling(bench: Bench) -> None:
    """Data parallelism with two gloo processes of one thread: without exchange, with it, the
    exchange alone; and what the model says.
    """
    s = bench.sizes
    for width in (0.125, 0.5) if s.rounds > 1 else (0.125,):
        size = max(2, s.mini_batch // (4 if width < 0.5 else 16))
        command = [
            "-m",
            "benchmarks.worker",
            "parallel",
            "--width",
            str(width),
            "--batch",
            str(size),
            "--image",
            str(s.mini_image),
            "--rounds",
            str(s.mini_rounds),
            "--threads",
            "1",
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        launch = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--local-addr=127.0.0.1",  # a host whose own name is not known will do
            "--nproc_per_node",
            "2",
            *command,
        ]
        one = json.loads(printed([sys.executable, *command], environment).splitlines()[-1])
        two = json.loads(printed(launch, environment).splitlines()[-1])
        note = (
            f"B, width {width:g}, {s.mini_image} pixels, batch {size} a process; "
            f"gradients of {two['gradient_bytes'] / 1e6:.1f} MB"
        )
        bench.row("two processes", f"alone, width {width:g}", one["step"], "s", note=note)
        for key, label in (
            ("step", "side by side, no exchange"),
            ("ddp", "data parallel"),
            ("all_reduce", "all-reduce alone"),
        ):
            bench.row("two processes", f"{label}, width {width:g}", two[key], "s", note=note)
        alone = _middle(one["step"])
        apart = _middle(two["step"])
        ddp = _middle(two["ddp"])
        exchange = _middle(two["all_reduce"])
        step = roofline(
            "B", bench.machine, size, "eager", num_classes=12, width=width, image_size=s.mini_image
        )
        bandwidth = two["gradient_bytes"] / exchange  # a ring of two moves each byte once
        model = {
            overlap: data_parallel(
                step, 2, bandwidth, overlap=overlap, latency=0, scale=apart / step.seconds
            ).efficiency
            for overlap in (True, False)
        }
        bench.facts.setdefault("two_processes", {})[f"width {width:g}"] = {
            "speedup_over_one_process": 2 * alone / ddp,
            "efficiency_of_the_exchange": apart / ddp,
            "model_with_overlap": model[True],
            "model_without_overlap": model[False],
            "all_reduce_bytes_per_s": bandwidth,
        }
        bench.say(
            f"    speed-up {2 * alone / ddp:.2f} of 2; exchange {apart / ddp:.0%} efficient, "
            f"model {model[False]:.0%} to {model[True]:.0%}"
        )


def book(bench: Bench) -> None:
    """The book from nothing, and again unchanged, in a clone of the last commit, profile cpu."""
    if bench.sizes.rounds == 1:
        raise RuntimeError("left out of the rehearsal")
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "book")
        subprocess.run(["git", "clone", "-q", "--local", str(ROOT), str(clone)], check=True)
        environment = {**os.environ, "PYTHONPATH": str(clone / "src")}
        environment.pop("OMP_NUM_THREADS", None)
        command = [sys.executable, "-m", "tools.build", "--profile", "cpu"]
        for case in ("from nothing", "unchanged"):
            started = time.perf_counter()
            done = subprocess.run(
                command,
                cwd=clone,
                env=environment,
                capture_output=True,
                text=True,
                encoding="utf-8",
            )
            if done.returncode:
                raise RuntimeError(f"the build failed: {(done.stdout + done.stderr)[-300:]}")
            bench.row("book", case, [time.perf_counter() - started], "s")


SECTIONS = {
    f.__name__: f
    for f in (
        ceilings,
        nets,
        layouts,
        optimisers,
        compiling,
        threads,
        feeding,
        fitting,
        testing,
        looking,
        scaling,
        book,
    )
}
