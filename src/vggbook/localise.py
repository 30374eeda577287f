"""Localisation (Appendix A): a net that answers with a box, trained from a classification net.

A box is four numbers, as the paper has it: centre x, centre y, width, height, here as shares of the
picture's (or the crop's) sides. :func:`as_boxes` takes other formats and refuses what is no box.

    model = regressor(net, per_class=True)              # the last FC layer now gives 4 numbers a class
    fit_boxes(model, images, labels, boxes, prepare)    # Euclidean loss, rate 1e-3
    centre_boxes(model, images, labels, prepare, 73)    # the class is known: the box is judged
    localise([model], net, image, prepare, (73, 110))   # five classes with a box each, merged
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .checks import choice, needs, positive, whole
from .data import isotropic_resize
from .model import Network, to_dense

FORMATS = ("cxcywh", "xywh", "xyxy")
Prepare = Callable[[Tensor], Tensor]


class Found(NamedTuple):
    """One answer: a class, its box (4,) as shares of the picture's sides, its mean posterior."""

    label: int
    box: Tensor
    score: float


# --- boxes ----------------------------------------------------------------------------------------
def as_boxes(
    boxes: Tensor, box_format: str = "cxcywh", size: tuple[int, int] | None = None
) -> Tensor:
    """Boxes (N, 4) of any of ``FORMATS`` as centre, width, height in shares of the picture's sides.

    ``size``: (height, width) in pixels where the boxes are in pixels. Raises ValueError for another
    shape, numbers that are not finite, a box of no area or outside the picture; the message names
    the box and, where its numbers are corners, that format.
    """
    choice("box_format", box_format, FORMATS)
    needs(boxes.ndim == 2 and boxes.shape[1] == 4, "boxes", tuple(boxes.shape), "the shape (N, 4)")
    from torchvision.ops import box_convert

    boxes = boxes.float()
    if size is not None:
        height, width = size
        boxes = boxes / torch.tensor([width, height, width, height], dtype=torch.float32)
    centred = box_convert(boxes, box_format, "cxcywh")
    for index, (given, box) in enumerate(zip(boxes.tolist(), centred.tolist(), strict=True)):
        right = all(value == value and abs(value) != float("inf") for value in given)
        needs(right, f"boxes[{index}]", given, "finite numbers")
        cx, cy, width, height = box
        fits = width > 0 and height > 0
        hint = " (as xyxy it would be one: box_format='xyxy')" if _is_corners(given) else ""
        needs(
            fits, f"boxes[{index}]", given, f"a box with an area in the format {box_format}{hint}"
        )
        inside = abs(cx - 0.5) - width / 2 < 0.5 and abs(cy - 0.5) - height / 2 < 0.5
        needs(inside, f"boxes[{index}]", given, f"a box that touches the picture, in shares{hint}")
    return centred


def _is_corners(box: Sequence[float]) -> bool:
    left, top, right, bottom = box
    return 0 <= left < right <= 1 and 0 <= top < bottom <= 1


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes (N, 4) pair by pair, (N,); 0 where both are empty."""
    from torchvision.ops import box_convert, box_iou

    pairs = first.reshape(-1, 4), second.reshape(-1, 4)
    corners = [box_convert(boxes, "cxcywh", "xyxy") for boxes in pairs]
    found = box_iou(*corners).diagonal() if len(pairs[0]) else torch.zeros(0)
    return found.nan_to_num(0.0).view(first.shape[:-1])


def box_error(found: Tensor, truth: Tensor, least: float = 0.5) -> float:
    """Share in per cent of boxes (N, 4) whose IoU with the truth does not exceed ``least`` (A.2)."""
    needs(len(found) > 0, "found", tuple(found.shape), "at least one box")
    return 100 * float((iou(found, truth) <= least).double().mean())


# --- the net and its training ---------------------------------------------------------------------
def regressor(
    net: Network, per_class: bool = True, generator: torch.Generator | None = None
) -> Network:
    """A copy of a classification net whose last FC layer gives boxes: 4 numbers, or 4 a class (A.1).

    Everything else starts from the net's weights; the last layer is drawn anew (deviation 0.01),
    its biases at the box in the middle of the crop. It knows ``.per_class`` and ``.box_classes``.
    """
    model = copy.deepcopy(net)
    last = model.classifier[-1]
    needs(isinstance(last, nn.Linear), "net", type(last).__name__, "an FC layer at the end")
    boxes = last.out_features if per_class else 1
    head = nn.Linear(last.in_features, 4 * boxes)
    nn.init.normal_(head.weight, std=0.01, generator=generator)
    head.bias.data = torch.full((4 * boxes,), 0.5)
    model.classifier[-1] = head
    model.per_class = per_class
    model.box_classes = last.out_features
    return model


def _of_class(model: nn.Module, output: Tensor, labels: Tensor) -> Tensor:
    """The boxes (N, 4) for these classes: the shared one, or that of the class."""
    if not model.per_class:
        return output
    return output.unflatten(1, (model.box_classes, 4))[torch.arange(len(labels)), labels]


def _crops(
    images: Tensor, boxes: Tensor, crop: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random crops, mirrored at random, with the boxes in shares of the crop."""
    n, _, height, width = images.shape
    top = torch.randint(height - crop + 1, (n,), generator=generator)
    left = torch.randint(width - crop + 1, (n,), generator=generator)
    mirrored = torch.rand(n, generator=generator) < 0.5
    cut = [
        image[:, t : t + crop, s : s + crop] for image, t, s in zip(images, top, left, strict=True)
    ]
    pixels = torch.stack([x.flip(-1) if m else x for x, m in zip(cut, mirrored, strict=True)])
    cx = (boxes[:, 0] * width - left) / crop
    cy = (boxes[:, 1] * height - top) / crop
    cx = torch.where(mirrored, 1 - cx, cx)
    return pixels, torch.stack([cx, cy, boxes[:, 2] * width / crop, boxes[:, 3] * height / crop], 1)


def fit_boxes(
    model: Network,
    images: Tensor,
    labels: Tensor,
    boxes: Tensor,
    prepare: Prepare,
    *,
    layers: str = "all",
    lr: float = 1e-3,
    epochs: int = 4,
    batch_size: int = 32,
    seed: int = 0,
) -> list[float]:
    """Train a regressor as Appendix A.1 does; returns the loss of every step.

    ``images``: uint8 (N, 3, h, w) at the training scale. ``labels`` (N,). ``boxes`` (N, 4).
    ``prepare``: makes the net's input of pixels. ``layers``: "all", or "fc" for the FC layers alone.
    The loss is half the squared distance of the four numbers, mean over the batch; the rate falls to
    a tenth for the last quarter. Momentum and weight decay are those of Sect. 3.1.
    """
    choice("layers", layers, ("all", "fc"))
    positive("lr", lr)
    whole("epochs", epochs, 1)
    boxes = as_boxes(boxes)
    needs(len(labels) == len(images) == len(boxes), "labels", len(labels), f"{len(images)} of them")
    for parameter in model.features.parameters():
        parameter.requires_grad_(layers == "all")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr, momentum=0.9, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * (len(images) // batch_size)
    losses: list[float] = []
    model.train()
    while len(losses) < steps:
        for rows in torch.randperm(len(images), generator=generator).split(batch_size):
            if len(losses) == steps or len(rows) < batch_size:
                break
            optimizer.param_groups[0]["lr"] = lr if len(losses) < 0.75 * steps else lr / 10
            pixels, truth = _crops(images[rows], boxes[rows], model.image_size[0], generator)
            output = _of_class(model, model(prepare(pixels)), labels[rows])  # (n, 4)
            loss = 0.5 * (output - truth).square().sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    model.eval()
    return losses


# --- testing --------------------------------------------------------------------------------------
@torch.inference_mode()
def centre_boxes(
    model: Network, images: Tensor, labels: Tensor, prepare: Prepare, scale: int
) -> Tensor:
    """Boxes (N, 4) in shares of the picture, from a centre crop with the class known (A.2)."""
    crop = model.image_size[0]
    resized = isotropic_resize(images, scale)  # (N, 3, h, w)
    height, width = resized.shape[2:]
    top, left = (height - crop) // 2, (width - crop) // 2
    found = []
    for part, classes in zip(resized.split(256), labels.split(256), strict=True):
        pixels = part[:, :, top : top + crop, left : left + crop]
        found.append(_of_class(model, model(prepare(pixels)), classes))
    return _placed(torch.cat(found), top, left, crop, (height, width))


def _placed(boxes: Tensor, top: Any, left: Any, crop: int, size: tuple[int, int]) -> Tensor:
    """Boxes (..., 4) in shares of a crop at (top, left), as shares of the picture of that size."""
    height, width = size
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack(
        [
            (left + cx * crop) / width,
            (top + cy * crop) / height,
            w * crop / width,
            h * crop / height,
        ],
        -1,
    )


@torch.inference_mode()
def dense_boxes(
    model: Network, classifier: Network, image: Tensor, prepare: Prepare, scale: int
) -> tuple[Tensor, Tensor]:
    """Boxes of every position and class (positions, classes, 4), posteriors (positions, classes).

    Both nets see the whole picture at smallest side ``scale``; a position stands for the crop whose
    corner lies a whole number of strides from the picture's corner (Sect. 3.2).
    """
    crop = model.image_size[0]
    pixels = isotropic_resize(image[None], scale)  # (1, 3, h, w)
    x = prepare(pixels)
    scores = to_dense(classifier)(x)[0].flatten(1).softmax(0).T  # (positions, classes)
    maps = to_dense(model)(x)[0]  # (4 or 4 classes, H', W')
    rows, columns = maps.shape[1:]
    stride = 2 ** sum(isinstance(layer, nn.MaxPool2d) for layer in model.features)
    top = stride * torch.arange(rows).repeat_interleave(columns)
    left = stride * torch.arange(columns).repeat(rows)
    boxes = maps.flatten(1).T.unflatten(1, (-1, 4))  # (positions, 1 or classes, 4)
    boxes = boxes.expand(-1, scores.shape[1], -1)
    size = tuple(pixels.shape[2:])
    return _placed(boxes, top[:, None], left[:, None], crop, size), scores


def merge_steps(
    boxes: Tensor, scores: Tensor, closeness: float = 0.5
) -> Iterator[tuple[Tensor, Tensor]]:
    """Greedy merging, step by step: the two boxes of greatest IoU become their average.

    Their scores add up; it ends when no two boxes overlap by ``closeness``. An average counts each
    box that went into it once. Yields ``boxes`` (M, 4) and ``scores`` (M,) after each step.
    """
    from torchvision.ops import box_convert, box_iou

    counts = torch.ones(len(boxes))
    yield boxes, scores
    while len(boxes) > 1:
        corners = box_convert(boxes, "cxcywh", "xyxy")
        overlap = box_iou(corners, corners).fill_diagonal_(-1)
        first, second = divmod(int(overlap.argmax()), len(boxes))
        if overlap[first, second] < closeness:
            return
        pair = torch.tensor([first, second])
        merged = (boxes[pair] * counts[pair, None]).sum(0) / counts[pair].sum()
        keep = torch.ones(len(boxes), dtype=torch.bool).index_fill_(0, pair, False)
        boxes = torch.cat([boxes[keep], merged[None]])
        scores = torch.cat([scores[keep], scores[pair].sum()[None]])
        counts = torch.cat([counts[keep], counts[pair].sum()[None]])
        yield boxes, scores


def merge(boxes: Tensor, scores: Tensor, closeness: float = 0.5) -> tuple[Tensor, Tensor]:
    """What greedy merging ends with (A.1: OverFeat's, without its pooling offsets)."""
    needs(
        len(boxes) == len(scores) > 0,
        "boxes",
        tuple(boxes.shape),
        "at least one, each with a score",
    )
    *_, last = merge_steps(boxes, scores, closeness)
    return last


def localise(
    models: Sequence[Network],
    classifier: Network,
    image: Tensor,
    prepare: Prepare,
    scales: int | Sequence[int],
    top: int = 5,
) -> list[Found]:
    """The ``top`` classes of a picture with a box each, best first (A.1, A.2: the full protocol).

    ``models``: one or several regressors. The union of their boxes over all positions and scales is
    merged for each class; the merged box of greatest total score stands for it. ``image``: uint8
    (3, H, W).
    """
    scales = [scales] if isinstance(scales, int) else list(scales)
    needs(
        len(models) > 0 and len(scales) > 0, "models, scales", (len(models), scales), "one of each"
    )
    parts = [dense_boxes(m, classifier, image, prepare, q) for m in models for q in scales]
    boxes = torch.cat([part[0] for part in parts])  # (predictions, classes, 4)
    scores = torch.cat([part[1] for part in parts])  # (predictions, classes)
    best = scores.mean(0).topk(min(whole("top", top, 1), scores.shape[1]))
    found = []
    for share, label in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        merged, totals = merge(boxes[:, label], scores[:, label])
        found.append(Found(label, merged[int(totals.argmax())], share))
    return found


def annotated_objects(annotation: dict[str, Any]) -> list[tuple[str, Tensor]]:
    """Class names and boxes of an annotation as PASCAL VOC and ImageNet have it (``VOCDetection``).

    Corners there are pixels counted from 1, both included; here boxes are centre and size in shares.
    """
    entry = annotation["annotation"]
    size = int(entry["size"]["height"]), int(entry["size"]["width"])
    objects = entry.get("object", [])
    objects = objects if isinstance(objects, list) else [objects]
    found = []
    for thing in objects:
        corners = [float(thing["bndbox"][key]) for key in ("xmin", "ymin", "xmax", "ymax")]
        first = torch.tensor([[corners[0] - 1, corners[1] - 1, corners[2], corners[3]]])
        found.append((str(thing["name"]), as_boxes(first, "xyxy", size)[0]))
    return found
