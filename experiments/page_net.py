"""The net of the page "See it think": ``python -m experiments.page_net`` trains and exports it.

It is D at an eighth of the width with two hidden FC layers of 256 instead of 512, so that its
weights stay below 400 kB. It is trained with S drawn for each picture, as Sect. 3.1 does, because
the page lets the reader choose the test scale.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import torch

from benchmarks.record import provenance
from experiments.loop import Schedule, measured_start, train
from vggbook import CONFIGS, build
from vggbook.book import export
from vggbook.data import Loader, ShapesDataset, in_memory, mean_rgb, pca_rgb
from vggbook.evaluate import predict
from vggbook.model import Network
from vggbook.weights import Preprocessing

OUT = Path(__file__).resolve().parents[1] / "book" / "_static" / "think" / "net-D.js"
CONFIG = replace(CONFIGS["D"], fc=(2048, 2048))
CROP, SCALES, TEST_SCALE = 64, (64, 110), 87
DIVISOR = 64.0
SEED = 7
LEVELS = 63  # 7 bits a weight


def pictures(split: str, count: int, size: int):
    """A split held in memory, drawn at smallest side ``size``."""
    return in_memory(ShapesDataset(split, count, seed=SEED, size=size, difficulty=0.15))


def measured(net: Network, tests: int) -> dict[str, float]:
    """Dense top-1 error in per cent at three test scales."""
    test = pictures("test", tests, SCALES[1])
    errors = {}
    for scale in (CROP, TEST_SCALE, SCALES[1]):
        posteriors = [predict(net, part, scales=scale) for part in test.images.split(256)]
        wrong = torch.cat(posteriors).argmax(1) != test.labels
        errors[str(scale)] = round(100 * float(wrong.double().mean()), 2)
    return errors


def note(errors: dict[str, float]) -> str:
    """The line that the page shows with the net."""
    at = ", ".join(f"{error} % at Q = {scale}" for scale, error in errors.items())
    return f"an eighth of the width, hidden FC layers of 256; dense top-1 error {at}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.page_net", description=__doc__)
    parser.add_argument("--images", type=int, default=12288, help="training pictures")
    parser.add_argument("--updates", type=int, default=8000, help="batches of 32")
    parser.add_argument("--tests", type=int, default=4096, help="test pictures")
    parser.add_argument("--rate", type=float, default=0.05, help="learning rate")
    given = parser.parse_args()
    torch.manual_seed(SEED)
    training = pictures("train", given.images, SCALES[1])
    mean = mean_rgb(training)
    shared = {"crop": CROP, "mean": mean, "gain": 1 / DIVISOR, "seed": SEED}
    colour = pca_rgb(training)
    loader = Loader(training, 32, scales=SCALES, colour=colour, **shared)
    generator = torch.Generator().manual_seed(SEED)
    net = build(CONFIG, 12, width=0.125, image_size=CROP, dropout=0.0, generator=generator)
    plain = Loader(training, 256, scales=SCALES[0], augment=False, shuffle=False, **shared)
    images, _, _ = next(plain.epoch(0))
    measured_start(net, images)
    schedule = Schedule(given.updates, given.rate)
    curve = train(net, loader, schedule)
    preprocessing = Preprocessing("D", tuple(mean.tolist()), (DIVISOR,) * 3)
    data = export.describe(net, training.classes, preprocessing, "D", levels=LEVELS)
    errors = measured(export.read(export.write(data, OUT)), given.tests)
    data["note"] = note(errors)
    data["provenance"] = {
        **provenance("cpu", SEED),
        "schedule": asdict(schedule),
        "images": given.images,
        "errors": errors,
        "curve": curve[:: max(1, len(curve) // 20)],
    }
    export.write(data, OUT)
    print(data["note"])


if __name__ == "__main__":
    main()
