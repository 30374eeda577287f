"""Mean and principal components against NumPy's."""

import numpy as np
import pytest
import torch

from tests.pictures import noise
from vggbook.data import ArrayDataset, ShapesDataset, in_memory, mean_rgb, pca_rgb


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
