"""Checking arguments: one wording everywhere, ``name=value: expected ...``.

Each function returns the checked value in its plain Python type, so that a caller writes
``n = whole("n", n, low=1)``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Collection
from numbers import Integral, Real
from typing import Any, NoReturn


def expected(name: str, value: object, what: str) -> str:
    """The wording of every message about an argument."""
    return f"{name}={value!r}: expected {what}"


def needs(holds: bool, name: str, value: object, what: str) -> None:
    """Raise ValueError unless ``holds``: argument ``name`` has ``value``, ``what`` was expected."""
    if not holds:
        raise ValueError(expected(name, value, what))


def is_whole(value: object, low: float | None = None, high: float | None = None) -> bool:
    """Whether ``value`` is an integer of any kind, no truth value, within [low, high]."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        return False
    return _within(int(value), low, high)


def is_number(value: object, low: float | None = None, high: float | None = None) -> bool:
    """Whether ``value`` is a finite real number of any kind, no truth value, within [low, high]."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        finite = math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False
    return finite and _within(int(value) if isinstance(value, Integral) else value, low, high)


def _within(value: Any, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def _range(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if low is not None:
        return f" of at least {low}"
    return "" if high is None else f" of at most {high}"


def whole(name: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """``value`` as an int within [low, high]."""
    needs(is_whole(value, low, high), name, value, "a whole number" + _range(low, high))
    return int(value)


def number(name: str, value: Any, low: float | None = None, high: float | None = None) -> float:
    """``value`` as a finite float within [low, high]."""
    needs(is_number(value, low, high), name, value, "a number" + _range(low, high))
    return float(value)


def positive(name: str, value: Any) -> float:
    """``value`` as a finite float above 0."""
    needs(is_number(value) and value > 0, name, value, "a finite number above 0")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """``value``, which must be True or False."""
    needs(isinstance(value, bool), name, value, "True or False")
    return value


def choice(name: str, value: Any, options: Collection[Any]) -> Any:
    """``value``, which must be one of ``options``."""
    known = isinstance(value, str | int | float) and value in options
    needs(known, name, value, f"one of {', '.join(map(repr, options))}")
    return value


def pair(name: str, value: Any, low: float | None = None) -> tuple[float, float]:
    """A number as (number, number), or a pair (smaller, larger); both at least ``low``."""
    return _pair(name, value, low, is_number, "a number")


def whole_pair(name: str, value: Any, low: int | None = None) -> tuple[int, int]:
    """A whole number as (number, number), or a pair (smaller, larger); both at least ``low``."""
    smaller, larger = _pair(name, value, low, is_whole, "a whole number")
    return int(smaller), int(larger)


def _pair(name: str, value: Any, low: float | None, fits: Callable[..., bool], kind: str) -> Any:
    values = value if isinstance(value, list | tuple) else (value, value)
    right = len(values) == 2 and all(fits(v, low) for v in values) and values[0] <= values[1]
    needs(right, name, value, f"{kind}{_range(low, None)}, or a pair (smaller, larger) of them")
    return values[0], values[1]


class Parser(argparse.ArgumentParser):
    """The commands' argparse: what is wrong is one line, and the exit status 2."""

    def fail(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")

    def error(self, message: str) -> NoReturn:
        self.fail(f"{message} (--help lists the options)")
