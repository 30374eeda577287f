"""The state of a training: what a step or an epoch changes, and so what a checkpoint holds."""

from __future__ import annotations

import math
import time
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ..data import Eigen, Loader
from ..model import Network
from .checkpoint import FORMAT, CheckpointError, save_checkpoint
from .history import History, Row
from .options import Options
from .recipe import Recipe


class Diverged(FloatingPointError):
    """The loss became NaN or infinite. ``step``, ``lr`` and ``checkpoint`` (the last good one, or
    None) tell where."""

    def __init__(self, what: str, step: int, lr: float, checkpoint: Path | None) -> None:
        self.step, self.lr, self.checkpoint = step, lr, checkpoint
        super().__init__(
            f"{what} at step {step}, learning rate {lr:g}; "
            f"last good checkpoint: {checkpoint or 'none'}. "
            "Try a smaller lr, another init, or layers from a trained net (init_from)"
        )


def sgd(net: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.SGD:
    """SGD with momentum and weight decay (Sect. 3.1), in few calls: v = 0.9 v + g + 5e-4 w and
    w = w - lr v."""
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    how = {"cuda": {"fused": True}, "cpu": {"foreach": True}}.get(device.type, {})
    return torch.optim.SGD(
        weights, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, **how
    )


class Training:
    """Weights, velocities, the rate's rule, curves, and how far the run is."""

    def __init__(
        self,
        recipe: Recipe,
        net: Network,
        loader: Loader,
        device: torch.device,
        scaler: torch.amp.GradScaler,
        eigen: Eigen | None = None,
        frozen: dict[str, list[nn.Module]] | None = None,
    ) -> None:
        self.recipe, self.net, self.loader, self.scaler = recipe, net, loader, scaler
        self.eigen, self.frozen = eigen, frozen or {}
        for module in self.fixed:
            module.requires_grad_(False)
        self.optimizer = sgd(net, recipe, device)
        self.plateau = ReduceLROnPlateau(
            self.optimizer,
            mode="max",
            factor=recipe.lr_factor,
            patience=recipe.patience,
            threshold=0,
            eps=0,
        )
        self.history, self.best, self.drops = History(), -math.inf, 0
        self.epoch, self.step, self.ended = 0, 0, ""  # epochs done; steps of this epoch done
        self.skipped: set[str] = set()  # unreadable images, and why
        self.written: Path | None = None
        self.hinted = False  # that the loss is that of guessing
        self._pending: deque[Tensor] = deque()
        self._lag = int(device.type == "cuda")  # read losses a step late: the GPU never waits

    @property
    def lr(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.loader.dataset.classes)

    @property
    def fixed(self) -> list[nn.Module]:
        """The modules of frozen layers."""
        return [module for modules in self.frozen.values() for module in modules]

    def train_mode(self) -> None:
        """Dropout on; statistics of frozen batch normalisation stay as they are."""
        self.net.train()
        for module in self.fixed:
            module.eval()

    def release(self) -> None:
        self.net.eval()
        for module in self.fixed:
            module.requires_grad_(True)

    def count(self, loss: Tensor) -> None:
        """A step is done; its loss goes into the history, on a GPU one step later."""
        self.step += 1
        self._pending.append(loss)
        self.read_losses(self._lag)

    def read_losses(self, behind: int = 0) -> None:
        """Wait for all losses but the last ``behind``."""
        while len(self._pending) > behind:
            loss = float(self._pending.popleft())
            if not math.isfinite(loss):
                raise self._diverged(f"the loss is {loss}", more=1)
            self.history.losses.append(loss)

    def _diverged(self, what: str, more: int = 0) -> Diverged:
        """Where the losses end, or ``more`` steps behind it."""
        return Diverged(what, len(self.history.losses) + more, self.lr, self.written)

    def close_epoch(self, measured: tuple[float, float] | None, rate: float, skipped: int) -> bool:
        """Write the epoch's row from (validation loss, accuracy), images a second and images
        skipped; let the plateau rule decide. Returns whether it is the best one so far."""
        loss, accuracy = measured or (None, None)
        if loss is not None and not math.isfinite(loss):
            raise self._diverged(f"the validation loss is {loss}")
        losses, lr = self.history.losses[-len(self.loader) :], self.lr
        row: Row = {
            "epoch": self.epoch + 1,
            "lr": lr,
            "train_loss": math.fsum(losses) / len(losses),
            "val_loss": loss,
            "val_accuracy": accuracy,
            "images_per_s": rate,
            "skipped": skipped,
        }
        self.history.rows.append(row)
        self.epoch, self.step = self.epoch + 1, 0
        better = False
        if accuracy is not None:
            self.plateau.step(accuracy)
            self.drops += self.lr < lr
            better = accuracy > self.best
            self.best = max(accuracy, self.best)
        self._look_for_the_end()
        return better

    def _look_for_the_end(self) -> None:
        if self.drops > self.recipe.lr_drops:
            self.ended = (
                "validation accuracy stopped improving after "
                f"{self.recipe.lr_drops} drops of the learning rate"
            )
        elif self.epoch >= self.recipe.max_epochs:
            self.ended = f"max_epochs={self.recipe.max_epochs} reached"

    def as_dict(self) -> dict[str, Any]:
        """What a checkpoint holds: tensors and plain values. Diverged for a weight that is not
        finite."""
        if not all(bool(weight.isfinite().all()) for weight in self.net.parameters()):
            raise self._diverged("a weight is not finite")
        eigen = self.eigen and [torch.as_tensor(part).cpu() for part in self.eigen]
        state = {
            "format": FORMAT,
            "recipe": asdict(self.recipe),
            "classes": list(map(str, self.classes)),
            "images": len(self.loader.dataset),
            "skipped": dict(self.loader.skipped),
            "model": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "plateau": self.plateau.state_dict(),
            "scaler": self.scaler.state_dict(),
            "mean": self.loader.mean.cpu(),
            "eigen": eigen,
            "epoch": self.epoch,
            "step": self.step,
            "drops": self.drops,
            "best": self.best,
            "ended": self.ended,
            "rows": self.history.rows,
            "losses": torch.tensor(self.history.losses),  # float32, as they were
        }
        return state | ({"frozen": list(self.frozen)} if self.frozen else {})

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to where a checkpoint was written."""
        self.net.load_state_dict(state["model"])
        group = self.optimizer.param_groups[0]
        how = {name: group[name] for name in ("fused", "foreach")}
        self.optimizer.load_state_dict(state["optimizer"])
        self.optimizer.param_groups[0].update(how)  # this machine's, not the checkpoint's
        self.plateau.load_state_dict(state["plateau"])
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.history = History(state["rows"], state["losses"].tolist())
        self.loader.skipped.update(state["skipped"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.drops, self.best = state["drops"], state["best"]
        self.written = state["path"]
        self._look_for_the_end()  # anew: ``max_epochs`` may have grown


class Keeper:
    """Writes last.pt, previous.pt and best.pt of a run into its folder; without one, nothing."""

    def __init__(self, folder: Path | None, options: Options) -> None:
        self.folder, self.seconds = folder, 60 * options.save_minutes
        self.saved_at = time.monotonic()

    def now_and_then(self, at: Training) -> None:
        """Renew last.pt within an epoch where it is too old."""
        old = time.monotonic() - self.saved_at >= self.seconds
        if self.folder and old and at.step < len(at.loader):
            self.save(at)

    def save(self, at: Training, names: Sequence[str] = ("last.pt",)) -> None:
        """Write a checkpoint under these names. Where that fails, training goes on and the next
        attempt follows; only at the end is it an error."""
        at.read_losses()
        if self.folder is not None:
            state = at.as_dict()
            try:
                for name in names:
                    keep = self.folder / "previous.pt" if name == "last.pt" else None
                    save_checkpoint(state, self.folder / name, keep)
                at.written = self.folder / "last.pt"
            except CheckpointError as error:
                if at.ended:
                    raise
                warnings.warn(f"{error} Training goes on.", stacklevel=4)  # who called fit
        self.saved_at = time.monotonic()
