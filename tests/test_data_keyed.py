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


MASK = 2**32 - 1


def mixed(x):
    for _ in range(2):
        x = ((x ^ x >> 16) * 0x45D9F3B) & MASK
    return x ^ x >> 16


def hashed(keys, last):
    """Plain Python's: whole numbers in two halves of 32 bits, upper first; the last as it is."""
    h = 0
    for part in [half for key in keys for half in ((key >> 32) & MASK, key & MASK)] + [last]:
        h = mixed(((h ^ part) + 0x9E3779B9) & MASK)
    return h


def test_hashes_and_uniforms_in_plain_python():
    """Recorded runs can be repeated only while a key gives the same numbers."""
    for keys in ((0,), (5, 2**40 + 3), (-1, 7, 0)):
        last = [0, 1, 2**31, 2**32 - 1]
        found = hash_keys(*keys, torch.tensor(last))
        assert found.tolist() == [hashed(keys, x) for x in last]
        u = uniforms(found, 3)
        assert u.dtype == torch.float32
        for h, row in zip(found.tolist(), u.tolist()):
            stream = [mixed((k * 0x3C6EF372) & MASK) for k in (1, 2, 3)]
            assert row == [(mixed((h + s) & MASK) >> 8) / 2**24 for s in stream]


def test_numbers_are_made_where_the_keys_lie():
    there = uniforms(hash_keys(3, torch.empty(5, dtype=torch.int64, device="meta")), 4)
    assert there.is_meta and there.shape == (5, 4)
