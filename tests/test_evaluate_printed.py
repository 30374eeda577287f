"""The paper's rows beside an evaluation."""

from vggbook.evaluate import paper_rows


def test_paper_rows_are_those_of_the_tables():
    (row,) = paper_rows(["D"], "dense", (512, 256, 384))
    assert row == {"table": "4", "config": "D", "S": [256, 512], "top1": 24.8, "top5": 7.5}
    assert {(r["top1"], str(r["S"])) for r in paper_rows(["E"], "dense", [384])} == {
        (26.9, "384"),
        (25.5, "[256, 512]"),
    }
    assert [r["top5"] for r in paper_rows(["E"], "both")] == [7.1]
    assert [r["top1"] for r in paper_rows(["E", "D"], "both")] == [23.7]
    assert paper_rows(["A"], "multi_crop") == [] == paper_rows(["D"], "dense", [300])
