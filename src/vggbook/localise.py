"""Localisation (Appendix A): a net that answers with a box, trained from a classification net.

A box is four numbers: centre x, centre y, width, height, as shares of the picture's (or the crop's)
sides. Pictures are uint8; ``net.preprocessing`` prepares them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert, box_iou

from .checks import choice, needs, positive, whole
from .data import isotropic_resize
from .data.crops import cropped
from .dense import to_dense
from .model import Network

FORMATS = ("cxcywh", "xywh", "xyxy")
Merged = tuple[Tensor, Tensor]  # boxes (..., 4) and scores (...)


class Found(NamedTuple):
    """One answer: a class, its box (4,) as shares of the picture's sides, its mean posterior."""

    label: int
    box: Tensor
    score: float


def as_boxes(boxes: Tensor, box_format: str = "cxcywh", size: Sequence[int] = (1, 1)) -> Tensor:
    """Boxes (N, 4) of any of ``FORMATS`` as centre, width, height in shares of the picture's sides.

    ``size``: (height, width) in pixels where the boxes are in pixels. Raises ValueError for another
    shape, numbers that are not finite, a box of no area or that leaves the picture; the message
    shows the box and, where its numbers could be corners, names that format.
    """
    choice("box_format", box_format, FORMATS)
    needs(boxes.ndim == 2 and boxes.shape[1] == 4, "boxes", tuple(boxes.shape), "the shape (N, 4)")
    boxes = boxes.float() / torch.tensor([size[1], size[0]] * 2)
    centred = box_convert(boxes, box_format, "cxcywh")
    middle, sides = centred.split(2, dim=1)
    right = centred.isfinite() & (sides > 0).repeat(1, 2)
    right &= ((middle - 0.5).abs() + sides / 2 < 0.501).repeat(1, 2)
    for index in (~right.all(1)).nonzero().flatten().tolist():
        left, top, third, fourth = given = boxes[index].tolist()
        what = f"finite numbers, and as {box_format} an area inside the picture"
        if 0 <= left < third <= 1 and 0 <= top < fourth <= 1:
            what += " (they could be corners: box_format='xyxy')"
        needs(False, f"boxes[{index}]", given, what)
    return centred


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes (N, 4) pair by pair, (N,); 0 where both are empty."""
    needs(first.shape == second.shape, "second", tuple(second.shape), f"{tuple(first.shape)}")
    pairs = [box_convert(boxes.float(), "cxcywh", "xyxy") for boxes in (first, second)]
    found = [box_iou(a[None], b[None])[0, 0] for a, b in zip(*pairs)]
    return torch.stack(found).nan_to_num(0.0) if found else torch.zeros(0)


def box_error(found: Tensor, truth: Tensor, least: float = 0.5) -> float:
    """Share of boxes (N, 4), in per cent, whose IoU with the truth is not above ``least`` (A.2)."""
    needs(len(found) > 0, "found", tuple(found.shape), "at least one box")
    return 100 * float((iou(found, truth) <= least).double().mean())


def regressor(net: Network, per_class: bool = True, seed: int = 0) -> Network:
    """A copy of a classification net whose last FC layer gives 4 numbers, or 4 a class (A.1).

    Everything else starts from the net's weights; the last layer is drawn anew (deviation 0.01),
    its biases at a box in the middle of the crop. It knows ``.per_class`` and ``.box_classes``.
    """
    model = copy.deepcopy(net)
    last = net.classifier[-1]
    needs(isinstance(last, nn.Linear), "net", type(last).__name__, "an FC layer at the end")
    head = nn.Linear(last.in_features, 4 * (last.out_features if per_class else 1))
    nn.init.normal_(head.weight, std=0.01, generator=torch.Generator().manual_seed(seed))
    nn.init.constant_(head.bias, 0.5)
    model.classifier[-1] = head
    model.per_class = per_class
    model.box_classes = last.out_features
    return model


def boxes_of(model: Network, pixels: Tensor, labels: Tensor) -> Tensor:
    """The boxes (N, 4) for crops (N, 3, h, w) of these classes: the shared one, or the class's."""
    pixels = pixels.to(model.classifier[-1].weight.device)
    output = model(model.preprocessing(pixels)).cpu()  # (N, 4) or (N, 4 classes)
    rows = torch.arange(len(labels))
    return output.unflatten(1, (-1, 4))[rows, labels] if model.per_class else output


def random_crops(images: Tensor, boxes: Tensor, crop: int, draw: torch.Generator) -> Merged:
    """Random crops (N, 3, crop, crop), mirrored at random; the boxes in shares of the crop."""
    n, _, height, width = images.shape
    top = torch.randint(height - crop + 1, (n,), generator=draw)
    left = torch.randint(width - crop + 1, (n,), generator=draw)
    mirrored = torch.rand(n, generator=draw) < 0.5
    cx, cy, w, h = (boxes * torch.tensor([width, height, width, height])).unbind(1)  # in pixels
    cx = torch.where(mirrored, crop - (cx - left), cx - left)
    pixels = cropped(images, crop, top, left, mirrored)
    return pixels, torch.stack([cx, cy - top, w, h], 1) / crop


def fit_boxes(
    model: Network,
    images: Tensor,
    labels: Tensor,
    boxes: Tensor,
    layers: str = "all",
    lr: float = 1e-3,
    epochs: int = 4,
    batch_size: int = 32,
    seed: int = 0,
) -> list[float]:
    """Train a regressor as Appendix A.1 does; returns the loss of every step.

    ``images`` (N, 3, h, w) at the training scale; ``labels`` (N,); ``boxes`` (N, 4). ``layers``:
    "all", or "fc" for the FC layers alone. Half the squared distance of the four numbers is the
    loss; the rate falls to a tenth for the last quarter; momentum and decay are those of Sect. 3.1.
    ValueError for what is no box, and, with boxes a class, for a class without a picture.
    """
    choice("layers", layers, ("all", "fc"))
    boxes = as_boxes(boxes)
    needs(len(labels) == len(images) == len(boxes), "labels", len(labels), f"{len(images)} of them")
    counts = labels.bincount(minlength=model.box_classes).tolist()
    right = len(counts) == model.box_classes and (min(counts) > 0 or not model.per_class)
    needs(right, "labels", counts, f"pictures of each of {model.box_classes} classes")
    model.features.requires_grad_(layers == "all")
    positive("lr", lr)
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(seed)
    steps = whole("epochs", epochs, 1) * (batches := len(images) // batch_size)
    losses: list[float] = []
    crop, _ = model.image_size
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for rows in order.split(batch_size)[:batches]:
            optimizer.param_groups[0]["lr"] = lr if len(losses) < 0.75 * steps else lr / 10
            pixels, truth = random_crops(images[rows], boxes[rows], crop, generator)
            loss = 0.5 * (boxes_of(model, pixels, labels[rows]) - truth).square().sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    model.eval()
    return losses


def placed(boxes: Tensor, top: Any, left: Any, crop: int, size: Sequence[int]) -> Tensor:
    """Boxes (..., 4) in shares of a crop at (top, left), as shares of the picture of that size."""
    height, width = size
    cx, cy, w, h = (boxes * crop).unbind(-1)  # in pixels
    return torch.stack([(left + cx) / width, (top + cy) / height, w / width, h / height], -1)


@torch.inference_mode()
def centre_boxes(model: Network, images: Tensor, labels: Tensor, scale: int) -> Tensor:
    """Boxes (N, 4) in shares of the picture, from a centre crop with the class known (A.2)."""
    crop, _ = model.image_size
    resized = isotropic_resize(images, scale)  # (N, 3, h, w)
    top, left = ((side - crop) // 2 for side in resized.shape[2:])
    pixels = resized[:, :, top : top + crop, left : left + crop]
    parts = zip(pixels.split(256), labels.split(256), strict=True)
    found = torch.cat([boxes_of(model, *part) for part in parts])
    return placed(found, top, left, crop, resized.shape[2:])


@torch.inference_mode()
def dense_boxes(model: Network, classifier: Network, image: Tensor, scale: int) -> Merged:
    """Boxes of every position and class (positions, classes, 4), posteriors (positions, classes).

    Both nets see the whole picture (3, H, W) at smallest side ``scale``; a position stands for the
    crop whose corner lies a whole number of strides from the picture's corner (Sect. 3.2).
    """
    device = model.classifier[-1].weight.device
    pixels = isotropic_resize(image[None], scale).to(device)  # (1, 3, h, w)
    maps = to_dense(classifier)(classifier.preprocessing(pixels))[0].cpu()  # (classes, H', W')
    scores = maps.flatten(1).softmax(0).T  # (positions, classes)
    maps = to_dense(model)(model.preprocessing(pixels))[0].cpu()  # (4 or 4 classes, H', W')
    boxes = maps.flatten(1).T.unflatten(1, (-1, 4)).expand(-1, scores.shape[1], -1)
    stride = 2 ** sum(isinstance(layer, nn.MaxPool2d) for layer in model.features)
    corners = torch.cartesian_prod(*map(torch.arange, maps.shape[1:])) * stride  # (positions, 2)
    top, left = corners[:, :1], corners[:, 1:]
    crop, _ = model.image_size
    return placed(boxes, top, left, crop, pixels.shape[2:]), scores


def merge_steps(boxes: Tensor, scores: Tensor, closeness: float = 0.5) -> Iterator[Merged]:
    """Greedy merging, step by step: the two boxes of greatest IoU become their average.

    Their scores add up; it ends when no two boxes overlap by ``closeness``. An average counts each
    box that went into it once. Yields ``boxes`` (M, 4) and ``scores`` (M,) after each step.
    """
    needs(len(boxes) == len(scores) > 0, "boxes", len(boxes), "one or more, as many as scores")
    counts = torch.ones(len(boxes))
    yield boxes, scores
    while True:
        corners = box_convert(boxes, "cxcywh", "xyxy")
        overlap = box_iou(corners, corners).nan_to_num(0.0).fill_diagonal_(-torch.inf)
        pair = torch.tensor(divmod(int(overlap.argmax()), len(boxes)))
        if overlap[pair[0], pair[1]] < closeness:
            return
        merged = (boxes[pair] * counts[pair, None]).sum(0) / counts[pair].sum()
        others = torch.ones(len(boxes), dtype=torch.bool).index_fill_(0, pair, False)
        boxes = torch.cat([boxes[others], merged[None]])
        scores = torch.cat([scores[others], scores[pair].sum()[None]])
        counts = torch.cat([counts[others], counts[pair].sum()[None]])
        yield boxes, scores


def localise(
    models: Sequence[Network], net: Network, image: Tensor, scales: Sequence[int], top: int = 5
) -> list[Found]:
    """The ``top`` classes of a picture (3, H, W) with a box each, best first (A.1, A.2).

    ``models``: one or several regressors; ``net`` names the classes. Their boxes over all positions
    and scales are merged for each class; the merged box of greatest total score stands for it.
    """
    needs(len(models) > 0 and len(scales) > 0, "scales", scales, "a scale, and a model, at least")
    parts = [dense_boxes(m, net, image, q) for m in models for q in scales]
    boxes, scores = (torch.cat(part) for part in zip(*parts))  # (predictions, ...)
    best = scores.mean(0).topk(min(whole("top", top, 1), scores.shape[1]))
    found = []
    for share, label in zip(best.values.tolist(), best.indices.tolist()):
        *_, (merged, totals) = merge_steps(boxes[:, label], scores[:, label])
        found.append(Found(label, merged[int(totals.argmax())], share))
    return found


def annotated_objects(annotation: dict[str, Any]) -> list[tuple[str, Tensor]]:
    """Class names and boxes of an annotation of PASCAL VOC or ImageNet (``VOCDetection``).

    Corners are pixels, counted from 1, both included; some of ImageNet's jut out and are cut off.
    """
    entry = annotation["annotation"]
    height, width = (int(entry["size"][side]) for side in ("height", "width"))
    found = []
    for thing in entry.get("object", []):
        ends = [float(thing["bndbox"][key]) for key in ("xmin", "ymin", "xmax", "ymax")]
        corners = (torch.tensor([ends]) - torch.tensor([1.0, 1.0, 0.0, 0.0])).clamp(min=0)
        corners = corners.minimum(torch.tensor([[width, height] * 2]))
        found.append((str(thing["name"]), as_boxes(corners, "xyxy", (height, width))[0]))
    return found
