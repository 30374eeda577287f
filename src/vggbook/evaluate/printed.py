"""What the paper printed for the nets, method and scales of an evaluation (Tables 3 to 6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..paper import tables

JITTERED, THREE_SCALES = [256, 512], [256, 384, 512]  # S and Q of Tables 5 and 6


def _printed() -> Iterator[tuple[str, list[str], str, Any, list[int], float, float]]:
    """Table, nets, method, S, test scales Q, top-1 and top-5 error of every row."""
    for number in ("3", "4"):
        for net, S, Q, top1, top5 in tables()[f"table_{number}"]["rows"]:
            yield number, [net], "dense", S, Q if isinstance(Q, list) else [Q], top1, top5
    for net, way, top1, top5 in tables()["table_5"]["rows"]:
        if way != "dense":  # those repeat Table 4
            yield "5", [net], way, JITTERED, THREE_SCALES, top1, top5
    for members, way, top1, top5, _ in tables()["table_6"]["rows"]:
        yield "6", [member[0] for member in members], way, JITTERED, THREE_SCALES, top1, top5


def paper_rows(
    configs: Sequence[str], method: str = "dense", scales: Sequence[int] = (256, 384, 512)
) -> list[dict[str, Any]]:
    """The paper's rows for these nets (one, or D and E together), method and test scales.

    Each has the keys table, config, S, top1, top5; errors in per cent. Empty where it has none.
    """
    ways = {"multi_crop": "multi-crop", "both": "multi-crop & dense"}
    asked = sorted(configs), ways.get(method, method), sorted(scales)
    return [
        {"table": table, "config": "+".join(nets), "S": S, "top1": top1, "top5": top5}
        for table, nets, way, S, Q, top1, top5 in _printed()
        if (nets, way, Q) == asked
    ]
