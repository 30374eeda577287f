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
    scales: int | tuple[int, int] = _option(256, "S, the image's smallest side in pixels; two numbers: drawn per image")
    batch_size: int = _option(256, "images a step, over all processes and micro-batches together")
    lr: float = _option(1e-2, "first learning rate")
    momentum: float = _option(0.9, "momentum")
    weight_decay: float = _option(5e-4, "L2 penalty on all weights and biases")
    dropout: float = _option(0.5, "dropout after the first two FC layers")
    lr_factor: float = _option(0.1, "what multiplies the rate when validation accuracy stops improving")
    lr_drops: int = _option(3, "how often it does; the next plateau ends the training")
    patience: int = _option(4, "epochs without a better validation accuracy that are waited through (not in the paper)")
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
        _needs(_is(int, self.crop, 1), "crop", self.crop, "a whole number of pixels above 0 is needed; the paper has 224")
        pair = self.scales if isinstance(self.scales, tuple) else (self.scales, self.scales)
        right = len(pair) == 2 and all(_is(int, s) for s in pair)
        _needs(right, "scales", self.scales, "S in pixels, or (S_min, S_max), is needed; the paper has 256, 384, (256, 512)")
        _needs(pair[0] <= pair[1], "scales", self.scales, "S_min must not exceed S_max")
        _needs(pair[0] >= self.crop, "scales", self.scales, f"S must be at least the crop, {self.crop} pixels")
        for name in ("batch_size", "max_epochs"):
            _needs(_is(int, getattr(self, name), 1), name, getattr(self, name), "a whole number of at least 1 is needed")
        for name in ("lr_drops", "patience", "seed"):
            _needs(_is(int, getattr(self, name), 0), name, getattr(self, name), "a whole number of at least 0 is needed")
        for name in ("lr", "gain", "width"):
            value = getattr(self, name)
            _needs(_is(float, value, 0) and value > 0, name, value, "a finite number above 0 is needed")
        for name in ("momentum", "dropout"):
            value = getattr(self, name)
            _needs(_is(float, value, 0) and value < 1, name, value, "a number of at least 0 and below 1 is needed")
        _needs(_is(float, self.weight_decay, 0), "weight_decay", self.weight_decay, "a number of at least 0 is needed")
        _needs(_is(float, self.lr_factor, 0) and 0 < self.lr_factor < 1, "lr_factor", self.lr_factor, "between 0 and 1; the paper has 0.1")
        _needs(self.init in INIT_SCHEMES, "init", self.init, f"choose one of {', '.join(INIT_SCHEMES)}")
        for name in ("flip", "colour", "batch_norm"):
            _needs(isinstance(getattr(self, name), bool), name, getattr(self, name), "True or False is needed")

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
        shape = dict(batch_norm=self.batch_norm, width=self.width, image_size=self.crop)
        return build(self.config, num_classes, **shape, dropout=self.dropout, init=self.init, generator=generator)


def fit(recipe, train, val=None, out=None, *, model=None, init_from=None, mean=None, eigen=None, device="auto", precision="auto",
        micro_batch=None, workers=0, on_error="error", save_minutes=10.0, log=print):  # fmt: skip
    """Train by the recipe until the plateau rule or ``max_epochs`` ends it. Being written; the signature stands."""
    raise NotImplementedError
