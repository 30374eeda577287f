"""Images that a net and the functions around it refuse, and those that they take."""

import re

import pytest
import torch
from torch import nn

from tests.nets import net, pictures, small
from vggbook import CONFIGS, build, to_dense
from vggbook.data import as_pixels
from vggbook.dense import DenseNetwork
from vggbook.evaluate import predict
from vggbook.inputs import check_images, rgb_pixels
from vggbook.model import Network

PICTURE = torch.stack(pictures([(64, 64)] * 2))


def test_the_dtype_is_that_of_the_first_parameter():
    model = small().to(torch.float64)
    model.classifier = nn.Identity()
    assert model(torch.zeros(1, 3, 32, 32, dtype=torch.float64)).shape == (1, 32)
    with pytest.raises(TypeError, match=r"images.dtype=torch.float32: expected torch.float64"):
        model(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize("twin", [lambda model: model, to_dense])
@pytest.mark.parametrize(
    "images, error, message",
    [
        (
            torch.zeros(3, 32, 32),
            ValueError,
            "images.shape=(3, 32, 32): expected four axes (N, 3, H, W)",
        ),
        (torch.zeros(1, 1, 3, 32, 32), ValueError, "expected four axes (N, 3, H, W)"),
        (
            torch.zeros(2, 1, 32, 32),
            ValueError,
            "images.shape=(2, 1, 32, 32): expected 3 channels, RGB",
        ),
        (
            torch.zeros(2, 32, 32, 3),
            ValueError,
            "images.shape=(2, 32, 32, 3): expected 3 channels, RGB",
        ),
        (
            torch.zeros(2, 3, 32, 32, dtype=torch.uint8),
            TypeError,
            "images.dtype=torch.uint8: expected torch.float32",
        ),
        (
            torch.zeros(2, 3, 32, 32, dtype=torch.float64),
            TypeError,
            "images.to(torch.float32)",
        ),
        ([[0.0]], TypeError, "type(images)='list': expected a tensor of shape (N, 3, H, W)"),
        (torch.zeros(2, 3, 32, 16), ValueError, "images.shape=(2, 3, 32, 16): expected "),
    ],
)
def test_bad_batches(twin, images, error, message):
    with pytest.raises(error, match=re.escape(message)):
        twin(small())(images)


def test_larger_images_go_to_the_dense_twin():
    model, images = small(), torch.zeros(1, 3, 64, 64)
    with pytest.raises(
        ValueError, match=r"exactly 32 x 32 pixels; to_dense\(model\) takes larger ones"
    ):
        model(images)
    assert to_dense(model)(images).shape == (1, 3, 2, 2)
    for size in ((31, 40), (40, 31)):
        with pytest.raises(ValueError, match="at least 32 x 32"):
            to_dense(model)(torch.zeros(1, 3, *size))


def test_autocast_may_change_the_dtype():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert small()(torch.zeros(1, 3, 32, 32, dtype=torch.bfloat16)).shape == (1, 3)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_integers_of_any_kind_are_pixels(kind):
    images = torch.randint(0, 256, (2, 3, 8, 8)).to(kind)
    assert as_pixels(images).dtype == torch.uint8 and torch.equal(
        as_pixels(images).to(kind), images
    )
    listed = as_pixels([images[0], images[1, :, :5]])
    assert [tuple(x.shape) for x in listed] == [(3, 8, 8), (3, 5, 8)]
    assert {x.dtype for x in listed} == {torch.uint8}


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_floating_grey_levels_stay(kind):
    images = (torch.rand(2, 3, 8, 8) * 255).to(kind)
    assert as_pixels(images) is images
    for constant in (0.0, 1.0, 255.0):  # a black picture, and a nearly black one
        assert as_pixels(torch.full((3, 4, 4), constant).to(kind)).dtype == kind


@pytest.mark.parametrize(
    "images, words",
    [
        (torch.tensor([-1, 255]), "int64 from -1 to 255: expected 0 to 255"),
        (torch.tensor([0, 256]), "int64 from 0 to 256"),
        (torch.tensor([0.0, 1.0]), "float32 from 0 to 1: .*multiply images of 0 to 1 by 255"),
        (torch.tensor([0.2, 0.7]), "float32 from 0.2 to 0.7"),
        (torch.tensor([-2.1, 2.6]), "from -2.1 to 2.6: .*not standardised"),
        (torch.tensor([-123.0, 151.0]), "from -123 to 151: .*no mean subtracted"),
        (torch.tensor([0.0, 65535.0]), "from 0 to 65535"),
        (torch.tensor([0.0, float("nan")]), "nan"),
        (torch.tensor([0.0, float("inf")]), "inf"),
    ],
)
def test_what_is_no_grey_level_is_refused_with_its_range(images, words):
    with pytest.raises(ValueError, match=words):
        as_pixels(images)


def test_kinds_that_hold_no_grey_levels():
    for kind in (torch.bool, torch.complex64):
        with pytest.raises(TypeError, match=r"expected integers 0\.\.255"):
            as_pixels(torch.zeros(3, 4, 4).to(kind))
    assert as_pixels(torch.empty(0, 3, 8, 8)).numel() == 0


@pytest.mark.parametrize(
    "images, message",
    [
        (PICTURE.float() / 255, r"images of .* from .* to .*: .*multiply images of 0 to 1 by 255"),
        (PICTURE.float() - 120, r"images of .* from -.*: .* no mean subtracted"),
        (PICTURE.float() * 2, r"images of .* to .*: expected RGB of 0 to 255"),
        (PICTURE.long() + 200, r"images of torch.int64 from 2.*: expected 0 to 255"),
        (PICTURE.long() - 200, r"images of torch.int64 from -.*: expected 0 to 255"),
        (PICTURE.float() * float("nan"), r"images of .* from nan to nan: expected RGB"),
        ([PICTURE[0], PICTURE[1] / 255], r"images\[1\] of "),
        (PICTURE[0], r"images.shape=\(3, 64, 64\): expected \(N, 3, H, W\).*images\[None\]"),
    ],
)
def test_images_of_another_range_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        predict(net(), images, scales=64)


def ends(low, high):
    """A floating picture whose grey levels run from ``low`` to ``high``."""
    return torch.linspace(low, high, 3 * 4 * 4).view(3, 4, 4)


@pytest.mark.parametrize(
    "low, high", [(-32, 287), (0, 1.01), (0, 8), (0.5, 8), (-1, 8.01), (0.99, 1.02), (1, 1)]
)
def test_the_last_ranges_that_pass_as_grey_levels(low, high):
    images = ends(low, high)
    assert as_pixels(images) is images


@pytest.mark.parametrize(
    "low, high, words",
    [
        (-32.01, 200, "no mean subtracted"),
        (0, 287.1, "no mean subtracted"),
        (0, 1, "multiply images of 0 to 1 by 255"),
        (-0.5, 1, "multiply images of 0 to 1 by 255"),
        (-0.01, 8, "not standardised"),
    ],
)
def test_the_first_ranges_that_do_not(low, high, words):
    with pytest.raises(ValueError, match=f"images of torch.float32 from .*: .*{words}"):
        as_pixels(ends(low, high))


def test_the_ends_of_the_grey_levels_are_taken_as_integers():
    assert as_pixels(torch.tensor([0, 255])).tolist() == [0, 255]
    assert as_pixels(torch.zeros(0, 3, 4, 4, dtype=torch.int64)).shape == (0, 3, 4, 4)


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 3, 4, 5), (0, 3, 4, 5)])
def test_batches_of_rgb_images(shape):
    images = torch.zeros(shape, dtype=torch.uint8)
    assert rgb_pixels(images) is images


@pytest.mark.parametrize(
    "shape", [(3, 4, 5), (2, 1, 4, 5), (2, 4, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0), (1, 3, 4, 5, 6)]
)
def test_other_batches_are_refused_with_their_shape(shape):
    words = re.escape(f"images.shape={shape}: expected (N, 3, H, W), RGB")
    with pytest.raises(ValueError, match=words):
        rgb_pixels(torch.zeros(shape))


def test_lists_of_rgb_images():
    images = [torch.zeros(3, 4, 5, dtype=torch.uint8), torch.zeros(3, 1, 1)]
    assert all(a is b for a, b in zip(rgb_pixels(images), images, strict=True))
    for shape in ((4, 5), (1, 4, 5), (4, 4, 5), (3, 0, 5), (3, 4, 0), (1, 3, 4, 5)):
        words = re.escape(f"images[1]={shape}: expected an RGB tensor (3, H, W) of 0..255")
        with pytest.raises(ValueError, match=words):
            rgb_pixels([images[0], torch.zeros(shape)])
    with pytest.raises(ValueError, match=r"^images\[0\]='ndarray': expected an RGB tensor"):
        rgb_pixels([images[0].numpy()])


def test_images_too_small_for_the_twin_are_refused_with_their_shape():
    """The crop is 32 high and 64 wide."""
    dense = to_dense(build("A", 3, width=1 / 64, image_size=(32, 64)))
    assert dense(torch.zeros(1, 3, 32, 64)).shape == (1, 3, 1, 1)
    for shape in ((1, 3, 31, 64), (1, 3, 32, 63)):
        words = re.escape(f"images.shape={shape}: expected at least 32 x 64 pixels")
        with pytest.raises(ValueError, match=words):
            dense(torch.zeros(shape))


def test_a_net_without_numbers_takes_any_dtype():
    model = Network(CONFIGS["A"], nn.Sequential(nn.MaxPool2d(2)), nn.Flatten(), (4, 4))
    dense = DenseNetwork(nn.MaxPool2d(2), nn.Sequential(nn.Flatten()), (4, 4))
    for kind in (torch.float32, torch.float64):
        images = torch.rand(2, 3, 4, 4, dtype=kind)
        assert model(images).dtype == kind
        assert torch.equal(dense(images)[:, :, 0, 0], model(images))


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("on", [False, True])
def test_autocast_of_the_oldest_pytorch(device, on, monkeypatch):
    """PyTorch 2.3 has a function for each kind of device; the other one says the contrary."""
    monkeypatch.setattr(torch, "is_autocast_cpu_enabled", lambda: on == (device == "cpu"))
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda: on == (device == "meta"))
    images = torch.zeros(1, 3, 4, 4, dtype=torch.bfloat16, device=device)
    like = torch.zeros(1)
    if on:
        check_images(images, like, (4, 4))
    else:
        with pytest.raises(TypeError, match=r"images.dtype=torch.bfloat16"):
            check_images(images, like, (4, 4))
