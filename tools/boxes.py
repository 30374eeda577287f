"""A chapter's plain Markdown as the page shows it: boxes, exercises, references to figures.

Notebooks hold plain Markdown, so that they read well in Jupyter and Colab; the conventions stand in
CONTRIBUTING.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

KINDS = {
    "Objectives": "objectives",
    "Remember": "remember",
    "Paper": "paper",
    "Deviation": "deviation",
    "Trap": "trap",
    "Aside": "aside",
    "Take-aways": "takeaways",
    "How sure": "sure",
}
MARGIN = {"aside": "aside margin"}  # the theme puts this class into the margin where there is one
BOX = re.compile(
    rf"> \*\*({'|'.join(KINDS)})(?:([:,]) (.+?))?(?:([.?!])\*\*|\*\*(, [^.]+)\.)[ \t]*(.*)"
)
EXERCISE = re.compile(r"^### (Exercise \d+\.\d+) \((\w+)\): (.+)$", re.M)
FIGURE = re.compile(r"\[(Figures?)\]\(#(fig-[\w-]+)\)")


class Trap(NamedTuple):
    """A misreading that a chapter treats in a box of its own."""

    title: str
    text: str
    anchor: str
    notebook: str


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def blocks(source: str) -> Iterator[tuple[bool, str]]:
    """Split Markdown into (is_quote, text) runs of whole lines, leaving fenced code alone."""
    run: list[str] = []
    quote, fence = False, ""
    for line in source.split("\n"):
        mark = re.match(r"\s*(`{3,}|~{3,})", line)
        if mark and not fence:
            fence = mark[1]
        elif mark and fence and mark[1].startswith(fence):
            fence = ""
        is_quote = line.startswith(">") and not fence
        if is_quote != quote and run:
            yield quote, "\n".join(run)
            run = []
        quote = is_quote
        run.append(line)
    yield quote, "\n".join(run)


def box(quote: str, notebook: str) -> tuple[str, Trap | None]:
    """A block quote with a box's head as a MyST admonition, and its Trap; any other as it is."""
    first, *rest = quote.split("\n")
    m = BOX.fullmatch(first)
    if not m:
        return quote, None
    kind, mark, title, end, aside, text = m.groups(default="")
    css = KINDS[kind]
    body = "\n".join([text, *(re.sub(r"^> ?", "", line) for line in rest)]).strip()
    label = f"[{kind}{':' * (mark == ':')}]{{.box-kind}}"
    heading = f"{label} {title}".rstrip() + aside + end.strip(".")
    anchor = f"{css}-{notebook[:2]}-{slug(title or kind)}"
    trap, name = None, ""
    if kind == "Trap":
        trap = Trap((title or kind) + end.strip("."), body, anchor, notebook)
        name = f":name: {anchor}\n"
    admonition = f"{{admonition}} {heading}\n:class: {MARGIN.get(css, css)}\n{name}\n{body}"
    return f"::::::{admonition}\n::::::", trap


def markdown(source: str, notebook: str) -> tuple[str, list[Trap]]:
    """The page's form of a Markdown cell, and the traps in it."""
    parts, traps = [], []
    for is_quote, text in blocks(source):
        if is_quote:
            text, trap = box(text, notebook)
            traps += [trap] if trap else []
            text = f"\n{text}\n"
        parts.append(text)
    text = EXERCISE.sub(r"### \1: \3 [\2]{.exercise-kind}", "\n".join(parts))
    return FIGURE.sub(r"{numref}`\1 %s <\2>`", text), traps


def words(source: str) -> int:
    """How many words of a Markdown cell a reader reads: no fenced code, no tags, no addresses."""
    text = re.sub(r"^(`{3,}|~{3,}).*?^\1", " ", source, flags=re.M | re.S)
    text = re.sub(r"<!--.*?-->|<[^>]+>|\]\([^)]*\)", " ", text, flags=re.S)
    return len(re.findall(r"[^\W_][\w'’.,-]*", text))
