"""What is refused before the first step, and images that cannot be read."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_training import TINY, folder_with_a_broken_image, pictures, quiet, thin_vgg11

from vggbook.data import Loader, mean_rgb, open_dataset, pca_rgb
from vggbook.train import Options, Recipe, load_checkpoint
from vggbook.train.start import check_arguments, loaders, statistics
from vggbook.train.state import Training


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


def test_ten_skipped_images_are_all_named(tmp_path):
    train = folder_with_a_broken_image(tmp_path)
    broken = ["b/3.png", *(f"a/{i}.png" for i in range(8)), "b/0.png"]
    for name in broken:
        (tmp_path / "train" / name).write_bytes(b"")
    lines, recipe = [], replace(TINY, batch_size=16, max_epochs=1)
    run = quiet(recipe, train, on_error="skip", log=lines.append)
    assert len(run.skipped) == 10 and lines[-1].startswith("10 unreadable images skipped: ")
    assert lines[-1].split(": ", 1)[1] == "; ".join(run.skipped)


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


def test_a_batch_is_shared_out_evenly():
    with pytest.raises(ValueError, match=r"^batch_size=8: expected a multiple of the 3 processes$"):
        check_arguments(TINY, Untouchable(), None, None, None, processes=3)
    check_arguments(TINY, Untouchable(), None, None, None, processes=4)


@pytest.mark.parametrize("source, named", [("runs/a.pt", "'runs/a.pt'"), (Path("b.pt"), "'b.pt'")])
def test_a_file_beside_a_model_is_named(source, named):
    with pytest.raises(ValueError, match=f"^init_from={named}: expected None where a model is "):
        check_arguments(TINY, Untouchable(), None, TINY.net(4), source, processes=1)


def test_classes_are_compared_by_their_names_and_a_model_by_its_outputs():
    """Numbers are as good as their digits, and any net with as many outputs will do."""
    train, val = SimpleNamespace(classes=range(4)), SimpleNamespace(classes="0123")
    check_arguments(TINY, train, val, thin_vgg11(classes=4), None, processes=1)


def test_a_mean_in_whole_numbers_is_one_of_floating_numbers():
    mean, _ = statistics(TINY, Untouchable(), Options(mean=(1, 2, 3)), None, {})
    assert mean.dtype == torch.float32 and mean.tolist() == [1, 2, 3]


def test_both_sets_are_read_as_the_recipe_and_the_options_say():
    """Against loaders written out. The validation set comes in its own order."""
    train, val = pictures(24), pictures(10, seed=5)
    recipe = replace(TINY, seed=7, flip=False, gain=0.5)
    options = Options(workers=2, on_error="skip")
    mean = torch.tensor([100.0, 110.0, 120.0])
    where = {"rank": 1, "world_size": 2, "device": torch.device("cpu")}
    found = loaders(recipe, train, val, mean, None, options, **where)
    shared = {"crop": 32, "mean": mean, "gain": 0.5, "seed": 7, **where}
    right = (
        Loader(train, 8, scales=(32, 40), flip=False, **shared),
        Loader(val, 8, scales=36, shuffle=False, augment=False, **shared),
    )
    for ours, theirs in zip(found, right):
        assert (ours.workers, ours.on_error) == (2, "skip")
        ours.workers = 0
        for a, b in zip(ours.epoch(1), theirs.epoch(1), strict=True):
            assert all(map(torch.equal, a, b))
    assert [batch[2].tolist() for batch in found[1].epoch(0)] == [[4, 5, 6, 7], [9]]
    assert loaders(recipe, train, None, mean, None, options)[1] is None


def test_a_file_that_is_whole_again_is_skipped_no_more(tmp_path):
    """Skipped images are counted anew in each epoch."""
    train = folder_with_a_broken_image(tmp_path)
    broken, whole = tmp_path / "train/b/3.png", tmp_path / "train/b/4.png"
    recipe = replace(TINY, max_epochs=3)
    mend = lambda line: broken.write_bytes(whole.read_bytes())  # noqa: E731
    run = quiet(recipe, train, on_error="skip", mean=[128.0] * 3, log=mend)
    assert run.history["skipped"] == [1, 0, 0] and len(run.skipped) == 1


class Stop(BaseException):
    pass


def test_images_skipped_before_a_stop_are_counted_after_it(tmp_path, monkeypatch):
    """Killed in the last step of the epoch; then the file, one of the first batch, is whole
    again."""
    train = folder_with_a_broken_image(tmp_path)
    feed = {"crop": 32, "scales": (32, 40), "mean": (0, 0, 0)}
    first = {seed: Loader(train, 4, seed=seed, **feed).order(0)[:4] for seed in range(20)}
    seed = next(seed for seed, images in first.items() if 8 + 3 in images)  # b/3.png
    recipe = replace(TINY, batch_size=4, max_epochs=1, seed=seed)
    how = {"out": tmp_path / "run", "on_error": "skip", "mean": [128.0] * 3, "save_minutes": 0}
    count = Training.count

    def stopping(self, loss):
        count(self, loss)
        if self.step == 4:
            raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Training, "count", stopping)
        quiet(recipe, train, **how)
    assert load_checkpoint(tmp_path / "run" / "last.pt")["step"] == 3
    (tmp_path / "train/b/3.png").write_bytes((tmp_path / "train/b/4.png").read_bytes())
    run = quiet(recipe, train, **how)
    assert run.history["skipped"] == [1] and len(run.skipped) == 1
