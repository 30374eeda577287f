"""What the chapters' exercises share: a checker must refuse wrong answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def rejects(checker: Callable[..., Any], *wrong: Any) -> bool:
    """Assert that ``checker(answer)`` raises AssertionError for each ``wrong`` answer; then True.

    For a checker of several arguments hand over tuples: ``rejects(check, (3, 4), (5, 6))``.
    AssertionError naming the answer that it accepts; any other error of the checker comes through.
    """
    for answer in wrong:
        arguments = answer if isinstance(answer, tuple) else (answer,)
        try:
            checker(*arguments)
        except AssertionError:
            continue
        raise AssertionError(f"{checker.__name__} accepts {answer!r}, which is wrong")
    return True
