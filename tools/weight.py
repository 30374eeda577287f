"""What a page weighs: the theme's style sheets as one, with those rules alone that some page can
use; formulas set when they come near the window. ``bookfix`` calls this when the pages are
written."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

SHEETS = (
    "basic.css",
    "styles/pydata-sphinx-theme.css",
    "pygments.css",
    "styles/sphinx-book-theme.css",
    "copybutton.css",
    "mystnb.*.css",
    "book.css",
)
BUNDLE = "styles/book.css"
LINK = re.compile(
    r'<link (?=[^>]*\brel="stylesheet")[^>]*?href="((?:\.\./)*_static/)('
    r'styles/(?:theme|pydata-sphinx-theme|sphinx-book-theme|book)|pygments|copybutton|mystnb[.\w]*|book)\.css[^"]*"[^>]*>\s*'
)
TOKEN = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|[{};]", re.S)
CLASS = re.compile(r"\.(-?[A-Za-z_][\w-]*)")
MATHJAX = re.compile(r'<script (?=[^>]*mathjax/tex-chtml\.js)[^>]*\bsrc="([^"]*)"[^>]*>')


def split(selectors: str) -> list[str]:
    """A rule's selectors, at the commas that stand outside parentheses."""
    parts, depth = [""], 0
    for c in selectors:
        depth += (c == "(") - (c == ")")
        if c == "," and not depth:
            parts.append("")
        else:
            parts[-1] += c
    return parts


def usable(selector: str, known: set[str]) -> bool:
    """Whether all classes that the selector asks for are known; what stands in parentheses, as in
    :not(.x), asks for nothing.
    """
    while (bare := re.sub(r"\([^()]*\)", "", selector)) != selector:
        selector = bare
    return known.issuperset(CLASS.findall(selector))


def purge(css: str, known: set[str]) -> str:
    """The style sheet without the rules for classes that no page has and no script names."""
    css, out, start, depth = re.sub(r"/\*.*?\*/", "", css, flags=re.S), [], 0, 0
    for m in TOKEN.finditer(css):
        if m[0] == "{":
            if not depth:
                head, inside = css[start : m.start()].strip(), m.end()
            depth += 1
        elif m[0] == "}":
            depth -= 1
            if not depth:
                body, start = css[inside : m.start()], m.end()
                if re.match(r"@(media|supports|layer|container)\b", head):
                    body = purge(body, known)
                elif not head.startswith("@"):
                    head = ",".join(s.strip() for s in split(head) if usable(s, known))
                out += [f"{head}{{{' '.join(body.split())}}}"] if head and body.strip() else []
        elif m[0] == ";" and not depth:
            out.append(css[start : m.end()].strip())
            start = m.end()
    return "\n".join(out)


def known_names(out: Path) -> set[str]:
    """All classes of the pages and all words in the scripts, which may set classes."""
    names = set()
    for page in out.rglob("*.html"):
        for m in re.finditer(r'\bclass="([^"]*)"', page.read_text(encoding="utf-8")):
            names.update(m[1].split())
    for script in (out / "_static").rglob("*.js"):
        if (
            "mathjax" not in script.parts
            and "vendor" not in script.parts
            and "fontawesome" not in script.name
        ):
            names.update(re.findall(r"-?[A-Za-z_][\w-]*", script.read_text(encoding="utf-8")))
    return names


def bundle(out: Path) -> str:
    """Write the one style sheet; returns its address below _static, with a mark of its content."""
    static, known, parts = out / "_static", known_names(out), []
    target = static / BUNDLE
    for pattern in SHEETS:
        for sheet in sorted(static.glob(pattern)):
            if sheet == target:
                continue

            def moved(m, folder=sheet.parent):
                return f"url({os.path.relpath(folder / m[1], target.parent)})".replace(os.sep, "/")

            css = re.sub(
                r'url\("?(?!["\']?(?:data:|#|https?:|/))([^)"\']+)"?\)',
                moved,
                sheet.read_text(encoding="utf-8"),
            )
            css = re.sub(r"@(charset|import) [^;]*;", "", css)
            parts.append(purge(css, known))
    css = "\n".join(parts)
    target.write_text(css, encoding="utf-8")
    return f"{BUNDLE}?v={hashlib.sha256(css.encode()).hexdigest()[:8]}"


def leave_measuring(out: Path) -> None:
    """The theme's script measures all code at once, which lays out the whole page; book.js does it
    when there is time.
    """
    script = out / "_static" / "scripts" / "pydata-sphinx-theme.js"
    text = script.read_text(encoding="utf-8")
    less = re.sub(r"\n//# sourceMappingURL=.*", "", text)
    less = re.sub(r'document\.querySelectorAll\(\["pre",[^\]]*\]\.join\(", "\)\)', "[]", less)
    if less != text:
        script.write_text(less, encoding="utf-8")


def plain_names(pygments: str) -> list[str]:
    """The classes of code that get the colour that code has anyway, in each theme: names,
    punctuation, spaces.
    """
    base = dict(re.findall(r"^(html\S+) \.highlight *\{[^}]*?\bcolor: *(#\w+)", pygments, re.M))
    rules: dict[str, list[bool]] = {}
    for theme, name, body in re.findall(
        r"^(html\S+) \.highlight \.(\w+) *\{([^}]*)\}", pygments, re.M
    ):
        rules.setdefault(name, []).append(
            body.strip().rstrip(";").lower() == f"color: {base.get(theme)}".lower()
        )
    return sorted(name for name, same in rules.items() if all(same) and len(same) == len(base))


def lighter(page: str, sheet: str, plain: list[str]) -> str:
    """The page with the one style sheet in place of the many, code without marks that change
    nothing, MathJax left to book.js.
    """
    page = (
        re.sub(
            rf'<span class="(?:{"|".join(plain)})">([^<]*)</span>|(?<=<pre>)<span></span>',
            lambda m: m[1] or "",
            page,
        )
        if plain
        else page
    )
    first = LINK.search(page)
    if first:
        page = LINK.sub("", page[: first.start()] + "@SHEET@" + page[first.start() :])
        page = page.replace("@SHEET@", f'<link rel="stylesheet" href="{first[1]}{sheet}" />\n', 1)
    return MATHJAX.sub(r'<script type="text/plain" id="mathjax" data-src="\1">', page)
