"""What one photograph costs D at full width on a processor: seconds and memory of a dense pass at
the paper's three test sizes (Sect. 3.2, 4.2).

    python -m experiments.dense_cost

Random weights do: a multiplication takes as long whatever the numbers. Each size has a process of
its own, so that the peak of memory is its own, PyTorch included. Writes results/dense-cost.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

from benchmarks.record import ROOT, provenance

SCALES = (256, 384, 512)
ROUNDS = 3
OUT = ROOT / "results" / "dense-cost.json"


def measure(scale: int) -> dict:
    """Seconds, memory and multiply-adds of the flower at shorter side ``scale``, unmirrored."""
    import torch

    from vggbook import build
    from vggbook.book.photos import photograph
    from vggbook.data import isotropic_resize
    from vggbook.evaluate import dense_macs, predict

    flower = photograph("flower")
    size = tuple(isotropic_resize(flower, scale).shape[1:])
    net = build("D", generator=torch.Generator().manual_seed(0)).eval()
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        predict(net, [flower], "dense", scale, flip=False)
        seconds.append(round(time.perf_counter() - start, 2))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "Q": scale,
        "image": size,
        "seconds": seconds,
        "peak_bytes": peak * (1 if sys.platform == "darwin" else 1024),
        "macs": dense_macs("D", size),
    }


def main() -> None:
    """Measure each size in a process of its own and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--scale", type=int, help="measure this size alone, and print it")
    scale = parser.parse_args().scale
    if scale:
        print(json.dumps(measure(scale)))
        return
    origin = provenance("cpu", 0)
    rows = []
    for q in SCALES:
        command = [sys.executable, "-m", "experiments.dense_cost", "--scale", str(q)]
        r = subprocess.run(
            command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        rows.append(json.loads(r.stdout.splitlines()[-1]))
        print(rows[-1])
    OUT.write_text(json.dumps({"provenance": origin, "rows": rows}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
