"""The command line of testing: errors on a folder of images, beside the paper's rows."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..checks import Parser, expected
from ..configs import CONFIGS
from ..data import open_dataset
from ..train.machine import process_group
from ..weights import FAMILIES, load_weights
from .errors import Evaluation, evaluate
from .posteriors import AVERAGES, METHODS
from .printed import paper_rows


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of at least 1")
    return int(text)


def _device(text: str) -> str:
    try:
        torch.zeros((), device=text).item()
    except (RuntimeError, AssertionError) as error:
        what = f"expected a device that computes ({str(error).splitlines()[0]})"
        raise argparse.ArgumentTypeError(f"{text!r}: {what}") from None
    return text


def _parser() -> Parser:
    parser = Parser(prog="python -m vggbook.evaluate", description=main.__doc__)
    add = parser.add_argument
    whole: dict[str, Any] = {"type": _whole, "metavar": "N"}
    add("--data", required=True, help="folder with val/class/image inside, or such a val itself")
    files = ".pth or .caffemodel file, or torchvision's name; several are fused"
    add("--weights", required=True, nargs="+", metavar="FILE", help=files)
    add("--config", choices=[*CONFIGS, *CONFIGS.aliases], help="default: as the file tells")
    add("--family", choices=list(FAMILIES), help="preprocessing, where the file does not tell")
    add("--sha256", nargs="+", metavar="HEX", help="checksums of the files, in their order")
    add("--method", default="dense", choices=METHODS)
    sides = "smallest sides of the test images"
    add("--scales", nargs="+", type=_whole, default=[256, 384, 512], metavar="Q", help=sides)
    add("--crop", default=224, help="pixels a side that the net was trained on", **whole)
    add("--grid", default=5, help="crops a side; 1 is the centre crop", **whole)
    add("--no-flip", action="store_true", help="leave out the mirrored images")
    add("--average", default="posterior", choices=AVERAGES)
    add("--block", default=64, help="images held at a time", **whole)
    add("--on-error", default="error", choices=("error", "skip"), help="at an unreadable image")
    add("--device", type=_device, help="default: cuda where there is one")
    add("--json", metavar="FILE", help="also write the result, confusion included, to this file")
    record = "also write a recorded run to this file: errors, the paper's rows, provenance"
    add("--save", metavar="FILE", help=record)
    return parser


def _try_to_write(path: Path) -> None:
    """Raise OSError unless a file can be written there; an existing one is left as it is."""
    existed = path.exists()
    with open(path, "ab"):
        pass
    if not existed:
        path.unlink(missing_ok=True)


def _evaluate(args: argparse.Namespace, device: str) -> tuple[list[str], Evaluation]:
    """Names of the configurations, and the errors."""
    path = Path(args.data)
    is_split = path.name in ("train", "val", "test")
    root, split = (path.parent, path.name) if is_split else (path, "val")
    dataset = open_dataset("folder", root, split)
    loaded = {"family": args.family, "image_size": args.crop}
    nets = [
        load_weights(source, args.config, sha256=sha256, **loaded).to(device)
        for source, sha256 in zip(args.weights, args.sha256 or [None] * len(args.weights))
    ]
    result = evaluate(
        nets,
        dataset,
        args.method,
        args.scales,
        not args.no_flip,
        grid=args.grid,
        average=args.average,
        block=args.block,
        on_error=args.on_error,
        dtype=torch.bfloat16 if device.startswith("cuda") else None,
    )
    return [net.config.name for net in nets], result


def _report(args: argparse.Namespace, configs: Sequence[str], result: Evaluation) -> None:
    """Print the errors, what was skipped and the paper's rows; write the file of ``--json``."""
    scales = ", ".join(map(str, args.scales))
    print(f"{'+'.join(configs)}, {args.method}, Q = {scales}: {result}")
    for reason in result.skipped.values():
        print(f"  skipped: {reason}")
    as_in_the_paper = not args.no_flip and args.grid == 5 and args.average == "posterior"
    rows = paper_rows(configs, args.method, args.scales) if as_in_the_paper else []
    for row in rows:
        S = "[{};{}]".format(*row["S"]) if isinstance(row["S"], list) else row["S"]
        where = f"  paper, Table {row['table']}, {row['config']}, S = {S}"
        print(f"{where}: top-1 error {row['top1']} %, top-5 error {row['top5']} %")
    if args.json:
        classes = [str(name) for name in result.classes]
        record = {**result.as_dict(), "classes": classes, "arguments": vars(args)}
        Path(args.json).write_bytes(json.dumps(record).encode())
    if args.save:
        run = _recorded(args, configs, result, rows)
        text = json.dumps(run, indent=1) + "\n"  # as results/*.json are written
        Path(args.save).write_bytes(text.encode())


def _recorded(
    args: argparse.Namespace, configs: Sequence[str], result: Evaluation, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """The errors, each beside the paper's, and what one needs to judge and repeat the run."""
    from ..book.provenance import of_run  # the way of data ends there; it imports nothing of ours

    options = {k: v for k, v in vars(args).items() if k not in ("data", "json", "save", "command")}
    return {
        "nets": list(configs),
        "options": options,
        "images": result.n,
        "classes": len(result.classes),
        "skipped": len(result.skipped),
        "top1": result.top1,
        "top5": result.top5,
        "paper": rows,
        "provenance": of_run(args.command, args.device),
    }


def main(argv: Sequence[str] | None = None) -> Evaluation:
    """Errors on a folder of images in ImageNet's layout, beside the paper's rows.

    What cannot be done ends with one line on standard error and exit status 2. Under torchrun the
    images are shared out, and the first process reports.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    words = sys.argv[1:] if argv is None else argv
    args.command = shlex.join(["python", "-m", "vggbook.evaluate", *words])
    if args.sha256 and len(args.sha256) != len(args.weights):
        what = f"a checksum for each of the {len(args.weights)} files of --weights"
        parser.fail(expected("--sha256", args.sha256, what))
    device = args.device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        for file in filter(None, (args.json, args.save)):
            _try_to_write(Path(file))
        if device == "cuda" and "RANK" in os.environ:  # torchrun's: a GPU each
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        with process_group(torch.device(device)):
            configs, result = _evaluate(args, device)
        if int(os.environ.get("RANK", 0)) == 0:
            _report(args, configs, result)
    except (ValueError, OSError) as error:
        parser.fail(str(error))
    return result
