"""Testing as the paper tests (Sect. 3.2, 4): dense evaluation, several scales, 50 crops, fusion.

``predict`` gives class posteriors, ``evaluate`` the errors over a data set,
``python -m vggbook.evaluate --help`` the same from a shell (under ``torchrun`` the set is shared
out, with the same result). Images are RGB of 0..255, whole numbers or floating, of any sizes.

Where the soft-max sits: the paper averages posteriors over flips, scales, crops and nets, so the
soft-max comes before all these averages. For the positions of one score map the text leaves it open
(its "sum-pooled" must be a mean: a sum over 36 positions before the soft-max saturates it). Here it
comes first there too, ``average="posterior"``; ``average="logit"`` is the other reading.
"""

from .command import main
from .errors import Evaluation, evaluate
from .posteriors import METHODS, fuse, predict
from .printed import paper_rows
from .scales import crop_grid, dense_macs, score_map_size, test_scales

__all__ = [
    "METHODS",
    "Evaluation",
    "crop_grid",
    "dense_macs",
    "evaluate",
    "fuse",
    "main",
    "paper_rows",
    "predict",
    "score_map_size",
    "test_scales",
]
