"""The machine: device, arithmetic, processes, and gradients that fit its memory (Sect. 3.3).

Nothing here changes what is trained, but for rounding.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import choice, expected, needs
from ..timing import cores
from .dropout import KeyedDropout
from .options import PRECISIONS
from .recipe import Recipe

TYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str | torch.device) -> torch.device:
    """The device of that name, made this process's own; "auto" is a GPU where there is one. Under
    torchrun "cuda" is the GPU of the process's number. ValueError for a device that is not here."""
    cuda = torch.cuda.is_available()
    try:
        device = torch.device(("cuda" if cuda else "cpu") if str(name) == "auto" else name)
    except (RuntimeError, TypeError):
        what = "a device: 'auto', 'cpu', 'cuda', 'cuda:1', ..."
        raise ValueError(expected("device", name, what)) from None
    if device.type == "cuda":
        needs(cuda, "device", str(name), "'auto' or 'cpu' here, where PyTorch sees no GPU")
        count = torch.cuda.device_count()
        if device.index is None:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % count)
        what = f"one of the {count} GPUs here, cuda:0 to cuda:{count - 1}"
        needs(device.index < count, "device", str(name), what)
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True  # all batches have one shape
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype | None:
    """The type of autocast; None for fp32. "auto": bf16 from compute capability 8.0 on, fp16 on
    older GPUs, fp32 elsewhere."""
    choice("precision", name, PRECISIONS)
    right = name != "fp16" or device.type == "cuda"
    needs(right, "precision", name, "'auto' or 'fp32' here, since fp16 needs a GPU")
    if name != "auto":
        return TYPES[name]
    if device.type != "cuda":
        return None
    modern = torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.bfloat16 if modern else torch.float16


def share_threads(processes: int) -> None:
    """Share the cores that this process may use among the processes of this machine, unless
    OMP_NUM_THREADS says otherwise."""
    if "OMP_NUM_THREADS" in os.environ:
        return
    torch.set_num_threads(max(1, min(torch.get_num_threads(), cores() // processes)))


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Under torchrun: the processes know each other."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or dist.is_initialized():
        yield
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(hours=2))  # a pass for the mean may be long
    try:
        yield
    finally:
        dist.destroy_process_group()


def world() -> tuple[int, int]:
    """(rank, number of processes): (0, 1) outside torchrun."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def from_first(value: Any, device: torch.device) -> Any:
    """The first process's value, on every process."""
    if world()[1] == 1:
        return value
    shared = [value]
    dist.broadcast_object_list(shared, device=device if device.type == "cuda" else None)
    return shared[0]


def summed(values: Tensor, device: torch.device) -> Tensor:
    """The sum over all processes, whose nets are on such a device; on the CPU."""
    if world()[1] > 1:
        values = values.to(device if device.type == "cuda" else "cpu")
        dist.all_reduce(values)
    return values.cpu()


def gathered(value: Any) -> list[Any]:
    """What every process has for it, by rank."""
    parts = [value] * world()[1]
    if len(parts) > 1:
        dist.all_gather_object(parts, value)
    return parts


class Machine:
    """A net on its device, with gradients of whole batches however little memory there is.

    ``gradient`` gives a batch's mean loss and fills every ``.grad``; ``update`` takes the step;
    ``logits`` evaluates; ``total`` adds up over all processes.
    """

    def __init__(
        self,
        net: nn.Module,
        recipe: Recipe,
        device: torch.device,
        dtype: torch.dtype | None = None,
        compile: bool = False,
        micro_batch: int | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.rank, self.world = world()
        self.recipe, self.device, self.dtype, self.say = recipe, device, dtype, say
        self.share = recipe.batch_size // self.world  # images a step on this process
        self.micro = min(micro_batch or self.share, self.share)
        self.net = net.to(device).to(memory_format=torch.channels_last)
        self.features = cast(nn.Module, self.net.features)
        self.dropouts = KeyedDropout.install(self.net)
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        self.graphs = compile and device.type == "cuda"
        if compile:  # in place: the weights keep their names; masks are drawn outside of it
            mode = "reduce-overhead" if self.graphs else None
            self.features.compile(dynamic=False, mode=mode)
        self.forward: Any = self.net
        self.proven = self.world == 1  # that this micro-batch fits the memory of every process
        if self.world > 1:
            ids = [device.index] if device.type == "cuda" else None
            self.forward = nn.parallel.DistributedDataParallel(
                self.net, device_ids=ids, gradient_as_bucket_view=True
            )

    def gradient(self, images: Tensor, labels: Tensor, indices: Tensor, epoch: int) -> Tensor:
        """The mean soft-max loss of a batch, (); its gradient in ``.grad``. A batch that does not
        fit the memory of the GPU is worked off in halves of halves."""
        batch = images, labels, indices, epoch
        if self.world > 1 and not self.proven:
            self._rehearse(batch)
        while True:
            buffers = self._buffers()
            try:
                return self._accumulate(*batch)
            except torch.cuda.OutOfMemoryError:
                if self.micro == 1 or self.world > 1:
                    raise
            self._undo(buffers)
            self._halve()

    def _rehearse(self, batch: tuple[Tensor, Tensor, Tensor, int]) -> None:
        """Once, without exchange: all processes must agree on a micro-batch that fits all."""
        while not self.proven:
            buffers, failed = self._buffers(), torch.zeros((), device=self.device)
            try:
                self._accumulate(*batch, alone=True)
            except torch.cuda.OutOfMemoryError:
                if self.micro == 1:
                    raise
                failed.fill_(True)
            dist.all_reduce(failed, dist.ReduceOp.MAX)
            self._undo(buffers)
            self.proven = not failed
            if failed:
                self._halve()

    def _buffers(self) -> list[Tensor]:
        """Batch norm's statistics, if any: a failed attempt must leave no trace in them."""
        return [buffer.clone() for buffer in self.net.buffers()]

    def _undo(self, buffers: list[Tensor]) -> None:
        self.net.zero_grad()
        for buffer, old in zip(self.net.buffers(), buffers):
            buffer.copy_(old)

    def _halve(self) -> None:
        torch.cuda.empty_cache()
        self.micro = (self.micro + 1) // 2
        self.say(
            f"out of GPU memory: going on with micro-batches of {self.micro}; "
            f"the batch stays {self.recipe.batch_size}"
        )

    def _accumulate(
        self, images: Tensor, labels: Tensor, indices: Tensor, epoch: int, alone: bool = False
    ) -> Tensor:
        """Add up the gradients of the micro-batches: exactly the whole batch's, as every term is
        an image's loss over the number of images."""
        total = torch.zeros((), device=self.device)
        starts = range(0, max(len(images), 1), self.micro)
        for at in starts:
            rows = slice(at, at + self.micro)
            for layer, dropout in enumerate(self.dropouts):
                dropout.key = (self.recipe.seed, epoch, layer, indices[rows])
            # DistributedDataParallel averages over the processes in the last backward
            silent = self.world > 1 and (alone or at != starts[-1])
            with self.forward.no_sync() if silent else contextlib.nullcontext():
                logits = self.logits(images[rows], self.forward)  # (n, classes)
                loss = F.cross_entropy(logits, labels[rows], reduction="sum") / self.share
                self.scaler.scale(loss).backward()
            total += loss.detach()
        if self.world > 1 and not alone:
            dist.all_reduce(total)
            total /= self.world
        return total

    def logits(self, images: Tensor, net: nn.Module | None = None) -> Tensor:
        """Class scores float32 (N, classes) in the machine's precision."""
        if self.graphs:
            torch.compiler.cudagraph_mark_step_begin()  # a recorded graph may reuse its memory
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            return (self.net if net is None else net)(images).float()

    def update(self, optimizer: torch.optim.Optimizer) -> None:
        """The optimizer's step, on gradients that fp16 had scaled up."""
        self.scaler.step(optimizer)
        self.scaler.update()

    def total(self, values: Tensor) -> Any:
        """The sum over all processes, as plain numbers."""
        return summed(values, self.device).tolist()

    def union(self, values: set[str]) -> set[str]:
        """The union over all processes."""
        return set().union(*gathered(values))

    def release(self) -> None:
        """The net is an ordinary one again: dropout by chance, any size without compiling."""
        for dropout in self.dropouts:
            dropout.key = None
        self.features._compiled_call_impl = None
