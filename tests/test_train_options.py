"""Options of a training: refused by name, or carried out; none by default changes anything."""

from dataclasses import FrozenInstanceError, asdict

import numpy as np
import pytest
import torch

from vggbook.train import Options


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("precision", "fp8", "one of 'auto'"),
        ("compile", 1, "True or False"),
        ("micro_batch", 0, "at least 1"),
        ("workers", -1, "at least 0"),
        ("on_error", "ignore", "one of 'error', 'skip'"),
        ("save_minutes", -1, "at least 0"),
        ("save_minutes", float("nan"), "at least 0"),
        ("freeze", 3, "names of layers"),
        ("freeze", ("conv", ""), "names of layers"),
        ("mean", [1.0, 2.0], "three numbers"),
        ("mean", [1.0, 2.0, 256.0], "three numbers"),
        ("mean", [-1.0, 2.0, 3.0], "three numbers"),
        ("log", "yes", "a function"),
    ],
)
def test_bad_options_are_named(name, value, words):
    with pytest.raises(ValueError, match=words) as error:
        Options(**{name: value})
    assert str(error.value).startswith(f"{name}={value!r}: expected ")


def test_options_by_default_change_nothing():
    assert asdict(Options()) == {
        **dict.fromkeys(["mean", "eigen", "micro_batch"]),
        **dict.fromkeys(["device", "precision"], "auto"),
        "compile": False,
        "workers": 0,
        "on_error": "error",
        "save_minutes": 10.0,
        "freeze": (),
        "log": print,
    }


def test_options_are_frozen_and_can_be_overridden():
    options = Options(device="cpu", workers=2)
    with pytest.raises(FrozenInstanceError):
        options.workers = 3
    other = options.override(workers=3, freeze="conv")
    assert (other.device, other.workers, other.freeze) == ("cpu", 3, ("conv",))
    assert options.workers == 2
    with pytest.raises(TypeError, match="batch=7: expected an option: mean, eigen, device"):
        options.override(batch=7)


@pytest.mark.parametrize(
    "name, values",
    [
        ("mean", [(0, 0, 0), [255.0, 255.0, 255.0], torch.tensor([1, 2, 3]), np.full(3, 0.5)]),
        ("precision", ["auto", "fp32", "bf16", "fp16"]),
        ("micro_batch", [None, 1]),
        ("workers", [0, 1]),
        ("on_error", ["error", "skip"]),
        ("save_minutes", [0, 0.5]),
        ("log", [None, print]),
    ],
)
def test_the_ends_of_every_range_are_taken(name, values):
    for value in values:
        assert getattr(Options(**{name: value}), name) is value
