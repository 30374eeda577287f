"""How long a chapter takes on a GPU, and how much memory it needs: worked out from counted
multiply-adds, not measured.

Seconds are multiply-adds over the device's speed times a stated utilisation, plus a fixed time a
layer and step for Python and the launches of the kernels. Chapters that train nothing take on a GPU
what they take on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vggbook.arithmetic import count_macs
from vggbook.book.profiles import Settings, load
from vggbook.configs import CONFIGS
from vggbook.roofline import DEVICES
from vggbook.tracing import trace

IMAGENETTE = {"train": 9469, "val": 3925}
DOWNLOAD = 12e6  # bytes a second, unpacked
DECODING = 400.0  # photographs a second on two cores
SIZES = {  # bytes of the archives
    "imagenette": 326e6,
    "caltech101": 137e6,
    "caltech256": 1183e6,
    "voc2007": 460e6,
    "voc2012": 2000e6,
    "vgg16": 528e6,
}
SETUP = 30.0  # seconds: installing the package, imports, CUDA's start
SVM = 10.0  # seconds: chapter 10's linear machines for photographs, on one core
CONTEXT = 1.5e9  # bytes: CUDA's context and cuDNN's workspaces


@dataclass(frozen=True)
class Share:
    """Which share of a device's sustained 16-bit speed the chapters' runs reach, and the seconds
    that a layer takes in each step beside its arithmetic: Python, and the launches of kernels.

    Testing computes in float32: on a T4 a third of its 8.1 TFLOP/s, on an H100 a seventh of its
    speed through TF32.
    """

    training: float
    testing: float
    layer: float


SHARES = {"T4": Share(0.4, 0.11, 0.0010), "H100": Share(0.25, 0.14, 0.0005)}


@dataclass(frozen=True)
class Job:
    """One net's training (three passes an image) or testing (one)."""

    net: str
    side: int  # pixels of the square that the net sees
    width: float
    images: int  # shown in all: images times epochs, or images times views
    batch: int
    training: bool = True
    batch_norm: bool = False

    @property
    def macs(self) -> float:
        """Multiply-adds: forward once; in training once more for the gradients of activations and
        once for weights'.
        """
        passes = 3 if self.training else 1
        return passes * self.images * count_macs(self.net, self.side, width=self.width)

    @property
    def layers(self) -> int:
        """Layers with weights, whose kernels are launched one by one."""
        return CONFIGS[self.net].weight_layers

    @property
    def steps(self) -> float:
        return self.images / self.batch

    @property
    def memory(self) -> float:
        """Bytes. Training: activations and their gradients in 16 bits, weights four times (with
        gradient, momentum, copy).
        """
        net = trace(self.net, self.side, batch_norm=self.batch_norm, width=self.width)
        activations = sum(row.activation_bytes for row in net.rows)
        kept = activations if self.training else max(row.activation_bytes for row in net.rows)
        copies = 4 if self.training else 1
        return kept * self.batch + copies * 4 * net.total_params


@dataclass(frozen=True)
class Estimate:
    """What a chapter needs on ``device``: seconds, bytes of GPU memory, multiply-adds."""

    chapter: str
    device: str
    seconds: float
    memory: float
    macs: float

    def __str__(self) -> str:
        minutes = max(1, round(self.seconds / 60))
        time = "a minute" if minutes == 1 else f"{minutes} minutes"
        article = "an" if self.device == "H100" else "a"
        need = f"{self.memory / 1e9:.1f} GB"
        return f"about {time} and {need} on {article} {self.device} (estimated)"


def _training(recipe: dict[str, Any], net: str, images: int, epochs: int, **changes: Any) -> Job:
    batch_norm = changes.pop("batch_norm", recipe.get("batch_norm", False))
    width, side, batch = recipe.get("width", 1.0), recipe["crop"], recipe.get("batch_size", 256)
    return Job(net, side, width, images * epochs, batch, batch_norm=batch_norm)


def _chapter_05(s: Settings) -> list[Job]:
    """A, then the deeper net from four starts; the validation set once an epoch."""
    recipe = s.recipe
    images, val = s.images or IMAGENETTE["train"], s.val_images or IMAGENETTE["val"]
    jobs = []
    for net, epochs, runs in (
        (recipe["config"], recipe["max_epochs"], 1),
        (s.deep, s.deep_epochs, 4),
    ):
        jobs.append(_training(recipe, net, images, runs * epochs))
        views = val * runs * epochs
        jobs.append(Job(net, recipe["crop"], recipe.get("width", 1.0), views, 256, training=False))
    return jobs


MINIATURE_WIDTH = 0.125  # of the trained nets that come with the book


def _miniature(net: str, images: int, batch: int, side: int = 64) -> Job:
    """A test of a miniature on ``images`` views."""
    return Job(net, side, MINIATURE_WIDTH, images, batch, training=False)


def _chapter_06(s: Settings) -> list[Job]:
    """The miniature of D at five sizes, three of them mirrored too; a photograph at three sizes."""
    jobs = [_miniature("D", s.test, 64, side) for side in (64, 73, 82, 110, 146)]
    jobs += [_miniature("D", s.test, 64, side) for side in (64, 73, 82)]
    return jobs + [Job("D", q, 1.0, 4, 1, training=False) for q in (256, 384, 512)]


def _chapter_07(s: Settings) -> list[Job]:
    """The miniatures of D and A at three sizes and on a grid of crops, mirrored."""
    jobs = []
    for net in ("D", "A"):
        jobs += [_miniature(net, 2 * s.test, 64, side) for side in (64, 73, 82)]
        jobs.append(_miniature(net, 2 * s.grid**2 * s.test, 256))
    jobs.append(_miniature("D", 8 * s.test, 64, 73))  # wrong inputs
    if s.imagenette:  # the released D: a crop, the whole picture at three sizes, fifty crops
        jobs.append(Job("D", 224, 1.0, 51 * s.imagenette, 50, training=False))
        for q, views in ((256, 9), (384, 2), (512, 2)):  # at 256 also four kinds of input
            jobs.append(Job("D", q, 1.0, views * s.imagenette, 1, training=False))
    for q in (256, 384, 512):  # one photograph at the paper's sizes, timed
        jobs.append(Job("D", q, s.photo_width, 2 * s.rounds, 1, training=False))
        jobs.append(Job("D", 224, s.photo_width, 50 * s.rounds, 50, training=False))
    return jobs


def _chapter_08(s: Settings) -> list[Job]:
    """A miniature of D tested at three scales, one by one and together, each with mirror images."""
    return [Job("D", 73, 1 / 8, 2 * 6 * 4 * s.test, 64, training=False)]


def _chapter_09(s: Settings) -> list[Job]:
    """A miniature taught to answer with boxes; tested on centre crops and, picture by picture,
    densely, where the classification net looks too. The released D's FC layers on photographs:
    its convolutions go forward alone, but in float32, which takes about as long.
    """
    training = Job(s.net, 64, 0.125, s.train * s.epochs, 32)
    centre = Job(s.net, 64, 0.125, s.test, 256, training=False)
    dense = [Job(s.net, q, 0.125, 2 * s.dense, 1, training=False) for q in s.scales]
    photographs = []
    for _ in s.voc:
        photographs.append(Job("D", 224, 1.0, s.voc_pictures * s.voc_epochs, 32))
        photographs.append(Job("D", 224, 1.0, s.voc_pictures, 256, training=False))
    return [training, centre, *dense, *photographs]


def _chapter_10(s: Settings) -> list[Job]:
    """Descriptors of two small sets at the smallest scale, of 24 pictures at three; steps of one
    picture towards a style; descriptors of photographs.
    """
    pictures = 2 * 12 * (s.a_class[0] + 2 * s.a_class[1])  # mirrored, the figure's once more
    jobs = [Job("D", 73, 1 / 8, pictures, 64, training=False)]
    for side in (73, 110, 146):
        jobs.append(Job("D", side, 1 / 8, 2 * 2 * 24, 24, training=False))
    for width in (1 / 8, 1.0):  # the flower, and back, for both
        jobs.append(Job("D", 240, width, 3 * s.steps, 1, training=False))
    real = 2 * sum(_photographs(s))  # by the released D, one by one, mirrored
    if real:  # 256 x 341 pixels, as most photographs are 4:3: the area of a square of 296
        jobs.append(Job("D", 296, 1.0, real, 1, training=False))
    return jobs


def _chapter_11(s: Settings) -> list[Job]:
    """Steps of B in two layouts, forward passes of D; the warm-up counts as one round each."""
    return [
        Job("B", s.image, s.width, 2 * s.batch * (s.rounds + 1), s.batch),
        Job("D", 224, 1.0, s.d_batch * (s.d_rounds + 1), s.d_batch, training=False),
    ]


WORK: dict[str, Callable[[Settings], list[Job]]] = {
    "05": _chapter_05,
    "06": _chapter_06,
    "07": _chapter_07,
    "08": _chapter_08,
    "09": _chapter_09,
    "10": _chapter_10,
    "11": _chapter_11,
}


def jobs(chapter: str, settings: Settings | None = None) -> list[Job]:
    """The nets that a chapter trains and tests, in the profile ``gpu`` unless ``settings`` are
    given.
    """
    if chapter not in WORK:
        raise ValueError(f"chapter={chapter!r}: expected one of {', '.join(map(repr, WORK))}")
    return WORK[chapter](settings or load("gpu", chapter))


def _real_data(chapter: str, s: Settings) -> tuple[list[str], int]:
    """The archives that a chapter fetches, by their keys in SIZES, and photographs that it
    decodes.
    """
    if getattr(s, "data", "") == "imagenette":
        return ["imagenette"], sum(IMAGENETTE.values())
    if chapter not in ("09", "10"):
        return [], 0
    archives = [f"voc{year}" for year in s.voc]
    if chapter == "09":
        return [*archives, "vgg16"], 2 * s.voc_pictures * len(s.voc)
    archives += [f"caltech{classes}" for classes in s.caltech]
    return [*archives, "vgg16"], sum(_photographs(s))


def _photographs(s: Settings) -> list[int]:
    """How many of Caltech (its clutter is a class), and of VOC, chapter 10 describes."""
    a_class = sum(s.caltech_class)
    return [(n + 1) * a_class for n in s.caltech] + [2 * s.voc_pictures for _ in s.voc]


def _data_bytes(settings: Settings) -> float:
    """The images that a chapter keeps on the GPU, as bytes of 8 bits."""
    if getattr(settings, "data", "") == "imagenette":
        side = settings.recipe["scales"]
        return sum(IMAGENETTE.values()) * 3 * side * side * 4 / 3  # most photographs are 4:3
    if hasattr(settings, "train"):
        return 2 * (settings.train + settings.test) * 3 * max(settings.scales) ** 2
    if hasattr(settings, "test"):
        return settings.test * 3 * 146 * 146
    return 0.0


def estimate(chapter: str, device: str) -> Estimate | None:
    """Time and memory of a chapter's profile ``gpu`` on "T4" or "H100"; None where a chapter trains
    nothing.
    """
    if device not in SHARES:
        raise ValueError(f"device={device!r}: expected one of {', '.join(map(repr, SHARES))}")
    if chapter not in WORK:
        return None
    settings = load("gpu", chapter)
    work, share, speed = jobs(chapter, settings), SHARES[device], DEVICES[device].flops
    archives, photographs = _real_data(chapter, settings)
    seconds = SETUP + sum(SIZES[key] for key in archives) / DOWNLOAD + photographs / DECODING
    if photographs and chapter == "10":
        seconds += SVM
    for job in work:
        reached = speed * (share.training if job.training else share.testing)
        seconds += 2 * job.macs / reached + job.steps * job.layers * share.layer
    memory = CONTEXT + _data_bytes(settings) + max(job.memory for job in work)
    return Estimate(chapter, device, seconds, memory, sum(job.macs for job in work))
