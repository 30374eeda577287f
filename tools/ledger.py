"""The ledger: every claim of the paper with the status that the executed notebooks give it.

A claim with several parts has a status only where cells of that status, or a better one, cover all
its parts, over all notebooks together; otherwise it is open, and the ledger names what is missing.
Nothing here is marked by hand. A claim has one status: two pages that disagree stop the build.
"""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vggbook import Claim, claims

MIME = "application/vnd.vggbook.claim+json"
MEANING = {
    "reproduced": "an experiment of ours, usually smaller, shows the same effect",
    "opposite": "an experiment of ours shows the effect, or a part of it, with the other sign",
    "undecided": "an experiment of ours was made, and cannot tell: wide spread or narrow setting",
    "quoted": "the authors' measurement, or history; repeated here and not measured again",
    "open": "no page of this book has checked it completely yet",
    "implemented": "a default of our code equals the paper's; that is all that was compared",
    "verified": "checked on a network or a procedure that was built as the paper says",
    "derived": "computed from the paper's own definitions; agrees to the printed digits",
}
# From the strongest to the weakest; derived and verified are equals.
RANK = {
    "reproduced": 6,
    "opposite": 5,
    "undecided": 4,
    "verified": 3,
    "derived": 3,
    "implemented": 2,
    "quoted": 1,
}
FILTER = '<div class="ledger-filter" role="group" aria-label="Show claims by status" hidden></div>'
OURS = ("reproduced", "opposite", "undecided")  # they come first on the page
SETTLED = ("derived", "verified", "implemented")  # folded on the page
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
    """What the executed notebooks published, by claim; each entry with its ``notebook``."""
    found: dict[str, list[dict]] = {}
    for name, nb in notebooks.items():
        for c in nb.cells:
            for o in c.get("outputs", []):
                if entry := o.get("data", {}).get(MIME):
                    entry = json.loads(entry) if isinstance(entry, str) else dict(entry)
                    found.setdefault(entry["id"], []).append({**entry, "notebook": name})
    return found


def status(keys: Sequence[str], entries: list[dict]) -> tuple[str, list[str]]:
    """The claim's status and, where it is open although something was checked, what is missing.

    ``keys``: the claim's parts in its order. Entries of a status, or a better one, must cover all.
    """
    for entry in sorted(entries, key=lambda e: -RANK[e["status"]]):
        covering = [e for e in entries if RANK[e["status"]] >= RANK[entry["status"]]]
        if set(keys) <= {k for e in covering for k in e["keys_checked"]}:
            return entry["status"], []
    seen = {k for e in entries for k in e["keys_checked"]}
    return "open", [key for key in keys if key not in seen]


def finding(keys: Sequence[str], entries: list[dict]) -> object:
    """What was measured or computed, a stronger finding before a weaker one, in the claim's order.

    None where the claim was only repeated: the paper's own number is no finding.
    """
    found: object = None
    for e in sorted(entries, key=lambda e: RANK[e["status"]]):
        if e["status"] == "quoted" or e["found"] is None:
            continue
        both = isinstance(found, dict) and isinstance(e["found"], dict)
        found = {**found, **e["found"]} if both else e["found"]
    if isinstance(found, dict):
        order = {key: place for place, key in enumerate(keys)}
        found = dict(sorted(found.items(), key=lambda item: order.get(str(item[0]), len(order))))
    return found


def entries(notebooks: dict) -> list[dict]:
    """One row a claim, in the paper's order, JSON-ready."""
    known = records(dict(sorted(notebooks.items())))  # chapters in order, however they were found
    if unknown := known.keys() - {c.id for c in claims()}:
        raise ValueError(
            "notebooks check claims that the paper's list does not have: "
            + ", ".join(sorted(unknown))
        )
    return [entry(c, known.get(c.id, [])) for c in claims()]


def entry(claim: Claim, seen: list[dict]) -> dict:
    """A claim's row."""
    now, missing = status(claim.keys, seen)
    return {
        "id": claim.id,
        "section": claim.section,
        "kind": claim.kind,
        "statement": claim.statement,
        "status": now,
        "missing": missing,
        "expected": claim.value,
        "found": finding(claim.keys, seen),
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


def conflicts(rows: list[dict]) -> list[str]:
    """Claims to which two pages give different statuses, each for the whole claim.

    A check of some parts only is no conflict: the whole is as strong as its weakest part. Nor is a
    quotation: a page that repeats a claim gives no verdict on it.
    """
    wrong = []
    for r in rows:
        parts = set(map(str, r["expected"])) if isinstance(r["expected"], dict) else set()
        judged = [c for c in r["cells"] if c["status"] != "quoted"]
        whole = [c for c in judged if parts <= set(c["keys"])]
        if len({c["status"] for c in whole}) > 1:
            places = ", ".join(f"{c['status']} in {c['notebook']}" for c in whole)
            wrong.append(f"{r['id']}: {places}")
    return wrong


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
        return f"{value:,.0f}" if value.is_integer() else f"{value:.6g}"
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


def cell_links(r: dict, titles: dict[str, str]) -> str:
    """Links to the cells that treat a claim; a second one in a chapter has a prime."""
    links, n = [], Counter()
    for c in r["cells"]:
        name = c["notebook"]
        n[name] += 1
        again = f", place {n[name]}" if n[name] > 1 else ""
        where = html.escape(f"{titles[name]}: {r['id']}{again}")
        text = f"Ch. {name.split('_')[0].lstrip('0')}" + "’" * (n[name] - 1)
        address = f"../notebooks/{name}.html#{c['anchor']}"
        links.append(f'<a href="{address}" title="{where}">{text}</a>')
    return " ".join(links)


def row(r: dict, titles: dict[str, str]) -> str:
    def note(text: str) -> str:
        return f' <span class="ledger-note">{html.escape(text)}</span>'

    missing = note(f"still open: {', '.join(r['missing'])}") if r["missing"] and r["cells"] else ""
    evidence = note(f"Evidence: {'; '.join(r['evidence'])}") if r["evidence"] else ""
    statement = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(r["statement"]))
    found, links = r["found"], cell_links(r, titles)
    return (
        f'<tr id="{r["id"]}" data-status="{r["status"]}"><td data-label="Claim">{statement}'
        f'<span class="ledger-id">{r["id"]} · {html.escape(where_in_paper(r["section"]))} · '
        f"{r['kind']}</span></td>"
        f'<td data-label="Status"><span class="status status-{r["status"]}">{r["status"]}</span>'
        f"{missing}{evidence}</td>"
        f'<td data-label="In the paper">{folded(shown(r["expected"]))}</td>'
        f'<td data-label="Found"{empty(found is not None)}>'
        f"{folded(shown(found)) if found is not None else ''}</td>"
        f'<td data-label="Cells"{empty(links)}>{links}</td></tr>'
    )


def empty(value: object) -> str:
    return "" if value else ' class="empty"'


def where_in_paper(section: str) -> str:
    return f"Sect. {section}" if section[0].isdigit() else section


def summary(rows: list[dict]) -> str:
    """The table of statuses: how many claims have each, and what it means."""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Status", "Claims", "Meaning"))
    lines = "".join(
        f'<tr><td><span class="status status-{name}">{name}</span></td>'
        f'<td class="number">{n}</td><td>{MEANING[name]}</td></tr>'
        for name, n in counts(rows).items()
    )
    total = f'<tr><td>in all</td><td class="number">{len(rows)}</td><td></td></tr>'
    return (
        f'<table class="ledger-summary"><thead><tr>{head}</tr></thead>'
        f"<tbody>{lines}{total}</tbody></table>"
    )


def tables_by_section(rows: list[dict], titles: dict[str, str], fold: bool) -> list[str]:
    """A heading and a table for each section of the paper; folded, with the number of claims."""
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("Claim", "Status", "In the paper", "Found", "Cells")
    )
    groups: dict[str, list[dict]] = {}
    for r in rows:
        groups.setdefault(SECTIONS[r["section"]], []).append(r)
    order = list(dict.fromkeys(SECTIONS.values()))
    parts = []
    for title in sorted(groups, key=order.index):
        body = "\n".join(row(r, titles) for r in groups[title])
        table = (
            f'<table class="ledger"><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>'
        )
        n = len(groups[title])
        if fold:
            label = f"{html.escape(title)}: {n} claim{'s' * (n > 1)}"
            parts.append(
                f'<details class="ledger-fold"><summary>{label}</summary>{table}</details>'
            )
        else:
            parts.append(f"### {title}\n\n{table}")
    return parts


def render(rows: list[dict], titles: dict[str, str]) -> str:
    """The ledger page's body: counts by status; experiments, quotations, and the settled, folded.

    Readable without the script.
    """
    ours = [r for r in rows if r["status"] in OURS]
    settled = [r for r in rows if r["status"] in SETTLED]
    others = [r for r in rows if r not in ours and r not in settled]
    script = (Path(__file__).with_name("ledger.js")).read_text(encoding="utf-8")
    return "\n\n".join(
        [
            summary(rows),
            FILTER,
            f"## Tested by experiments of ours: {len(ours)} claims",
            *tables_by_section(ours, titles, fold=False),
            f"## Quoted or open: {len(others)} claims",
            *tables_by_section(others, titles, fold=False),
            f"## Derived, verified or implemented: {len(settled)} claims",
            *tables_by_section(settled, titles, fold=True),
            f"<script>\n{script}</script>",
        ]
    )
