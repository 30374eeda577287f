"""Make the book's miniatures: trained nets of the second plan in half precision, with checksums
and where they come from.

    python -m experiments.miniatures --seed 200 --nets A/256 D/256 D/256-512 E/256 E/256-512

Reads results/section4-two/ and _build/section4-two/; writes results/miniatures/. Nets that lie
there already and are not named stay as they are.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import torch

from benchmarks.record import provenance
from experiments.section4_two import ROOT, write
from vggbook.data import ShapesDataset

LARGEST = 1_500_000  # bytes of a file


def short(name: str) -> str:
    """D/256 -> D, D/256-512 -> D-jitter."""
    config, _, S = name.partition("/")
    return config + ("-jitter" if "-" in S else "")


def pack(name: str, seed: int, grid: str, out: Path) -> dict:
    """Write one net in half precision; return its entry."""
    stem = f"{name.replace('/', '_')}_seed{seed}"
    record = json.loads((ROOT / "results" / grid / f"{stem}.json").read_text(encoding="utf-8"))
    saved = torch.load(ROOT / "_build" / grid / f"{stem}.pt", weights_only=True)
    target = out / f"{short(name)}.pt"
    half = {key: value.contiguous().half() for key, value in saved["net"].items()}
    torch.save(half, target)
    content = target.read_bytes()
    if len(content) > LARGEST:
        raise ValueError(f"{target.name} has {len(content):,} bytes: expected at most {LARGEST:,}")
    design = record["design"]
    kept = ("width", "crop", "gain", "difficulty", "hint", "train")
    return {
        "file": target.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "config": name.partition("/")[0],
        "mean": saved["mean"].tolist(),
        "classes": list(ShapesDataset().classes),
        **{key: design[key] for key in kept},
        "S": [round(int(s) * design["crop"] / 224) for s in name.partition("/")[2].split("-")],
        "run": record["run"],
        "result": f"{grid}/{stem}.json",
        "errors": record["errors"],
        "train_error": record["train_error"],
        "commit": record["provenance"]["commit"],
        "date": record["provenance"]["date"],
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.miniatures", description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--nets", nargs="+", required=True, metavar="NAME")
    parser.add_argument("--grid", default="section4-two", help="folder of the runs under results/")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "miniatures")
    given = parser.parse_args(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    entries = {short(name): pack(name, given.seed, given.grid, given.out) for name in given.nets}
    index = given.out / "miniatures.json"
    before = json.loads(index.read_text(encoding="utf-8")) if index.exists() else {}
    made = provenance("cpu", given.seed)
    if command := before.get("provenance", {}).get("command"):
        made["command"] = f"{command}; {made['command']} --nets {' '.join(given.nets)}"
    write(index, {"provenance": made, "nets": before.get("nets", {}) | entries})
    for name, entry in entries.items():
        print(f"{name}: {entry['bytes']:,} bytes, {entry['errors']}")


if __name__ == "__main__":
    main()
