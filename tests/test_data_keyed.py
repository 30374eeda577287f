"""Numbers by key: uniform, independent, and a function of every key."""

import math

import torch

from vggbook.data import hash_keys, mix, uniforms


def test_the_mixer_is_a_bijection_and_its_uniforms_are_uniform():
    x = torch.randint(0, 2**32, (100_000,), generator=torch.Generator().manual_seed(1)).unique()
    assert len(mix(x).unique()) == len(x)
    u = uniforms(hash_keys(7, torch.arange(4000)), 32)
    counts = torch.histc(u.double().flatten(), 64, 0, 1)
    expected = u.numel() / 64
    assert float(((counts - expected) ** 2 / expected).sum()) < 63 + 5 * math.sqrt(
        2 * 63
    )  # chi-squared, 5 sigma
    correlation = torch.corrcoef(u.double().T) - torch.eye(32)
    assert correlation.abs().max() < 5.5 / math.sqrt(4000)
    assert abs(torch.corrcoef(torch.stack([u[:-1, 0], u[1:, 0]]).double())[0, 1]) < 5 / math.sqrt(
        4000
    )


def test_hash_depends_on_every_key_and_on_its_place():
    one = torch.tensor([5])
    values = {
        int(hash_keys(*keys, one))
        for keys in [(1, 2), (2, 1), (1, 2 + 2**32), (1, -2), (1,), (1, 2, 0)]
    }
    assert len(values) == 6


def test_the_mixer_is_muellers():
    """Turned back by the published inverse: the same steps with the factor's inverse mod 2**32."""
    assert 0x45D9F3B * 0x119DE1F3 % 2**32 == 1
    for x in [0, 1, 2**16, 2**32 - 1, 123_456_789]:
        y = int(mix(torch.tensor(x)))
        for _ in range(2):
            y = (y ^ y >> 16) * 0x119DE1F3 % 2**32
        assert y ^ y >> 16 == x


def test_a_key_is_shifted_by_the_golden_ratio():
    golden = int(2**32 * (math.sqrt(5) - 1) / 2)
    key = torch.tensor(77)
    assert hash_keys(key) == mix((key + golden) % 2**32)
