"""Rescaling, crops, mirroring and colour, against torchvision and closed forms."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pictures import noise
from vggbook.data import colour_shift, isotropic_resize, random_crop_flip
from vggbook.data.crops import centre_crops, crops_at, take

few = settings(max_examples=15, deadline=None)


@few
@given(st.integers(20, 70), st.integers(20, 70), st.integers(8, 90))
def test_isotropic_resize_is_torchvisions(h, w, s):
    from torchvision.transforms.v2 import functional as tv

    image = noise(3, h, w, seed=h * w)
    assert torch.equal(isotropic_resize(image, s), tv.resize(image, [s], antialias=True))
    torch.testing.assert_close(
        isotropic_resize(image.float(), s), tv.resize(image.float(), [s], antialias=True)
    )
    assert min(isotropic_resize(image, s).shape[1:]) == s


def test_isotropic_resize_takes_batches_lists_and_a_size_an_image():
    batch = noise(5, 3, 30, 40)
    assert isotropic_resize(batch, 24).shape == (5, 3, 24, 32)
    each = isotropic_resize(batch, [20, 24, 20, 30, 60])
    assert [x.shape[1] for x in each] == [20, 24, 20, 30, 60]
    assert all(torch.equal(x, isotropic_resize(b, x.shape[1])) for x, b in zip(each, batch))
    mixed = isotropic_resize([batch[0], noise(3, 50, 20)], torch.tensor([15, 10]))
    assert [tuple(x.shape) for x in mixed] == [(3, 15, 20), (3, 25, 10)]
    one = isotropic_resize([batch[0], noise(3, 50, 20)], 15)  # one size for a list
    assert [tuple(x.shape) for x in one] == [(3, 15, 20), (3, 37, 15)]
    with pytest.raises(ValueError, match="S has 2 values: expected one for each of the 5 images"):
        isotropic_resize(batch, [20, 24])
    one = isotropic_resize(batch, 1)
    assert one.shape == (5, 3, 1, 1) and one.dtype == torch.uint8  # 40 / 30 is rounded down
    mean = batch.double().mean((2, 3), keepdim=True)
    assert (one - mean).abs().max() < 30  # weighted towards the middle, and noise
    with pytest.raises(ValueError, match="S=0: expected a smallest side of at least 1"):
        isotropic_resize(batch, 0)


def test_random_crop_flip_cuts_what_its_numbers_say():
    """Pixel values that tell their own place: row in red, column in green."""
    place = torch.stack(torch.meshgrid(torch.arange(20), torch.arange(30), indexing="ij"))
    image = torch.cat([place, place[:1]]).to(torch.uint8)
    n = 4000
    crops = random_crop_flip(
        image.expand(n, -1, -1, -1), 16, torch.Generator().manual_seed(0)
    ).long()
    assert crops.shape == (n, 3, 16, 16)
    top, left, right = crops[:, 0, 0, 0], crops[:, 1, 0, 0], crops[:, 1, 0, -1]
    assert torch.equal(crops[:, 0, :, 3], top[:, None] + torch.arange(16))
    mirrored = right < left
    step = torch.where(mirrored[:, None], -torch.arange(16), torch.arange(16))
    assert torch.equal(crops[:, 1, 5], left[:, None] + step)
    for values, count in ((top, 5), (torch.minimum(left, right), 15), (mirrored.long(), 2)):
        found = values.bincount(minlength=count).double()
        assert len(found) == count and (
            (found - n / count) ** 2 / (n / count)
        ).sum() < count - 1 + 5 * math.sqrt(2 * count)
    again = random_crop_flip(
        image.expand(n, -1, -1, -1), 16, torch.Generator().manual_seed(0)
    ).long()
    assert torch.equal(crops, again)
    assert not (
        random_crop_flip(image.expand(64, -1, -1, -1), 16, flip=False)[:, 1].diff(dim=-1) != 1
    ).any()


def test_gather_and_slices_cut_the_same(monkeypatch):
    """The path for accelerators, run here on the CPU by hiding what the device is."""
    batch, u = noise(9, 3, 21, 33), torch.rand(9, 3, generator=torch.Generator().manual_seed(4))
    plain = crops_at(batch, 16, u, True)

    real = torch.Tensor.to
    monkeypatch.setattr(
        torch.Tensor,
        "to",
        lambda self, *a, **k: self if a[:1] == (torch.device("meta"),) else real(self, *a, **k),
    )
    arange = torch.arange
    monkeypatch.setattr(torch, "arange", lambda *a, device=None, **k: arange(*a, **k))
    gathered = crops_at(batch.as_subclass(Elsewhere), 16, u, True).as_subclass(torch.Tensor)
    assert torch.equal(plain, gathered)


def test_crops_of_a_list_and_too_large_a_crop():
    images = [noise(3, 20, 30), noise(3, 41, 22)]
    assert random_crop_flip(images, 20).shape == (2, 3, 20, 20)
    with pytest.raises(ValueError, match="crop=24: expected 1 to 20 for images of 20 x 30 pixels"):
        random_crop_flip(images, 24)


def test_colour_shift_has_the_covariance_of_the_eigenvectors():
    generator = torch.Generator().manual_seed(0)
    q = torch.linalg.qr(torch.randn(3, 3, generator=generator))[0]
    values = torch.tensor([3000.0, 400.0, 50.0])
    base = torch.rand(20_000, 3, 1, 2, generator=generator) * 255
    moved = colour_shift(base, (values, q), generator) - base
    assert (moved[..., 0] - moved[..., 1]).abs().max() < 1e-3  # one colour for the whole image
    shift = moved[:, :, 0, 0]
    expected = 0.01 * q @ torch.diag(values) @ q.T  # std 0.1
    assert (torch.cov(shift.T) - expected).abs().max() < 0.05 * expected.diag().max()
    assert shift.mean(0).abs().max() < 5 * 0.1 * math.sqrt(3000 / 20_000)
    one = colour_shift(
        torch.zeros(1, 3, 1, 1), (values, q), alpha=torch.tensor([[0.1, 0.0, 0.0]])
    ).flatten()
    torch.testing.assert_close(
        one, 0.1 * math.sqrt(3000) * q[:, 0]
    )  # 5.5 grey levels along the first component


def test_centre_crops_are_torchvisions():
    from torchvision.transforms.v2 import functional as tv

    batch = noise(2, 3, 41, 30)
    for crop in (1, 16, 29, 30):
        even = (41 - crop) // 2, (30 - crop) // 2  # torchvision rounds halves to even
        expected = tv.crop(batch, even[0], even[1], crop, crop)
        assert torch.equal(centre_crops(batch, crop), expected)
    assert torch.equal(centre_crops(batch, 24)[:, :, :, 0], tv.center_crop(batch, 24)[:, :, :, 0])
    with pytest.raises(ValueError, match="crop=31: expected 1 to 30 for images of 41 x 30"):
        centre_crops(batch, 31)


def test_resized_on_an_accelerator_is_uint8_again():
    away = torch.empty(2, 3, 30, 40, dtype=torch.uint8, device="meta")
    small = isotropic_resize(away, 24)
    assert small.dtype == torch.uint8 and small.shape == (2, 3, 24, 32)


class Elsewhere(torch.Tensor):
    """Pixels in this machine's memory that say they lie elsewhere."""

    device = property(lambda self: torch.device("meta"))


def test_an_accelerator_resizes_in_float_and_rounds():
    image = noise(2, 3, 30, 41)
    there = isotropic_resize(image.as_subclass(Elsewhere), 24).as_subclass(torch.Tensor)
    assert there.dtype == torch.uint8
    assert torch.equal(there.float(), isotropic_resize(image.float(), 24).round())
    assert (there.int() - isotropic_resize(image, 24).int()).abs().max() <= 1


def test_a_crop_is_where_three_numbers_an_image_say():
    """Top, left and mirrored, in this order, from the generator's uniform numbers."""
    batch = noise(7, 3, 20, 31)
    u = torch.rand(7, 3, generator=torch.Generator().manual_seed(5)).tolist()
    expected = []
    for image, (top, left, mirrored) in zip(batch.numpy(), u):
        t, k = int(top * (20 - 16 + 1)), int(left * (31 - 16 + 1))
        window = image[:, t : t + 16, k : k + 16]
        expected.append(torch.tensor((window[..., ::-1] if mirrored < 0.5 else window).copy()))
    images = list(batch)  # a batch, and a list where sizes differ
    for given_images in (batch, images):
        generator = torch.Generator().manual_seed(5)
        assert torch.equal(random_crop_flip(given_images, 16, generator), torch.stack(expected))
    generator = torch.Generator().manual_seed(5)
    plain = random_crop_flip(images, 16, generator, flip=False)
    for crop, wanted, (_, _, mirrored) in zip(plain, expected, u):
        assert torch.equal(crop, wanted.flip(-1) if mirrored < 0.5 else wanted)


def test_mirrored_is_what_lies_below_one_half():
    batch = noise(2, 3, 8, 8)
    u = torch.tensor([[0.0, 0.0, 0.5], [0.0, 0.0, 0.5 - 2**-24]])
    crops = crops_at(batch, 8, u, True)
    assert torch.equal(crops[0], batch[0]) and torch.equal(crops[1], batch[1].flip(-1))


@pytest.mark.parametrize("name", ["rand", "randn"])
def test_numbers_are_drawn_where_the_generator_lives(name, monkeypatch):
    """A generator of a GPU refuses to draw on the CPU: PyTorch must be told its device."""
    asked = []

    def draws(*shape, generator, device):
        asked.append((generator, device))
        return torch.zeros(shape)

    class Generator:
        device = torch.device("meta")

    monkeypatch.setattr(torch, name, draws)
    there = Generator()
    images = torch.zeros(2, 3, 8, 8)
    for generator in (there, None):
        if name == "rand":
            random_crop_flip(images, 8, generator)
        else:
            colour_shift(images, (torch.ones(3), torch.eye(3)), generator)
    assert asked == [(there, torch.device("meta")), (None, None)]


def test_a_colour_shift_stays_in_float32():
    values = torch.tensor([4.0, 1.0, 0.0], dtype=torch.float64)
    eigen = (values, torch.eye(3, dtype=torch.float64))
    moved = colour_shift(torch.zeros(1, 3, 1, 1), eigen, alpha=torch.tensor([[0.5, 2.0, 7.0]]))
    assert moved.dtype == torch.float32 and moved.flatten().tolist() == [1.0, 2.0, 0.0]


def test_images_are_taken_where_they_lie():
    there = torch.empty(4, 3, 8, 8, device="meta")
    taken = take(there, [2, 0])
    assert taken.is_meta and taken.shape == (2, 3, 8, 8)
