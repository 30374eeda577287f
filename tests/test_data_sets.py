"""Sets in memory and on disk, and files that cannot be read."""

import os

import numpy as np
import pytest
import torch

from tests.pictures import jpeg, noise
from vggbook.data import (
    ArrayDataset,
    Loader,
    ShapesDataset,
    UnreadableImage,
    fetch,
    in_memory,
    mean_rgb,
    open_dataset,
    pca_rgb,
)


def test_labels_out_of_range_are_named():
    with pytest.raises(ValueError, match="label 3 of image 1: expected 0 to 1"):
        ArrayDataset(noise(3, 3, 8, 8), [0, 3, 1], "ab")
    wrong = ArrayDataset(noise(4, 3, 8, 8), [0, 1, 2, 3], "abcd")
    wrong.classes = ("a", "b")
    with pytest.raises(ValueError, match=r"label [23] of image [23]: expected 0 to 1"):
        list(Loader(wrong, 4, crop=8, scales=8, mean=[0] * 3).epoch(0))
    with pytest.raises(ValueError, match="label -1 of image 2: expected 0 to 1"):
        ArrayDataset(noise(3, 3, 8, 8), [0, 1, -1], "ab")
    for images, labels in ((noise(2, 3, 8, 8), [0]), ([], [])):
        counts = f"^{len(images)} images, {len(labels)} labels: expected as many of both, and at "
        with pytest.raises(ValueError, match=counts + "least one$"):
            ArrayDataset(images, labels, "ab")
    for grey in (noise(3, 1, 8, 8), [noise(3, 8, 8), noise(1, 8, 8)], noise(3, 4, 8, 3)):
        with pytest.raises(ValueError, match=r"images of torch.uint8, shape \(.*: expected uint8"):
            ArrayDataset(grey, [0] * len(grey), "ab")
    with pytest.raises(ValueError, match=r"images of torch.float32.*expected uint8"):
        ArrayDataset(torch.zeros(2, 3, 8, 8), [0, 1], "ab")


def stacked(batches):
    return [torch.cat(parts) for parts in zip(*batches)]


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for p, q in zip(a, b) for x, y in zip(p, q))


@pytest.fixture
def folder(tmp_path):
    for split, count in (("train", 8), ("val", 3)):
        for c, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                (tmp_path / split / name / f"{i}.jpg").write_bytes(jpeg((40 + i, 30 + c), seed=i))
    return tmp_path


def test_an_image_folder_feeds_the_loader(folder):
    train = open_dataset("folder", folder)
    assert (
        train.classes == ("cat", "dog") and len(train) == 16 and train.labels == [0] * 8 + [1] * 8
    )
    options = {"batch_size": 4, "crop": 24, "scales": (24, 40), "mean": mean_rgb(train)}
    batches = list(Loader(train, **options).epoch(0))
    assert sorted(stacked(batches)[2].tolist()) == list(range(16)) and batches[0][0].shape == (
        4,
        3,
        24,
        24,
    )
    assert same(batches[1:], list(Loader(train, **options, workers=1).epoch(0, start=1)))
    kept = in_memory(train, size=28)
    assert isinstance(kept.images, list) and {min(x.shape[1:]) for x in kept.images} == {28}
    assert len(list(Loader(kept, **options).epoch(0))) == 4
    assert isinstance(
        in_memory(open_dataset("folder", folder, "val")).batch([0, 5], size=24)[0], list
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_a_truncated_image_in_the_middle_of_an_epoch(folder, workers):
    victim = folder / "train" / "dog" / "3.jpg"  # index 11
    victim.write_bytes(victim.read_bytes()[:500])
    train = open_dataset("folder", folder)
    options = {"batch_size": 4, "crop": 24, "scales": 24, "mean": [0] * 3, "workers": workers}
    with pytest.raises(UnreadableImage, match=r"image 11: .*dog.3\.jpg: (?i:.*truncated)"):
        list(Loader(train, **options).epoch(0))
    tolerant = Loader(train, **options, on_error="skip")
    seen = stacked(tolerant.epoch(0))[2].tolist()
    assert sorted(seen) == [i for i in range(16) if i != 11]
    assert list(tolerant.skipped) == [11] and "3.jpg" in tolerant.skipped[11]
    for i in range(8):
        (folder / "train" / "cat" / f"{i}.jpg").write_bytes(b"")
    with pytest.raises(UnreadableImage, match="no readable image in a batch of 4"):
        list(Loader(train, **options, shuffle=False, on_error="skip").epoch(0))


def test_bad_folders_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'folder', split 'test'.*test"):
        open_dataset("folder", folder, "test")
    (folder / "train" / "owl").mkdir()
    with pytest.raises(FileNotFoundError, match="no image in the class folder owl"):
        open_dataset("folder", folder)
    with pytest.raises(
        ValueError, match="expected the class folders of 'val' to be those of 'train'"
    ):
        open_dataset("folder", folder, "val")
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"empty.*find any class folder"):
        open_dataset("folder", tmp_path / "empty")
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "train").write_text("not a folder")
    with pytest.raises(FileNotFoundError, match=r"root='.*file'"):
        open_dataset("folder", tmp_path / "file")


def test_a_folder_that_may_not_be_read(folder, monkeypatch):
    real = os.scandir

    def scandir(path="."):
        if str(path).endswith("train"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match="train"):
        open_dataset("folder", folder)


def test_torchvision_sets_with_pil_images_are_accepted(folder):
    from torchvision.datasets import ImageFolder

    plain = ImageFolder(folder / "train")
    ours = open_dataset("folder", folder)
    torch.testing.assert_close(mean_rgb(plain), mean_rgb(ours))
    (folder / "train" / "cat" / "2.jpg").write_bytes(jpeg()[:300])
    with pytest.raises(UnreadableImage, match="image 2"):
        mean_rgb(plain)


# --- unreadable files, in every pass over a set
def damage(folder, *names):
    """Cut files short; returns the set of 16 images that holds them."""
    for name in names:
        path = folder / "train" / name
        path.write_bytes(path.read_bytes()[:300])
    return open_dataset("folder", folder)


def without(dataset, wrong):
    kept = [i for i in range(len(dataset)) if i not in wrong]
    return ArrayDataset(*zip(*(dataset[i] for i in kept)), dataset.classes)


@pytest.mark.parametrize("block", [1, 3, 256])
def test_every_pass_skips_when_asked(folder, block):
    train = damage(folder, "cat/2.jpg", "dog/3.jpg")  # indices 2 and 11
    good = without(train, {2, 11})
    for function in (mean_rgb, pca_rgb, in_memory):
        with pytest.raises(UnreadableImage, match=r"image 2: .*2\.jpg"):
            function(train, batch_size=block)
        skipped = {}
        found = function(train, batch_size=block, on_error="skip", skipped=skipped)
        assert list(skipped) == [2, 11] and "3.jpg" in skipped[11]
        expected = function(good)
        if function is in_memory:
            assert torch.equal(found.labels, good.labels) and found.classes == ("cat", "dog")
            assert all(torch.equal(a, b) for a, b in zip(found.images, good.images))
        elif function is mean_rgb:
            torch.testing.assert_close(found, expected)
        else:
            torch.testing.assert_close(found.values, expected.values)
        with pytest.raises(ValueError, match="on_error='ignore': expected one of 'error', 'skip'"):
            function(train, on_error="ignore")


def test_nothing_readable_is_said(folder):
    train = damage(folder, *(f"{c}/{i}.jpg" for c in ("cat", "dog") for i in range(8)))
    for function in (mean_rgb, pca_rgb, in_memory):
        with pytest.raises(ValueError, match="16 images, none of them readable"):
            function(train, on_error="skip")


def test_fetch_gives_what_can_be_read(folder):
    train = damage(folder, "dog/3.jpg")
    found = fetch(train, [12, 11, 0], on_error="skip", size=20)
    assert found.indices == [12, 0] and found.labels.tolist() == [1, 0]
    assert [min(image.shape[1:]) for image in found.images] == [20, 20]
    assert list(found.skipped) == [11]
    nothing = fetch(train, [11], on_error="skip")
    assert len(nothing.images) == len(nothing.labels) == 0 and list(nothing.skipped) == [11]
    assert nothing.labels.dtype == found.labels.dtype == torch.int64
    held = ArrayDataset(noise(3, 3, 30, 20), [0, 1, 0], "ab")
    batch = fetch(held, [2, 1], size=10)
    assert batch.images.shape == (2, 3, 15, 10) and batch.indices == [2, 1] and not batch.skipped


def test_what_has_no_label_is_named():
    class Bare:
        classes = ("a",)

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return (noise(3, 8, 8), 0) if index == 0 else noise(3, 8, 8)

    with pytest.raises(ValueError, match=r"dataset\[1\]=.*: expected \(image, label\)"):
        fetch(Bare(), [0, 1])


def test_classes_are_counted_where_a_set_does_not_name_them():
    plain = [(noise(3, 8, 8), 0), (noise(3, 8, 8), 2)]
    assert fetch(plain, [1, 0], classes=3).labels.tolist() == [2, 0]
    with pytest.raises(ValueError, match="label 2 of image 1: expected 0 to 1"):
        fetch(plain, [0, 1], classes=2)


# --- hidden folders
@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", ".git"])
def test_hidden_folders_are_no_classes_and_hidden_files_no_images(folder, hidden):
    before = open_dataset("folder", folder)
    for split in ("train", "val"):
        for place in (folder / split / hidden, folder / split / "cat" / hidden):
            place.mkdir()
            (place / "0-checkpoint.jpg").write_bytes(jpeg())
        (folder / split / "dog" / "._0.jpg").write_bytes(jpeg())
    after = open_dataset("folder", folder)
    assert after.classes == ("cat", "dog")
    assert after.paths == before.paths and after.labels == before.labels
    assert open_dataset("folder", folder, "val").classes == ("cat", "dog")


def test_images_in_folders_below_a_class_belong_to_it(folder):
    (folder / "train" / "cat" / "more").mkdir()
    (folder / "train" / "cat" / "more" / "9.PNG").write_bytes(jpeg())
    (folder / "train" / "cat" / "notes.txt").write_text("no image")
    train = open_dataset("folder", folder)
    assert len(train) == 17 and train.labels.count(0) == 9


def test_pictures_of_one_size_are_kept_as_they_are():
    drawn = ShapesDataset("train", 10, size=24, seed=3)
    kept = in_memory(drawn, batch_size=4)
    images, labels = drawn.batch(range(10))
    assert torch.equal(kept.images, images) and torch.equal(kept.labels, labels)
    assert list(kept.classes) == list(drawn.classes)


def test_a_pair_without_a_label_and_three_things_are_no_sample():
    for item in ((noise(3, 8, 8), None), (noise(3, 8, 8), 0, 1), noise(2, 8, 8)):
        with pytest.raises(ValueError, match=rf"^dataset\[0\]='{type(item).__name__}': expected "):
            fetch([item], [0], classes=1)
    assert fetch([[noise(3, 8, 8), 0]], [0], classes=1).labels.tolist() == [0]


def test_labels_are_whole_numbers_and_indices_of_any_kind():
    assert len(ArrayDataset(noise(1, 3, 8, 8), [0], "a")) == 1
    held = ArrayDataset(noise(4, 3, 8, 8), torch.tensor([0.0, 1, 1, 0]), "ab")
    assert held.labels.dtype == torch.int64 and held[1][1] == 1
    for indices in ([3, 1], (3, 1), torch.tensor([3, 1]), np.array([3, 1]), range(3, 0, -2)):
        images, labels = held.batch(indices)
        assert torch.equal(images, held.images[[3, 1]]) and labels.tolist() == [0, 1]
