"""Sphinx extension: the first mention of a glossary term in a chapter links to its entry; book.js
shows the definition there.
"""

from __future__ import annotations

import html
import re

from docutils import nodes

GLOSSARY = "book/glossary"
PAGES = re.compile(r"notebooks/|book/misreadings$")
ELSEWHERE = {
    "claim",
    "fusion",
    "kernel",
    "shapes",
}  # words that have other meanings in the chapters as well; so have single letters
NOT_IN = (
    nodes.reference,
    nodes.literal,
    nodes.FixedTextElement,
    nodes.title,
    nodes.rubric,
    nodes.math,
    nodes.math_block,
    nodes.raw,
    nodes.caption,
    nodes.image,
)


def names(title: str, definition: str) -> list[str]:
    """The names of an entry: 'Kernel, filter' has two; 'LRN: dividing ...' in the definition gives
    one more.
    """
    found = re.split(r", | and ", title)
    if abbreviation := re.match(r"([A-Z]{2,}(?: layer)?): ", definition):
        found.append(abbreviation[1])
    return [n for n in found if len(n) > 2 and n.lower() not in ELSEWHERE and n != "A-LRN"]


def pattern(name: str) -> str:
    """Words in any common spelling ('soft-max', 'softmax', plural); capitals inside a name, as in
    ReLU, must be as they are.
    """
    spelt = (
        re.escape(name)
        .replace(r"\ ×\ ", r"\s?[×x]\s?")
        .replace(r"\-", "[- ]?")
        .replace(r"\ ", r"\s")
    )
    return spelt if re.search(r"[A-Z]", name[1:]) else f"(?i:{spelt})"


class Terms:
    """The glossary's entries and one expression that finds their names; the longer name wins."""

    def __init__(self, glossary: nodes.document):
        self.entries, by_name = [], {}
        for section in glossary.findall(nodes.section):
            paragraph = next((c for c in section.children if isinstance(c, nodes.paragraph)), None)
            if paragraph is None or any(isinstance(c, nodes.section) for c in section.children):
                continue
            title, definition = (
                section.next_node(nodes.title).astext(),
                " ".join(paragraph.astext().split()),
            )
            self.entries.append((title, section["ids"][0], definition))
            by_name |= {name: len(self.entries) - 1 for name in names(title, definition)}
        ordered = sorted(by_name, key=len, reverse=True)
        self.which = [by_name[name] for name in ordered]
        self.find = re.compile(
            r"(?<![\w-])(?:" + "|".join(f"({pattern(n)})" for n in ordered) + r")s?(?![\w-])"
        )

    def link(self, doctree: nodes.document, address: str) -> int:
        """Link each term where the page mentions it first; returns how many."""
        seen = set()
        for text in list(doctree.findall(nodes.Text)):
            above, node = [], text.parent
            while node is not None:
                above.append(node)
                node = node.parent
            if any(
                isinstance(n, NOT_IN) or "box-kind" in n.get("classes", [])
                for n in above
                if isinstance(n, nodes.Element)
            ):
                continue
            new, at, source = [], 0, text.astext()
            for m in self.find.finditer(source):
                entry = self.which[m.lastindex - 1]
                if entry in seen:
                    continue
                seen.add(entry)
                title, anchor, definition = (html.escape(s) for s in self.entries[entry])
                start = (
                    f'<a class="term" href="{address}#{anchor}" data-term="{title}" '
                    f'data-definition="{definition}">'
                )
                new += [
                    nodes.Text(source[at : m.start()]),
                    nodes.raw("", start, format="html"),
                    nodes.Text(m[0]),
                    nodes.raw("", "</a>", format="html"),
                ]
                at = m.end()
            if new:
                text.parent.replace(
                    text, [n for n in [*new, nodes.Text(source[at:])] if n.astext()]
                )
        return len(seen)


def link_terms(app, doctree, docname):
    if app.builder.name != "html" or not PAGES.match(docname) or GLOSSARY not in app.env.found_docs:
        return
    if not hasattr(app, "glossary_terms"):
        app.glossary_terms = Terms(app.env.get_doctree(GLOSSARY))
    app.glossary_terms.link(doctree, app.builder.get_relative_uri(docname, GLOSSARY))


def setup(app):
    app.connect("doctree-resolved", link_terms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
