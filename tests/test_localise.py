"""Localisation: boxes against torchvision, the net and its training against closed forms, merging
by hand, annotations through torchvision's own readers of PASCAL VOC and ImageNet.
"""

import copy
import io
import math
import re
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import jpeg, noise
from PIL import Image
from torch import nn
from torchvision import tv_tensors
from torchvision.datasets import ImageNet, VOCDetection
from torchvision.datasets.utils import extract_archive
from torchvision.ops import box_convert, box_iou
from torchvision.transforms import v2

from vggbook import build, claims
from vggbook.localise import (
    annotated_objects,
    as_boxes,
    box_error,
    boxes_of,
    centre_boxes,
    dense_boxes,
    fit_boxes,
    iou,
    localise,
    merge_steps,
    placed,
    random_crops,
    regressor,
)

share = st.floats(0.3, 0.7)
box = st.tuples(share, share, st.floats(0.05, 0.6), st.floats(0.05, 0.6))


def small_net(classes=3):
    """An untrained net with 64-pixel crops, stride 32."""
    net = build(
        "A", classes, width=1 / 16, image_size=64, generator=torch.Generator().manual_seed(0)
    )
    net.preprocessing = scaled
    return net.eval()


def scaled(pixels):
    return pixels.float() / 64 - 2


# Boxes


@given(st.lists(st.tuples(box, box), min_size=1, max_size=5))
def test_iou_is_torchvisions(pairs):
    first, second = (torch.tensor(part) for part in zip(*pairs, strict=True))
    corners = [box_convert(boxes, "cxcywh", "xyxy") for boxes in (first, second)]
    assert torch.allclose(iou(first, second), box_iou(*corners).diagonal())


def test_iou_in_closed_form():
    unit = torch.tensor([[0.5, 0.5, 0.4, 0.4]])
    assert iou(unit, unit).item() == pytest.approx(1)
    assert iou(unit, unit + torch.tensor([0.2, 0, 0, 0])).item() == pytest.approx(1 / 3)
    assert iou(unit, unit * torch.tensor([1, 1, 0.5, 1])).item() == pytest.approx(0.5)
    assert iou(unit, torch.tensor([[2.0, 2, 0.1, 0.1]])).item() == 0


def test_iou_of_empty_sets_and_empty_boxes():
    assert iou(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)
    assert iou(torch.zeros(1, 4), torch.zeros(1, 4)).item() == 0
    with pytest.raises(ValueError, match=re.escape("found=(0, 4): expected at least one box")):
        box_error(torch.zeros(0, 4), torch.zeros(0, 4))
    with pytest.raises(ValueError, match=re.escape("second=(2, 4): expected (1, 4)")):
        iou(torch.zeros(1, 4), torch.zeros(2, 4))


def test_the_criterion_is_strict():
    """A box must exceed 0.5, as the paper says; half of the truth is not enough."""
    least = claims()["loc-criterion"].value["iou_above"]
    truth = torch.tensor([[0.5, 0.5, 0.5, 0.5]]).repeat(3, 1)
    found = truth.clone()
    found[:, 2] = torch.tensor([0.5, 0.25, 0.2500001])
    assert iou(found, truth)[1] == least
    assert box_error(found, truth) == pytest.approx(100 / 3)


@given(box, st.sampled_from(["cxcywh", "xywh", "xyxy"]))
def test_any_format_and_pixels(one, box_format):
    truth = torch.tensor([one])
    given_ = box_convert(truth, "cxcywh", box_format)
    assert torch.allclose(as_boxes(given_, box_format), truth, atol=1e-6)
    pixels = given_ * torch.tensor([40, 30, 40, 30])
    assert torch.allclose(as_boxes(pixels, box_format, size=(30, 40)), truth, atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        [0.5, 0.5, 0.0, 0.2],  # no area
        [0.5, 0.5, 0.2, -0.1],
        [0.9, 0.5, 0.4, 0.4],  # partly outside
        [1.3, 0.5, 0.4, 0.4],  # wholly
        [0.5, -0.3, 0.4, 0.4],
        [50.0, 60, 20, 20],  # pixels
        [math.nan, 0.5, 0.2, 0.2],
        [0.5, 0.5, math.inf, 0.2],
    ],
)
def test_what_is_no_box(wrong):
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.2], wrong])
    with pytest.raises(ValueError, match=r"boxes\[1\]=.*: expected finite numbers, and as cxcywh"):
        as_boxes(boxes)


def test_corners_given_as_sides_are_named():
    corners = torch.tensor([[0.2, 0.3, 0.6, 0.9]])
    for box_format in ("cxcywh", "xywh"):
        with pytest.raises(ValueError, match="they could be corners: box_format='xyxy'"):
            as_boxes(corners, box_format)
    assert torch.allclose(as_boxes(corners, "xyxy"), torch.tensor([[0.4, 0.6, 0.4, 0.6]]))


def test_wrong_shapes_and_formats():
    with pytest.raises(ValueError, match=re.escape("boxes=(4,): expected the shape (N, 4)")):
        as_boxes(torch.zeros(4))
    with pytest.raises(ValueError, match="box_format='yolo': expected one of"):
        as_boxes(torch.zeros(1, 4), "yolo")


# The net


def test_the_last_layer_has_the_papers_sizes():
    """On the meta device: the claim's counts of D with four and with 4,000 outputs."""
    expected = claims()["loc-last-layer-params"].value
    for per_class, name in ((False, "SCR"), (True, "PCR")):
        head = nn.Linear(4096, 4000 if per_class else 4, device="meta")
        assert sum(p.numel() for p in head.parameters()) == expected[name]
    net = small_net()
    for per_class, width in ((False, 4), (True, 12)):
        model = regressor(net, per_class)
        assert model.classifier[-1].out_features == width
        kept = dict(net.named_parameters())
        last = f"classifier.{len(net.classifier) - 1}."
        for name, parameter in model.named_parameters():
            assert name.startswith(last) or torch.equal(parameter, kept[name])
    assert net.classifier[-1].out_features == 3, "the net itself stays as it was"


def test_each_class_has_its_own_four_numbers():
    model = regressor(small_net(), per_class=True)
    with torch.no_grad():
        model.classifier[-1].weight.zero_()
        model.classifier[-1].bias.copy_(torch.arange(12.0))
    found = boxes_of(model, noise(2, 3, 64, 64), torch.tensor([2, 0]))
    assert found.tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]


def test_crops_move_boxes_as_torchvision_does():
    images = noise(6, 3, 70, 90)
    boxes = torch.tensor([[0.5, 0.4, 0.3, 0.2]]).repeat(6, 1)
    draw = torch.Generator().manual_seed(3)
    pixels, found = random_crops(images, boxes, 64, draw)
    draw.manual_seed(3)
    tops = torch.randint(7, (6,), generator=draw).tolist()
    lefts = torch.randint(27, (6,), generator=draw).tolist()
    mirrored = (torch.rand(6, generator=draw) < 0.5).tolist()
    assert len(set(mirrored)) == 2
    for i, (top, left, turned) in enumerate(zip(tops, lefts, mirrored, strict=True)):
        size = torch.tensor([90, 70, 90, 70])
        corners = box_convert(boxes[i : i + 1] * size, "cxcywh", "xyxy")
        theirs = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(70, 90))
        theirs = v2.functional.crop(theirs, top, left, 64, 64)
        image = v2.functional.crop(images[i], top, left, 64, 64)
        if turned:
            theirs, image = v2.functional.horizontal_flip(theirs), image.flip(-1)
        assert torch.equal(pixels[i], image)
        centred = box_convert(theirs.as_subclass(torch.Tensor), "xyxy", "cxcywh")[0]
        assert torch.allclose(found[i] * 64, centred, atol=1e-4)


def test_training_with_the_fc_layers_alone_leaves_the_convolutions():
    net = small_net()
    labels = torch.arange(12) % 3
    boxes = torch.tensor([[0.5, 0.5, 0.6, 0.4]]).repeat(12, 1)
    for layers in ("fc", "all"):
        model = regressor(net)
        losses = fit_boxes(
            model, noise(12, 3, 64, 64), labels, boxes, layers=layers, epochs=2, batch_size=4
        )
        assert len(losses) == 6 and not model.training
        same = torch.equal(model.features[0].weight, net.features[0].weight)
        assert same == (layers == "fc")


def test_the_first_loss_is_half_the_squared_distance():
    """A last layer of zeros answers with its biases, 0.5 each: the loss follows by hand."""
    model = regressor(small_net(), per_class=False)
    nn.init.zeros_(model.classifier[-1].weight)
    boxes = torch.tensor([[0.5, 0.5, 0.9, 0.2]]).repeat(4, 1)
    images = noise(4, 3, 64, 64)
    losses = fit_boxes(model, images, torch.zeros(4).long(), boxes, epochs=1, batch_size=4)
    assert losses[0] == pytest.approx(0.5 * (0.4**2 + 0.3**2))


def test_training_is_sgd_with_momentum_and_a_late_drop_of_the_rate():
    """Pictures of one colour, boxes in the middle: neither crop nor mirror changes anything."""
    model = regressor(small_net(), per_class=False)
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    plain = copy.deepcopy(model).train()
    images = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 3, 64, 64) * 60
    boxes = torch.tensor([[0.5, 0.5, 0.1 * i, 0.9] for i in range(1, 5)])
    losses = fit_boxes(model, images, torch.zeros(4).long(), boxes, lr=0.02, epochs=8, batch_size=4)
    speeds = [torch.zeros_like(weight) for weight in plain.parameters()]
    for step, found in enumerate(losses):
        answers = plain(plain.preprocessing(images))
        loss = ((answers - boxes) ** 2).sum(1).mean() / 2
        assert found == pytest.approx(loss.item(), rel=1e-3)
        slopes = torch.autograd.grad(loss, list(plain.parameters()))
        with torch.no_grad():
            for weight, slope, speed in zip(plain.parameters(), slopes, speeds):
                speed.mul_(0.9).add_(slope + 5e-4 * weight)
                weight -= (0.02 if step < 6 else 0.002) * speed
    assert len(losses) == 8 and losses[-1] < losses[0]
    for ours, theirs in zip(model.parameters(), plain.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_a_class_without_a_picture_and_other_wrong_data():
    images = noise(4, 3, 64, 64)
    boxes = torch.tensor([[0.5, 0.5, 0.6, 0.4]]).repeat(4, 1)
    labels = torch.tensor([0, 0, 2, 2])
    message = "labels=[2, 0, 2]: expected pictures of each of 3 classes"
    with pytest.raises(ValueError, match=re.escape(message)):
        fit_boxes(regressor(small_net()), images, labels, boxes)
    shared = regressor(small_net(), per_class=False)
    assert len(fit_boxes(shared, images, labels, boxes, epochs=1, batch_size=4)) == 1
    for key, value in {"layers": "last", "lr": 0, "epochs": 0}.items():
        with pytest.raises(ValueError, match=f"{key}={value!r}: expected"):
            fit_boxes(shared, images, labels, boxes, **{key: value})
    with pytest.raises(ValueError, match=r"boxes\[0\]=.*nan"):
        fit_boxes(shared, images, labels, boxes * math.nan)
    with pytest.raises(ValueError, match="labels=3: expected 4 of them"):
        fit_boxes(shared, images, labels[:3], boxes)
    shared.classifier[-1] = nn.ReLU()
    with pytest.raises(ValueError, match="net='ReLU': expected an FC layer at the end"):
        regressor(shared)


# Testing


@given(box, st.integers(0, 30), st.integers(0, 30))
@settings(max_examples=30)
def test_a_box_of_a_crop_lands_where_its_pixels_are(one, top, left):
    found = placed(torch.tensor([one]), top, left, 64, (100, 120))[0]
    cx, cy, w, h = (64 * value for value in one)
    expected = [(left + cx) / 120, (top + cy) / 100, w / 120, h / 100]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_every_position_is_the_crop_at_its_corner():
    """Without padding between crops' pixels: inner differences come from the zero padding alone, so
    the picture is one colour.
    """
    net, model = small_net(), regressor(small_net())
    image = torch.full((3, 96, 128), 90, dtype=torch.uint8)
    boxes, scores = dense_boxes(model, net, image, 96)
    assert boxes.shape == (6, 3, 4) and torch.allclose(scores.sum(1), torch.ones(6))
    whole, _ = dense_boxes(model, net, image[:, :64, :64], 64)
    crop = boxes_of(model, image[None, :, :64, :64], torch.tensor([1]))
    assert torch.allclose(whole[:, 1], crop, atol=1e-5)
    x = boxes[:, 0, 0] * 128
    assert x.unique().numel() > 1 and (x[2] - x[0] - 64).abs() < 8 and (x[3] - x[0]).abs() < 8


def test_the_centre_crop_of_a_picture_of_the_crops_size_is_the_picture():
    model = regressor(small_net())
    images, labels = noise(3, 3, 64, 64), torch.tensor([0, 1, 2])
    found = centre_boxes(model, images, labels, 64)
    assert torch.allclose(found, boxes_of(model, images, labels), atol=1e-6)


def test_merging_by_hand():
    """Three boxes that overlap and one apart: the average counts each box once."""
    boxes = torch.tensor(
        [[0.3, 0.5, 0.4, 0.4], [0.32, 0.5, 0.4, 0.4], [0.37, 0.5, 0.4, 0.4], [0.9, 0.9, 0.1, 0.1]]
    )
    scores = torch.tensor([0.5, 0.2, 0.1, 0.7])
    steps = list(merge_steps(boxes, scores))
    assert [len(step) for step, _ in steps] == [4, 3, 2]
    last, totals = steps[-1]
    assert torch.allclose(last, torch.tensor([[0.9, 0.9, 0.1, 0.1], [0.33, 0.5, 0.4, 0.4]]))
    assert torch.allclose(totals, torch.tensor([0.7, 0.8]))
    assert len(list(merge_steps(boxes, scores, closeness=0.95))) == 1
    with pytest.raises(ValueError, match="boxes=0: expected one or more, as many as scores"):
        next(merge_steps(boxes[:0], scores[:0]))


def test_the_full_protocol_returns_classes_and_boxes():
    net = small_net()
    model = regressor(net, per_class=False)
    nn.init.zeros_(model.classifier[-1].weight)
    found = localise([model, model], net, noise(3, 64, 64), (64,), top=2)
    assert len(found) == 2 and found[0].score >= found[1].score
    assert torch.allclose(found[0].box, torch.full((4,), 0.5))
    with pytest.raises(ValueError, match="scales="):
        localise([], net, noise(3, 64, 64), (64,))
    with pytest.raises(ValueError, match="top=0: expected"):
        localise([model], net, noise(3, 64, 64), (64,), top=0)


# Annotations

XML = """<annotation><folder>VOC2007</folder><filename>{name}.jpg</filename>
<size><width>40</width><height>30</height><depth>3</depth></size>{objects}</annotation>"""
OBJECT = """<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{0}</xmin>
<ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"""


def voc(root, objects):
    """A folder as the archives of PASCAL VOC 2007 unpack, with one picture."""
    base = root / "VOCdevkit" / "VOC2007"
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (base / part).mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(base / "JPEGImages" / "000005.jpg")
    lines = "".join(OBJECT.format(*corners, name=name) for name, corners in objects)
    text = XML.format(name="000005", objects=lines)
    (base / "Annotations" / "000005.xml").write_text(text)
    (base / "ImageSets" / "Main" / "train.txt").write_text("000005\n")
    return VOCDetection(root, year="2007", image_set="train", download=False)


def test_boxes_of_pascal_voc(tmp_path):
    """A box over all pixels is (1, 1) to (40, 30) there: the whole picture here."""
    data = voc(tmp_path, [("cat", (1, 1, 40, 30)), ("n02084071", (11, 16, 20, 30))])
    image, annotation = data[0]
    assert image.size == (40, 30)
    (cat, all_of_it), (dog, part) = annotated_objects(annotation)
    assert (cat, dog) == ("cat", "n02084071")
    assert all_of_it.tolist() == pytest.approx([0.5, 0.5, 1, 1])
    assert part.tolist() == pytest.approx([15 / 40, 22.5 / 30, 10 / 40, 15 / 30])


def test_one_object_and_a_wrong_one(tmp_path):
    (only,) = annotated_objects(voc(tmp_path / "a", [("cat", (5, 5, 9, 9))])[0][1])
    assert only[0] == "cat"
    assert annotated_objects({"annotation": {"size": {"width": "4", "height": "4"}}}) == []
    wrong = voc(tmp_path / "b", [("cat", (60, 5, 90, 9))])
    with pytest.raises(ValueError, match=r"boxes\[0\]=.*an area inside the picture"):
        annotated_objects(wrong[0][1])


def imagenet(root, boxes):
    """Training pictures as torchvision unpacks ImageNet's, and the archive of their boxes as
    published: (wnid, number) -> (corners in 40 x 30 pixels, of no, one or several objects).
    """
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for (wnid, number), corners in boxes.items():
            folder = root / "train" / wnid
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{wnid}_{number}.JPEG").write_bytes(jpeg((40, 30)))
            lines = "".join(OBJECT.format(*four, name=wnid) for four in corners)
            text = XML.format(name=f"{wnid}_{number}", objects=lines)
            text = text.replace("VOC2007", wnid).replace(".jpg", "").encode()  # no ending there
            info = tarfile.TarInfo(f"{wnid}/{wnid}_{number}.xml")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))
    (root / "ILSVRC2012_bbox_train_v2.tar.gz").write_bytes(data.getvalue())
    names = {wnid: (wnid,) for wnid, _ in boxes}
    torch.save((names, []), root / "meta.bin")
    return ImageNet(root, "train")


def test_boxes_of_imagenet(tmp_path):
    """A picture's file of boxes has its name. Corners may begin at 0 or lie beyond the edge."""
    whole, jutting = (0.5, 0.5, 1, 1), (35 / 40, 22.5 / 30, 10 / 40, 15 / 30)
    data = imagenet(
        tmp_path,
        {
            ("n01440764", 10): [(0, 0, 40, 30)],
            ("n01440764", 7): [(31, 16, 43, 30), (1, 1, 40, 30)],
            ("n02102040", 3): [],
        },
    )
    extract_archive(str(tmp_path / "ILSVRC2012_bbox_train_v2.tar.gz"), str(tmp_path / "boxes"))
    found = {}
    for path, label in data.samples:
        wnid = data.wnids[label]
        file = tmp_path / "boxes" / wnid / f"{Path(path).stem}.xml"
        note = VOCDetection.parse_voc_xml(ElementTree.parse(file).getroot())
        assert note["annotation"]["filename"] == Path(path).stem
        found[Path(path).stem] = annotated_objects(note)
    assert {name for name, _ in found["n01440764_10"]} == {"n01440764"}
    assert found["n01440764_10"][0][1].tolist() == pytest.approx(whole)
    assert [box.tolist() for _, box in found["n01440764_7"]] == [
        pytest.approx(jutting),
        pytest.approx(whole),
    ]
    assert found["n02102040_3"] == []


# Boundaries, defaults, and what is left alone


def boxed(*numbers):
    return torch.tensor([numbers])


def test_a_box_may_jut_out_by_a_thousandth():
    assert as_boxes(boxed(0.5, 0.5, 1.0019, 1.0)).shape == (1, 4)
    assert as_boxes(boxed(0.5, 0.5, 1.0, 1.0019)).shape == (1, 4)
    for wrong in (boxed(0.5, 0.5, 1.002, 1.0), boxed(0.5, 0.5, 1.0, 1.002)):
        with pytest.raises(ValueError, match=r"an area inside the picture$"):
            as_boxes(wrong)


@pytest.mark.parametrize(
    "numbers, hinted",
    [
        ((0.0, 0.0, 1.0, 1.0), True),
        ((0.2, 0.9, 0.6, 0.3), False),  # left before right, but top below bottom
        ((0.6, 0.3, 0.2, 0.9), False),
        ((0.1, 0.1, 1.5, 0.5), False),
        ((0.1, 0.1, 0.5, 1.5), False),
        ((-0.1, 0.1, 0.5, 0.5), False),
        ((0.1, -0.1, 0.5, 0.5), False),
    ],
)
def test_only_what_could_be_corners_is_taken_for_corners(numbers, hinted):
    with pytest.raises(ValueError) as caught:
        as_boxes(boxed(*numbers))
    assert ("they could be corners" in str(caught.value)) == hinted


def test_boxes_have_four_numbers():
    for shape in ((2, 5), (1, 2, 4), (0,)):
        with pytest.raises(ValueError, match=re.escape(f"boxes={shape}: expected the shape")):
            as_boxes(torch.full(shape, 0.5))
    assert as_boxes(torch.zeros(0, 4)).shape == (0, 4)


def test_a_new_last_layer_is_drawn_with_deviation_0_01_around_the_middle():
    net = small_net()
    head = regressor(net).classifier[-1]
    assert head.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert (head.bias == 0.5).all()
    assert torch.equal(head.weight, regressor(net, True, 0).classifier[-1].weight)
    assert not torch.equal(head.weight, regressor(net, seed=1).classifier[-1].weight)


def test_training_is_in_training_mode_and_draws_from_its_seed_alone():
    """The defaults: all layers, a rate of 1e-3, 4 epochs of batches of 32, seed 0."""
    images, labels = noise(64, 3, 70, 66), torch.arange(64) % 3
    boxes = torch.tensor([[0.5, 0.5, 0.6, 0.4]]).repeat(64, 1)
    said = {"layers": "all", "lr": 1e-3, "epochs": 4, "batch_size": 32, "seed": 0}
    runs = []
    for options in ({}, said, {"seed": 1}):
        model = regressor(small_net())
        for layer in model.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        modes = []
        model.register_forward_pre_hook(lambda net, _, modes=modes: modes.append(net.training))
        before = torch.get_rng_state()
        runs.append(fit_boxes(model, images, labels, boxes, **options))
        assert torch.equal(torch.get_rng_state(), before)
        assert modes == [True] * 8 and not model.training
    assert runs[0] == runs[1] != runs[2]


def test_labels_of_all_classes_and_of_no_others():
    images = noise(4, 3, 64, 64)
    boxes = torch.tensor([[0.5, 0.5, 0.6, 0.4]]).repeat(4, 1)
    shared = regressor(small_net(), per_class=False)
    without_last = torch.tensor([0, 1, 1, 0])
    assert len(fit_boxes(shared, images, without_last, boxes, epochs=1, batch_size=4)) == 1
    with pytest.raises(ValueError, match=re.escape("labels=[2, 2, 0]: expected pictures of each")):
        fit_boxes(regressor(small_net()), images, without_last, boxes)
    one_each = torch.tensor([0, 1, 2, 0])
    own = regressor(small_net())
    assert len(fit_boxes(own, images, one_each, boxes, epochs=1, batch_size=4)) == 1
    beyond = torch.tensor([0, 1, 2, 3])
    for model in (shared, regressor(small_net())):
        with pytest.raises(ValueError, match=re.escape("labels=[1, 1, 1, 1]: expected pictures")):
            fit_boxes(model, images, beyond, boxes)


@pytest.mark.parametrize("size", [(100, 70), (70, 101)])
def test_the_centre_crop_is_torchvisions(size):
    """At the picture's own scale, so that nothing is resized."""
    model = regressor(small_net())
    images, labels = noise(2, 3, *size), torch.tensor([2, 0])
    crops = v2.functional.center_crop(images, [64, 64])
    top, left = ((side - 64) // 2 for side in size)
    assert torch.equal(images[..., top : top + 64, left : left + 64], crops)
    x, y, w, h = (64 * boxes_of(model, crops, labels)).unbind(1)
    wanted = torch.stack([(left + x) / size[1], (top + y) / size[0], w / size[1], h / size[0]], 1)
    torch.testing.assert_close(centre_boxes(model, images, labels, 70), wanted)


def test_more_pictures_than_one_batch_and_too_few_labels():
    net = build("A", 2, width=1 / 64, image_size=32).eval()
    net.preprocessing = scaled
    model = regressor(net)
    images, labels = noise(257, 3, 32, 32), torch.arange(257) % 2
    found = centre_boxes(model, images, labels, 32)
    torch.testing.assert_close(found[255:], boxes_of(model, images[255:], labels[255:]))
    with pytest.raises(ValueError, match="zip"):
        centre_boxes(model, images, labels[:256], 32)


def test_boxes_that_merge_and_boxes_that_do_not():
    one = boxed(0.5, 0.5, 0.5, 0.5)
    assert len(list(merge_steps(one, torch.ones(1)))) == 1
    (_, (merged, totals)) = merge_steps(one.repeat(2, 1), torch.tensor([0.25, 0.5]), closeness=1)
    assert torch.equal(merged, one) and totals.tolist() == [0.75]
    empty = boxed(0.5, 0.5, 0.0, 0.0).repeat(2, 1)  # no area: no overlap
    assert len(list(merge_steps(empty, torch.ones(2)))) == 1
    with pytest.raises(ValueError, match="boxes=2: expected one or more, as many as scores"):
        next(merge_steps(empty, torch.ones(3)))


def test_the_protocol_at_one_position_by_hand():
    """A picture of the crop's size; regressors that answer with their biases, a box a class."""
    net = small_net(7)
    image = noise(3, 64, 64)
    models = [regressor(net), regressor(net)]
    answers = torch.rand(2, 7, 4, generator=torch.Generator().manual_seed(1))
    for model, answer in zip(models, answers):
        answer[:, :2] = 0.5
        answer[:, 2:] = 0.5 + 0.1 * answer[:, 2:]  # so that two boxes of a class overlap
        nn.init.zeros_(model.classifier[-1].weight)
        with torch.no_grad():
            model.classifier[-1].bias.copy_(answer.flatten())
    with torch.inference_mode():
        posteriors = net(net.preprocessing(image[None]))[0].softmax(0)
    best = posteriors.sort(descending=True)
    found = localise(models, net, image, (64,))
    assert [one.label for one in found] == best.indices[:5].tolist()
    assert [one.score for one in found] == pytest.approx(best.values[:5].tolist())
    for one in found:
        wanted = (answers[0][one.label] + answers[1][one.label]) / 2
        torch.testing.assert_close(one.box, wanted)
    assert len(localise(models[:1], net, image, (64,), top=9)) == 7
    (first,) = localise(models[:1], net, image, (64,), top=1)
    torch.testing.assert_close(first.box, answers[0][first.label])
    with pytest.raises(ValueError, match=r"scales=\(\): expected a scale, and a model, at least"):
        localise(models, net, image, ())


def test_the_box_of_greatest_total_score_stands_for_its_class():
    """Of two boxes apart, over positions: the one whose scores add up to more."""
    net = small_net()
    model = regressor(net, per_class=False)
    nn.init.zeros_(model.classifier[-1].weight)
    image = noise(3, 64, 160)  # positions at 0, 32, 64 and 96
    with torch.no_grad():
        model.classifier[-1].bias.copy_(torch.tensor([0.5, 0.5, 0.2, 0.2]))
    boxes, scores = dense_boxes(model, net, image, 64)
    for one in localise([model], net, image, (64,), top=3):
        at = int(scores[:, one.label].argmax())
        torch.testing.assert_close(one.box, boxes[at, one.label])
        assert one.score == pytest.approx(scores[:, one.label].mean().item())
