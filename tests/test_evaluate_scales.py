"""The rules of testing: scales, score maps, costs, crop grids, the paper's rows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tests.nets import as_convolutions, small
from vggbook import build, claims, count_macs, tables, to_dense
from vggbook.evaluate import crop_grid, dense_macs, score_map_size, test_scales


def test_score_maps_have_the_sizes_of_the_arithmetic():
    sizes = claims()["score-map-sizes"]
    sizes.check(
        {q: score_map_size("D", q)[0] for q in (224, 256, 288, 352, 384, 416, 512, 640, 768)}
    )
    model = build("D", 3, width=1 / 64).eval()
    with torch.no_grad():
        for size in (224, (256, 341), 384, (512, 389)):
            h, w = (size, size) if isinstance(size, int) else size
            assert to_dense(model)(torch.zeros(1, 3, h, w)).shape[2:] == score_map_size("D", size)
    with pytest.raises(ValueError, match="image_size=200: expected at least the crop, 224 pixels"):
        score_map_size("D", 200)


def test_costs_of_the_paper():
    crops = 3 * 50 * dense_macs("D", 224) / 1e9
    dense = sum(2 * dense_macs("D", q) for q in test_scales((256, 512))) / 1e9
    claims()["crop-cost"].check(
        {"gmac_150_crops": crops, "gmac_dense_3_scales_flip": dense, "ratio": crops / dense}
    )
    ratios = [25 * dense_macs("D", 224) / dense_macs("D", q) for q in (256, 384, 512)]
    assert [round(r, 1) for r in ratios] == [18.8, 7.8, 4.2]


def test_scales_follow_the_rules_in_every_row_of_tables_3_and_4():
    for table, single in (("table_3", True), ("table_4", False)):
        for config, S, Q, *_ in tables()[table]["rows"]:
            expected = (Q,) if isinstance(Q, int) else tuple(Q)
            assert test_scales(tuple(S) if isinstance(S, list) else S, single) == expected, (
                table,
                config,
            )
    assert test_scales(73, step=9) == (64, 73, 82)


def test_the_ends_of_the_ranges_of_scales():
    assert test_scales(33) == (1, 33, 65) and test_scales(2, step=1) == (1, 2, 3)
    assert test_scales((1, 2)) == (1, 1, 2) and test_scales((1, 4), single=True) == (2,)
    with pytest.raises(ValueError, match=r"^S=32: expected a whole number of at least 33$"):
        test_scales(32)
    with pytest.raises(ValueError, match=r"^step=0: expected a whole number of at least 1$"):
        test_scales(256, step=0)
    pair = r"a whole number, or a pair \(S_min, S_max\) of them, S_min < S_max$"
    with pytest.raises(ValueError, match=r"^S=\(1, 2, 3\): expected " + pair):
        test_scales((1, 2, 3))


def test_costs_are_those_of_the_twin():
    """Counted by PyTorch, in a narrow net for other classes; and the whole net at its crop."""
    model = small("A", 7, 64)
    with FlopCounterMode(display=False) as counter:
        as_convolutions(model, torch.zeros(1, 3, 96, 160))
    with FlopCounterMode(display=False) as kernel:  # a crop, to learn the head's grid
        model.features(torch.zeros(1, 3, 64, 64))
    flops = counter.get_total_flops() - kernel.get_total_flops()
    assert flops == 2 * dense_macs("A", (96, 160), crop=64, num_classes=7, width=1 / 16)
    assert dense_macs("D", 224) == count_macs("D")


def test_maps_and_crops_refuse_what_is_no_crop():
    for crop in (0, -1, 2.5):
        words = f"crop={crop}: expected a whole number of at least 1"
        with pytest.raises(ValueError, match=words):
            score_map_size("D", 256, crop)
    with pytest.raises(ValueError, match=r"^crop=0: expected "):
        crop_grid((80, 80), 0)


def test_crops_need_not_be_square():
    assert crop_grid((40, 64), (40, 64), 2) == [(0, 0)] * 4
    assert crop_grid((50, 100), (40, 64), 3) == [
        (top, left) for top in (0, 5, 10) for left in (0, 18, 36)
    ]


@pytest.mark.parametrize("S", [0, -3, 2.5, True, "256", (256,), (512, 256), (256, 256), (0, 5), 32])
def test_scales_refuse_what_is_no_scale(S):
    with pytest.raises(ValueError, match="S="):
        test_scales(S)


@given(st.integers(64, 300), st.integers(64, 300), st.integers(1, 6))
def test_crops_lie_inside_and_spread_evenly(h, w, grid):
    crops = crop_grid((h, w), 64, grid)
    assert len(crops) == grid**2
    assert all(0 <= t <= h - 64 and 0 <= l <= w - 64 for t, l in crops)
    if grid > 1:
        assert {0, h - 64} <= {t for t, _ in crops} and {0, w - 64} <= {l for _, l in crops}
        exact = [(h - 64) * i / (grid - 1) for i in range(grid)]
        assert all(abs(top - exact[i // grid]) <= 0.5 for i, (top, _) in enumerate(crops))


def test_crop_grid_of_the_paper_and_centre_crop():
    claim = claims()["grid-vs-dense-step"]
    steps = {q: crop_grid((q, q))[1][1] for q in (256, 384, 512)}
    dense_step = next(q for q in range(257, 400) if score_map_size("D", q)[0] == 3) - 256
    claim.check({"crop_step": steps, "dense_step": dense_step})
    assert crop_grid((70, 92), 64, grid=1) == [(3, 14)]
    with pytest.raises(
        ValueError, match=r"size=\(63, 80\): expected an image that crops of 64 x 64 pixels fit"
    ):
        crop_grid((63, 80), 64)
    with pytest.raises(ValueError, match=r"size=\(80, 63\): expected an image that crops"):
        crop_grid((80, 63), 64)
    with pytest.raises(ValueError, match="grid=0: expected a whole number of at least 1"):
        crop_grid((80, 80), 64, 0)
