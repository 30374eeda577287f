"""The rules of testing: scales, score maps, costs, crop grids, the paper's rows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vggbook import build, claims, tables, to_dense
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
