"""Training as Sect. 3.1 describes it, on one core or on a node of GPUs, resumable to the bit.

    recipe = Recipe("B", lr=1e-2, scales=256)                 # every field not given is the paper's value
    run = fit(recipe, train_set, val_set, out="runs/b")       # -> Run; call it again after a crash and it goes on where it was
    run.model, run.history, run.mean, run.classes             # run.history.plot(), run.history["val_accuracy"], print(run.history)
    run = load_run("runs/b/best.pt")                          # the same from a file; also last.pt, previous.pt
    fit(recipe.fine_tune(384), ..., init_from="runs/b/last.pt")        # S=384 from S=256 at 1e-3
    fit(recipe.fine_tune((256, 512)), ..., init_from=run_384.model)    # jittered S from S=384
    fit(Recipe("D"), ..., init_from=run_a.model)              # first four conv and three FC layers of A, by name
    copy_layers(net_a, net_d)                                 # the same by hand

A data set is what :mod:`vggbook.data` calls one. ``out=None`` keeps nothing on disk. From a shell: ``python -m vggbook.train --help``;
``torchrun --nproc_per_node=N -m vggbook.train ...`` splits each batch over N processes and gives the same weights.

Nothing random is drawn from a stream: order, crops and colours (:mod:`vggbook.data`) and dropout masks (:class:`KeyedDropout`) are functions of
(seed, epoch, image). So neither a crash, nor the number of processes, nor micro-batches change what is trained.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import pickle
import random
import sys
import time
import warnings
import zipfile
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from .configs import CONFIGS
from .data import (
    Eigen,
    Loader,
    ShapesDataset,
    _hash,
    _uniforms,
    in_memory,
    mean_rgb,
    open_dataset,
    pca_rgb,
)
from .model import INIT_SCHEMES, Network, build

FORMAT = "vggbook training checkpoint 1"


class CheckpointError(RuntimeError):
    """A checkpoint is damaged, foreign, of another recipe, or cannot be written; the message says which and what to do."""


class Diverged(FloatingPointError):
    """The loss became NaN or infinite. ``step``, ``lr`` and ``checkpoint`` (the last good one, or None) tell where."""

    def __init__(self, what: str, step: int, lr: float, checkpoint: Path | None):
        self.step, self.lr, self.checkpoint = step, lr, checkpoint
        super().__init__(
            f"{what} at step {step}, learning rate {lr:g}; last good checkpoint: {checkpoint or 'none'}. "
            "Try a smaller lr, another init, or layers from a trained net (init_from)"
        )


def _needs(right: bool, name: str, value, expected: str) -> None:
    if not right:
        raise ValueError(f"{name}={value!r}: {expected}")


def _is(kind, value, low=None, high=None) -> bool:
    """A number of that kind, not a truth value, within [low, high]."""
    kinds = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
        return False
    return (low is None or value >= low) and (high is None or value <= high)


def _option(default, text: str):
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how; the defaults are those of Sect. 3.1 where the paper prints a value.

    Not in the paper, and therefore a choice: ``patience``, the way ``init`` draws weights (the paper printed "paper", then recommended
    "glorot"; "he" trains at any depth) and the flip's probability, 1/2. ``gain``, ``width`` and ``batch_norm`` other than the defaults are
    deviations. Raises ValueError naming the field, its value and what would be right.
    """

    config: str = _option("D", f"configuration: {', '.join(CONFIGS)}")
    crop: int = _option(224, "side of the training crop, pixels")
    scales: int | tuple[int, int] = _option(
        256, "S, the image's smallest side in pixels; two numbers: drawn per image"
    )
    batch_size: int = _option(256, "images a step, over all processes and micro-batches together")
    lr: float = _option(1e-2, "first learning rate")
    momentum: float = _option(0.9, "momentum")
    weight_decay: float = _option(5e-4, "L2 penalty on all weights and biases")
    dropout: float = _option(0.5, "dropout after the first two FC layers")
    lr_factor: float = _option(
        0.1, "what multiplies the rate when validation accuracy stops improving"
    )
    lr_drops: int = _option(3, "how often it does; the next plateau ends the training")
    patience: int = _option(
        4, "epochs without a better validation accuracy that are waited through (not in the paper)"
    )
    max_epochs: int = _option(74, "epochs at most")
    init: str = _option("he", f"random start: {', '.join(INIT_SCHEMES)}")
    flip: bool = _option(True, "random horizontal flips")
    colour: bool = _option(True, "random RGB colour shift")
    gain: float = _option(1.0, "what multiplies the mean-subtracted pixels (paper: 1)")
    width: float = _option(1.0, "what multiplies all channel counts (paper: 1)")
    batch_norm: bool = _option(False, "batch normalisation (not in the paper)")
    seed: int = _option(0, "seed of weights, order, crops, colours and dropout")

    def __post_init__(self):
        try:
            object.__setattr__(self, "config", CONFIGS[self.config].name)
        except KeyError as error:
            raise ValueError(f"config={self.config!r}: {error.args[0]}") from None
        if isinstance(self.scales, list):
            object.__setattr__(self, "scales", tuple(self.scales))
        pair = self.scales if isinstance(self.scales, tuple) else (self.scales, self.scales)
        for names, right, expected in (
            (
                "crop batch_size max_epochs",
                lambda v: _is(int, v, 1),
                "a whole number of at least 1 is needed",
            ),
            (
                "lr_drops patience seed",
                lambda v: _is(int, v, 0),
                "a whole number of at least 0 is needed",
            ),
            (
                "lr gain width",
                lambda v: _is(float, v, 0) and v > 0,
                "a finite number above 0 is needed",
            ),
            (
                "momentum dropout",
                lambda v: _is(float, v, 0) and v < 1,
                "a number of at least 0 and below 1 is needed",
            ),
            ("weight_decay", lambda v: _is(float, v, 0), "a number of at least 0 is needed"),
            (
                "lr_factor",
                lambda v: _is(float, v, 0, 1) and 0 < v < 1,
                "between 0 and 1; the paper has 0.1",
            ),
            ("init", lambda v: v in INIT_SCHEMES, f"choose one of {', '.join(INIT_SCHEMES)}"),
            ("flip colour batch_norm", lambda v: isinstance(v, bool), "True or False is needed"),
            (
                "scales",
                lambda v: len(pair) == 2 and all(_is(int, s) for s in pair),
                "S in pixels, or (S_min, S_max), is needed",
            ),
            ("scales", lambda v: pair[0] <= pair[1], "S_min must not exceed S_max"),
            (
                "scales",
                lambda v: pair[0] >= self.crop,
                f"S must be at least the crop, {self.crop} pixels",
            ),
        ):
            for name in names.split():
                _needs(right(getattr(self, name)), name, getattr(self, name), expected)

    @property
    def test_scale(self) -> int:
        """Q of the validation inside ``fit``: S, or the middle of a range (Sect. 4.1)."""
        return self.scales if isinstance(self.scales, int) else sum(self.scales) // 2

    def fine_tune(self, scales: int | tuple[int, int] = 384, lr: float = 1e-3) -> Recipe:
        """The second and third stage of Sect. 3.1: S=384 from the S=256 net at 1e-3; S in [256, 512] from the S=384 net, all layers.

        The paper gives no rate for the jittered stage; 1e-3 is taken for it too.
        """
        return replace(self, scales=scales, lr=lr)

    def net(self, num_classes: int) -> Network:
        """The recipe's network, its weights drawn by ``init`` from ``seed``."""
        generator = torch.Generator().manual_seed(self.seed)
        shape = {"batch_norm": self.batch_norm, "width": self.width, "image_size": self.crop}
        return build(
            self.config,
            num_classes,
            **shape,
            dropout=self.dropout,
            init=self.init,
            generator=generator,
        )


# --- layers from a trained net ------------------------------------------------------------------------------------------------------
def named_layers(net: Network) -> dict[str, nn.Module]:
    """Convolutions and FC layers by their names in Table 1: conv1_1, ..., fc1, fc2, fc3."""
    convs = (m for m in net.features if isinstance(m, nn.Conv2d))
    linear = (m for m in net.classifier if isinstance(m, nn.Linear))
    names = [name for name in net.config.layer_names if name.startswith("conv")]
    return {**dict(zip(names, convs)), **dict(zip(net.config.fc_names, linear))}


@torch.no_grad()
def copy_layers(
    source: Network, target: Network, names: tuple[str, ...] | None = None
) -> tuple[str, ...]:
    """Copy weights and biases by layer name; without ``names`` the first four convolutions of ``source`` and all its FC layers.

    With A as the source these are conv1_1, conv2_1, conv3_1, conv3_2, fc1, fc2, fc3 (Sect. 3.1): by position it cannot be done, the
    shapes differ. Returns the names. Raises ValueError, and copies nothing, where ``target`` lacks a layer or has another shape.
    """
    have, want = named_layers(source), named_layers(target)
    if names is None:
        names = [n for n in have if n.startswith("conv")][:4] + [
            n for n in have if not n.startswith("conv")
        ]
    for name in names:
        shapes = [
            tuple(layers[name].weight.shape) if name in layers else "no such layer"
            for layers in (have, want)
        ]
        _needs(
            shapes[0] == shapes[1] != "no such layer",
            "names",
            name,
            f"{source.config.name} has {shapes[0]}, {target.config.name} has {shapes[1]}",
        )
    for name in names:
        want[name].load_state_dict(have[name].state_dict())
    return tuple(names)


class KeyedDropout(nn.Dropout):
    """Dropout whose mask for an image depends on (seed, epoch, layer, index of the image) alone: ``key`` holds them."""

    key = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.key is None:
            return super().forward(x)
        seed, epoch, layer, indices = self.key
        u = _uniforms(
            _hash(seed, epoch, layer, indices.to(x.device)), x[0].numel() if len(x) else 1
        )  # (N, features)
        return x * (u >= self.p).to(x.dtype).div_(1 - self.p).view_as(x)

    @classmethod
    def install(cls, net: nn.Module) -> list[KeyedDropout]:
        """Replace every ``nn.Dropout`` of a net; weights and their names stay as they are."""
        for parent in list(net.modules()):
            for name, child in parent.named_children():
                if type(child) is nn.Dropout:
                    setattr(parent, name, cls(child.p).train(child.training))
        return [m for m in net.modules() if isinstance(m, cls)]


# --- what a run leaves behind -------------------------------------------------------------------------------------------------------
class History:
    """One row an epoch (``rows``: epoch, lr, train_loss, val_loss, val_accuracy, images_per_s, skipped) and the loss of every step.

    ``history["val_accuracy"]`` is a column; ``print(history)`` a table; ``history.plot()`` draws loss and error.
    """

    def __init__(self, rows=(), losses=()):
        self.rows, self.losses = list(rows), list(losses)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> list:
        return [row[name] for row in self.rows]

    @staticmethod
    def line(row: dict) -> str:
        """One row as the line of a log."""
        text = f"epoch {row['epoch']:3d}  lr {row['lr']:<7.2g} loss {row['train_loss']:7.4f}"
        if row["val_accuracy"] is not None:
            text += f"  validation loss {row['val_loss']:7.4f}  top-1 error {100 * (1 - row['val_accuracy']):5.1f}%"
        return (
            text
            + f"  {row['images_per_s']:,.0f} images/s"
            + (f"  {row['skipped']} skipped" if row["skipped"] else "")
        )

    def __str__(self) -> str:
        return "\n".join(map(self.line, self.rows))

    def plot(self, axes=None, label: str | None = None):
        """Draw the training loss (a moving average) and, where there is validation, its loss and top-1 error; dotted where the rate fell.

        ``axes``, ``label``: two axes of matplotlib and a name, to draw several runs together. Returns the axes.
        """
        import matplotlib.pyplot as plt

        left, right = axes if axes is not None else plt.subplots(1, 2)[1]
        measured = [row for row in self.rows if row["val_accuracy"] is not None]
        window = max(1, len(self.losses) // 25)
        smooth = (
            torch.tensor(self.losses).unfold(0, window, 1).mean(1)
            if self.losses
            else torch.zeros(0)
        )
        at = (torch.arange(len(smooth)) + window) * len(self.rows) / max(1, len(self.losses))
        k = (
            len(right.get_legend_handles_labels()[1]) % 4
        )  # the runs drawn before: told apart by more than colour
        (line,) = left.plot(
            at, smooth, ("-", "--", "-.", ":")[k], lw=1.4, label=label or "training"
        )
        style = {"color": line.get_color(), "ms": 5}
        if not label:
            left.plot(
                [row["epoch"] for row in measured],
                [row["val_loss"] for row in measured],
                "s--",
                **style,
                label="validation",
            )
        right.plot(
            [row["epoch"] for row in measured],
            [100 * (1 - row["val_accuracy"]) for row in measured],
            "os^D"[k] + "-",
            **style,
            label=label,
        )
        for before, after in zip(self.rows, self.rows[1:]):
            if after["lr"] < before["lr"]:
                for ax in (left, right):
                    ax.axvline(before["epoch"], color=line.get_color(), lw=0.8, ls=":")
        limit = (0, max(self["epoch"], default=1) * 1.02)
        left.set(xlabel="epochs", ylabel="loss (nats)", xlim=limit)
        right.set(xlabel="epochs", ylabel="validation top-1 error (%)", ylim=(0, 100), xlim=limit)
        (right if label else left).legend()
        return left, right


@dataclass
class Run:
    """What :func:`fit` returns and :func:`load_run` reads: the net, its curves, and what its input needs."""

    recipe: Recipe
    model: Network
    history: History
    mean: Tensor  # (3,), RGB, 0..255: subtract it from test images too
    classes: tuple[str, ...]
    ended: str = ""  # why training ended; empty where it has not
    checkpoint: Path | None = None


def save_checkpoint(state: dict, path: str | Path, keep: str | Path | None = None) -> None:
    """Write atomically: a file beside it, flushed to the disk, then renamed. What was there before is renamed to ``keep``.

    Whenever the process is killed, a whole checkpoint is found under one of the two names. CheckpointError where it cannot be written.
    """
    path, temporary = Path(path), Path(f"{path}.tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch wraps some of the system's errors
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise CheckpointError(
            f"could not write {path}: {error}. The checkpoint before it is untouched; is the disk full?"
        ) from error
    with contextlib.suppress(
        OSError
    ):  # the renaming itself; not every system lets a folder be flushed
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def load_checkpoint(path: str | Path) -> dict:
    """Read and check a checkpoint: whole (every checksum), only tensors and plain values, written by this module. CheckpointError says what is wrong."""
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if bad := archive.testzip():
                raise CheckpointError(f"{path} is damaged: the checksum of {bad} is wrong")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except (zipfile.BadZipFile, EOFError) as error:
        raise CheckpointError(f"{path} is damaged or no checkpoint: {error}") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds objects other than tensors and plain values, and was not loaded: {error}"
        ) from error
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} was not written by vggbook.train ({FORMAT!r} is expected in it)"
        )
    return state


def load_run(path: str | Path) -> Run:
    """The run in a checkpoint (last.pt, previous.pt, best.pt): its network with the weights, on the CPU."""
    state = load_checkpoint(path)
    recipe = Recipe(**state["recipe"])
    model = recipe.net(len(state["classes"]))
    model.load_state_dict(state["model"])
    history = History(state["rows"], state["losses"].tolist())
    return Run(
        recipe,
        model.eval(),
        history,
        state["mean"],
        tuple(state["classes"]),
        state["ended"],
        Path(path),
    )


def _random_state() -> dict:
    import numpy as np

    name, keys, *rest = np.random.get_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    numpy = (name, torch.from_numpy(keys.astype("int64")), *rest)
    return {
        "torch": torch.get_rng_state(),
        "cuda": cuda,
        "python": random.getstate(),
        "numpy": numpy,
    }


def _set_random_state(state: dict) -> None:
    import numpy as np

    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype("uint32"), *rest))


# --- the machine --------------------------------------------------------------------------------------------------------------------
def _device(name) -> torch.device:
    device = torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if str(name) == "auto" else name
    )
    if device.type == "cuda":
        _needs(
            torch.cuda.is_available(),
            "device",
            str(name),
            "PyTorch sees no GPU here; 'auto' or 'cpu' works",
        )
        if device.index is None:
            device = torch.device(
                "cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count()
            )
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True  # all batches have one shape
    return device


def _precision(name: str, device: torch.device) -> torch.dtype | None:
    """The type of autocast; None for fp32. "auto": bf16 from compute capability 8.0 on, fp16 on older GPUs, fp32 elsewhere."""
    types = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
    _needs(
        name in ("auto", *types), "precision", name, f"choose 'auto' or one of {', '.join(types)}"
    )
    _needs(
        name != "fp16" or device.type == "cuda",
        "precision",
        name,
        "fp16 needs a GPU; 'auto' or 'fp32' works here",
    )
    if name == "auto":
        name = (
            "fp32"
            if device.type != "cuda"
            else "bf16"
            if torch.cuda.get_device_capability(device) >= (8, 0)
            else "fp16"
        )
    return types[name]


def _set_threads(processes: int) -> None:
    """Share the cores that this process may use among the processes of this machine, unless OMP_NUM_THREADS says otherwise."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, min(torch.get_num_threads(), cores // processes)))


def _world() -> tuple[int, int]:
    """(rank, number of processes): (0, 1) outside torchrun."""
    return (
        (dist.get_rank(), dist.get_world_size())
        if dist.is_available() and dist.is_initialized()
        else (0, 1)
    )


# --- training -----------------------------------------------------------------------------------------------------------------------
def fit(
    recipe: Recipe,
    train,
    val=None,
    out: str | Path | None = None,
    *,
    model: Network | None = None,
    init_from: str | Path | Network | None = None,
    mean: Tensor | None = None,
    eigen=None,
    device: str | torch.device = "auto",
    precision: str = "auto",
    compile: bool = False,
    micro_batch: int | None = None,
    workers: int = 0,
    on_error: str = "error",
    save_minutes: float = 10.0,
    log=print,
) -> Run:
    """Train by the recipe until the plateau rule or ``max_epochs`` ends it; resumes from ``out`` where a run lies there.

    train, val: data sets (see :mod:`vggbook.data`). Without ``val`` the rate never falls. Validation: one centre crop at Q = S.
    out: folder for last.pt (an epoch, or ``save_minutes``, old at most), previous.pt and best.pt. A run that was killed continues from
        it, and on the CPU ends with the very weights of an undisturbed run. Only ``max_epochs`` may differ between the two calls.
    model: train this net, in place, instead of ``recipe.net(...)``.
    init_from: a net or a checkpoint to start from. One of the same configuration gives all layers, another one (A) the first four
        convolutions and the FC layers; all of them learn at the full rate.
    mean, eigen: RGB mean (3,) and its ``pca_rgb``, to save a pass over a large training set.
    device, precision: "auto", or e.g. "cpu", "cuda:1"; "fp32", "bf16", "fp16".
    compile: hand the convolutions to ``torch.compile``, on a GPU with CUDA graphs. Some seconds at the start; slower on a CPU.
    micro_batch: images a pass and process; gradients add up to the whole batch's. Halved by itself when GPU memory runs out.
    workers, on_error: handed to :class:`vggbook.data.Loader`.
    log: takes one line an epoch; None for silence.

    Raises ValueError for an argument out of range, CheckpointError for a checkpoint that is not this run's, Diverged for a loss that is
    not finite, BlockingIOError where another run uses ``out``.
    """
    rank, world = _world()
    _needs(isinstance(recipe, Recipe), "recipe", recipe, "a Recipe is needed")
    _needs(
        recipe.batch_size % world == 0,
        "batch_size",
        recipe.batch_size,
        f"it must be divisible by the {world} processes",
    )
    _needs(
        micro_batch is None or _is(int, micro_batch, 1),
        "micro_batch",
        micro_batch,
        "None or a whole number of at least 1",
    )
    _needs(
        _is(float, save_minutes, 0),
        "save_minutes",
        save_minutes,
        "a number of at least 0 is needed",
    )
    _needs(isinstance(compile, bool), "compile", compile, "True or False is needed")
    _needs(
        model is None or init_from is None, "init_from", init_from, "give either model or init_from"
    )
    if isinstance(model, Network):
        found, asked = (
            (model.config.name, model.image_size),
            (recipe.config, (recipe.crop, recipe.crop)),
        )
        _needs(
            found == asked, "model", found, f"the recipe asks for {asked}: configuration and crop"
        )
    device = _device(device)
    dtype = _precision(precision, device)
    if device.type == "cpu":
        _set_threads(int(os.environ.get("LOCAL_WORLD_SIZE", world)))
    folder = None if out is None else Path(out)
    with contextlib.ExitStack() as stack:
        if folder and rank == 0:
            stack.enter_context(_locked(folder))
        state = _find_checkpoint(folder) if folder and rank == 0 else None
        if rank == 0:
            _check_same_run(state, recipe, train, val)
            if state is not None:
                mean, eigen = state["mean"], Eigen(*state["eigen"]) if state["eigen"] else None
            mean = mean_rgb(train) if mean is None else torch.as_tensor(mean, dtype=torch.float32)
            eigen = pca_rgb(train) if eigen is None and recipe.colour else eigen
        if world > 1:
            shared = [state, mean, eigen]
            dist.broadcast_object_list(shared, device=device if device.type == "cuda" else None)
            state, mean, eigen = shared
        if model is None:
            model = recipe.net(len(train.classes))
            if init_from is not None and state is None:
                _start_from(init_from, model)
        feed = {
            "crop": recipe.crop,
            "mean": mean,
            "gain": recipe.gain,
            "rank": rank,
            "world_size": world,
            "device": device,
            "workers": workers,
        }
        feed |= {"batch_size": recipe.batch_size, "seed": recipe.seed, "on_error": on_error}
        loader = Loader(
            train,
            scales=recipe.scales,
            colour=eigen if recipe.colour else None,
            flip=recipe.flip,
            **feed,
        )
        checker = (
            None
            if val is None
            else Loader(
                val, scales=recipe.test_scale, flip=False, shuffle=False, augment=False, **feed
            )
        )
        trainer = _Trainer(
            recipe,
            model,
            loader,
            checker,
            folder,
            tuple(train.classes),
            mean,
            eigen,
            device,
            dtype,
            compile,
            micro_batch,
            save_minutes,
            log,
        )
        if state is not None:
            trainer.restore(state)
        return trainer.run()


@contextlib.contextmanager
def _locked(folder: Path):
    """Hold ``folder`` for this run alone; the system lets go of it when the process ends, however it ends."""
    from filelock import FileLock, Timeout  # PyTorch depends on it

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock").acquire(timeout=0.5)
    except Timeout:
        raise BlockingIOError(
            f"out={str(folder)!r}: another run is writing into this folder; wait for it or choose another one"
        ) from None
    except OSError as error:
        raise ValueError(f"out={str(folder)!r}: this folder cannot be written ({error})") from error
    with lock:
        yield


def _find_checkpoint(folder: Path) -> dict | None:
    """The newest good checkpoint of a folder, or None where there is none; a damaged one is named and passed over for the one before."""
    problems = []
    for path in (folder / "last.pt", folder / "previous.pt"):
        if path.exists():
            try:
                state = load_checkpoint(path)
            except CheckpointError as error:
                problems.append(str(error))
                continue
            if (
                problems
            ):  # put the damaged one aside, lest it take the good one's place at the next save
                os.replace(folder / "last.pt", folder / "damaged.pt")
                warnings.warn(
                    f"{problems[0]}; going on from {path}, written just before it", stacklevel=3
                )
            return {**state, "path": path}
    if problems:
        raise CheckpointError(
            f"{'; '.join(problems)}. No good checkpoint is left in {folder}: move it away to start anew"
        )
    return None


def _check_same_run(state: dict | None, recipe: Recipe, train, val) -> None:
    """The validation set has the training set's classes; and a checkpoint is of this recipe and this training set."""
    classes = list(map(str, train.classes))
    _needs(
        val is None or list(map(str, val.classes)) == classes,
        "val",
        val,
        f"its classes differ from those of the training set, {classes}",
    )
    if state is None:
        return
    old, new = (
        {**state["recipe"], "images": state["images"], "classes": state["classes"]},
        {**asdict(recipe), "images": len(train), "classes": classes},
    )
    differ = [
        f"{k}: {old.get(k)!r} there, {new[k]!r} here"
        for k in new
        if k != "max_epochs" and old.get(k) != new[k]
    ]
    if differ:
        raise CheckpointError(
            f"the folder's checkpoint is of another recipe or data set ({'; '.join(differ)}): use another folder, or the recipe as it was"
        )


def _start_from(source: str | Path | Network, model: Network) -> tuple[str, ...]:
    source = source if isinstance(source, nn.Module) else load_run(source).model
    names = tuple(named_layers(source)) if source.config == model.config else None
    return copy_layers(source, model, names)


class _Trainer:
    """One run: the state that a checkpoint holds, and the loop over it."""

    def __init__(
        self,
        recipe,
        net,
        loader,
        checker,
        folder,
        classes,
        mean,
        eigen,
        device,
        dtype,
        compile,
        micro_batch,
        save_minutes,
        log,
    ):
        self.recipe, self.loader, self.checker, self.folder = recipe, loader, checker, folder
        self.classes, self.mean, self.eigen, self.device, self.dtype = (
            classes,
            mean,
            eigen,
            device,
            dtype,
        )
        self.rank, self.world = _world()
        self.share = recipe.batch_size // self.world  # images a step on this process
        self.micro = min(micro_batch or self.share, self.share)
        self.save_seconds, self.say = (
            60 * save_minutes,
            log if log and self.rank == 0 else lambda line: None,
        )
        self.net = net.to(device, memory_format=torch.channels_last)
        self.dropouts = KeyedDropout.install(self.net)
        self.graphs = compile and device.type == "cuda"
        if compile:  # in place, so that the names of the weights stay; the FC layers' masks are drawn outside of it
            self.net.features.compile(
                dynamic=False, mode="reduce-overhead" if self.graphs else None
            )
        kind = {"fused": True} if device.type == "cuda" else {}
        self.optimizer = torch.optim.SGD(
            self.net.parameters(),
            recipe.lr,
            recipe.momentum,
            weight_decay=recipe.weight_decay,
            **kind,
        )
        rule = {
            "mode": "max",
            "factor": recipe.lr_factor,
            "patience": recipe.patience,
            "threshold": 0,
            "threshold_mode": "abs",
            "eps": 0,
        }
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, **rule)
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        self.forward, self.proven = self.net, self.world == 1
        if self.world > 1:
            ids = [device.index] if device.type == "cuda" else None
            self.forward = nn.parallel.DistributedDataParallel(
                self.net, device_ids=ids, gradient_as_bucket_view=True
            )
        self.history, self.ended, self.epoch, self.step, self.drops, self.best = (
            History(),
            "",
            0,
            0,
            0,
            -1.0,
        )
        self.pending, self.lag, self.written, self.saved_at = (
            [],
            int(device.type == "cuda"),
            None,
            time.monotonic(),
        )

    # -- the loop
    def run(self) -> Run:
        while not self.ended:
            if self.epoch >= self.recipe.max_epochs:
                self.ended = f"max_epochs={self.recipe.max_epochs} reached"
            else:
                self._train_epoch()
                self._close_epoch()
            self._save(final=bool(self.ended))
        self.net.eval()
        for dropout in self.dropouts:
            dropout.key = None
        self.net.features._compiled_call_impl = (
            None  # the net that is handed back takes any size without compiling
        )
        return Run(
            self.recipe, self.net, self.history, self.mean, self.classes, self.ended, self.written
        )

    def _train_epoch(self) -> None:
        self.net.train()
        begin, first, steps = time.monotonic(), self.step, len(self.loader)
        batches = self.loader.epoch(self.epoch, start=first)
        if not first:
            self.loader.skipped.clear()
        hidden = self.rank > 0 or not sys.stderr.isatty()
        for images, labels, indices in tqdm(
            batches, f"epoch {self.epoch + 1}", steps, initial=first, leave=False, disable=hidden
        ):
            self.optimizer.zero_grad(set_to_none=True)
            loss = self._gradient(images, labels, indices)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.step += 1
            self.pending.append(loss)
            self._collect(self.lag)  # on a GPU one step behind, so that it never waits
            if (
                self.folder
                and self.step < steps
                and time.monotonic() - self.saved_at >= self.save_seconds
            ):
                self._save()
        self._collect(0)
        self.rate = (
            (self.step - first) * self.recipe.batch_size / max(time.monotonic() - begin, 1e-9)
        )

    def _gradient(self, images: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        """Loss of the batch, its gradient in ``.grad``; in halves of halves until it fits the memory of the GPU."""
        while True:
            buffers = [
                b.clone() for b in self.net.buffers()
            ]  # batch norm's, if any: a failed attempt must leave no trace
            try:
                loss, failed = (
                    self._accumulate(images, labels, indices, alone=not self.proven),
                    False,
                )
            except torch.cuda.OutOfMemoryError:
                if self.micro == 1 or (self.proven and self.world > 1):
                    raise
                failed = True
            if (
                self.world > 1 and not self.proven
            ):  # a rehearsal without exchange: all processes must agree
                flag = torch.tensor(float(failed), device=self.device)
                dist.all_reduce(flag, dist.ReduceOp.MAX)
                failed, self.proven = bool(flag), not bool(flag)
            elif not failed:
                return loss
            self.optimizer.zero_grad(set_to_none=True)
            for buffer, old in zip(self.net.buffers(), buffers):
                buffer.copy_(old)
            if failed:
                torch.cuda.empty_cache()
                self.micro = (self.micro + 1) // 2
                self.say(
                    f"out of GPU memory: going on with micro-batches of {self.micro}; the batch stays {self.recipe.batch_size}"
                )

    def _accumulate(
        self, images: Tensor, labels: Tensor, indices: Tensor, alone: bool = False
    ) -> Tensor:
        """Add up the gradients of the micro-batches: exactly the whole batch's, as every term is an image's loss over batch_size."""
        total, starts = (
            torch.zeros((), device=self.device),
            range(0, max(len(images), 1), self.micro),
        )
        for at in starts:
            rows = slice(at, at + self.micro)
            for layer, dropout in enumerate(self.dropouts):
                dropout.key = (self.recipe.seed, self.epoch, layer, indices[rows])
            silent = self.world > 1 and (
                alone or at != starts[-1]
            )  # DDP averages over the processes in the last backward
            if self.graphs:
                torch.compiler.cudagraph_mark_step_begin()  # a recorded graph may use its memory again
            with self.forward.no_sync() if silent else contextlib.nullcontext():
                with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
                    logits = self.forward(
                        images[rows].contiguous(memory_format=torch.channels_last)
                    )  # (n, classes)
                loss = F.cross_entropy(logits.float(), labels[rows], reduction="sum") / self.share
                self.scaler.scale(loss).backward()
            total += loss.detach()
        if self.world > 1 and not alone:
            dist.all_reduce(total)
            total /= self.world
        return total

    def _collect(self, behind: int) -> None:
        """Move losses into the history; stop where one is not finite."""
        while len(self.pending) > behind:
            step = len(self.history.losses) + 1
            loss = float(self.pending.pop(0))
            if not math.isfinite(loss):
                raise Diverged(f"the loss is {loss}", step, self.lr, self.written)
            self.history.losses.append(loss)

    @property
    def lr(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def _close_epoch(self) -> None:
        """Validate, write a row, let the plateau rule decide."""
        losses, lr = self.history.losses[-len(self.loader) :], self.lr
        row = {
            "epoch": self.epoch + 1,
            "lr": lr,
            "train_loss": math.fsum(losses) / len(losses),
            "val_loss": None,
            "val_accuracy": None,
        }
        row |= {
            "images_per_s": self.rate,
            "skipped": self._sum(torch.tensor(len(self.loader.skipped))),
        }
        self.epoch, self.step = self.epoch + 1, 0
        if self.checker is not None:
            row["val_loss"], row["val_accuracy"] = self._validate()
            if not math.isfinite(row["val_loss"]):
                raise Diverged(
                    f"the validation loss is {row['val_loss']}",
                    len(self.history.losses),
                    lr,
                    self.written,
                )
            self.plateau.step(row["val_accuracy"])
            self.drops += self.lr < lr
            if self.drops > self.recipe.lr_drops:
                self.ended = f"validation accuracy stopped improving after {self.recipe.lr_drops} drops of the learning rate"
        self.history.rows.append(row)
        self.say(History.line(row))
        if row["val_accuracy"] is not None and row["val_accuracy"] > self.best:
            self.best = row["val_accuracy"]
            self._write("best.pt")

    @torch.no_grad()
    def _validate(self) -> tuple[float, float]:
        """Mean loss and accuracy of one centre crop an image."""
        self.net.eval()
        total = torch.zeros(3, dtype=torch.float64)  # loss, right, images
        for images, labels, _ in self.checker.epoch(0):
            for x, y in zip(images.split(self.micro), labels.split(self.micro)):
                with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
                    logits = self.net(
                        x.contiguous(memory_format=torch.channels_last)
                    ).float()  # (n, classes)
                loss, right = (
                    F.cross_entropy(logits, y, reduction="sum"),
                    (logits.argmax(1) == y).sum(),
                )
                total += torch.tensor([float(loss), float(right), len(y)], dtype=torch.float64)
        loss, right, images = self._sum(total)
        return loss / images, right / images

    def _sum(self, values: Tensor):
        """The sum over all processes, as plain numbers."""
        if self.world > 1:
            values = values.to(self.device)
            dist.all_reduce(values)
        return values.tolist()

    # -- checkpoints
    def _save(self, final: bool = False) -> None:
        """Write last.pt. Where that fails, training goes on and the next attempt follows; only at the end is it an error."""
        self._collect(0)
        try:
            self._write("last.pt", keep="previous.pt")
        except CheckpointError as error:
            if final:
                raise
            warnings.warn(f"{error} Training goes on.", stacklevel=2)
        self.saved_at = time.monotonic()

    def _write(self, name: str, keep: str | None = None) -> None:
        if self.folder is None or self.rank > 0:
            return
        if not all(bool(p.isfinite().all()) for p in self.net.parameters()):
            raise Diverged(
                "a weight is not finite", len(self.history.losses), self.lr, self.written
            )
        eigen = None if self.eigen is None else [torch.as_tensor(part).cpu() for part in self.eigen]
        state = {
            "format": FORMAT,
            "recipe": asdict(self.recipe),
            "classes": list(map(str, self.classes)),
            "images": len(self.loader.dataset),
        }
        state |= {"skipped": dict(self.loader.skipped)}
        state |= {
            "model": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "plateau": self.plateau.state_dict(),
        }
        state |= {
            "scaler": self.scaler.state_dict(),
            "random": _random_state(),
            "mean": self.mean.cpu(),
            "eigen": eigen,
        }
        state |= {
            "epoch": self.epoch,
            "step": self.step,
            "drops": self.drops,
            "best": self.best,
            "ended": self.ended,
        }
        state |= {
            "rows": self.history.rows,
            "losses": torch.tensor(self.history.losses, dtype=torch.float64),
        }
        save_checkpoint(state, self.folder / name, keep and self.folder / keep)
        self.written = self.folder / name if keep else self.written

    def restore(self, state: dict) -> None:
        """Go back to where a checkpoint was written."""
        self.net.load_state_dict(state["model"])
        kind = {k: self.optimizer.param_groups[0][k] for k in ("fused", "foreach")}
        self.optimizer.load_state_dict(state["optimizer"])
        self.optimizer.param_groups[0].update(kind)  # this machine's, not the checkpoint's
        self.plateau.load_state_dict(state["plateau"])
        self.scaler.load_state_dict(state["scaler"]) if self.scaler.is_enabled() and state[
            "scaler"
        ] else None
        _set_random_state(state["random"])
        self.history = History(state["rows"], state["losses"].tolist())
        self.loader.skipped.update(state["skipped"])
        self.epoch, self.step, self.drops, self.best = (
            state[k] for k in ("epoch", "step", "drops", "best")
        )
        self.written = state["path"]
        done = (
            state["ended"].startswith("max_epochs") and self.epoch < self.recipe.max_epochs
        )  # asked for more epochs: go on
        self.ended = "" if done else state["ended"]
        self.say(
            f"going on from {self.folder}: epoch {self.epoch + 1}, step {self.step}"
            if not self.ended
            else f"{self.folder} is finished: {self.ended}"
        )


# --- from a shell -------------------------------------------------------------------------------------------------------------------
_OPTIONS = {
    "data": (
        (
            "--data",
            "data set",
            {
                "required": True,
                "choices": ("shapes", "cifar10", "stl10", "imagenette", "imagenet", "folder"),
            },
        ),
        ("--root", "where the data set lies; needed for all but shapes", {"type": Path}),
        (
            "--download",
            "fetch the data set into --root where it is missing",
            {"action": "store_true"},
        ),
        ("--images", "shapes: training images", {"type": int, "default": 8192}),
        ("--val-images", "shapes: validation images", {"type": int, "default": 2048}),
        ("--in-memory", "render or decode the sets once and keep them", {"action": "store_true"}),
        (
            "--mean",
            "mean RGB, 0 to 255; without it a pass over the training set",
            {"type": float, "nargs": 3, "metavar": ("R", "G", "B")},
        ),
        (
            "--on-error",
            "what an unreadable image does",
            {"choices": ("error", "skip"), "default": "error"},
        ),
        ("--workers", "processes that read images", {"type": int, "default": 0}),
    ),
    "run": (
        (
            "--out",
            "folder of the run; one that holds a run is continued",
            {"type": Path, "required": True},
        ),
        (
            "--init-from",
            "checkpoint to start from: all layers of the same net, or four conv and three FC layers of A",
            {"type": Path},
        ),
        ("--device", "auto, cpu, cuda, cuda:1, ...", {"default": "auto"}),
        (
            "--precision",
            "arithmetic",
            {"default": "auto", "choices": ("auto", "fp32", "bf16", "fp16")},
        ),
        (
            "--compile",
            "hand the convolutions to torch.compile (worth it on a GPU only)",
            {"action": "store_true"},
        ),
        (
            "--micro-batch",
            "images a pass and process; by default the whole share, halved when memory runs out",
            {"type": int},
        ),
        (
            "--save-minutes",
            "age at which a checkpoint is renewed within an epoch",
            {"type": float, "default": 10.0},
        ),
    ),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vggbook.train",
        description="Train a network of the VGG paper by its recipe (Sect. 3.1).",
        epilog="torchrun --nproc_per_node=N -m vggbook.train ... splits every batch over N processes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    group = parser.add_argument_group("recipe")
    for f in fields(Recipe):
        kind = {"type": type(f.default), "metavar": f.name.upper()}
        if isinstance(f.default, bool):
            kind = {"action": argparse.BooleanOptionalAction}
        elif f.name == "scales":
            kind |= {"nargs": "+", "metavar": "S"}
        group.add_argument(
            "--" + f.name.replace("_", "-"), default=f.default, help=f.metadata["help"], **kind
        )
    for title, options in _OPTIONS.items():
        group = parser.add_argument_group(title)
        for name, text, kind in options:
            group.add_argument(name, help=text, **kind)
    return parser


def main(argv: list[str] | None = None) -> Run:
    """The command line: every option is checked before any data is touched."""
    parser = _parser()
    args = parser.parse_args(argv)
    world = int(os.environ.get("WORLD_SIZE", 1))
    try:
        values = {f.name: getattr(args, f.name) for f in fields(Recipe)}
        if isinstance(args.scales, list):
            values["scales"] = args.scales[0] if len(args.scales) == 1 else tuple(args.scales)
        recipe = Recipe(**values)
        _needs(
            recipe.batch_size % world == 0,
            "--batch-size",
            recipe.batch_size,
            f"it must be divisible by the {world} processes",
        )
        device = _device(args.device)
        _precision(args.precision, device)
        _needs(
            args.micro_batch is None or args.micro_batch > 0,
            "--micro-batch",
            args.micro_batch,
            "at least 1 is needed",
        )
        _needs(
            _is(float, args.save_minutes, 0),
            "--save-minutes",
            args.save_minutes,
            "at least 0 is needed",
        )
        _needs(args.workers >= 0, "--workers", args.workers, "at least 0 is needed")
        _needs(
            min(args.images, args.val_images) > 0,
            "--images, --val-images",
            (args.images, args.val_images),
            "above 0 is needed",
        )
        _needs(
            args.images >= recipe.batch_size or args.data != "shapes",
            "--images",
            args.images,
            f"at least a batch, {recipe.batch_size}, is needed",
        )
        _needs(
            args.data == "shapes" or args.root is not None,
            "--root",
            None,
            f"the folder of {args.data} is needed",
        )
        _needs(
            args.root is None or args.download or args.root.is_dir(),
            "--root",
            str(args.root),
            "no such folder; --download fetches a public set",
        )
        _needs(
            not args.out.exists() or args.out.is_dir(),
            "--out",
            str(args.out),
            "a folder is needed, this is a file",
        )
        _needs(
            not args.download or args.data not in ("imagenet", "folder"),
            "--download",
            True,
            f"{args.data} cannot be downloaded",
        )
        _needs(
            args.mean is None or all(_is(float, m, 0, 255) for m in args.mean),
            "--mean",
            args.mean,
            "three numbers on 0..255 are needed",
        )
        if args.init_from is not None:
            load_checkpoint(args.init_from)
    except (ValueError, RuntimeError) as error:
        parser.error(str(error))
    if begin := world > 1 and not dist.is_initialized():
        from datetime import timedelta

        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo", timeout=timedelta(hours=2)
        )
    try:
        train, val = _open_sets(args, recipe)
        keep = (
            "init_from",
            "precision",
            "compile",
            "micro_batch",
            "workers",
            "on_error",
            "save_minutes",
        )
        run = fit(
            recipe,
            train,
            val,
            args.out,
            mean=args.mean,
            device=device,
            **{k: getattr(args, k) for k in keep},
        )
        if _world()[0] == 0:
            print(f"ended: {run.ended}; {run.checkpoint}")
        return run
    except (OSError, ValueError, CheckpointError, Diverged) as error:
        sys.exit(f"vggbook.train: {type(error).__name__}: {error}")
    finally:
        if begin:
            dist.destroy_process_group()


def _open_sets(args, recipe: Recipe):
    if args.data == "shapes":
        smallest = recipe.scales if isinstance(recipe.scales, int) else max(recipe.scales)
        sets = [
            ShapesDataset(split, n, recipe.seed, size=smallest)
            for split, n in (("train", args.images), ("val", args.val_images))
        ]
    else:
        if args.download and _world()[1] > 1:  # one process fetches, the others wait
            if _world()[0] == 0:
                open_dataset(args.data, args.root, "train", download=True)
            dist.barrier()
        sets = [
            open_dataset(args.data, args.root, split, download=args.download)
            for split in ("train", "val")
        ]
    return [in_memory(s) for s in sets] if args.in_memory else sets


if __name__ == "__main__":
    main()
