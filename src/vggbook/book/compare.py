"""Whether a computed value agrees with a printed one, to its last printed digit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from numbers import Number
from typing import Any


def tolerance(printed: float) -> float:
    """Half a unit of the last printed digit; a single digit (0.9, 1e-2) is exact."""
    if printed == 0 or not math.isfinite(printed):
        return 0.0
    number = Decimal(repr(abs(printed)))
    if number >= 1000 and number == number.to_integral_value():
        number = number.normalize()  # 2700.0 or 67000000.0: rounded to its leading digits
    _, digits, exponent = number.as_tuple()
    if len(digits) == 1:
        return 1e-9 * abs(printed)
    return 0.5 * 10.0 ** int(exponent) * (1 + 1e-9)


def plain(value: Any) -> Any:
    """Tuples as lists, numpy and torch scalars as numbers, keys as they are."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return value


def mismatch(found: Any, expected: Any, where: str) -> str | None:
    """What is wrong with ``found``; None where it agrees to the printed digits."""
    at = f" at {where}" if where else ""
    if isinstance(expected, dict):
        wanted = {str(key): value for key, value in expected.items()}
        keys = sorted(wanted)
        if not isinstance(found, dict):
            return f"found {found!r}{at}, a value with the keys {keys} is needed"
        named = {str(key): value for key, value in found.items()}
        if named.keys() != wanted.keys():
            return f"found the keys {sorted(named)}{at}, expected {keys}"
        pairs = [(named[key], wanted[key], f"{where}.{key}".removeprefix(".")) for key in wanted]
    elif isinstance(expected, list):
        if not isinstance(found, list) or len(found) != len(expected):
            return f"found {found!r}{at}, expected {len(expected)} items: {expected!r}"
        pairs = [(f, e, f"{where}[{i}]") for i, (f, e) in enumerate(zip(found, expected))]
    elif isinstance(expected, bool) or isinstance(found, bool) or not isinstance(expected, Number):
        same = type(found) is type(expected) and found == expected
        return None if same else f"found {found!r}{at}, expected {expected!r}"
    elif not isinstance(found, Number):
        return f"found {found!r}{at}, the number {expected!r} is expected"
    else:
        room = tolerance(expected) if isinstance(expected, float) else 0
        number: Any = found
        close = abs(number - expected) <= room  # NaN is never close
        return None if close else f"found {found!r}{at}, expected {expected!r}"
    return next((problem for pair in pairs if (problem := mismatch(*pair))), None)


def short(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {short(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "[" + ", ".join(map(short, value)) + "]"
    return str(value)
