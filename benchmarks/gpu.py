"""Measure a GPU in under ten minutes: ``python -m benchmarks.gpu`` writes
``results/bench-<gpu>.json``.

Needs this package, torch and torchvision; nothing is fetched. The most wanted comes first; a
section starts only while the time it needs is left, an alarm ends what overruns, and the file is
complete after every row. ``--tiny`` rehearses every line on a CPU.

Goals for an H100 (bf16, channels_last, batch 256, 224 pixels) are in ``GOALS``; each row says which
it meets.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from vggbook import count_macs
from vggbook.roofline import FUSIONS, Device, Roofline, measure, roofline

from .fused import _mask, fuse
from .record import ROOT, Bench, slug, summary
from .steps import TORCHVISION, batch, graphed, inference, network, times, training_step

GOALS = {  # images/s on one H100
    ("training", "D"): 5400,
    ("training", "A"): 8500,
    ("training", "B"): 5700,
    ("training", "E"): 3700,
    ("inference", "D"): 16000,
}
TIMES_TORCHVISION = 1.1  # D against vgg16, both under AMP, channels_last and torch.compile


@dataclass
class Plan:
    """What is measured, and at which size."""

    device: str = "cuda"
    dtype: torch.dtype = torch.bfloat16
    image: int = 224
    batch: int = 256
    width: float = 1.0
    rounds: int = 9
    steps: int = 5
    product: int | None = None
    scale: int = 256
    backend: str = "inductor"
    torchvision: bool = True
    images: int = 4096

    @classmethod
    def tiny(cls, **changes) -> Plan:
        """The rehearsal on a CPU: every line, no meaning. torch.compile traces everything, but
        leaves the machine code out.
        """
        small = {
            "device": "cpu",
            "image": 32,
            "batch": 2,
            "width": 1 / 16,
            "rounds": 1,
            "steps": 1,
            "product": 64,
            "scale": 48,
            "images": 16,
        }
        return cls(**{**small, "backend": "aot_eager", **changes})

    @property
    def cuda(self) -> bool:
        return self.device.startswith("cuda")


def needs(seconds: float) -> Callable:
    """Mark a section with the seconds that must be left for it to start."""

    def mark(section):
        section.need = seconds
        return section

    return mark


def floor(bench: Bench, name: str, training: bool, fusion: str) -> Callable[[Device], Roofline]:
    """Ceilings -> the floor model at the plan's size."""
    p = bench.plan
    return lambda machine: roofline(
        name, machine, p.batch, fusion, training, width=p.width, image_size=p.image
    )


def rate(model: Callable[[Device], Roofline]) -> Callable[[Device], float]:
    """Ceilings -> images/s."""
    return lambda machine: model(machine).images_per_second


def model(bench: Bench, name: str, library: str = "vggbook", layout: str = "channels_last"):
    """A network on the device, in the layout."""
    p = bench.plan
    options = {"width": p.width, "image_size": p.image} if library == "vggbook" else {}
    net = network(name, p.device, library, **options)
    return net.to(memory_format=torch.channels_last) if layout == "channels_last" else net


def variants(
    bench: Bench, name: str, training: bool, names: tuple[str, ...], layout: str = "channels_last"
) -> tuple[dict, dict]:
    """label -> callable of ``plan.steps`` steps, and label -> fusion of the floor it is compared
    with. A variant that fails is noted.

    Names: "eager", "function" (conv+bias+ReLU in one kernel), "padded" (that, with 8 input
    channels), "masked" (that, with its backward mask compiled), "compiled"; "16-bit" (weights held
    in 16 bits, inference only); "torchvision ..." for that library's twin. Those ending in "+graph"
    are recorded once as a CUDA graph and replayed (on a CPU: run as they are).
    """
    p = bench.plan
    images, labels = batch(p.batch, p.image, 1000, p.device, layout)
    cases, fusion, ready = {}, {}, {}
    for label in names:
        kind, _, graph = label.partition("+")
        library, _, how = kind.rpartition(" ")
        if library and not p.torchvision:
            continue
        try:
            if kind not in ready:
                net = model(bench, name, library or "vggbook", layout)
                data, dtype = images, p.dtype
                if how == "compiled":
                    net = torch.compile(net, dynamic=False, backend=p.backend)
                elif how in ("function", "padded", "masked"):
                    mask = (
                        torch.compile(_mask, dynamic=True, backend=p.backend)
                        if how == "masked"
                        else _mask
                    )
                    net = fuse(net, mask, 0 if how == "function" else 8)
                elif how == "16-bit":
                    net, data, dtype = net.to(p.dtype), images.to(p.dtype), torch.float32
                ready[kind] = (net, data, dtype)
            net, data, dtype = ready[kind]
            step = (
                training_step(net, data, labels, dtype) if training else inference(net, data, dtype)
            )
            step()
            cases[label] = times(graphed(step) if graph and p.cuda else step, p.steps)
            fusion[label] = {"compiled": "inductor", "eager": "eager", "16-bit": "eager"}.get(
                how, "conv"
            )
        except Exception as error:
            if (
                isinstance(error, TimeoutError) or bench.left <= 0
            ):  # a compiler may wrap the alarm in an error of its own
                raise TimeoutError(str(error)) from error
            bench.skipped[f"{name}, {'training' if training else 'inference'}, {label}"] = (
                f"{type(error).__name__}: {str(error)[:200]}"
            )
            bench.say(f"  {label}: FAILED: {type(error).__name__}: {str(error)[:120]}")
    return cases, fusion


def measured(
    bench: Bench, name: str, training: bool, names: tuple[str, ...], against: str | None = None
) -> None:
    """Compare variants of one network; write each with its floor, the "full" floor and, for the
    best, the goal.
    """
    p, what = bench.plan, "training" if training else "inference"
    cases, fusion = variants(bench, name, training, names)
    if not cases:
        return
    rows = bench.compare(
        f"{what}, {name}",
        cases,
        p.batch * p.steps,
        rounds=p.rounds,
        floors={label: rate(floor(bench, name, training, fusion[label])) for label in cases},
        against=against if against in cases else None,
        note=f"{p.dtype}, batch {p.batch}, {p.image} pixels",
    )
    own = {
        label: row["median"] for label, row in rows.items() if not label.startswith("torchvision")
    }
    best = max(own, key=own.get)
    best_of = bench.facts.setdefault("best", {}).setdefault(what, {})
    if own[best] > best_of.get(name, {}).get("images_per_s", 0):
        useful = floor(bench, name, training, "full")(bench.machine).useful_flops
        best_of[name] = {
            "variant": best,
            "images_per_s": own[best],
            "useful_tflop_per_s": own[best] * useful / 1e12,
            "share_of_product_ceiling": own[best] * useful / bench.machine.flops,
            "floors": {f: rate(floor(bench, name, training, f))(bench.machine) for f in FUSIONS},
        }
    if (goal := GOALS.get((what, name))) is not None:
        bench.facts.setdefault("goals", {})[f"{what} {name}"] = {
            "goal": goal,
            "reached": best_of[name]["images_per_s"],
            "met": best_of[name]["images_per_s"] >= goal,
        }
    theirs = {
        label: row["median"] for label, row in rows.items() if label.startswith("torchvision")
    }
    if theirs and name == "D":
        rival = max(theirs, key=theirs.get)
        ratio = own[best] / theirs[rival]
        bench.facts.setdefault("goals", {})[f"{what} D over torchvision"] = {
            "goal": TIMES_TORCHVISION,
            "reached": ratio,
            "met": ratio >= TIMES_TORCHVISION,
            "rival": rival,
        }
    del cases
    release(bench)


def release(bench: Bench) -> None:
    """Give memory back before the next network."""
    gc.collect()
    torch._dynamo.reset()
    if bench.plan.cuda:
        torch.cuda.empty_cache()


@needs(5)
def ceilings(bench: Bench) -> None:
    """The two ceilings: large products and copies of random numbers."""
    p = bench.plan
    bench.ceilings = partial(
        measure,
        p.device,
        str(p.dtype).removeprefix("torch."),
        rounds=10 if p.cuda else 1,
        size=p.product,
    )
    bench.probe()
    bench.row("ceilings", f"{p.dtype} product", [bench.machine.flops / 1e12], "TFLOP/s")
    bench.row("ceilings", "copy", [bench.machine.bandwidth / 1e9], "GB/s")


@needs(60)
def d_without_compiling(bench: Bench) -> None:
    """D, training: what needs no compiler: eager, one kernel for conv+bias+ReLU, CUDA graphs."""
    measured(
        bench, "D", True, ("eager", "eager+graph", "function", "padded", "padded+graph"), "eager"
    )


@needs(120)
def d_compiled(bench: Bench) -> None:
    """D, training: torch.compile, against torchvision's vgg16 under the same."""
    names = (
        "compiled",
        "compiled+graph",
        "padded+graph",
        "torchvision compiled",
        "torchvision compiled+graph",
    )  # three graphs: 60 GB
    measured(bench, "D", True, names, "torchvision compiled")


@needs(45)
def d_candidates(bench: Bench) -> None:
    """D, training: what the padding of the first layer and a compiled mask each give to the fused
    convolution.
    """
    measured(bench, "D", True, ("function+graph", "padded+graph", "masked+graph"), "function+graph")


@needs(60)
def d_inference(bench: Bench) -> None:
    """D, inference: eager, one kernel, 16-bit weights, torch.compile, graphs, torchvision."""
    names = (
        "eager",
        "eager+graph",
        "function+graph",
        "padded+graph",
        "16-bit",
        "16-bit+graph",
        "compiled",
        "compiled+graph",
        "torchvision eager",
        "torchvision compiled",
        "torchvision compiled+graph",
    )
    measured(bench, "D", False, names, "torchvision compiled")


@needs(60)
def other_nets(bench: Bench) -> None:
    """A, B, E and C: the best set-ups of D, training and inference, against torchvision in eager
    mode.
    """
    for name in "ABEC":
        if bench.left < 40:
            bench.skipped[f"{name}"] = f"not started: {bench.left:.0f} s were left"
            continue
        rival = ("torchvision eager+graph",) if name in TORCHVISION else ()
        measured(
            bench,
            name,
            True,
            ("eager", "function+graph", "padded+graph", *rival),
            rival[0] if rival else "eager",
        )
        measured(
            bench,
            name,
            False,
            ("eager", "function+graph", "padded+graph", *rival),
            rival[0] if rival else "eager",
        )


@needs(40)
def other_nets_compiled(bench: Bench) -> None:
    """A, B, E and C compiled, as far as the time goes."""
    for name in "ABEC":
        for training in (True, False):
            if bench.left > 60:
                measured(bench, name, training, ("compiled+graph", "compiled"))


@needs(40)
def layouts(bench: Bench) -> None:
    """D, training, eager: float32, TF32, 16 bits; NCHW and channels_last; three forms of SGD."""
    p = bench.plan
    size = max(1, p.batch // 4)  # float32 needs twice the memory and many times the time
    cases = {}
    for label, dtype, layout, tf32 in (
        ("float32, NCHW", torch.float32, "NCHW", False),
        ("TF32, NCHW", torch.float32, "NCHW", True),
        ("TF32, channels_last", torch.float32, "channels_last", True),
        (f"{p.dtype}, NCHW", p.dtype, "NCHW", True),
        (f"{p.dtype}, channels_last", p.dtype, "channels_last", True),
    ):
        step = training_step(
            model(bench, "D", layout=layout), *batch(size, p.image, 1000, p.device, layout), dtype
        )
        cases[label] = partial(with_tf32, tf32, times(step, 2))
    rows = bench.compare(
        "layouts, D",
        cases,
        2 * size,
        rounds=max(1, p.rounds // 2),
        against="float32, NCHW",
        note=f"eager, batch {size}",
    )
    del cases, rows
    release(bench)
    cases = {}
    for kind in ("loop", "foreach", "fused"):
        data = batch(p.batch, p.image, 1000, p.device, "channels_last")
        cases[kind] = times(training_step(model(bench, "D"), *data, p.dtype, kind), 2)
    bench.compare(
        "step by optimiser, D",
        cases,
        2 * p.batch,
        rounds=max(1, p.rounds // 2),
        against="loop",
        note="eager",
    )
    del cases
    release(bench)


def with_tf32(allowed: bool, step: Callable[[], object]) -> None:
    """Run a step with or without TF32 for float32 products."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        step()
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@needs(20)
def notes(bench: Bench) -> None:
    """D, training: the loop of the study notes (batch 4, float32, NCHW, the loss read back each
    step) against the plain eager step.
    """
    p = bench.plan
    images, labels = batch(min(4, p.batch), p.image, 1000, p.device, "NCHW")
    net = model(bench, "D", layout="NCHW").train()
    optimiser = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)

    def loop() -> None:
        for _ in range(p.steps):
            optimiser.zero_grad()
            loss = torch.nn.functional.cross_entropy(net(images), labels)
            loss.backward()
            optimiser.step()
            loss.item()

    eager = training_step(
        model(bench, "D"), *batch(p.batch, p.image, 1000, p.device, "channels_last"), p.dtype
    )
    cases = {
        "loop of the study notes": partial(with_tf32, False, loop),
        "eager": times(eager, p.steps),
    }
    amount = {"loop of the study notes": len(labels) * p.steps, "eager": p.batch * p.steps}
    bench.compare(
        "study notes, D",
        cases,
        amount,
        rounds=max(1, p.rounds // 2),
        against="loop of the study notes",
    )
    release(bench)


@needs(25)
def profile(bench: Bench) -> None:
    """D, training: where the time goes, by kernel, in the eager step and in the one with fused
    convolutions.
    """
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as recorder

    p = bench.plan
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * p.cuda
    for label in ("eager", "padded"):
        cases, _ = variants(bench, "D", True, (label,))
        with recorder(activities=activities) as seen:
            cases[label]()
            if p.cuda:
                torch.cuda.synchronize()
        own = "self_device_time_total" if p.cuda else "self_cpu_time_total"
        events = [
            e
            for e in seen.key_averages()
            if not p.cuda or e.device_type == torch.autograd.DeviceType.CUDA
        ]
        total = sum(getattr(e, own) for e in events) or 1
        top = sorted(events, key=lambda e: -getattr(e, own))[:15]
        found = [
            {"kernel": e.key[:120], "share": getattr(e, own) / total, "calls": e.count / p.steps}
            for e in top
        ]
        bench.facts.setdefault("profile", {})[label] = found
        for row in found[:6]:
            bench.say(f"  {label}: {row['share']:5.1%}  {row['kernel'][:90]}")
        del cases
        release(bench)


@needs(20)
def feeding(bench: Bench) -> None:
    """The data's side on the device: scenes drawn, crops from memory with scale jitter and colour
    shift, against what training takes.
    """
    from vggbook.data import Loader, ShapesDataset, in_memory, mean_rgb, pca_rgb

    p = bench.plan
    size = p.image * 8 // 7
    scenes = ShapesDataset("train", p.images, size=size, device=p.device)
    held = in_memory(scenes, device=p.device)
    mean, eigen = mean_rgb(held), pca_rgb(held)
    loader = Loader(
        held,
        p.batch,
        crop=p.image,
        scales=(size, 2 * size),
        mean=mean,
        colour=eigen,
        device=p.device,
    )
    count = min(p.images, 4 * p.batch)
    indices = torch.arange(count)
    cases = {
        f"scenes drawn, {size} pixels": lambda: scenes.batch(indices),
        "crops with jitter and colour": lambda: sum(len(y) for _, y, _ in loader.epoch(0)),
    }
    amount = {
        f"scenes drawn, {size} pixels": count,
        "crops with jitter and colour": len(loader) * p.batch,
    }
    rows = bench.compare("data", cases, amount, rounds=3 if p.cuda else 1)
    best = bench.facts.get("best", {}).get("training", {}).get("D", {}).get("images_per_s")
    if best:
        bench.facts["data_over_training"] = {
            label: row["median"] / best for label, row in rows.items()
        }


@needs(60)
def fitting(bench: Bench) -> None:
    """``fit``: D as the book trains it, on scenes held on the device; as it is by default and with
    its convolutions compiled.
    """
    from vggbook.data import ShapesDataset, in_memory
    from vggbook.train import Recipe, fit

    p = bench.plan
    size = p.image * 8 // 7
    data = in_memory(ShapesDataset("train", p.images, size=size, device=p.device), device=p.device)
    recipe = Recipe(
        "D",
        lr=1e-4,
        crop=p.image,
        scales=size,
        batch_size=p.batch,
        width=p.width,
        max_epochs=2,
        gain=1 / 64,
    )
    precision = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}[p.dtype]
    for label, fusion, compiled in (("as it is", "eager", False), ("compiled", "inductor", True)):
        with backend(p.backend):
            run = fit(
                recipe, data, device=p.device, precision=precision, compile=compiled, log=None
            )
        second = [
            run.history["images_per_s"][1]
        ]  # the second epoch: nothing is compiled or chosen in it
        bench.row("fit, D", label, second, "images/s", floor=rate(floor(bench, "D", True, fusion)))
        release(bench)


@contextlib.contextmanager
def backend(name: str):
    """``torch.compile`` with this backend; the rehearsal leaves the machine code out."""
    compile = torch.compile
    given = {} if name == "inductor" else {"backend": name, "mode": None}
    torch.compile = lambda *args, **options: compile(*args, **{**options, **given})
    try:
        yield
    finally:
        torch.compile = compile


@needs(30)
def testing(bench: Bench) -> None:
    """Dense evaluation against 50 crops, both with flips: measured, over the saving in
    arithmetic.
    """
    from vggbook.evaluate import dense_macs, predict

    p = bench.plan
    net = model(bench, "D").eval()
    for scale in (p.scale, p.scale * 3 // 2):
        count = 64 if p.cuda else 1
        images = torch.randint(256, (count, 3, scale, scale), dtype=torch.uint8, device=p.device)
        cases = {
            m: partial(predict, net, images, m, scale, dtype=p.dtype)
            for m in ("multi_crop", "dense")
        }
        row = bench.compare(
            f"testing, Q = {scale}", cases, count, rounds=3 if p.cuda else 1, against="multi_crop"
        )["dense"]
        saving = (
            50
            * count_macs("D", p.image, width=p.width)
            / (2 * dense_macs("D", scale, p.image, width=p.width))
        )
        row |= {"arithmetic_saving": saving, "saving_reached": row["times"]["median"] / saving}
    release(bench)


SECTIONS = {
    f.__name__: f
    for f in (
        ceilings,
        d_without_compiling,
        d_compiled,
        d_inference,
        d_candidates,
        other_nets,
        testing,
        feeding,
        fitting,
        profile,
        layouts,
        notes,
        other_nets_compiled,
    )
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=summary(__doc__))
    parser.add_argument("--tiny", action="store_true", help="rehearse on the CPU")
    parser.add_argument(
        "--no-torchvision",
        action="store_true",
        help="with --tiny: leave torchvision's large nets out",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=560,
        help="no section starts later, and an alarm ends the one that runs",
    )
    parser.add_argument("--only", help=f"sections, separated by commas: {', '.join(SECTIONS)}")
    parser.add_argument(
        "--out", type=Path, help="folder of the JSON (results; with --tiny: _build)"
    )
    given = parser.parse_args(argv)
    names = given.only.split(",") if given.only else list(SECTIONS)
    names = ["ceilings", *(name for name in names if name != "ceilings")]  # every floor needs them
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    if not given.tiny and not torch.cuda.is_available():
        parser.error(
            "PyTorch sees no GPU here; --tiny rehearses on the CPU, "
            "python -m benchmarks measures it"
        )
    plan = Plan.tiny(torchvision=not given.no_torchvision) if given.tiny else Plan()
    if plan.cuda:
        torch.backends.cudnn.benchmark = True  # all batches have one shape
        torch.set_float32_matmul_precision("high")
        if torch.cuda.get_device_capability() < (
            8,
            0,
        ):  # no bf16 arithmetic: float16, a quarter of the batch
            plan.dtype, plan.batch = torch.float16, 64
    torch.manual_seed(0)
    bench = Bench(plan.device, Path("."), given.seconds)
    name = (
        f"bench-{slug(bench.provenance['device'])}.json"
        if plan.cuda
        else "bench-gpu-rehearsal.json"
    )
    bench.path, bench.plan = (
        (given.out or ROOT / ("_build" if given.tiny else "results")) / name,
        plan,
    )
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, overrun)
        signal.setitimer(signal.ITIMER_REAL, given.seconds)
    try:
        bench.run({name: SECTIONS[name] for name in names})
    except TimeoutError as error:  # the alarm between two sections
        bench.skipped["the rest"] = str(error)
        bench.save()
    finally:
        if hasattr(signal, "SIGALRM"):
            signal.setitimer(signal.ITIMER_REAL, 0)
    for goal, found in bench.facts.get("goals", {}).items():
        verdict = "met" if found["met"] else "NOT met"
        print(f"goal {goal}: {found['reached']:,.2f} of {found['goal']:,} {verdict}")
    print(
        f"{len(bench.rows)} rows in {bench.path}"
        + "".join(f"\nskipped: {k}: {v}" for k, v in bench.skipped.items())
    )
    return 0


def overrun(*_) -> None:
    raise TimeoutError("the time for this run is used up")


if __name__ == "__main__":
    sys.exit(main())
