"""A recipe, pictures and a call that the tests of the trainer share, and a design of the second
plan's experiment: seconds on one core, form and not accuracy.
"""

from dataclasses import replace

import torch
from PIL import Image
from torch import nn
from torchvision import models

from experiments.section4_two import DESIGN
from vggbook.data import ArrayDataset, open_dataset
from vggbook.train import Recipe, Run, fit

TINY = Recipe(
    "A",
    crop=32,
    scales=(32, 40),
    batch_size=8,
    width=1 / 32,
    gain=1 / 64,
    lr=0.01,
    max_epochs=2,
    colour=False,
)
STILL = replace(TINY, lr=1e-30, max_epochs=1, weight_decay=0.0)  # trains, and moves nothing
TOY = replace(
    DESIGN,
    name="toy",
    crop=32,
    width=1 / 32,
    train=96,
    test=48,
    updates=4,
    branch_updates=2,
    seeds=(3, 4),
)

SHELL = [  # the same net on the command line
    *("--data", "shapes", "--config", "A", "--crop", "32", "--scales", "36"),
    *("--width", "0.03125", "--batch-size", "8", "--images", "32", "--val-images", "8"),
]


def pictures(n: int = 32, classes: str = "abcd", seed: int = 0) -> ArrayDataset:
    """Noise with labels in turn."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, 3, 36, 36), dtype=torch.uint8, generator=generator)
    return ArrayDataset(images, torch.arange(n) % len(classes), classes)


def weights(run: Run) -> torch.Tensor:
    """All weights of a run's net in one row."""
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


def quiet(recipe, train=None, val=None, out=None, **options) -> Run:
    """``fit`` on the CPU, without a word."""
    options = {"device": "cpu", "log": None, **options}
    return fit(recipe, pictures() if train is None else train, val, out, **options)


def thin_vgg11(classes=1000, batch_norm=False):
    """torchvision's VGG11, a 32nd as wide: what its users get, small enough for a test."""
    plan = [2, "M", 4, "M", 8, 8, "M", 16, 16, "M", 16, 16, "M"]
    with torch.device("meta"):
        theirs = models.VGG(nn.Sequential(), init_weights=False)
    theirs.features = models.vgg.make_layers(plan, batch_norm)
    theirs.avgpool = nn.Identity()
    theirs.classifier = nn.Sequential(
        *(nn.Linear(16, 128), nn.ReLU(), nn.Dropout(), nn.Linear(128, 128), nn.ReLU()),
        *(nn.Dropout(), nn.Linear(128, classes)),
    )
    for module in theirs.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.bias, std=0.1)
    return theirs


def folder_with_a_broken_image(root, split="train"):
    """Two classes of eight pictures; one file is cut."""
    for c in "ab":
        (root / split / c).mkdir(parents=True)
        for i in range(8):
            generator = torch.Generator().manual_seed(i)
            noise = torch.randint(0, 256, (40, 50, 3), dtype=torch.uint8, generator=generator)
            Image.fromarray(noise.numpy()).save(root / split / c / f"{i}.png")
    broken = root / split / "b" / "3.png"
    broken.write_bytes(broken.read_bytes()[:900])
    return open_dataset("folder", root, split)
