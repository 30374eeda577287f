"""What is refused before the first step, and images that cannot be read."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny_training import TINY, folder_with_a_broken_image, pictures, quiet

from vggbook.data import mean_rgb, open_dataset, pca_rgb
from vggbook.train import Recipe
from vggbook.train.options import Options
from vggbook.train.start import statistics


class Untouchable:
    """A data set that must not be read."""

    classes = "abcd"

    def __len__(self):
        return 32

    def batch(self, *_):
        raise AssertionError("data was read")


@pytest.mark.parametrize(
    "options, words",
    [
        ({"precision": "fp8"}, "precision='fp8': expected"),
        ({"micro_batch": 0}, "micro_batch=0: expected"),
        ({"save_minutes": -1}, "save_minutes=-1: expected"),
        ({"device": "cpu", "precision": "fp16"}, "precision='fp16': expected"),
        ({"val": SimpleNamespace(classes="abc")}, r"val=\['a', 'b', 'c'\]: expected the classes"),
        (
            {"model": Recipe("B", crop=32, scales=32).net(4)},
            r"model=.*'B'.*: expected the recipe's",
        ),
        ({"model": replace(TINY, crop=36, scales=36).net(4)}, r"model=.*36.*: expected the recipe"),
        ({"model": TINY.net(3)}, r"model='\[3\] outputs': expected a net with 4 outputs"),
        ({"model": TINY.net(10)}, r"model='\[10\] outputs': expected a net with 4 outputs"),
        ({"freeze": "pool"}, "freeze='pool': expected"),
    ],
)
def test_arguments_are_checked_before_data_is_touched(options, words):
    with pytest.raises(ValueError, match=words):
        quiet(TINY, Untouchable(), **options)


def test_unknown_arguments_are_refused_by_name():
    with pytest.raises(TypeError, match="batch=8: expected an option: mean, eigen, device"):
        quiet(TINY, Untouchable(), batch=8)
    with pytest.raises(ValueError, match=r"recipe=.*: expected a Recipe"):
        quiet({"lr": 1}, Untouchable())
    with pytest.raises(ValueError, match="batch_size=8"):
        quiet(TINY, pictures(4))


def test_labels_out_of_range_are_named():
    data = pictures()
    data.labels = data.labels.clone()
    data.labels[17] = 9
    with pytest.raises(ValueError, match=r"label 9 of image 17"):
        quiet(TINY, data, mean=[0, 0, 0])


def test_a_truncated_image_is_an_error_with_its_name(tmp_path):
    data = folder_with_a_broken_image(tmp_path)
    for mean in ([128.0] * 3, None):
        with pytest.raises(OSError, match=r"b/3\.png"):
            quiet(TINY, data, mean=mean)


def test_a_skipped_image_is_counted_and_named_and_reaches_no_pass(tmp_path):
    """Mean, principal components, training and validation: as if the file were not there."""
    train = folder_with_a_broken_image(tmp_path)
    val = folder_with_a_broken_image(tmp_path, "val")
    lines, recipe = [], replace(TINY, colour=True)
    run = quiet(recipe, train, val, on_error="skip", log=lines.append)
    assert run.history["skipped"] == [1, 1] and "1 skipped" in str(run.history)
    assert sorted("/".join(name.split(":")[0].split("/")[-3:]) for name in run.skipped) == [
        "train/b/3.png",
        "val/b/3.png",
    ]
    assert "2 unreadable images skipped" in lines[-1] and "val/b/3.png" in lines[-1]
    (tmp_path / "train/b/3.png").unlink()
    good = open_dataset("folder", tmp_path, "train")
    torch.testing.assert_close(run.mean, mean_rgb(good))


def test_many_skipped_images_are_named_in_part(tmp_path):
    train = folder_with_a_broken_image(tmp_path)
    for path in train.paths[:12]:
        open(path, "w").close()
    lines, recipe = [], replace(TINY, batch_size=16, max_epochs=1)
    run = quiet(recipe, train, on_error="skip", log=lines.append)
    assert len(run.skipped) == 12 and lines[-1].endswith("; and 2 more")
    assert lines[-1].count("; ") == 10  # ten names and the rest


@pytest.mark.parametrize("colour", [True, False])
def test_the_training_sets_components_are_found_where_colours_shift(colour):
    """Unless they are given. Against the functions of the data set."""
    train = pictures()
    recipe = replace(TINY, colour=colour)
    mean, found = statistics(recipe, train, Options(), None, {})
    assert torch.equal(mean, mean_rgb(train))
    right = pca_rgb(train)
    assert (found is None) == (not colour)
    assert found is None or all(torch.equal(a, b) for a, b in zip(found, right))
    _, given = statistics(recipe, Untouchable(), Options(mean=mean, eigen=right), None, {})
    assert given is right
