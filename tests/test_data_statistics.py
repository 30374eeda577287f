"""Mean and principal components against NumPy's."""

import numpy as np
import pytest
import torch

from tests.pictures import noise
from vggbook.data import (
    ArrayDataset,
    ShapesDataset,
    UnreadableImage,
    in_memory,
    mean_rgb,
    pca_rgb,
)


@pytest.fixture(scope="module")
def shapes():
    return ShapesDataset("train", 240, seed=3, size=48)


@pytest.fixture(scope="module")
def held(shapes):
    return in_memory(shapes)


def test_statistics_equal_numpys_over_mixed_sizes(held):
    images = [noise(3, 10, 14, seed=1), noise(3, 25, 9, seed=2), noise(3, 8, 8, seed=3) // 4]
    mixed = ArrayDataset(images, [0, 1, 0], "ab")
    pixels = np.concatenate([x.numpy().reshape(3, -1) for x in images], axis=1).astype(np.float64)
    np.testing.assert_allclose(mean_rgb(mixed, batch_size=2), pixels.mean(1), rtol=1e-6)
    values, vectors = pca_rgb(mixed, batch_size=2)
    covariance = np.cov(pixels, bias=True)
    np.testing.assert_allclose(
        vectors @ torch.diag(values) @ vectors.T, covariance, rtol=1e-4, atol=1e-2
    )
    assert (vectors.sum(0) > 0).all()  # of the two signs, the one that brightens
    assert (values.diff() <= 0).all() and values[-1] > 0
    np.testing.assert_allclose(mean_rgb(held), held.images.numpy().mean((0, 2, 3)), rtol=1e-6)
    with pytest.raises(ValueError, match="the data set is empty"):
        mean_rgb(torch.utils.data.Subset(held, []))


def test_sums_are_kept_in_float64():
    """Past 2**24 a sum in float32 would lose every further 1."""
    images = [torch.full((3, 300, 300), 255, dtype=torch.uint8)]
    images += [torch.ones(3, 1, 1, dtype=torch.uint8)] * 200
    held = ArrayDataset(images, [0] * 201, "a")
    share = 200 / 90_200
    mean = 255 - 254 * share
    np.testing.assert_allclose(mean_rgb(held), [mean] * 3, rtol=2e-7)
    assert mean_rgb(held).dtype == torch.float32
    values, vectors = pca_rgb(held)
    assert values.dtype == vectors.dtype == torch.float32
    variance = 3 * share * (1 - share) * 254**2  # the three colours go together
    np.testing.assert_allclose(values, [variance, 0, 0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(vectors[:, 0], [3**-0.5] * 3, rtol=1e-6)


def test_one_colour_varies_by_nothing():
    held = ArrayDataset(torch.full((2, 3, 5, 4), 7, dtype=torch.uint8), [0, 0], "a")
    assert mean_rgb(held).tolist() == [7, 7, 7] and pca_rgb(held).values.tolist() == [0, 0, 0]


def test_an_error_stops_unless_it_is_to_be_skipped():
    class Broken(list):
        classes = ("a",)

        def __getitem__(self, index):
            raise OSError("broken")

    for function in (mean_rgb, pca_rgb, in_memory):
        with pytest.raises(UnreadableImage, match="image 0: broken"):
            function(Broken([1]))
