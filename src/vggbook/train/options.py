"""How a recipe is carried out: nothing in here changes what is trained, but for ``freeze``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ..checks import choice, flag, needs, number, whole
from ..data import Eigen

PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Options:
    """Where and how :func:`vggbook.train.fit` works.

    mean, eigen: RGB mean (3,) on 0..255 and ``pca_rgb`` of the training set, to save passes.
    device: "auto", or e.g. "cpu", "cuda:1". precision: "auto", "fp32", "bf16", "fp16".
    compile: hand the convolutions to ``torch.compile``, on a GPU with CUDA graphs. Some seconds at
        the start; slower on a CPU.
    micro_batch: images a pass and process; gradients add up to the whole batch's. Halved by itself
        when GPU memory runs out. None: the whole share of a process.
    workers: processes that read images.
    on_error: what an unreadable image does: "error", or "skip": named and counted at the end.
    save_minutes: age at which a checkpoint is renewed within an epoch.
    freeze: names or beginnings of names of layers that stay as they are: "conv" stands for all
        convolutions, ("conv1", "conv2_1") for some of them.
    log: takes one line an epoch; None for silence.

    Raises ValueError naming the option, its value and what would be right.
    """

    mean: Tensor | Sequence[float] | None = None
    eigen: Eigen | None = None
    device: str | torch.device = "auto"
    precision: str = "auto"
    compile: bool = False
    micro_batch: int | None = None
    workers: int = 0
    on_error: str = "error"
    save_minutes: float = 10.0
    freeze: str | Sequence[str] = ()
    log: Callable[[str], Any] | None = print

    def __post_init__(self) -> None:
        if self.mean is not None:
            mean = torch.as_tensor(self.mean)
            right = mean.shape == (3,) and bool(((mean >= 0) & (mean <= 255)).all())
            needs(right, "mean", self.mean, "the mean RGB, three numbers from 0 to 255")
        choice("precision", self.precision, PRECISIONS)
        flag("compile", self.compile)
        if self.micro_batch is not None:
            whole("micro_batch", self.micro_batch, low=1)
        whole("workers", self.workers, low=0)
        choice("on_error", self.on_error, ("error", "skip"))
        number("save_minutes", self.save_minutes, low=0)
        names = self.freeze if isinstance(self.freeze, list | tuple) else [self.freeze]
        right = all(isinstance(name, str) and name for name in names)
        needs(right, "freeze", self.freeze, "names of layers, or beginnings of them")
        object.__setattr__(self, "freeze", tuple(names))
        right = self.log is None or callable(self.log)
        needs(right, "log", self.log, "a function that takes a line, or None")

    def override(self, **values: Any) -> Options:
        """These options with other values; TypeError for a name that is none of them."""
        known = [f.name for f in fields(self)]
        for name, value in values.items():
            if name not in known:
                raise TypeError(f"{name}={value!r}: expected an option: {', '.join(known)}")
        return replace(self, **values)
