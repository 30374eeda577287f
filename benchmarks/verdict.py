"""When a measured ratio is called a gain or a loss: only beyond what equal nets differ by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from scipy.stats import t

FALSE_ALARMS = 0.05  # of equal pairs, at most
MARGIN = 1.25  # where a run times no equal pairs: results/bench-cpu.json's eight give 1.23
ROUNDS = 3
CLEAR = "no clear difference"


def equal_margin(ratios: Sequence[float]) -> float:
    """The factor that one more equal pair exceeds, up or down, with probability ``FALSE_ALARMS``.

    ``ratios``: one median for each equal pair of the run. Two equal nets differ by chance and by
    where their memory lies, and the second does not shrink with more rounds. So the spread
    *between* pairs counts. Logarithms of equal pairs are taken as normal about 0 with unknown
    spread s. A new one divided by s, estimated from k pairs, has Student's t distribution with k
    degrees of freedom.
    ``MARGIN`` where there are fewer than four pairs.
    """
    if len(ratios) < 4:
        return MARGIN
    spread = math.sqrt(sum(math.log(ratio) ** 2 for ratio in ratios) / len(ratios))
    return math.exp(float(t.ppf(1 - FALSE_ALARMS / 2, len(ratios))) * spread)


def verdict(times: Mapping[str, float], rounds: int, margin: float = MARGIN) -> str:
    """Whether a ratio, of which ``times`` has the quartiles, is a gain, a loss or neither is clear.

    The whole middle half of the ratios of at least ``ROUNDS`` interleaved rounds must lie beyond
    ``margin``. Then the median does so too, and of equal pairs fewer than ``FALSE_ALARMS`` are
    called different. A single round has no middle half, and proves nothing.
    """
    if rounds < ROUNDS:
        return CLEAR
    if times["low"] > margin:
        return "gain"
    return "loss" if times["high"] < 1 / margin else CLEAR
