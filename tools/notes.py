"""The notes at the foot of a page: when it was made, from what, and with which versions."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path

from vggbook import __version__
from vggbook.book.provenance import git


def run_note(record: dict) -> str:
    """The foot of a chapter: when, how long, on what and with which versions it ran."""
    v = record["versions"]
    commit = f"commit {html.escape(record['commit'])}, " if record["commit"] else ""
    return (
        f'<p class="run-note">Everything on this page was computed on {record["date"]} in '
        f"{record['seconds']:g} seconds: profile <code>{record['profile']}</code>, {commit}"
        f"Python {v['python']}, torch {v['torch']}, torchvision {v['torchvision']}, "
        f"{html.escape(record['device'])}.</p>"
    )


def runs_note(records: list[dict]) -> str:
    """The foot of a page made from all chapters: when, how long, with what they ran."""
    if not records:
        return ""

    def each(key: Callable[[dict], object]) -> str:
        return html.escape(", ".join(dict.fromkeys(str(key(r)) for r in records if key(r))))

    def version(name: str) -> str:
        return each(lambda r: r["versions"][name])

    chapters = (
        "the run of 1 chapter" if len(records) == 1 else f"the runs of {len(records)} chapters"
    )
    seconds = sum(r["seconds"] for r in records)
    commits = each(lambda r: r["commit"])
    return (
        f'<p class="run-note">VGG, executed: version {__version__}. This page was made from '
        f"{chapters} on {each(lambda r: r['date'])}, {seconds:.0f} seconds in all: profile "
        f"<code>{each(lambda r: r['profile'])}</code>, {f'commit {commits}, ' if commits else ''}"
        f"Python {version('python')}, torch {version('torch')}, torchvision "
        f"{version('torchvision')}, {each(lambda r: r['device'])}.</p>"
    )


def edition_note(root: Path, *sources: Path) -> str:
    """The foot of a prose page: the book's version and the commit that last changed the page.

    A plus sign: it has changed since.
    """

    paths = [str(path) for path in sources]
    last = (git(root, "log", "-1", "--format=%h %cs", "--", *paths) or "").split()
    changed = ""
    if last:
        plus = "+" if git(root, "diff", "--quiet", "HEAD", "--", *paths) is None else ""
        changed = f"; this page last changed on {last[1]}, commit {html.escape(last[0])}{plus}"
    return f'<p class="run-note">VGG, executed: version {__version__}{changed}.</p>'
