"""Estimates by hand: nets counted on built models, chapters worked out from small settings."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tools import estimate
from tools.estimate import Estimate, Job, Share
from vggbook import build
from vggbook.book.profiles import load, read


def outputs(net, side):
    """Values that each convolution, pool and FC layer gives for one image."""
    found = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.Linear):
            module.register_forward_hook(lambda _, inputs, out: found.append(out.numel()))
    net(torch.zeros(1, 3, side, side))
    return found


@pytest.mark.parametrize("net, width", [("A", 0.25), ("D", 0.125)])
def test_a_jobs_layers_steps_and_memory(net, width):
    model = build(net, width=width, image_size=64)
    weights = sum(p.numel() for p in model.parameters())
    sizes = outputs(model, 64)
    training = Job(net, 64, width, images=60, batch=8)
    # activations with their gradients in 16 bits; weights, gradients, velocities, a copy
    assert training.memory == 8 * sum(sizes) * 2 * 2 + 4 * 4 * weights
    testing = Job(net, 64, width, 60, 8, training=False)
    assert testing.memory == 8 * max(sizes) * 4 + 4 * weights
    assert training.steps == testing.steps == 7.5
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert training.layers == len(layers)
    plain, normed = training, Job(net, 64, width, 60, 8, batch_norm=True)
    convs = sum(m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d))
    assert normed.memory >= plain.memory + 16 * 2 * convs
    assert normed.macs == plain.macs


def test_the_profile_of_chapter_5():
    recipe = {"config": "B", "crop": 64, "max_epochs": 3, "batch_size": 20, "width": 0.5}
    settings = SimpleNamespace(recipe=recipe, images=100, val_images=10, deep="D", deep_epochs=2)
    assert estimate.jobs("05", settings) == [
        Job("B", 64, 0.5, 300, 20),
        Job("B", 64, 0.5, 30, 256, training=False),
        Job("D", 64, 0.5, 800, 20),  # from four starts
        Job("D", 64, 0.5, 80, 256, training=False),
    ]
    settings.images = settings.val_images = None
    del recipe["batch_size"], recipe["width"]
    recipe["batch_norm"] = True
    first, second = estimate.jobs("05", settings)[:2]
    assert first == Job("B", 64, 1.0, 3 * 9469, 256, batch_norm=True)  # Imagenette's own counts
    assert second.images == 3 * 3925


def counted(chapter, **settings):
    """Jobs as (net, side, width, images, batch); none of them trains."""
    jobs = estimate.jobs(chapter, SimpleNamespace(**settings))
    assert not any(job.training for job in jobs)
    return [(job.net, job.side, job.width, job.images, job.batch) for job in jobs]


def test_the_profile_of_chapter_6():
    dense = [("D", side, 0.125, 40, 64) for side in (64, 73, 82, 110, 146, 64, 73, 82)]
    photo = [("D", side, 1.0, 4, 1) for side in (256, 384, 512)]
    assert counted("06", test=40) == dense + photo


def test_the_profile_of_chapter_7():
    miniatures = []
    for net in "DA":
        miniatures += [(net, side, 0.125, 80, 64) for side in (64, 73, 82)]
        miniatures.append((net, 64, 0.125, 2 * 9 * 40, 256))
    miniatures.append(("D", 73, 0.125, 8 * 40, 64))
    photo = []
    for side in (256, 384, 512):
        photo += [("D", side, 0.25, 2 * 3, 1), ("D", 224, 0.25, 50 * 3, 50)]
    settings = {"test": 40, "grid": 3, "photo_width": 0.25, "rounds": 3}
    assert counted("07", **settings, imagenette=0) == miniatures + photo
    released = [("D", 224, 1.0, 51 * 6, 50), ("D", 256, 1.0, (5 + 4) * 6, 1)]  # 2 x 2 inputs
    released += [("D", 384, 1.0, 12, 1), ("D", 512, 1.0, 12, 1)]
    assert counted("07", **settings, imagenette=6) == miniatures + released + photo


def test_the_profiles_of_chapters_8_and_11():
    assert counted("08", test=10) == [("D", 73, 0.125, 480, 64)]
    settings = SimpleNamespace(image=96, width=0.5, batch=16, rounds=4, d_batch=2, d_rounds=5)
    assert estimate.jobs("11", settings) == [
        Job("B", 96, 0.5, 2 * 16 * 5, 16),
        Job("D", 224, 1.0, 2 * 6, 2, training=False),
    ]


def test_the_profiles_of_chapters_9_and_10():
    boxes = {"net": "A", "train": 100, "epochs": 3, "test": 50, "dense": 7, "scales": [73, 146]}
    drawn = [
        Job("A", 64, 0.125, 300, 32),
        Job("A", 64, 0.125, 50, 256, training=False),
        Job("A", 73, 0.125, 14, 1, training=False),
        Job("A", 146, 0.125, 14, 1, training=False),
    ]
    photographs = [Job("D", 224, 1.0, 40, 32), Job("D", 224, 1.0, 10, 256, training=False)]
    for years in ([], ["2007"], ["2007", "2012"]):
        settings = SimpleNamespace(**boxes, voc=years, voc_pictures=10, voc_epochs=4)
        assert estimate.jobs("09", settings) == drawn + photographs * len(years)
    sets = {"caltech": [101], "caltech_class": [3, 2], "voc": ["2007"], "voc_pictures": 5}
    described = 102 * (3 + 2) + 5 + 5  # Caltech's 101 classes and its clutter; VOC's two halves
    assert counted("10", a_class=[5, 3], steps=20, **sets) == [
        ("D", 73, 0.125, 2 * 12 * (5 + 2 * 3), 64),
        ("D", 73, 0.125, 96, 24),
        ("D", 110, 0.125, 96, 24),
        ("D", 146, 0.125, 96, 24),
        ("D", 240, 0.125, 60, 1),
        ("D", 240, 1.0, 60, 1),
        ("D", 296, 1.0, 2 * described, 1),
    ]


# Imagenette: 326 MB at 12 MB/s, 13,394 photographs decoded at 400/s.
@pytest.mark.parametrize(
    "data, wait", [("shapes", 30), ("imagenette", 30 + 326 / 12 + (9469 + 3925) / 400)]
)
def test_an_estimate_by_hand(monkeypatch, data, wait):
    settings = SimpleNamespace(data=data, test=0, recipe={"scales": 100})
    one, two = Job("A", 64, 0.25, 60, 8), Job("D", 32, 0.25, 50, 10, training=False)
    monkeypatch.setitem(estimate.WORK, "05", lambda given: [one, two])
    monkeypatch.setattr(estimate, "load", lambda profile, chapter: settings)
    monkeypatch.setitem(estimate.DEVICES, "T4", SimpleNamespace(flops=1e9))
    monkeypatch.setitem(estimate.SHARES, "T4", Share(0.5, 0.25, 0.01))
    found = estimate.estimate("05", "T4")
    seconds = wait + 2 * one.macs / 0.5e9 + 2 * two.macs / 0.25e9
    seconds += 7.5 * 11 * 0.01 + 5 * 16 * 0.01  # steps, layers
    assert found.seconds == pytest.approx(seconds)
    pictures = (9469 + 3925) * 3 * 100 * 100 * 4 / 3 if data == "imagenette" else 0
    assert found.memory == pytest.approx(1.5e9 + pictures + max(one.memory, two.memory))
    assert (found.chapter, found.device, found.macs) == ("05", "T4", one.macs + two.macs)


def test_pictures_kept_on_the_gpu():
    own = SimpleNamespace(train=10, test=6, scales=[20, 30])
    assert estimate._data_bytes(own) == 2 * 16 * 3 * 900
    assert estimate._data_bytes(SimpleNamespace(test=6)) == 6 * 3 * 146 * 146
    assert estimate._data_bytes(SimpleNamespace()) == 0


@pytest.mark.parametrize(
    "seconds, device, words",
    [
        (5, "T4", "about a minute and 2.5 GB on a T4 (estimated)"),
        (89, "H100", "about a minute and 2.5 GB on an H100 (estimated)"),
        (95, "T4", "about 2 minutes and 2.5 GB on a T4 (estimated)"),
    ],
)
def test_an_estimate_in_words(seconds, device, words):
    assert str(Estimate("05", device, seconds, 2.5e9, 1.0)) == words


def test_the_speeds_behind_the_estimates():
    """Shares of the sustained 16-bit speed; testing is float32 (an eighth on a T4, 1/7 on TF32)."""
    assert {"T4", "H100"} == set(estimate.SHARES)
    for name, share in estimate.SHARES.items():
        assert 0 < share.testing < share.training < 1 and 0 < share.layer <= 1e-3, name
    t4 = estimate.SHARES["T4"].testing * estimate.DEVICES["T4"].flops
    assert t4 == pytest.approx(8.1e12 / 3, rel=0.05)  # a third of float32's peak
    assert estimate.SHARES["H100"].testing == pytest.approx(1 / 7, rel=0.05)
    assert load("gpu", "05").data == "imagenette"


@pytest.mark.parametrize("chapter", estimate.WORK)
def test_every_chapter_fits_a_t4_and_an_h100(chapter):
    for device, limit in (("T4", 600), ("H100", 180)):
        found = estimate.estimate(chapter, device)
        assert 0 < found.seconds <= limit and found.memory < 14e9
        assert f"on a{'n' * (device[0] in 'AEH')} {device} (estimated)" in str(found)


def test_every_chapter_with_sizes_for_a_gpu_has_its_estimate():
    chapters = [section for section in read("gpu") if section.startswith("chapter_")]
    assert [f"chapter_{chapter}" for chapter in estimate.WORK] == sorted(chapters)
    assert estimate.estimate("01", "T4") is None
    with pytest.raises(ValueError, match="device='A100': expected one of 'T4', 'H100'"):
        estimate.estimate("05", "A100")
    with pytest.raises(ValueError, match="chapter='01': expected one of"):
        estimate.jobs("01")


@pytest.mark.parametrize("net, width", [("A", 0.25), ("D", 0.125)])
def test_a_job_counts_what_pytorch_counts(net, width):
    """A training step's multiply-adds by PyTorch's own counter; it leaves out the images' gradients
    in the first layer.
    """
    job = estimate.Job(net, 32, width, images=4, batch=2)
    model = build(net, width=width, image_size=32)
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(4, 3, 32, 32)).sum().backward()
    first = 2 * 4 * 32 * 32 * 27 * model.features[0].out_channels
    assert 2 * job.macs == counter.get_total_flops() + first
    forward = estimate.Job(net, 32, width, 4, 2, training=False)
    assert job.macs == 3 * forward.macs and job.steps == 2


def test_photographs_and_archives_of_the_appendices_are_counted():
    """What a reader adds costs what it weighs: VOC 2012's 2 GB, 257 classes of Caltech."""
    settings = load("gpu", "10")
    before = estimate.jobs("10", settings)
    settings.caltech, settings.voc = [101, 256], ["2007", "2012"]
    after = estimate.jobs("10", settings)
    images = 2 * (sum(settings.caltech_class) * 257 + 2 * settings.voc_pictures)
    assert after[-1].images - before[-1].images == images and after[-1].width == 1
    archives, photographs = estimate._real_data("10", settings)
    assert sum(estimate.SIZES[key] for key in archives) == pytest.approx(4.3e9, rel=0.01)
    assert 2 * photographs == after[-1].images
    assert estimate._real_data("08", settings) == ([], 0)
