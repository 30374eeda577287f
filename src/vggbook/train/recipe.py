"""What is trained, and how: the recipe of Sect. 3.1."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..checks import choice, flag, is_number, is_whole, needs, number, pair, positive, whole
from ..configs import CONFIGS
from ..model import INIT_SCHEMES, Network, build


def option(default: Any, text: str) -> Any:
    """A field with a default and the sentence that ``--help`` prints for it."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how; the defaults are those of Sect. 3.1 where the paper prints a value.

    Not in the paper, and therefore a choice: ``patience``, the way ``init`` draws weights (the
    paper printed "paper", then recommended "glorot"; "he" trains at any depth) and the flip's
    probability, 1/2. ``gain``, ``width`` and ``batch_norm`` other than the defaults are deviations.
    Raises ValueError naming the field, its value and what would be right.
    """

    config: str = option("D", f"configuration: {', '.join(CONFIGS)}")
    crop: int = option(224, "side of the training crop, pixels")
    scales: int | tuple[int, int] = option(
        256, "S, the image's smallest side in pixels; two numbers: drawn per image"
    )
    batch_size: int = option(256, "images a step, over all processes and micro-batches together")
    lr: float = option(1e-2, "first learning rate")
    momentum: float = option(0.9, "momentum")
    weight_decay: float = option(5e-4, "L2 penalty on all weights and biases")
    dropout: float = option(0.5, "dropout after the first two FC layers")
    lr_factor: float = option(
        0.1, "what multiplies the rate when validation accuracy stops improving"
    )
    lr_drops: int = option(3, "how often it does; the next plateau ends the training")
    patience: int = option(
        4, "epochs without a better validation accuracy that are waited through (not in the paper)"
    )
    max_epochs: int = option(74, "epochs at most")
    init: str = option("he", f"random start: {', '.join(INIT_SCHEMES)}")
    flip: bool = option(True, "random horizontal flips")
    colour: bool = option(True, "random RGB colour shift")
    gain: float = option(1.0, "what multiplies the mean-subtracted pixels (paper: 1)")
    width: float = option(1.0, "what multiplies all channel counts (paper: 1)")
    batch_norm: bool = option(False, "batch normalisation (not in the paper)")
    seed: int = option(0, "seed of weights, order, crops, colours and dropout")

    def __post_init__(self) -> None:
        known = isinstance(self.config, str) and self.config in CONFIGS
        needs(known, "config", self.config, f"one of {', '.join([*CONFIGS, *CONFIGS.aliases])}")
        self._set("config", CONFIGS[self.config].name)
        for name in ("crop", "batch_size", "max_epochs"):
            self._set(name, whole(name, getattr(self, name), low=1))
        for name in ("lr_drops", "patience", "seed"):
            self._set(name, whole(name, getattr(self, name), low=0))
        for name in ("lr", "gain", "width"):
            self._set(name, positive(name, getattr(self, name)))
        for name in ("momentum", "dropout"):
            value = number(name, getattr(self, name), low=0)
            needs(value < 1, name, value, "a number of at least 0 and below 1")
            self._set(name, value)
        self._set("weight_decay", number("weight_decay", self.weight_decay, low=0))
        between = is_number(self.lr_factor) and 0 < self.lr_factor < 1
        needs(between, "lr_factor", self.lr_factor, "a number between 0 and 1; the paper has 0.1")
        for name in ("flip", "colour", "batch_norm"):
            flag(name, getattr(self, name))
        choice("init", self.init, INIT_SCHEMES)
        low, high = pair("scales", self.scales, low=1)
        right = is_whole(low, self.crop) and is_whole(high)
        needs(right, "scales", self.scales, f"whole pixels, at least the crop, {self.crop}")
        jittered = isinstance(self.scales, list | tuple)
        self._set("scales", (int(low), int(high)) if jittered else int(low))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # a frozen dataclass sets its own fields so

    @property
    def test_scale(self) -> int:
        """Q of the validation inside ``fit``: S, or the middle of a range (Sect. 4.1)."""
        return self.scales if isinstance(self.scales, int) else sum(self.scales) // 2

    def fine_tune(self, scales: int | tuple[int, int] = 384, lr: float = 1e-3) -> Recipe:
        """The second and third stage of Sect. 3.1: S=384 from the S=256 net at 1e-3; S in
        [256, 512] from the S=384 net, all layers.

        The paper gives no rate for the jittered stage; 1e-3 is taken for it too.
        """
        return replace(self, scales=scales, lr=lr)

    def net(self, num_classes: int) -> Network:
        """The recipe's network, its weights drawn by ``init`` from ``seed``."""
        return build(
            self.config,
            num_classes,
            batch_norm=self.batch_norm,
            width=self.width,
            image_size=self.crop,
            dropout=self.dropout,
            init=self.init,
            generator=torch.Generator().manual_seed(self.seed),
        )
