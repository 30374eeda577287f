"""``python -m vggbook.train``: train from a shell. Each error is one line and exit status 2."""

from __future__ import annotations

import argparse
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ..checks import Parser, needs, whole
from ..data import ShapesDataset, in_memory, open_dataset
from .checkpoint import CheckpointError, Run, locked
from .loop import fit
from .machine import choose_device, choose_precision, process_group, world
from .options import PRECISIONS, Options
from .recipe import Recipe
from .sources import trained
from .state import Diverged

SETS = ("shapes", "cifar10", "stl10", "imagenette", "imagenet", "folder")


def parser() -> Parser:
    p = Parser(
        prog="python -m vggbook.train",
        description="Train a network of the VGG paper by its recipe (Sect. 3.1).",
        epilog="torchrun --nproc_per_node=N -m vggbook.train ... splits batches over N processes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    group = p.add_argument_group("recipe")
    for f in fields(Recipe):
        kind: dict[str, Any] = {"type": type(f.default), "metavar": f.name.upper()}
        if isinstance(f.default, bool):
            kind = {"action": argparse.BooleanOptionalAction}
        elif f.name == "scales":
            kind |= {"nargs": "+", "metavar": "S"}
        name = "--" + f.name.replace("_", "-")
        group.add_argument(name, default=f.default, help=f.metadata["help"], **kind)

    add = p.add_argument_group("data").add_argument
    add("--data", required=True, choices=SETS, help="data set")
    add("--root", type=Path, help="where the data set lies; needed for all but shapes")
    add("--download", action="store_true", help="fetch the set into --root where it is missing")
    add("--images", type=int, default=8192, help="shapes: training images")
    add("--val-images", type=int, default=2048, help="shapes: validation images")
    add("--in-memory", action="store_true", help="render or decode the sets once and keep them")
    text = "mean RGB, 0 to 255; without it a pass over the training set"
    add("--mean", type=float, nargs=3, metavar=("R", "G", "B"), help=text)
    text = "what an unreadable image does; skipped ones are named at the end"
    add("--on-error", choices=("error", "skip"), default="error", help=text)
    add("--workers", type=int, default=0, help="processes that read images")

    add = p.add_argument_group("run").add_argument
    text = "folder of the run; one that holds a run is continued"
    add("--out", type=Path, required=True, help=text)
    text = "checkpoint, released weights or vgg16, ... to start from: all layers of the same net, "
    text += "or four conv and three FC layers of A; the last one where the classes are as many"
    add("--init-from", metavar="FILE", help=text)
    text = "layers that stay as they are, or beginnings of names: conv, conv1, fc1, ..."
    add("--freeze", nargs="+", default=(), metavar="LAYER", help=text)
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    add("--precision", default="auto", choices=PRECISIONS, help="arithmetic")
    text = "hand the convolutions to torch.compile (worth it on a GPU only)"
    add("--compile", action="store_true", help=text)
    text = "images a pass and process; by default the whole share, halved when memory runs out"
    add("--micro-batch", type=int, help=text)
    text = "age at which a checkpoint is renewed within an epoch"
    add("--save-minutes", type=float, default=10.0, help=text)
    return p


def check(args: argparse.Namespace) -> tuple[Recipe, Options]:
    """Recipe and options; every argument, and the output path, is tried before any data is read."""
    values = {f.name: getattr(args, f.name) for f in fields(Recipe)}
    if isinstance(args.scales, list):
        values["scales"] = args.scales[0] if len(args.scales) == 1 else tuple(args.scales)
    recipe = Recipe(**values)
    device = choose_device(args.device)
    given = {f.name: getattr(args, f.name) for f in fields(Options) if f.name in args}
    options = Options(**given | {"device": device})
    choose_precision(args.precision, device)
    processes = int(os.environ.get("WORLD_SIZE", 1))
    divides = recipe.batch_size % processes == 0
    needs(divides, "--batch-size", recipe.batch_size, f"a multiple of the {processes} processes")
    if args.data == "shapes":
        whole("--images", args.images, low=recipe.batch_size)
        whole("--val-images", args.val_images, low=1)
    else:
        needs(args.root is not None, "--root", None, f"the folder of {args.data}")
        there = args.download or args.root.is_dir()
        needs(there, "--root", str(args.root), "a folder; --download fetches a public set")
    fetched = not args.download or args.data not in ("imagenet", "folder")
    needs(fetched, "--download", True, f"no such option, since {args.data} cannot be downloaded")
    if args.init_from is not None:
        trained(args.init_from, recipe.crop)
    file = args.out.exists() and not args.out.is_dir()
    needs(not file, "--out", str(args.out), "a folder; this is a file")
    if int(os.environ.get("RANK", 0)) == 0:
        with locked(args.out):
            pass
    return recipe, options


def open_sets(args: argparse.Namespace, recipe: Recipe) -> tuple[list[Any], list[str]]:
    """The training and the validation set, and why images could not be read into memory."""
    if args.data == "shapes":
        size = recipe.scales if isinstance(recipe.scales, int) else max(recipe.scales)
        counts = {"train": args.images, "val": args.val_images}
        sets: list[Any] = [
            ShapesDataset(split, n, recipe.seed, size=size) for split, n in counts.items()
        ]
    else:
        rank, processes = world()
        if args.download and processes > 1:  # one process fetches, the others wait
            if rank == 0:
                open_dataset(args.data, args.root, "train", download=True)
            dist.barrier()
        sets = [
            open_dataset(args.data, args.root, split, download=args.download)
            for split in ("train", "val")
        ]
    lost: list[str] = []
    if args.in_memory:
        for i, dataset in enumerate(sets):
            skipped: dict[int, str] = {}
            sets[i] = in_memory(dataset, on_error=args.on_error, skipped=skipped)
            lost += skipped.values()
    return sets, lost


def main(argv: list[str] | None = None) -> Run:
    """The command line. Returns the run."""
    p = parser()
    args = p.parse_args(argv)
    try:
        recipe, options = check(args)
        with process_group(torch.device(options.device)):
            (train, val), lost = open_sets(args, recipe)
            run = fit(recipe, train, val, args.out, init_from=args.init_from, options=options)
            if world()[0] == 0:
                if lost:
                    names = "; ".join(lost)
                    print(f"{len(lost)} unreadable images were not taken into memory: {names}")
                print(f"ended: {run.ended}; {run.checkpoint}")
            return run
    except KeyboardInterrupt:
        p.exit(130, f"{p.prog}: interrupted; the same command goes on from {args.out}\n")
    except (OSError, ValueError, CheckpointError, Diverged, torch.cuda.OutOfMemoryError) as error:
        p.fail(f"{type(error).__name__}: {error}")


def run() -> None:
    """The installed command; nothing is returned, so that its exit status is 0."""
    main()


if __name__ == "__main__":
    run()
