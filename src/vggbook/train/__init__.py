"""Training as Sect. 3.1 describes it, on one core or on a node of GPUs, resumable to the bit.

    recipe = Recipe("B", lr=1e-2, scales=256)            # a field not given is the paper's value
    run = fit(recipe, train_set, val_set, out="runs/b")  # -> Run; again after a crash: it goes on
    run.model, run.history, run.mean, run.classes        # run.history.plot(), print(run.history)
    run = load_run("runs/b/best.pt")                     # from a file; also last.pt, previous.pt

    # S=384 from S=256 at 1e-3, then jittered S from S=384
    run_384 = fit(recipe.fine_tune(384), ..., init_from="runs/b/last.pt")
    fit(recipe.fine_tune((256, 512)), ..., init_from=run_384.model)

    fit(Recipe("D"), ..., init_from=run_a.model)         # four conv and three FC layers of A
    copy_layers(net_a, net_d)                            # the same by hand, by name

    # released weights, other classes: all but the last layer are copied; convolutions stay fixed
    fit(Recipe("D", lr=1e-3), ..., init_from="vgg16", freeze="conv")

A data set is what :mod:`vggbook.data` calls one. ``out=None`` keeps nothing on disk. From a shell:
``python -m vggbook.train --help``; ``torchrun --nproc_per_node=N -m vggbook.train ...`` splits each
batch over N processes and gives the same weights.

Nothing random is drawn from a stream: order, crops and colours (:mod:`vggbook.data`) and dropout
masks (:class:`KeyedDropout`) are functions of (seed, epoch, image). So neither a crash, nor the
number of processes, nor micro-batches change what is trained.

Rooms: ``loop`` has the loop; ``recipe`` what is trained, ``options`` how; ``transfer`` layers from
trained nets, ``sources`` where those come from; ``start`` what precedes the first step; ``state``
what a step changes; ``machine`` devices, processes and memory; ``checkpoint`` files; ``history``
curves; ``dropout`` its masks.
"""

from .checkpoint import FORMAT, CheckpointError, Run, load_checkpoint, load_run, save_checkpoint
from .dropout import KeyedDropout
from .history import History
from .loop import fit
from .options import Options
from .recipe import Recipe
from .state import Diverged
from .transfer import copy_layers, named_layers

__all__ = [
    "FORMAT",
    "CheckpointError",
    "Diverged",
    "History",
    "KeyedDropout",
    "Options",
    "Recipe",
    "Run",
    "copy_layers",
    "fit",
    "load_checkpoint",
    "load_run",
    "main",
    "named_layers",
    "save_checkpoint",
]


def main(argv: list[str] | None = None) -> Run:
    """The command line; see ``python -m vggbook.train --help``."""
    from .__main__ import main as run

    return run(argv)
