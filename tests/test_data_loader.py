"""The loader: the documented steps, in an order that can be taken up again anywhere."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vggbook.data import (
    ArrayDataset,
    Loader,
    ShapesDataset,
    hash_keys,
    in_memory,
    isotropic_resize,
    uniforms,
)

few = settings(max_examples=15, deadline=None)


@pytest.fixture(scope="module")
def shapes():
    return ShapesDataset("train", 240, seed=3, size=48)


@pytest.fixture(scope="module")
def held(shapes):
    return in_memory(shapes)


def loader(dataset, **options):
    options = {
        "batch_size": 24,
        "crop": 32,
        "scales": (32, 56),
        "mean": [120, 110, 100],
        "seed": 5,
        **options,
    }
    return Loader(dataset, **options)


COLOUR = (torch.tensor([3000.0, 300, 30]), torch.eye(3))


def stacked(batches):
    return [torch.cat(parts) for parts in zip(*batches)]


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for p, q in zip(a, b) for x, y in zip(p, q))


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order(held):
    first, second = (stacked(loader(held).epoch(e)) for e in (0, 1))
    assert sorted(first[2].tolist()) == sorted(second[2].tolist()) == list(range(240))
    assert first[2].tolist() != second[2].tolist() and first[2].tolist() != list(range(240))
    assert first[0].dtype == torch.float32 and first[0].shape == (240, 3, 32, 32)
    assert torch.equal(first[1], first[2] % 12)


def test_the_loader_does_the_documented_steps_and_subtracts_the_mean_only(held):
    plain = loader(held, scales=40, flip=False)
    for images, _, indices in list(plain.epoch(0))[:2]:
        for image, i in zip(images, indices.tolist()):
            scaled = (
                isotropic_resize(held.images[i], 40).float()
                - torch.tensor([120.0, 110, 100])[:, None, None]
            )
            windows = scaled.unfold(1, 32, 1).unfold(2, 32, 1)  # (3, 9, 9, 32, 32)
            assert (windows == image[:, None, None]).all(0).all(-1).all(
                -1
            ).sum() == 1  # exactly one of the 81 crops
    centre = next(loader(held, scales=40, augment=False, shuffle=False).epoch(0))
    scaled = isotropic_resize(held.images[:24], 40)[:, :, 4:36, 4:36].float()
    assert torch.equal(centre[0], scaled - torch.tensor([120.0, 110, 100])[:, None, None])
    assert torch.equal(
        next(loader(held, gain=0.5).epoch(0))[0], 0.5 * next(loader(held).epoch(0))[0]
    )


def test_every_scale_of_the_range_is_drawn():
    """A ramp of four levels a pixel on 64 pixels: the crop's first and last column tell S."""
    ramp = (4 * torch.arange(64)).to(torch.uint8).expand(240, 3, 64, 64)
    set_of_ramps = ArrayDataset(ramp, torch.zeros(240), ["ramp"])
    options = {"crop": 24, "scales": (32, 35), "flip": False, "mean": [0] * 3}
    seen = []
    for e in range(4):
        images = stacked(loader(set_of_ramps, **options).epoch(e))[0]
        seen.append(23 * 256 / (images[:, 0, 5, -1] - images[:, 0, 5, 0]))
    counts = torch.cat(seen).round().long().bincount()[32:]
    assert len(counts) == 4 and ((counts - 240) ** 2 / 240).sum() < 3 + 5 * math.sqrt(6)


@pytest.fixture(scope="module")
def whole(held):
    return {e: list(loader(held, colour=COLOUR).epoch(e)) for e in (0, 7)}


@few
@given(epoch=st.sampled_from([0, 7]), start=st.integers(0, 10), world=st.sampled_from([1, 2, 3]))
def test_an_interrupted_epoch_goes_on_bit_for_bit(held, whole, epoch, start, world):
    ranks = [
        loader(held, colour=COLOUR, rank=r, world_size=world).epoch(epoch, start=start)
        for r in range(world)
    ]
    together = [stacked(parts) for parts in zip(*ranks)]  # the ranks' parts of each global batch
    assert same(whole[epoch][start:], together)


def test_workers_and_memory_change_nothing(shapes, held):
    whole = list(loader(held).epoch(2))
    assert same(whole, list(loader(shapes).epoch(2)))
    assert same(whole[8:], list(loader(held, workers=2).epoch(2, start=8)))


def test_colour_noise_is_one_colour_an_image_of_the_given_spread():
    grey = ArrayDataset(
        torch.full((3000, 3, 8, 8), 128, dtype=torch.uint8), torch.zeros(3000), ["x"]
    )
    colour = (torch.tensor([2500.0, 400, 100]), torch.eye(3))
    x = stacked(
        loader(grey, batch_size=1000, crop=8, scales=8, mean=[128] * 3, colour=colour).epoch(0)
    )[0]
    assert (x.amax((2, 3)) == x.amin((2, 3))).all()
    torch.testing.assert_close(
        x[:, :, 0, 0].std(0), torch.tensor([5.0, 2.0, 1.0]), rtol=0.08, atol=0
    )
    quiet = stacked(
        loader(
            grey, batch_size=1000, crop=8, scales=8, mean=[128] * 3, colour=colour, augment=False
        ).epoch(0)
    )[0]
    assert (quiet == 0).all()


def test_a_short_last_batch_is_dropped_in_training_and_kept_in_validation(held):
    assert (
        len(loader(held, batch_size=100)) == 2 == len(list(loader(held, batch_size=100).epoch(0)))
    )
    sizes = [len(y) for _, y, _ in loader(held, batch_size=100, shuffle=False).epoch(0)]
    assert sizes == [100, 100, 40]
    parts = [
        stacked(loader(held, batch_size=100, shuffle=False, rank=r, world_size=4).epoch(0))[2]
        for r in range(4)
    ]
    assert sorted(torch.cat(parts).tolist()) == list(range(240))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": 31}, "scales=31: expected a smallest side S of at least crop=32"),
        (
            {"scales": (64, 40)},
            r"scales=\(64, 40\): expected a whole number of at least 1, or a pair \(smaller, ",
        ),
        (
            {"scales": (32, 40), "augment": False},
            "expected one smallest side S where augment=False",
        ),
        (
            {"batch_size": 25, "world_size": 2},
            "batch_size=25: expected a positive multiple of the 2 processes",
        ),
        ({"batch_size": 0}, "batch_size=0: expected a whole number of at least 1"),
        ({"batch_size": 241}, "batch_size=241: the data set has only 240 images"),
        ({"world_size": 0}, "world_size=0: expected a whole number of at least 1"),
        ({"crop": 0}, "crop=0: expected a whole number of at least 1"),
        ({"scales": 0}, "scales=0: expected a whole number of at least 1"),
        ({"seed": 1.5}, "seed=1.5: expected a whole number"),
        ({"gain": "x"}, "gain='x': expected a number"),
        ({"workers": -1}, "workers=-1: expected a whole number of at least 0"),
        ({"rank": -1, "world_size": 2}, "rank=-1: expected a whole number from 0 to 1"),
        ({"rank": 2, "world_size": 2}, "rank=2: expected a whole number from 0 to 1"),
        ({"on_error": "ignore"}, "on_error='ignore': expected one of 'error', 'skip'"),
        ({"mean": [1.0]}, "expected the mean RGB, 3 values"),
    ],
)
def test_the_loader_refuses(held, options, message):
    with pytest.raises(ValueError, match=message):
        loader(held, **options)
    with pytest.raises(ValueError, match="start=11: expected a whole number from 0 to 10"):
        next(loader(held).epoch(0, start=11))
    with pytest.raises(ValueError, match="start=-1: expected a whole number from 0 to 10"):
        next(loader(held).epoch(0, start=-1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_and_feeds_the_same(shapes, held):
    there = ShapesDataset("train", 240, seed=3, size=48, device="cuda")
    images = there.batch(range(240))[0]
    assert images.is_cuda and (images.cpu().int() - held.images.int()).abs().max() <= 1
    kept = ArrayDataset(held.images.cuda(), held.labels, held.classes)
    for mine, theirs in zip(loader(held).epoch(1), loader(kept, device="cuda").epoch(1)):
        assert (
            theirs[0].is_cuda
            and (mine[0] - theirs[0].cpu()).abs().max() <= 1
            and torch.equal(mine[2], theirs[2])
        )


def test_a_gpu_gets_pinned_memory_and_is_not_read_by_workers(held, monkeypatch):
    """The accelerator's branch, run on the CPU by pretending where things lie."""
    asked = {}

    class Recorder(torch.utils.data.DataLoader):
        def __init__(self, source, **options):
            asked.update(options)
            super().__init__(source, batch_size=None, sampler=options["sampler"])

    monkeypatch.setattr("vggbook.data.loader.DataLoader", Recorder)
    plain = list(loader(held, workers=2).epoch(0))
    assert asked["num_workers"] == 2 and asked["pin_memory"] is False
    assert same(plain, list(loader(held).epoch(0)))

    class Away:
        device = "cuda"
        classes = held.classes

        def __len__(self):
            return len(held)

    with pytest.raises(ValueError, match="workers=1: expected 0, since a set on a GPU"):
        loader(Away(), workers=1)
    assert loader(Away(), workers=0).workers == 0

    class AwayByItsLabels:
        labels = torch.zeros(len(held), device="meta")  # not on the CPU
        classes = held.classes

        def __len__(self):
            return len(held)

    with pytest.raises(ValueError, match="workers=1: expected 0"):
        loader(AwayByItsLabels(), workers=1)


@pytest.mark.parametrize("name", ["flip", "shuffle", "augment", "drop_last"])
def test_flags_are_true_or_false(held, name):
    with pytest.raises(ValueError, match=f"{name}='no': expected True or False"):
        loader(held, **{name: "no"})


def test_drop_last_can_be_said(held):
    assert len(loader(held, batch_size=100, drop_last=False)) == 3
    assert len(loader(held, batch_size=100, shuffle=False, drop_last=True)) == 2


class Grey:
    """300 grey images of 300 pixels, which know neither where they lie nor their labels."""

    classes = ("grey",)

    def __len__(self):
        return 300

    def __getitem__(self, index):
        return torch.full((3, 300, 300), index % 256, dtype=torch.uint8), 0


def test_defaults_are_the_papers():
    """Sect. 3.1: batches of 256, crops of 224 from S = 256, mirrored; the mean alone is taken off.
    Of training: another order an epoch, random crops, no short batch.
    """
    plain = Loader(Grey(), mean=np.array([1.0, 2.0, 3.0]))
    assert (plain.batch_size, plain.crop, plain.scales) == (256, 224, (256, 256))
    assert plain.flip and plain.shuffle and plain.augment and plain.drop_last
    assert plain.gain == 1 and plain.colour is None
    assert (plain.seed, plain.rank, plain.world_size, plain.workers) == (0, 0, 1, 0)
    assert plain.device == torch.device("cpu") and plain.on_error == "error"
    assert plain.mean.dtype == torch.float32 and plain.mean.tolist() == [1, 2, 3]
    assert len(plain) == 1 and not plain.skipped
    assert Loader(Grey(), mean=[0] * 3, workers=1).workers == 1  # taken to lie on the CPU


def test_every_number_of_a_sample_does_what_it_is_for(held):
    """Scale, top, left, mirrored, then two numbers for each of three normal ones (Box and Muller),
    by hand, for pictures that are not square.
    """
    from torchvision.transforms.v2 import functional as tv

    wide = ArrayDataset(held.images[:, :, :40], held.labels, held.classes)  # 40 x 48 pixels
    drawn = loader(wide, colour=COLOUR, seed=2**33 + 5)
    images, labels, indices = next(drawn.epoch(3, start=1))
    assert indices.tolist() == drawn.order(3)[24:48].tolist()
    u = uniforms(hash_keys(2**33 + 5, 3, 0, indices), 10)
    for image, label, i, row in zip(images, labels, indices.tolist(), u):
        assert label == i % 12
        side = 32 + int(row[0] * 25)
        scaled = tv.resize(wide.images[i], [side], antialias=True)
        top = int(row[1] * (scaled.shape[1] - 31))
        left = int(row[2] * (scaled.shape[2] - 31))
        crop = scaled[:, top : top + 32, left : left + 32].float()
        crop = crop.flip(2) if row[3] < 0.5 else crop
        a, b = row[4:7].double(), row[7:].double()
        normal = torch.sqrt(-2 * torch.log(1 - a)) * torch.cos(2 * math.pi * b)
        shift = 0.1 * normal * COLOUR[0].double().sqrt() - torch.tensor([120, 110, 100])
        torch.testing.assert_close(image, (crop + shift[:, None, None]).float())


def test_the_order_is_that_of_the_hashes(held):
    for epoch in (0, 2):
        keys = hash_keys(5, epoch, -1, torch.arange(240)).tolist()
        order = sorted(range(240), key=keys.__getitem__)
        assert loader(held).order(epoch).tolist() == order
    assert loader(held, shuffle=False).order(3).tolist() == list(range(240))


def test_a_process_may_get_nothing_of_a_short_batch(held):
    """Nine images for four processes, eight a batch: one of them gets the last image."""
    few_images = ArrayDataset(held.images[:9], held.labels[:9], held.classes)
    options = {"batch_size": 8, "world_size": 4, "shuffle": False, "colour": COLOUR, "gain": 2}
    counts = []
    for rank in range(4):
        images, labels, indices = list(loader(few_images, rank=rank, **options).epoch(0))[1]
        counts.append(len(images))
        assert images.shape == (counts[-1], 3, 32, 32) and images.dtype == torch.float32
        assert labels.shape == indices.shape == (counts[-1],)
        assert labels.dtype == indices.dtype == torch.int64
    assert sorted(counts) == [0, 0, 0, 1]


def test_a_gain_multiplies_what_is_left_of_the_mean(held):
    once, twice = (next(loader(held, gain=gain).epoch(0))[0] for gain in (1, 2))
    assert torch.equal(twice, 2 * once)


def test_an_epoch_leaves_torchs_own_random_numbers_alone(held):
    torch.manual_seed(4)
    list(loader(held, colour=COLOUR).epoch(0))
    after = torch.rand(3)
    torch.manual_seed(4)
    assert torch.equal(after, torch.rand(3))


def test_the_smallest_sets_and_batches(held):
    one = ArrayDataset(held.images[:1], held.labels[:1], held.classes)
    assert len(list(loader(one, batch_size=5, shuffle=False).epoch(0))) == 1
    assert len(list(loader(one, batch_size=1).epoch(0))) == 1
    assert len(loader(held, batch_size=240)) == 1
    with pytest.raises(ValueError, match="batch_size=2: the data set has only 1 images"):
        loader(one, batch_size=2)
    with pytest.raises(ValueError, match="batch_size=2: the data set has only 0 images"):
        loader(torch.utils.data.Subset(one, []), batch_size=2, shuffle=False)


def test_pixels_go_to_a_gpu_from_pinned_memory_and_nobody_waits(held, monkeypatch):
    """The path for a GPU, with a ``to`` that notes where things should go, and leaves them."""
    asked, sent = [], []
    real, there = torch.Tensor.to, torch.device("cuda")

    def noted(self, *a, **k):
        if a[:1] != (there,):
            return real(self, *a, **k)
        sent.append((tuple(self.shape), k))
        return self

    class Recorder(torch.utils.data.DataLoader):
        def __init__(self, source, **options):
            asked.append(options["pin_memory"])
            super().__init__(source, batch_size=None, sampler=options["sampler"])

    monkeypatch.setattr("vggbook.data.loader.DataLoader", Recorder)
    feed = loader(held, workers=2)
    feed.device = there
    with monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "to", noted)
        batch = next(feed.epoch(0))
    assert same([batch], [next(loader(held).epoch(0))])
    no_wait = {"non_blocking": True}
    assert asked == [True] and sent == [((24, 3, 32, 32), no_wait), ((24,), no_wait)]
