"""Claims that check themselves: a chapter computes a value and hands it to :meth:`Claim.check`.

The check raises where the value does not hold, and otherwise publishes a line that the page shows
and the ledger collects.
"""

from __future__ import annotations

import difflib
import os
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from ..checks import choice, needs
from ..paper import FOLDER, PaperDataError, read
from .compare import mismatch, plain, short
from .html import in_a_notebook

# What an experiment of ours can say; the last two let a value differ from the paper's.
OUTCOMES = ("reproduced", "opposite", "undecided")
STATUSES = ("derived", "verified", "implemented", *OUTCOMES, "quoted")
CLAIM_MIME = "application/vnd.vggbook.claim+json"
KINDS = {  # and the status that a passing check gives by default
    "arithmetic": "derived",
    "structural": "verified",
    "protocol": "implemented",
    "empirical": "quoted",
}
# How often this process has shown each claim: ids on a page must differ.
_anchors: Counter[str] = Counter()


_EVIDENCE = "the name of the recorded run or of the cell that shows it"


class ClaimError(AssertionError):
    """A computed value contradicts the paper's claim."""


@dataclass(frozen=True)
class Claim:
    """One checkable statement: ``id``, ``section``, ``value``, ``statement`` and its kind.

    ``kind``: arithmetic, structural (a network shows it), protocol (a procedure) or empirical.
    """

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
        """What a passing check gives by default, by kind."""
        return KINDS[self.kind]

    def check(
        self, value: Any, *, part: bool = False, status: str | None = None, evidence: str = ""
    ) -> Result:
        """Compare ``value`` with the claim; ClaimError where it does not hold, else record it.

        Integers, strings and truth values must be equal; a number printed with decimals must
        agree to its last printed digit. ``value`` must have the claim's shape. With
        ``part=True`` a dict may hold some of the keys only: the ledger then asks for the others
        elsewhere.

        ``status`` replaces the default. "implemented" says that a default of ours equals the
        paper's. "reproduced", "opposite" and "undecided" need ``evidence``: where the numbers are.
        """
        status = choice("status", status or self.status, STATUSES)
        needs(status not in OUTCOMES or bool(evidence), "evidence", evidence, _EVIDENCE)
        found, expected = plain(value), self.value
        if part:
            if not (isinstance(found, dict) and isinstance(expected, dict) and found):
                needed = f"a dict with some of the keys of {self.id}: {self.keys}"
                raise ValueError(f"part=True needs {needed}")
            if unknown := [key for key in map(str, found) if key not in self.keys]:
                has = ", ".join(self.keys)
                raise ClaimError(f"{self.id}: no key {unknown[0]!r}; the claim has {has}")
            expected = {key: item for key, item in expected.items() if str(key) in map(str, found)}
        problem = mismatch(found, expected, "")
        if problem and status not in OUTCOMES[1:]:
            where = f"{self.id} ({self.section})"
            raise ClaimError(f"{where} does not hold: {problem}. The claim: {self.statement}")
        checked = tuple(map(str, found)) if isinstance(expected, dict) else ()
        return Result(self, status, found, checked, evidence)._publish()

    def report(self, found: Any, *, status: str, evidence: str) -> Result:
        """Record what a miniature found for an empirical claim, in its own numbers.

        ``status``: "reproduced" where the stated criterion was met, "opposite" where the effect
        has the other sign, "undecided" where spread or setting do not let it tell; ``evidence``
        names the run.
        """
        choice("status", status, OUTCOMES)
        if self.kind != "empirical":
            hint = "check a computed value with check()"
            raise ValueError(f"{self.id} is {self.kind}, not empirical: {hint}")
        needs(bool(evidence), "evidence", evidence, _EVIDENCE)
        return Result(self, status, plain(found), self.keys, evidence)._publish()

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
    anchor: str = ""

    def _publish(self) -> Result:
        _anchors[self.claim.id] += 1
        count = _anchors[self.claim.id]
        place = f"-{count}" if count > 1 else ""
        shown = replace(self, anchor=f"claim-{self.claim.id}{place}")
        if in_a_notebook():
            from IPython.display import display

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
        value = short(self.found if self.found is not None else self.claim.value)
        text = f"{self.claim.id} ({self.claim.section}): {self.status}: {value}"
        html = (
            f'<p class="claim claim-{self.status}" id="{self.anchor}">'
            f'<span class="claim-status">{self.status}</span> '
            f'<span class="claim-statement">{escape(self.claim.statement)}</span> '
            f"<code>{escape(value)}</code> "
            f'<span class="claim-source">{escape(self.claim.section)}, {self.claim.id}</span></p>'
        )
        return {"text/plain": text, "text/html": html, CLAIM_MIME: self.as_dict()}

    def __bool__(self) -> bool:
        return self.status not in OUTCOMES[1:]

    def __repr__(self) -> str:
        return f"<{self.claim.id}: {self.status}>"

    def _ipython_display_(self) -> None:
        """Already shown when it was checked: the last expression of a cell must not repeat it."""


class Claims(tuple):
    """All claims in the paper's order; ``claims()["params-d"]`` finds one by id."""

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        known = {claim.id: claim for claim in self}
        if key in known:
            return known[key]
        near = difflib.get_close_matches(key, known, cutoff=0.4)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise KeyError(f"no claim {key!r}{hint}; there are {len(self)}, see claims()")


def load_claims(path: str | os.PathLike) -> Claims:
    """Read and check a claims file; PaperDataError names the line or entry, and what is wrong."""
    data, root = read(path)
    name = Path(path).name
    entries = data.get("claims") if isinstance(data, dict) else None
    if not isinstance(entries, list) or not entries:
        raise PaperDataError(f"{name}, line 1: no list under 'claims:'")
    nodes = {key.value: value for key, value in root.value}
    found: dict[str, Claim] = {}
    for entry, node in zip(entries, nodes["claims"].value):
        where = f"{name}, line {node.start_mark.line + 1}"
        given = set(entry) if isinstance(entry, dict) else set()
        if missing := {"id", "section", "topic", "value", "statement", "kind"} - given:
            raise PaperDataError(f"{where}: entry lacks {', '.join(sorted(missing))}")
        if entry["kind"] not in KINDS:
            kind = f"kind {entry['kind']!r} of {entry['id']}"
            raise PaperDataError(f"{where}: {kind} is not one of {', '.join(KINDS)}")
        if entry["id"] in found:
            raise PaperDataError(f"{where}: id {entry['id']!r} appears twice")
        if unknown := given - set(Claim.__dataclass_fields__):
            raise PaperDataError(f"{where}: unknown field {min(unknown)!r}")
        plain_types = {"section": str(entry["section"]), "source": tuple(entry.get("source", ()))}
        found[entry["id"]] = Claim(**entry | plain_types)
    tally = Counter(claim.kind for claim in found.values()) + Counter(total=len(found))
    for key, count in (data.get("counts") or {}).items():
        if tally[key] != count:
            line = next(k.start_mark.line for k, _ in nodes["counts"].value if k.value == key) + 1
            says = f"{tally[key]} claims, but counts.{key} says {count}"
            raise PaperDataError(f"{name}, line {line}: {says}")
    return Claims(found.values())


@cache
def claims() -> Claims:
    """The 174 checkable statements on the paper, in its order."""
    return load_claims(FOLDER / "claims.yaml")
