"""Claims that check themselves: a chapter computes a value and hands it to :meth:`Claim.check`.

The check raises where the value does not hold, and otherwise publishes a line that the page shows and the ledger collects.
"""

from __future__ import annotations

import difflib
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from html import escape
from numbers import Number
from pathlib import Path
from typing import Any

from ..paper import FOLDER, PaperDataError, read

KINDS = ("arithmetic", "structural", "protocol", "empirical")
STATUSES = ("derived", "verified", "reproduced", "not reproduced", "quoted", "open")
CLAIM_MIME = "application/vnd.vggbook.claim+json"
_DEFAULT = {
    "arithmetic": "derived",
    "structural": "verified",
    "protocol": "verified",
    "empirical": "quoted",
}
_anchors: Counter[str] = (
    Counter()
)  # how often this process has shown each claim: ids on a page must differ


class ClaimError(AssertionError):
    """A computed value contradicts the paper's claim."""


def _tolerance(printed: float) -> float:
    """Half a unit of the last printed digit; figures of a single digit (0.9, 1e-2) are constants and hold exactly."""
    if printed == 0 or not math.isfinite(printed):
        return 0.0
    mantissa, exponent = f"{printed!r}".lower().partition("e")[::2]
    digits = mantissa.lstrip("-").replace(".", "").lstrip("0")
    decimals = len(mantissa.partition(".")[2])
    if (
        abs(printed) >= 1000 and float(mantissa).is_integer()
    ):  # 2700.0 or 67000000.0: rounded to its leading digits
        whole = mantissa.partition(".")[0].lstrip("-")
        digits, decimals = whole.rstrip("0"), len(whole.rstrip("0")) - len(whole)
    if len(digits) == 1:
        return 1e-9 * abs(printed)
    return 0.5 * 10.0 ** (int(exponent or 0) - decimals) * (1 + 1e-9)


def _plain(value: Any) -> Any:
    """Tuples as lists, numpy and torch scalars as numbers, keys as they are."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist") and not isinstance(value, (str, bytes)):
        return _plain(value.tolist())
    return value


def _mismatch(found: Any, expected: Any, where: str) -> str | None:
    """What is wrong with ``found``, or None where it agrees with ``expected`` to the printed digits."""
    at = f" at {where}" if where else ""
    if isinstance(expected, dict):
        if not isinstance(found, dict):
            return (
                f"found {found!r}{at}, a value with the keys {sorted(map(str, expected))} is needed"
            )
        if {str(k) for k in found} != {str(k) for k in expected}:
            return f"found the keys {sorted(map(str, found))}{at}, expected {sorted(map(str, expected))}"
        named = {str(key): value for key, value in found.items()}
        pairs = [
            (named[str(key)], value, f"{where}.{key}".lstrip("."))
            for key, value in expected.items()
        ]
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
        close = abs(found - expected) <= (
            _tolerance(expected) if isinstance(expected, float) else 0
        )
        return (
            None if close else f"found {found!r}{at}, expected {expected!r}"
        )  # NaN is never close
    return next((problem for pair in pairs if (problem := _mismatch(*pair))), None)


def _short(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "[" + ", ".join(map(_short, value)) + "]"
    return str(value)


@dataclass(frozen=True)
class Claim:
    """One checkable statement: ``id``, ``section``, ``kind`` (arithmetic, structural, protocol, empirical), ``value``, ``statement``."""

    id: str
    section: str
    topic: str
    value: Any
    statement: str
    kind: str
    source: tuple[str, ...] = ()
    confidence: str = "high"
    note: str = ""

    @property
    def status(self) -> str:
        """Status that a passing check gives by default: derived, verified or quoted, by kind."""
        return _DEFAULT[self.kind]

    def check(
        self, value: Any, *, part: bool = False, status: str | None = None, evidence: str = ""
    ) -> Result:
        """Compare ``value`` with the claim; raise ClaimError where it does not hold, else show and record the result.

        Integers, strings and truth values must be equal; a number printed with decimals must agree to its last printed digit.
        ``value`` must have the claim's shape. With ``part=True`` a dict may hold some of the keys only: the ledger then asks for the
        others elsewhere. ``status`` replaces the default; "reproduced" and "not reproduced" need ``evidence`` (where the numbers are).
        """
        status = status or self.status
        if status not in STATUSES[:-1]:
            raise ValueError(f"status={status!r}: choose one of {', '.join(STATUSES[:-1])}")
        if status.endswith("reproduced") and not evidence:
            raise ValueError(
                f"status={status!r} needs evidence: name the recorded run or the cell that shows it"
            )
        found, expected = _plain(value), self.value
        if part:
            if not (isinstance(found, dict) and isinstance(expected, dict) and found):
                raise ValueError(
                    f"part=True needs a dict with some of the keys of {self.id}: {self.keys}"
                )
            unknown = [key for key in map(str, found) if key not in self.keys]
            if unknown:
                raise ClaimError(
                    f"{self.id}: no key {unknown[0]!r}; the claim has {', '.join(self.keys)}"
                )
            expected = {key: item for key, item in expected.items() if str(key) in map(str, found)}
        problem = _mismatch(found, expected, "")
        if problem and status != "not reproduced":
            raise ClaimError(
                f"{self.id} ({self.section}) does not hold: {problem}. The claim: {self.statement}"
            )
        checked = tuple(map(str, found)) if isinstance(expected, dict) else ()
        return Result(self, status, found, checked, evidence)._publish()

    def report(self, found: Any, *, status: str, evidence: str) -> Result:
        """Record what a miniature found for an empirical claim, in its own numbers, without comparing them with the paper's.

        ``status``: "reproduced" where the stated criterion was met, "not reproduced" where it was not; ``evidence`` names the run.
        """
        if status not in ("reproduced", "not reproduced"):
            raise ValueError(f"status={status!r}: report() takes 'reproduced' or 'not reproduced'")
        if self.kind != "empirical":
            raise ValueError(
                f"{self.id} is {self.kind}, not empirical: check a computed value with check()"
            )
        if not evidence:
            raise ValueError("evidence='': name the recorded run or the cell that shows it")
        return Result(self, status, _plain(found), self.keys, evidence)._publish()

    def quote(self) -> Result:
        """Show the claim as quoted: the page repeats it and checks nothing."""
        return Result(self, "quoted", None, self.keys, "")._publish()

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the parts of a claim that has several; empty for a single value."""
        return tuple(map(str, self.value)) if isinstance(self.value, dict) else ()


@dataclass(frozen=True)
class Result:
    """A checked or quoted claim, as the page shows it and the ledger reads it."""

    claim: Claim
    status: str
    found: Any
    keys_checked: tuple[str, ...]
    evidence: str
    anchor: str = field(default="")

    def _publish(self) -> Result:
        _anchors[self.claim.id] += 1
        count = _anchors[self.claim.id]
        shown = Result(
            **{
                **self.__dict__,
                "anchor": f"claim-{self.claim.id}" + (f"-{count}" if count > 1 else ""),
            }
        )
        try:
            from IPython import get_ipython
            from IPython.display import display
        except ImportError:
            return shown
        if getattr(get_ipython(), "kernel", None) is not None:
            display(shown.bundle(), raw=True)
        return shown

    def as_dict(self) -> dict[str, Any]:
        """The ledger's entry."""
        claim = self.claim
        return {
            "id": claim.id,
            "status": self.status,
            "kind": claim.kind,
            "section": claim.section,
            "statement": claim.statement,
            "expected": claim.value,
            "found": self.found,
            "keys_checked": list(self.keys_checked),
            "keys_missing": [key for key in claim.keys if key not in self.keys_checked],
            "evidence": self.evidence,
            "anchor": self.anchor,
        }

    def bundle(self) -> dict[str, Any]:
        """MIME bundle: text, a line of HTML with an anchor, and the ledger's entry."""
        value = _short(self.found if self.found is not None else self.claim.value)
        text = f"{self.claim.id} ({self.claim.section}): {self.status}: {value}"
        html = (
            f'<p class="claim claim-{self.status.replace(" ", "-")}" id="{self.anchor}"><span class="claim-status">{self.status}</span> '
            f'<span class="claim-statement">{escape(self.claim.statement)}</span> <code>{escape(value)}</code> '
            f'<span class="claim-source">{escape(self.claim.section)}, {self.claim.id}</span></p>'
        )
        return {"text/plain": text, "text/html": html, CLAIM_MIME: self.as_dict()}

    def __bool__(self) -> bool:
        return self.status != "not reproduced"

    def __repr__(self) -> str:
        return f"<{self.claim.id}: {self.status}>"

    def _ipython_display_(self) -> None:
        """Already shown when it was checked: the last expression of a cell must not repeat it."""


class Claims(tuple):
    """All claims in the paper's order; ``claims()["params-d"]`` finds one by id."""

    def __getitem__(self, key):
        if not isinstance(key, str):
            return super().__getitem__(key)
        for claim in self:
            if claim.id == key:
                return claim
        near = difflib.get_close_matches(key, [claim.id for claim in self], n=3, cutoff=0.4)
        raise KeyError(
            f"no claim {key!r}"
            + (f"; near: {', '.join(near)}" if near else "")
            + f"; there are {len(self)}, see claims()"
        )


def load_claims(path: str | os.PathLike) -> Claims:
    """Read and check a claims file. A damaged one raises PaperDataError naming the line or the entry, and what is wrong."""
    data, root = read(path)
    name = Path(path).name
    entries = data.get("claims") if isinstance(data, dict) else None
    if not isinstance(entries, list) or not entries:
        raise PaperDataError(f"{name}, line 1: no list under 'claims:'")
    nodes = {key.value: value for key, value in root.value}
    found: dict[str, Claim] = {}
    for entry, node in zip(entries, nodes["claims"].value):
        where = f"{name}, line {node.start_mark.line + 1}"
        missing = {"id", "section", "topic", "value", "statement", "kind"} - set(
            entry if isinstance(entry, dict) else ()
        )
        if missing:
            raise PaperDataError(f"{where}: entry lacks {', '.join(sorted(missing))}")
        if entry["kind"] not in KINDS:
            raise PaperDataError(
                f"{where}: kind {entry['kind']!r} of {entry['id']} is not one of {', '.join(KINDS)}"
            )
        if entry["id"] in found:
            raise PaperDataError(f"{where}: id {entry['id']!r} appears twice")
        unknown = set(entry) - set(Claim.__dataclass_fields__)
        if unknown:
            raise PaperDataError(f"{where}: unknown field {min(unknown)!r}")
        found[entry["id"]] = Claim(
            **{**entry, "section": str(entry["section"]), "source": tuple(entry.get("source", ()))}
        )
    tally = Counter(claim.kind for claim in found.values()) + Counter(total=len(found))
    for key, count in (data.get("counts") or {}).items():
        if tally[key] != count:
            line = next(k.start_mark.line for k, _ in nodes["counts"].value if k.value == key) + 1
            raise PaperDataError(
                f"{name}, line {line}: {tally[key]} claims, but counts.{key} says {count}"
            )
    return Claims(found.values())


@cache
def claims() -> Claims:
    """The 174 checkable statements on the paper, in its order."""
    return load_claims(FOLDER / "claims.yaml")
