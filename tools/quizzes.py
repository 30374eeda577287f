"""The chapters' quizzes: ``book/quizzes.yaml`` -> HTML that works without a kernel, by keyboard,
and without JavaScript.
"""

from __future__ import annotations

import re
from functools import cache
from html import escape
from typing import NamedTuple

import yaml

from tools import ROOT

FILE = ROOT / "book" / "quizzes.yaml"


class Question(NamedTuple):
    text: str
    options: tuple[str, ...]
    right: int
    explanation: str
    compute: str
    check: tuple[str, ...]


def _question(data: dict, where: str) -> Question:
    """One entry of the file; ValueError, naming it, for one that cannot be asked."""
    unknown = set(data) - {"question", "options", "explanation", "compute", "check"}
    missing = {"question", "options", "explanation"} - set(data)
    if unknown or missing:
        raise ValueError(f"{where}: unknown keys {sorted(unknown)}, missing keys {sorted(missing)}")
    options = [str(o["right"]) if isinstance(o, dict) else str(o) for o in data["options"]]
    right = [i for i, o in enumerate(data["options"]) if isinstance(o, dict)]
    if len(right) != 1:
        raise ValueError(
            f"{where}: {len(right)} options are marked `right:`; exactly one is needed"
        )
    if not 2 <= len(options) <= 4 or len(set(options)) < len(options):
        raise ValueError(f"{where}: options={options}; two to four different ones are needed")
    checks = tuple(str(c) for c in data.get("check", ()))
    return Question(
        data["question"],
        tuple(options),
        right[0],
        data["explanation"].strip(),
        str(data.get("compute", "")),
        checks,
    )


@cache
def quizzes() -> dict[str, tuple[Question, ...]]:
    """The quizzes by chapter number ("01", "02", ...)."""
    data = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {
        chapter: tuple(
            _question(q, f"{FILE.name}, chapter {chapter}, question {i}")
            for i, q in enumerate(questions, 1)
        )
        for chapter, questions in data.items()
    }


def inline(text: str) -> str:
    """Text with `code` and *emphasis* as HTML."""
    parts = re.split(r"(`[^`]+`)", " ".join(text.split()))

    def plain(t: str) -> str:
        return re.sub(r"(?<!\w)\*([^*]+)\*(?!\w)", r"<em>\1</em>", escape(t))

    return "".join(
        f"<code>{escape(p[1:-1])}</code>" if p.startswith("`") else plain(p) for p in parts
    )


def _render(chapter: str, number: int, total: int, q: Question) -> str:
    name = f"quiz-{chapter}-{number}"
    options = "".join(
        f'<div class="quiz-option"><input type="radio" name="{name}" id="{name}-{i}" value="{i}">'
        f'<label for="{name}-{i}">{inline(option)}</label></div>'
        for i, option in enumerate(q.options)
    )
    return (
        f'<fieldset class="quiz-question" data-right="{q.right}">'
        f'<legend><span class="quiz-number">Question {number} of {total}.</span> '
        f"{inline(q.text)}</legend>{options}"
        f'<details class="quiz-answer"><summary>Answer {number}</summary>'
        f"<p><strong>{inline(q.options[q.right])}</strong></p><p>{inline(q.explanation)}</p></details></fieldset>"
    )


def render(chapter: str) -> str:
    """The Markdown of a chapter's quiz: a heading and one block of HTML. Empty for a chapter that
    has none.
    """
    questions = quizzes().get(chapter, ())
    if not questions:
        return ""
    body = "\n".join(_render(chapter, i, len(questions), q) for i, q in enumerate(questions, 1))
    return f'## Quiz\n\n<div class="quiz" id="quiz-{chapter}">\n{body}\n</div>\n'
