"""Sphinx extension: docstrings are plain text with `code` in backticks; the API page shows them so.

The package's docstrings are read in an editor or by ``help()`` far more often than here, so they
keep to plain text and carry no markup of Sphinx's own.
"""

from __future__ import annotations

import re

CODE = re.compile(r"(``.+?``|:\w+:`[^`]+`|`[^`\n]+`)")
ARGUMENT = re.compile(r"[a-z_]\w*(, \w+)*: ")  # a line that begins to describe one
ROLE = re.compile(r":\w+:`([^`]+)`")


def restructured(line: str) -> str:
    """A docstring's line as reStructuredText: backticks are code, every other mark is itself."""
    parts = []
    for part in CODE.split(line):
        if ROLE.fullmatch(part):
            parts.append(f"``{ROLE.fullmatch(part)[1].removeprefix('~')}``")
        elif part.startswith("`"):
            parts.append(f"``{part.strip('`')}``")
        else:
            parts.append(re.sub(r"([*|\\]|_(?=\W|$))", r"\\\1", part))
    return "".join(parts)


def plain_text(app, what, name, obj, options, lines: list[str]) -> None:
    """A paragraph an argument; what is indented after an empty line is shown as it is."""
    new: list[str] = []
    block = False
    for before, line in zip(["", *lines], lines):
        indented = line.startswith("    ")
        if indented and not block and not before.strip():
            new += ["::", ""]
            block = True
        elif block and line.strip() and not indented:
            block = False
        fresh = not before.strip() or before.rstrip().endswith(".")
        if not block and fresh and ARGUMENT.match(line):
            new.append("")
        new.append(line if block else restructured(line.strip()))
    lines[:] = new


def setup(app):
    app.connect("autodoc-process-docstring", plain_text)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
