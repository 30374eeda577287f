"""Features, SVM and measures of Appendix B, each against something independent."""

import io
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn import model_selection
from sklearn.metrics import average_precision_score, balanced_accuracy_score
from torch import nn
from torch.nn import functional as F
from torchvision.datasets import VOCDetection

from tests.nets import net, small
from tests.pictures import jpeg, noise
from vggbook.data import UnreadableImage
from vggbook.features import (
    STRENGTHS,
    VOC_CLASSES,
    average_precision,
    caltech,
    describe_images,
    fit_svm,
    mean_class_recall,
    split_by_class,
    truncated,
    voc_presence,
)

few = settings(max_examples=30, deadline=None)


# ---- descriptors -----------------------------------------------------------------------------


def hooked(model, x):
    """What the ReLU before the last FC layer gives in a plain forward pass: (N, D)."""
    caught = []
    relu = [part for part in model.classifier if isinstance(part, nn.ReLU)][-1]
    handle = relu.register_forward_hook(
        lambda module, inputs, output: caught.append(output.clone())
    )
    with torch.inference_mode():
        model(x)
    handle.remove()
    return caught[0]


def test_the_truncated_net_gives_the_hidden_activations():
    model = net()
    x = torch.randn(3, 3, 64, 64)
    torch.testing.assert_close(truncated(model)(x), hooked(model, x))
    assert model.classifier[-1].out_features == 7  # the net itself has kept its last layer


def test_at_the_crop_size_a_descriptor_is_a_plain_forward_pass():
    model = net()
    images = noise(3, 3, 64, 64)
    x = model.preprocessing(images)
    wanted = F.normalize(hooked(model, x), dim=1)
    torch.testing.assert_close(describe_images(model, images, 64, flip=False), wanted)
    both = F.normalize((hooked(model, x) + hooked(model, x.flip(3))) / 2, dim=1)
    torch.testing.assert_close(describe_images(model, images, 64), both)


def test_dense_averaging_is_the_mean_over_windows_of_the_map():
    model = net()
    images = noise(2, 3, 128, 160)
    x = model.preprocessing(images)
    with torch.inference_mode():
        maps = model.features(x)  # (2, C, 4, 5); a crop of 64 pixels gives 2 x 2
        windows = [
            model.classifier[:-1](maps[:, :, i : i + 2, j : j + 2].flatten(1))
            for i in range(3)
            for j in range(4)
        ]
    wanted = F.normalize(torch.stack(windows).mean(0), dim=1)
    found = describe_images(model, images, 128, flip=False)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_averaged_scales_follow_from_stacked_ones():
    model = net()
    images = noise(2, 3, 96, 96)
    stacked = describe_images(model, images, (64, 96), "stack")
    single = [describe_images(model, images, q) for q in (64, 96)]
    torch.testing.assert_close(stacked, torch.cat(single, 1) / 2**0.5)
    averaged = describe_images(model, images, (64, 96))
    torch.testing.assert_close(averaged, F.normalize(single[0] + single[1], dim=1))
    assert stacked.shape == (2, 2 * averaged.shape[1])
    torch.testing.assert_close(stacked.norm(dim=1), torch.ones(2))


def test_a_picture_and_its_mirror_image_have_one_descriptor():
    model = net()
    images = noise(2, 3, 64, 64)
    torch.testing.assert_close(
        describe_images(model, images, 64), describe_images(model, images.flip(3), 64)
    )


def test_lists_of_pictures_of_any_size():
    model = net()
    pictures = [noise(3, 70, 90, seed=1), noise(3, 100, 80, seed=2)]
    found = describe_images(model, pictures, 64)
    for row, picture in zip(found, pictures):
        torch.testing.assert_close(row, describe_images(model, picture[None], 64)[0])


def test_bad_pictures_scales_and_nets():
    model = net()
    images = noise(1, 3, 64, 64)
    with pytest.raises(ValueError, match="combine='sum'"):
        describe_images(model, images, 64, "sum")
    with pytest.raises(ValueError, match="scales=63"):
        describe_images(model, images, 63)
    with pytest.raises(ValueError, match=r"scales=\[\]: expected at least one test scale"):
        describe_images(model, images, [])
    with pytest.raises(ValueError, match=r"len\(images\)=0"):
        describe_images(model, images[:0], 64)
    with pytest.raises(ValueError, match="preprocess=None"):
        describe_images(small(), images, 64)


@pytest.mark.parametrize(
    "head", [nn.Linear(128, 5), nn.Sequential(nn.Linear(128, 5)), nn.Sequential(nn.ReLU())]
)
def test_other_heads_are_named(head):
    model = net()
    model.classifier = head
    with pytest.raises(ValueError, match=r"^net(\.classifier)?='.*: expected an? "):
        truncated(model)


# ---- the SVM ---------------------------------------------------------------------------------


def clusters(per_class=20, classes=3, seed=0):
    """Unit vectors around ``classes`` directions, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(per_class * classes) % classes
    x = torch.eye(8)[labels] + 0.1 * torch.randn(len(labels), 8, generator=generator)
    return F.normalize(x, dim=1), labels


def test_the_svm_separates_what_is_separable_and_is_fitted_on_everything():
    x, labels = clusters()
    machine = fit_svm(x, labels)
    assert mean_class_recall(machine.predict(x), labels) == 100
    assert machine.coef_.shape == (3, 8)  # one against the rest: a plane a class


def test_c_is_one_of_the_strengths_and_useless_ones_are_not_chosen():
    x, labels = clusters(30, 2)
    kept = torch.cat([(labels == 0).nonzero()[:, 0], (labels == 1).nonzero()[:10, 0]])
    x, labels = x[kept], labels[kept]  # with C near 0 all are of the larger class
    assert fit_svm(x, labels, strengths=(1e-9, 1.0)).C == 1.0


def test_bad_labels_of_the_svm():
    x, labels = clusters()
    with pytest.raises(ValueError, match="at least two classes"):
        fit_svm(x, torch.zeros_like(labels))
    with pytest.raises(ValueError, match="labels=1: expected two pictures of each class"):
        fit_svm(x[:4], torch.tensor([0, 0, 0, 1]))
    with pytest.raises(ValueError, match=r"validation=1\.5"):
        fit_svm(x, labels, validation=1.5)


# ---- measures --------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
@few
def test_mean_class_recall_is_balanced_accuracy(pairs):
    found, truth = zip(*pairs)
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(UserWarning)
        wanted = balanced_accuracy_score(truth, found)
    assert mean_class_recall(found, truth) == pytest.approx(100 * wanted)


def test_bad_recall():
    with pytest.raises(ValueError, match="found=2"):
        mean_class_recall([0, 1], [0])
    with pytest.raises(ValueError, match="found=0"):
        mean_class_recall([], [])


# ranking (best first) -> all points, eleven points, worked by hand
BY_HAND = {
    (1, 1, 0, 0): (1.0, 1.0),
    (0, 1): (1 / 2, 1 / 2),
    # precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1: levels 0 to 0.5 have 1, 0.6 to 1 have 2/3
    (1, 0, 1): (1 / 2 + 1 / 2 * 2 / 3, (6 + 5 * 2 / 3) / 11),
    # precision at the hits 1/2, 2/4, 3/5: the last is best everywhere
    (0, 1, 0, 1, 1): (3 / 5, 3 / 5),
    # hits at 1 and 10 of 10: levels 0 to 0.5 have 1, the others 1/5
    (1, 0, 0, 0, 0, 0, 0, 0, 0, 1): (0.6, (6 + 5 / 5) / 11),
}


@pytest.mark.parametrize("ranking", BY_HAND)
def test_average_precision_by_hand(ranking):
    right = torch.tensor(ranking)
    scores = -torch.arange(len(ranking)).float()
    every, eleven = BY_HAND[ranking]
    assert average_precision(scores, right) == pytest.approx(every)
    assert average_precision(scores, right, points=11) == pytest.approx(eleven)
    order = torch.randperm(len(ranking), generator=torch.Generator().manual_seed(1))
    assert average_precision(scores[order], right[order]) == pytest.approx(every)


@given(st.lists(st.booleans(), min_size=1, max_size=40).filter(any))
@few
def test_average_precision_is_bounded_by_sklearns(right):
    scores = -np.arange(len(right), dtype=float)
    ours = average_precision(torch.tensor(scores), torch.tensor(right))
    assert average_precision_score(right, scores) - 1e-9 <= ours <= 1 + 1e-9  # best, not own


def test_bad_rankings():
    with pytest.raises(ValueError, match="points=10"):
        average_precision(torch.zeros(2), torch.tensor([0, 1]), points=10)
    with pytest.raises(ValueError, match="right=0: expected at least one right"):
        average_precision(torch.zeros(2), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match="scores=3"):
        average_precision(torch.zeros(3), torch.tensor([0, 1]))


# ---- the paper's data sets -------------------------------------------------------------------


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 3))
@few
def test_a_split_holds_what_the_protocol_says(train, test, seed):
    counts = (5, 7, 12)
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    first, second = split_by_class(labels, train, test, seed)
    assert not set(first.tolist()) & set(second.tolist())
    assert torch.bincount(labels[first]).tolist() == [train] * 3
    wanted = [min(test, n - train) for n in counts]
    assert torch.bincount(labels[second], minlength=3).tolist() == wanted
    assert not torch.equal(first, split_by_class(labels, train, test, seed + 1)[0]) or train == 4
    rest = split_by_class(labels, train)[1]
    assert len(rest) == sum(counts) - 3 * train


def test_a_class_too_small_to_split_is_named():
    labels = torch.tensor([0, 0, 0, 1, 1])
    with pytest.raises(ValueError, match="train=2: expected fewer than the 2 pictures of class 1"):
        split_by_class(labels, 2)


def jpegs(folder, names, size=(40, 30)):
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(jpeg(size))


def test_caltech_101_in_its_real_form(tmp_path):
    place = tmp_path / "caltech101" / "101_ObjectCategories"
    for name, count in {"BACKGROUND_Google": 2, "Faces": 3, "accordion": 1}.items():
        jpegs(place / name, [f"image_{i + 1:04d}.jpg" for i in range(count)])
    (tmp_path / "caltech101" / "Annotations").mkdir()
    found = caltech(tmp_path)
    assert found.classes == ("Faces", "accordion", "BACKGROUND_Google")  # 102 of the paper
    assert found.labels == [0, 0, 0, 1, 2, 2]
    assert found[0][0].shape == (3, 30, 40)
    assert caltech(tmp_path, background=False).labels == [0, 0, 0, 1]


def test_caltech_256_in_its_real_form(tmp_path):
    place = tmp_path / "caltech256" / "256_ObjectCategories"
    for at, name in enumerate(("001.ak47", "002.american-flag", "257.clutter"), 1):
        jpegs(place / name, [f"{at:03d}_{i + 1:04d}.jpg" for i in range(at)])
    found = caltech(tmp_path, 256)
    assert found.classes[-1] == "257.clutter" and found.labels == [0, 1, 1, 2, 2, 2]
    assert caltech(tmp_path, 256, background=False).labels == [0, 1, 1]


def test_a_class_of_caltech_without_a_picture_is_named(tmp_path):
    place = tmp_path / "caltech101" / "101_ObjectCategories"
    jpegs(place / "Faces", ["image_0001.jpg"])
    jpegs(place / "chair", [])
    jpegs(place / "BACKGROUND_Google", [])
    with pytest.raises(
        ValueError, match=r"root=.*: expected a picture of each class, also of \['chair', 'BACK"
    ):
        caltech(tmp_path)


def test_caltech_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="Caltech-101 in root="):
        caltech(tmp_path)
    with pytest.raises(ValueError, match="classes=102"):
        caltech(tmp_path, 102)


def annotation(*things):
    """An annotation file of VOC: (class, difficult) a thing."""
    objects = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
        for name, difficult in things
    )
    return f"<annotation><filename>x.jpg</filename>{objects}</annotation>"


@pytest.mark.parametrize("year", ["2007", "2012"])
def test_voc_in_its_real_form(tmp_path, year):
    things = {
        "000001": [("dog", 0), ("person", 1)],
        "000002": [("person", 1), ("person", 0)],
        "000003": [("sofa", 1)],
    }
    place = tmp_path / "VOCdevkit" / f"VOC{year}"
    jpegs(place / "JPEGImages", [f"{name}.jpg" for name in things])
    (place / "ImageSets" / "Main").mkdir(parents=True)
    (place / "ImageSets" / "Main" / "val.txt").write_text("\n".join(things) + "\n")
    (place / "Annotations").mkdir()
    for name, content in things.items():
        (place / "Annotations" / f"{name}.xml").write_text(annotation(*content))
    source = VOCDetection(tmp_path, year, "val")
    shown = voc_presence([target for _, target in source])
    assert shown.shape == (3, 20)
    columns = [VOC_CLASSES.index(name) for name in ("dog", "person", "sofa")]
    assert shown[:, columns].tolist() == [[1, -1, 0], [0, 1, 0], [0, 0, -1]]
    assert int(shown.abs().sum()) == 4  # no other class


def test_an_unknown_thing_is_named():
    with pytest.raises(ValueError, match="name='zebra'"):
        voc_presence([{"annotation": {"object": [{"name": "zebra", "difficult": "0"}]}}])


def test_a_damaged_picture_is_named(tmp_path):
    place = tmp_path / "caltech101" / "101_ObjectCategories"
    jpegs(place / "BACKGROUND_Google", ["image_0001.jpg"])
    jpegs(place / "chair", ["image_0001.jpg"])
    (tmp_path / "caltech101" / "Annotations").mkdir()
    content = io.BytesIO()
    Image.new("RGB", (20, 20)).save(content, "JPEG")
    (place / "chair" / "image_0001.jpg").write_bytes(content.getvalue()[:60])
    with pytest.raises(UnreadableImage, match=r"image_0001\.jpg"):
        caltech(tmp_path)[0]


def test_the_twenty_classes_are_those_that_torchvisions_nets_were_trained_on():
    from torchvision.models.segmentation import FCN_ResNet50_Weights

    names = FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1.meta["categories"]
    assert names[0] == "__background__" and tuple(names[1:]) == VOC_CLASSES


# ---- defaults, order, and what is left alone -------------------------------------------------


def test_strengths_are_powers_of_ten():
    assert pytest.approx([10.0**k for k in range(-2, 3)]) == STRENGTHS


def test_pictures_go_through_in_batches_of_any_size():
    model = net()
    images = noise(5, 3, 64, 64)
    whole = describe_images(model, images, 64)
    torch.testing.assert_close(describe_images(model, images, 64, batch_size=2), whole)


def test_a_preprocessing_that_is_given_goes_before_the_nets():
    model = net()
    images = noise(2, 3, 64, 64)

    def other(pixels):
        return pixels.float() / 255

    wanted = F.normalize(hooked(model, images.float() / 255), dim=1)
    found = describe_images(model, images, 64, flip=False, preprocess=other)
    torch.testing.assert_close(found, wanted)


def test_a_head_of_two_layers_has_a_hidden_one():
    model = net()
    model.train()
    model.classifier = nn.Sequential(nn.Linear(128, 6), nn.ReLU(), nn.Linear(6, 2))
    body = truncated(model)
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(body(x), hooked(model, x))
    assert not body.training


@pytest.fixture
def splits(monkeypatch):
    """What the SVM asks of scikit-learn's splits, and how often they are made."""
    seen = []

    class Seen(model_selection.StratifiedShuffleSplit):
        def split(self, X, y, groups=None):
            seen.append((self.n_splits, self.test_size, self.random_state))
            return super().split(X, y, groups)

    monkeypatch.setattr(model_selection, "StratifiedShuffleSplit", Seen)
    return seen


def test_a_fifth_of_the_pictures_chooses_c_unless_told_otherwise(splits):
    x, labels = clusters(20, 3)
    assert fit_svm(x, labels).random_state == 0
    fit_svm(x, labels, validation=0.5, seed=3)
    assert fit_svm(x, labels, validation=0, seed=4).random_state == 4
    assert splits == [(1, 12, 0), (1, 30, 3), (1, 3, 4)]  # a picture of each class at least


def test_two_pictures_of_each_class_are_enough_and_labels_may_start_anywhere(splits):
    x, labels = clusters(2, 2)
    machine = fit_svm(x, labels + 3)
    assert machine.classes_.tolist() == [3, 4] and splits == [(1, 2, 0)]
    with pytest.raises(ValueError, match=r"labels=\[3\]: expected at least two classes"):
        fit_svm(x, torch.full((4,), 3))
    with pytest.raises(ValueError, match=r"validation=-0\.1"):
        fit_svm(x, labels, validation=-0.1)


def test_a_machine_that_stops_early_is_no_warning():
    """Each picture has a near twin in the other class, and there are more numbers than pictures."""
    x = torch.randn(30, 40, generator=torch.Generator().manual_seed(0))
    x[1::2] = x[::2] + 0.01 * x[1::2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit_svm(x, torch.arange(30) % 2, strengths=(100.0,)).n_iter_ == 1000


def test_recall_reaches_each_level_to_the_digit():
    """Ten hits of ten: recall 0.1, 0.2, ...; after the third the ranking is wrong once."""
    right = torch.tensor([1, 1, 1, 0, *[1] * 7])
    scores = -torch.arange(11.0)
    wanted = (4 * 1 + 7 * 10 / 11) / 11
    assert average_precision(scores, right, points=11) == pytest.approx(wanted)


def test_a_split_is_drawn_anew_for_each_seed_and_leaves_the_global_generator():
    labels = torch.arange(40) % 2
    before = torch.get_rng_state()
    first, second = split_by_class(labels, 5), split_by_class(labels, 5, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], split_by_class(labels, 5, seed=1)[0])


@pytest.mark.parametrize("given", [{"train": 0}, {"train": 1, "test": 0}])
def test_a_split_needs_a_picture_on_either_side(given):
    name = list(given)[-1]
    with pytest.raises(ValueError, match=f"{name}=0: expected a whole number of at least 1"):
        split_by_class(torch.arange(8) % 2, **given)
    first, second = split_by_class(torch.arange(8) % 2, 1, 1)
    assert len(first) == len(second) == 2


def test_a_thing_is_shown_once_it_is_not_difficult():
    """Whatever comes first; annotations without the word know no difficult things."""
    dog = VOC_CLASSES.index("dog")
    for marks, wanted in {("0", "1"): 1, ("1", "0"): 1, ("1", "1"): -1, (None, "1"): 1}.items():
        things = [{"name": "dog"} | ({"difficult": m} if m else {}) for m in marks]
        shown = voc_presence([{"annotation": {"object": things}}])
        assert shown[0, dog] == wanted and int(shown.abs().sum()) == 1
    assert voc_presence([]).shape == (0, 20)


@pytest.mark.parametrize("count", [10, 1000])
def test_pictures_of_equal_score_keep_their_order(count):
    """All right ones first: nothing wrong is ranked above them."""
    right = torch.arange(count) < count // 2
    assert average_precision(torch.zeros(count), right) == pytest.approx(1)
    assert average_precision(torch.zeros(count), right.flip(0)) == pytest.approx(1 / 2, abs=0.01)


def test_other_warnings_of_the_svm_are_heard(monkeypatch):
    class Warns(model_selection.StratifiedShuffleSplit):
        def split(self, X, y, groups=None):
            warnings.warn("something else", UserWarning, stacklevel=1)
            return super().split(X, y, groups)

    monkeypatch.setattr(model_selection, "StratifiedShuffleSplit", Warns)
    x, labels = clusters()
    with pytest.warns(UserWarning, match="something else"):
        fit_svm(x, labels)
