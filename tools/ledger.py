"""The ledger: every claim of the paper with the status that the executed notebooks give it.

A claim with several parts has a status only where cells of that status, or a better one, cover all its parts, over all
notebooks together; otherwise it is open, and the ledger names what is missing. Nothing here is marked by hand.
"""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from pathlib import Path

from vggbook import claims

MIME = "application/vnd.vggbook.claim+json"
MEANING = {
    "derived": "computed from the paper's own definitions; agrees to the printed digits",
    "verified": "checked on a network or a procedure that was built as the paper says",
    "reproduced": "an experiment of ours, usually smaller, shows the same effect; the evidence is named",
    "not reproduced": "an experiment of ours does not show it; the evidence is named",
    "quoted": "the authors' measurement, repeated here and not measured again",
    "open": "no page of this book has checked it completely yet",
}
# From the strongest to the weakest; derived and verified are equals.
RANK = {"reproduced": 4, "not reproduced": 3, "verified": 2, "derived": 2, "quoted": 1}
SECTIONS = {
    "title": "Title and abstract",
    "Abstract": "Title and abstract",
    "1": "1 Introduction",
    "2": "2 ConvNet configurations",
    "2.1": "2.1 Architecture",
    "2.2": "2.2 Configurations",
    "Table 1": "2.2 Configurations",
    "Table 2": "2.2 Configurations",
    "2.3": "2.3 Discussion",
    "3.1": "3.1 Training",
    "3.2": "3.2 Testing",
    "3.3": "3.3 Implementation details",
    "4": "4 Classification experiments",
    "4.1": "4.1 Single-scale evaluation",
    "Table 3": "4.1 Single-scale evaluation",
    "4.2": "4.2 Multi-scale evaluation",
    "Table 4": "4.2 Multi-scale evaluation",
    "4.3": "4.3 Multi-crop evaluation",
    "Table 5": "4.3 Multi-crop evaluation",
    "4.4": "4.4 ConvNet fusion",
    "Table 6": "4.4 ConvNet fusion",
    "4.5": "4.5 Comparison with the state of the art",
    "Table 7": "4.5 Comparison with the state of the art",
    "App. A": "A Localisation",
    "App. A.1": "A.1 Localisation ConvNet",
    "App. A.2": "A.2 Localisation experiments",
    "Table 8": "A.2 Localisation experiments",
    "Table 9": "A.2 Localisation experiments",
    "Table 10": "A.2 Localisation experiments",
    "App. B": "B Generalisation of very deep features",
    "Table 11": "B Generalisation of very deep features",
    "Table 12": "B Generalisation of very deep features",
    "App. C": "C Paper revisions",
}


def records(notebooks: dict) -> dict[str, list[dict]]:
    """What the executed notebooks (by name) published, by claim; each entry with its ``notebook``."""
    found: dict[str, list[dict]] = {}
    for name, nb in notebooks.items():
        for c in nb.cells:
            for o in c.get("outputs", []):
                if entry := o.get("data", {}).get(MIME):
                    entry = json.loads(entry) if isinstance(entry, str) else dict(entry)
                    found.setdefault(entry["id"], []).append({**entry, "notebook": name})
    return found


def status(keys: set[str], entries: list[dict]) -> tuple[str, list[str]]:
    """The claim's status and, where it is open although something was checked, the parts that are missing."""
    for entry in sorted(entries, key=lambda e: -RANK[e["status"]]):
        covering = [e for e in entries if RANK[e["status"]] >= RANK[entry["status"]]]
        if keys <= {k for e in covering for k in e["keys_checked"]}:
            return entry["status"], []
    return "open", sorted(keys - {k for e in entries for k in e["keys_checked"]})


def entries(notebooks: dict) -> list[dict]:
    """One row a claim, in the paper's order, JSON-ready."""
    known, rows = (
        records(dict(sorted(notebooks.items()))),
        [],
    )  # chapters in their order, however they were found
    if unknown := known.keys() - {c.id for c in claims()}:
        raise ValueError(
            f"notebooks check claims that the paper's list does not have: {', '.join(sorted(unknown))}"
        )
    for c in claims():
        seen = known.get(c.id, [])
        now, missing = status(set(c.keys), seen)
        found: object = None
        for e in sorted(
            seen, key=lambda e: RANK[e["status"]]
        ):  # a stronger finding replaces a weaker one
            both = isinstance(found, dict) and isinstance(e["found"], dict)
            found = {**found, **e["found"]} if both else found if e["found"] is None else e["found"]
        rows.append(
            {
                "id": c.id,
                "section": c.section,
                "kind": c.kind,
                "statement": c.statement,
                "status": now,
                "missing": missing,
                "expected": c.value,
                "found": found,
                "evidence": sorted({e["evidence"] for e in seen if e["evidence"]}),
                "cells": [
                    {
                        "notebook": e["notebook"],
                        "anchor": e["anchor"],
                        "status": e["status"],
                        "keys": e["keys_checked"],
                    }
                    for e in seen
                ],
            }
        )
    return rows


def counts(rows: list[dict]) -> dict[str, int]:
    n = Counter(r["status"] for r in rows)
    return {s: n[s] for s in MEANING}


def shown(value: object) -> str:
    """A value for a table cell: short, with thousands separated, parts by name."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return "; ".join(f"{str(k).replace('_', ' ')} {shown(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(
            f"({shown(v)})" if isinstance(v, (list, tuple)) else shown(v) for v in value
        )
    return str(value)


def folded(text: str, limit: int = 90) -> str:
    """HTML of a value; a long one folded, so that rows stay short."""
    if len(text) <= limit:
        return html.escape(text)
    head = text[: limit - 20].rsplit(" ", 1)[0]
    return f"<details><summary>{html.escape(head)} …</summary>{html.escape(text)}</details>"


def row(r: dict, titles: dict[str, str]) -> str:
    label = r["status"].replace(" ", "-")
    links, n = [], Counter()
    for c in r["cells"]:
        n[c["notebook"]] += 1
        chapter = c["notebook"].split("_")[0].lstrip("0")
        where = html.escape(
            f"{titles[c['notebook']]}: {r['id']}"
            + (f", place {n[c['notebook']]}" if n[c["notebook"]] > 1 else "")
        )
        text = f"Ch. {chapter}" + "’" * (n[c["notebook"]] - 1)
        links.append(
            f'<a href="../notebooks/{c["notebook"]}.html#{c["anchor"]}" title="{where}">{text}</a>'
        )
    note = (
        f' <span class="ledger-note">still open: {html.escape(", ".join(r["missing"]))}</span>'
        if r["missing"] and r["cells"]
        else ""
    )
    evidence = (
        f' <span class="ledger-note">Evidence: {html.escape("; ".join(r["evidence"]))}</span>'
        if r["evidence"]
        else ""
    )
    statement = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(r["statement"]))
    return (
        f'<tr id="{r["id"]}" data-status="{label}"><td data-label="Claim">{statement}'
        f'<span class="ledger-id">{r["id"]} · {html.escape(where_in_paper(r["section"]))} · {r["kind"]}</span></td>'
        f'<td data-label="Status"><span class="status status-{label}">{r["status"]}</span>{note}{evidence}</td>'
        f'<td data-label="In the paper">{folded(shown(r["expected"]))}</td>'
        f'<td data-label="Found"{empty(r["found"])}>{folded(shown(r["found"]))}</td>'
        f'<td data-label="Cells"{empty(links)}>{" ".join(links) or "–"}</td></tr>'
    )


def empty(value: object) -> str:
    return "" if value or value == 0 else ' class="empty"'


def where_in_paper(section: str) -> str:
    return f"Sect. {section}" if section[0].isdigit() else section


def render(rows: list[dict], titles: dict[str, str]) -> str:
    """The ledger page's body: counts by status, then a table a section of the paper. Readable without the script."""
    summary = "".join(
        f'<tr><td><span class="status status-{s.replace(" ", "-")}">{s}</span></td><td class="number">{n}</td><td>{MEANING[s]}</td></tr>'
        for s, n in counts(rows).items()
    )
    head = '<tr><th scope="col">Status</th><th scope="col">Claims</th><th scope="col">Meaning</th></tr>'
    parts = [
        f'<table class="ledger-summary"><thead>{head}</thead><tbody>{summary}'
        f'<tr><td>in all</td><td class="number">{len(rows)}</td><td></td></tr></tbody></table>',
        '<div class="ledger-filter" role="group" aria-label="Show claims by status" hidden></div>',
    ]
    groups: dict[str, list[dict]] = {}
    for r in rows:
        groups.setdefault(SECTIONS[r["section"]], []).append(r)
    columns = "".join(
        f'<th scope="col">{h}</th>' for h in ("Claim", "Status", "In the paper", "Found", "Cells")
    )
    order = list(dict.fromkeys(SECTIONS.values()))
    for title in sorted(groups, key=order.index):
        body = "\n".join(row(r, titles) for r in groups[title])
        parts.append(
            f'## {title}\n\n<table class="ledger"><thead><tr>{columns}</tr></thead><tbody>\n{body}\n</tbody></table>'
        )
    script = (Path(__file__).with_name("ledger.js")).read_text()
    return "\n\n".join([*parts, f"<script>\n{script}</script>"])
