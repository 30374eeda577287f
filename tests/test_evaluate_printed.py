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


def test_a_row_of_every_table():
    """The paper's Tables 3 to 6, word for word; the defaults are dense at three scales."""
    three = (256, 384, 512)

    def row(table, config, S, top1, top5):
        return {"table": table, "config": config, "S": S, "top1": top1, "top5": top5}

    jittered = [256, 512]
    assert paper_rows(["A"], "dense", [256]) == [row("3", "A", 256, 29.6, 10.4)]
    assert paper_rows(["B"], scales=(224, 256, 288)) == [row("4", "B", 256, 28.2, 9.6)]
    assert paper_rows(["D"]) == [row("4", "D", jittered, 24.8, 7.5)]
    assert paper_rows(["D"], "multi_crop", three) == [row("5", "D", jittered, 24.6, 7.5)]
    assert paper_rows(["E"], "both", three) == [row("5", "E", jittered, 24.4, 7.1)]
    assert paper_rows(["E", "D"]) == [row("6", "D+E", jittered, 24.0, 7.1)]
    assert paper_rows(["D", "E"], "multi_crop") == [row("6", "D+E", jittered, 23.9, 7.2)]
