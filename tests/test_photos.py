"""The two photographs."""

import numpy as np
import pytest

from vggbook.book.photos import CREDITS, photograph


def test_photographs_are_scikit_learns():
    from sklearn.datasets import load_sample_image

    for name, text in CREDITS.items():
        image = photograph(name)
        assert (
            np.array_equal(image.permute(1, 2, 0).numpy(), load_sample_image(f"{name}.jpg"))
            and "CC BY 2.0" in text
        )
    with pytest.raises(ValueError, match="name='cat': expected one of 'china', 'flower'"):
        photograph("cat")
