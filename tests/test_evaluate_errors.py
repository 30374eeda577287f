"""Errors over a data set against scikit-learn; bad labels, classes and files."""

import io
import json
import re
import sys
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from sklearn.metrics import confusion_matrix, top_k_accuracy_score

from tests.nets import net, pictures
from vggbook.data import ArrayDataset, UnreadableImage
from vggbook.evaluate import Evaluation, errors, evaluate, predict, test_scales
from vggbook.train import machine


def small_set(n=41, classes=7):
    images = pictures([(70 + i % 3, 80) for i in range(n)])
    return ArrayDataset(images, torch.arange(n) % classes, [f"class {i}" for i in range(classes)])


class Plain:
    """The set as torchvision's are: one item at a time, PIL images; some cannot be read."""

    def __init__(self, data, broken=()):
        self.data = data
        self.broken = broken
        self.classes = data.classes

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        if i in self.broken:
            raise OSError(f"picture-{i}.jpg: truncated")
        image, label = self.data[i]
        return Image.fromarray(image.permute(1, 2, 0).numpy()), label


def test_evaluate_agrees_with_scikit_learn():
    model = net()
    data = small_set()
    result = evaluate(model, data, scales=(64, 72), block=8)
    p = predict(model, data.images, scales=(64, 72)).numpy()
    truth = data.labels.numpy()
    confusion = confusion_matrix(truth, p.argmax(1), labels=range(7))
    assert np.array_equal(result.confusion.numpy(), confusion)
    for k, error in ((1, result.top1), (5, result.top5)):
        accuracy = top_k_accuracy_score(truth, p, k=k, labels=range(7))
        assert error == pytest.approx(100 * (1 - accuracy))
    assert result.n == 41 and "41 images" in str(result) and "skipped" not in str(result)
    assert json.loads(json.dumps(result.as_dict())) == {
        "n": 41,
        "top1": result.top1,
        "top5": result.top5,
        "confusion": confusion.tolist(),
        "skipped": {},
    }


def test_a_result_by_hand():
    confusion = torch.tensor([[3, 1], [2, 0]])
    result = Evaluation(confusion, torch.tensor([4, 1]), ("a", "b"), {7: "b.jpg: empty"})
    assert (result.n, result.top1, round(result.top5, 4)) == (6, 50.0, 16.6667)
    assert str(result) == (
        "top-1 error 50.00 %, top-5 error 16.67 % (6 images, 2 classes, 1 skipped)"
    )


def test_a_result_stays_as_it_is():
    result = Evaluation(torch.eye(2), torch.ones(2), ("a", "b"))
    assert result.skipped == {}
    with pytest.raises(FrozenInstanceError):
        result.classes = ("c", "d")


def test_the_papers_way_is_the_default(monkeypatch):
    """Dense, three scales, mirrored images too (Sect. 4.2); 64 images held at a time."""
    asked = []

    def noted(nets, images, *way, **keywords):
        asked.append((len(images), way, keywords))
        return torch.full((len(images), 7), 1 / 7)

    monkeypatch.setattr(errors, "predict", noted)
    evaluate(net(), small_set(65))
    way = ("dense", test_scales((256, 512)), True)
    assert asked == [(64, way, {}), (1, way, {})]


def test_one_image_is_a_set():
    found = evaluate(net(), small_set(1), scales=64)
    assert found.n == 1 and found.top1 in (0, 100) and len(found.classes) == 7


def test_hits_are_whole_numbers_a_class():
    """Counts, however few of the classes are met."""
    data = ArrayDataset(small_set(2).images, torch.zeros(2, dtype=torch.int64), "abcdefg")
    result = evaluate(net(), data, scales=64)
    assert result.hits5.dtype == torch.int64 and result.hits5.shape == (7,)
    assert result.hits5[1:].tolist() == [0] * 6 and result.confusion.sum(1).tolist() == [
        2,
        *[0] * 6,
    ]


def test_evaluate_holds_one_block_at_a_time_and_reads_plain_datasets():
    data = small_set()
    asked = []

    class Watched(ArrayDataset):
        def batch(self, indices, size=None):
            asked.append(len(indices))
            return super().batch(indices, size)

    reference = evaluate(net(), data, scales=64)
    assert torch.equal(evaluate(net(), Plain(data), scales=64).confusion, reference.confusion)
    watched = Watched(data.images, data.labels, data.classes)
    assert torch.equal(evaluate(net(), watched, scales=64, block=4).confusion, reference.confusion)
    assert max(asked) == 4 and sum(asked) == 41


def test_keywords_reach_predict():
    model = net()
    data = small_set(21)
    for options in (
        {"method": "multi_crop", "grid": 1},
        {"flip": False},
        {"average": "logit"},
        {"preprocess": lambda x: x.float() / 100},
        {"dtype": torch.bfloat16},
    ):
        p = predict(model, data.images, **{"scales": 70, **options})
        best = p.argmax(1)
        confusion = evaluate(model, data, **{"scales": 70, **options}).confusion
        expected = confusion_matrix(data.labels, best, labels=range(7))
        assert np.array_equal(confusion.numpy(), expected)


@pytest.mark.parametrize("block", [1, 3, 64])
def test_unreadable_images_are_skipped_and_named(block):
    data = small_set(20)
    broken = (0, 1, 2, 11)
    kept = [i for i in range(20) if i not in broken]
    rest = ArrayDataset([data.images[i] for i in kept], data.labels[kept], data.classes)
    found = evaluate(net(), Plain(data, broken), scales=64, block=block, on_error="skip")
    assert torch.equal(found.confusion, evaluate(net(), rest, scales=64).confusion)
    assert list(found.skipped) == list(broken) and found.n == 16
    assert "picture-11.jpg: truncated" in found.skipped[11]
    assert list(found.as_dict()["skipped"]) == ["0", "1", "2", "11"]
    with pytest.raises(UnreadableImage, match=r"picture-0\.jpg: truncated"):
        evaluate(net(), Plain(data, broken), scales=64, block=block)
    with pytest.raises(UnreadableImage, match=r"none of 20 images: .*picture-0\.jpg"):
        evaluate(net(), Plain(data, range(20)), scales=64, block=block, on_error="skip")


def test_a_bar_where_it_is_asked_for(capsys):
    evaluate(net(), small_set(9), scales=64, block=3, progress=True)
    assert "3/3" in capsys.readouterr().err
    evaluate(net(), small_set(9), scales=64, block=3)
    assert capsys.readouterr().err == ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_where_somebody_watches(monkeypatch):
    """It names method and scales, and counts blocks."""
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    evaluate(net(), small_set(9), scales=64, block=3)
    assert "dense 64: 100%" in shown.getvalue() and re.search(r"3/3 .* blocks", shown.getvalue())
    monkeypatch.setattr(sys, "stderr", silent := Terminal())
    evaluate(net(), small_set(9), scales=64, block=3, progress=False)
    assert silent.getvalue() == ""


# --- two processes, pretended ---------------------------------------------------------------------
class Exchange:
    """Stands for torch.distributed: two processes, of which one runs after the other and gets what
    that one had to give."""

    def __init__(self, monkeypatch):
        self.rank, self.counts, self.skipped, self.places = 0, {}, {}, []
        monkeypatch.setattr(errors, "world", lambda: (self.rank, 2))
        monkeypatch.setattr(machine, "world", lambda: (self.rank, 2))
        monkeypatch.setattr(dist, "all_reduce", self.all_reduce)
        monkeypatch.setattr(dist, "all_gather_object", self.all_gather_object)

    def all_reduce(self, counts):
        self.places.append(counts.device.type)
        self.counts[self.rank] = counts.clone()
        counts += self.counts.get(1 - self.rank, torch.zeros_like(counts))

    def all_gather_object(self, parts, skipped):
        self.skipped[self.rank] = dict(skipped)
        parts[self.rank] = self.skipped[self.rank]
        parts[1 - self.rank] = self.skipped.get(1 - self.rank, {})


@pytest.mark.parametrize("block", [1, 3, 10])
def test_processes_deal_out_the_blocks(monkeypatch, block):
    """Each image once, and the same result as alone; only the first one shows a bar."""
    broken = {0, 1, 7, 19}
    data = Plain(small_set(20), broken)
    how = {"scales": 64, "block": block, "on_error": "skip"}
    alone = evaluate(net(), data, **how)
    exchange = Exchange(monkeypatch)
    shown = {0: Terminal(), 1: Terminal()}
    for exchange.rank in (1, 0):
        monkeypatch.setattr(sys, "stderr", shown[exchange.rank])
        found = evaluate(net(), data, **how)
    assert found.n == 16 and torch.equal(found.confusion, alone.confusion)
    assert torch.equal(found.hits5, alone.hits5) and found.hits5.dtype == torch.int64
    assert list(found.skipped.items()) == list(alone.skipped.items())
    assert shown[0].getvalue() and not shown[1].getvalue()
    shares = [int(exchange.counts[rank][:, :-1].sum()) for rank in (0, 1)]
    dealt = [[i for i in range(20) if i // block % 2 == rank] for rank in (0, 1)]
    assert shares == [len(set(part) - broken) for part in dealt]
    assert exchange.places == ["cpu", "cpu"]


def test_labels_and_classes_are_checked():
    data = small_set()
    model = net()

    class Unlabelled(Plain):
        def __getitem__(self, i):
            return self.data[i][0], None

    class ImagesOnly(Plain):
        def __getitem__(self, i):
            return self.data[i][0]

    for dataset in (Unlabelled(data), ImagesOnly(data)):
        with pytest.raises(ValueError, match=r"dataset\[0\]=.*: expected \(image, label\)"):
            evaluate(model, dataset, scales=64)
    data.labels[20] = 7
    with pytest.raises(ValueError, match=r"label 7 of image 20: expected 0 to 6"):
        evaluate(model, data, scales=64, block=16)
    with pytest.raises(ValueError, match="classes of dataset=7: expected the network's, 5"):
        evaluate(net(classes=5), data, scales=64)
    with pytest.raises(ValueError, match="images of dataset=0: expected at least one"):
        evaluate(model, [], scales=64)
    for options, message in (
        ({"block": 0}, "block=0: expected a whole number of at least 1"),
        ({"on_error": "ignore"}, "on_error='ignore': expected one of 'error', 'skip'"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(model, small_set(3), scales=64, **options)


def test_a_plain_list_has_classes_by_number():
    data = small_set(14)
    pairs = [data[i] for i in range(14)]
    found = evaluate(net(), pairs, scales=64)
    assert found.classes == tuple(range(7))
    assert torch.equal(found.confusion, evaluate(net(), data, scales=64).confusion)
