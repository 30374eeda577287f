"""Sphinx extension: what the theme gets wrong, put right for this book.

Chapter numbers follow the file names (11_x.ipynb is chapter 11 wherever it stands); no script of thebe, which loads from
another host and is emitted twice, nor of toggle buttons, which nothing here uses; accessible names and roles; only those files of MathJax that a browser may ask for.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

from sphinx_external_toc.collectors import TocTreeCollectorWithStyles as Collector

SUBSTITUTIONS = [
    # Visible text must be part of the accessible name (WCAG 2.5.3).
    (r'(<button class="btn search-button-field[^>]*?) title="Search" aria-label="Search"', r"\1"),
    (r'<span class="search-button__kbd-shortcut">', '<span class="search-button__kbd-shortcut" aria-hidden="true">'),
    (r'(<i class="theme-switch [^>]*?) title="[^"]*"', r'\1 aria-hidden="true"'),
    (r'<summary aria-label="Toggle hidden content">', "<summary>"),
    # A landmark for the book's title.
    (r'(<div class="sidebar-primary-items__start[^>]*>\s*)<div class="sidebar-primary-item">(\s*<a class="navbar-brand logo".*?</a>)\s*</div>',
     r'\1<div class="sidebar-primary-item" role="navigation" aria-label="Book title">\2</div>'),
    # Icons come from the icon font: the script that draws the same ones weighs half a megabyte, compressed.
    (r'<(script|link)\b[^>]*scripts/fontawesome\.js[^>]*>(</script>)?', ""),
    # Pictures are fetched when they come near the window.
    (r'<img (?![^>]*\bloading=)', '<img loading="lazy" '),
    # docutils' citations: a list without items, a role that is no longer used.
    (r'<div role="list" class="citation-list">', '<div class="citation-list">'),
    (r'(<div class="citation" id="[^"]*") role="doc-biblioentry"', r"\1"),
]  # fmt: skip
SUBSTITUTIONS = [(re.compile(pattern, re.S), new) for pattern, new in SUBSTITUTIONS]
# search, close, download, arrows, expand and compress, lists, moon and sun, edit, launch and what the theme's boxes use
ICONS = [0xF002, 0xF00D, 0xF019, 0xF03A, 0xF042, 0xF054, 0xF058, 0xF05A, 0xF062, 0xF064, 0xF065, 0xF066, 0xF06A, 0xF071, 0xF078, 0xF0C9,
         0xF0EB, 0xF0F3, 0xF104, 0xF105, 0xF126, 0xF135, 0xF15B, 0xF185, 0xF186, 0xF1C1, 0xF303, 0xF35D]  # fmt: skip
MATHJAX = ("tex-chtml.js", "input/tex/extensions/*.js", "output/chtml/fonts/woff-v2/*", "ui/*.js", "a11y/assistive-mml.js")


def without_unused(app, pagename, templatename, context, doctree):
    def wanted(f):
        text = f"{getattr(f, 'filename', f)}{getattr(f, 'attributes', {}).get('body', '')}".lower()
        return "thebe" not in text and "togglebutton" not in text

    context["script_files"] = [f for f in context.get("script_files") or [] if wanted(f)]
    context["css_files"] = [f for f in context.get("css_files") or [] if wanted(f)]


def serve_mathjax(app):
    """Put MathJax, from its package, among the site's own files: what a browser may ask for, not the package's 24 MB."""
    package = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
    for pattern in MATHJAX:
        for source in package.glob(pattern):
            target = Path(app.outdir) / "_static" / "mathjax" / source.relative_to(package)
            if not target.exists() or target.stat().st_size != source.stat().st_size:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)


def cut_icons(app):
    """The icon font with the icons that the theme shows, 4 kB instead of 156; book.css names it before the whole font."""
    target = Path(app.outdir) / "_static" / "icons.woff"
    whole = Path(app.outdir) / "_static" / "vendor" / "fontawesome" / "webfonts" / "fa-solid-900.ttf"
    if target.exists() or not whole.exists():
        return
    from fontTools import subset

    options = subset.Options(flavor="woff", layout_features=[], notdef_outline=True)
    font = subset.load_font(str(whole), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=ICONS)
    subsetter.subset(font)
    subset.save_font(font, str(target), options)


def finish(app, exception):
    if exception or app.builder.format != "html":
        return
    serve_mathjax(app)
    cut_icons(app)
    for path in Path(app.outdir).rglob("*.html"):
        old = new = path.read_text(encoding="utf-8")
        for pattern, replacement in SUBSTITUTIONS:
            new = pattern.sub(replacement, new)
        if new != old:
            path.write_text(new, encoding="utf-8")


def singlehtml_falls_back(app):
    """A handler registered for singlehtml alone would switch off Sphinx's fallback to html for all other nodes."""
    app.registry.translation_handlers.pop("singlehtml", None)


def explicit_targets(app, doctree):
    """Let [text](page.md#target) reach a page's explicit targets, as the bibliography has them; MyST knows headings alone."""
    slugs = app.env.metadata[app.env.docname].setdefault("myst_slugs", {})
    for name, explicit in doctree.nametypes.items():
        if explicit and doctree.nameids.get(name):
            slugs.setdefault(name, (None, doctree.nameids[name], name))


def number_by_file_name(assign):
    """Wrap the numbering of sections: the first number of notebooks/NN_name is NN, not its place in the table of contents."""

    def wrapped(self, env):
        changed = assign(self, env)

        def renumbered(number, chapter):
            return type(number)([chapter, *number[1:]]) if number else number

        for doc, numbers in env.toc_secnumbers.items():
            m = re.match(r"notebooks/(\d\d)_", doc)
            if not m:
                continue
            chapter = int(m[1])
            for anchor, number in numbers.items():
                numbers[anchor] = renumbered(number, chapter)
            for node in env.tocs[doc].findall(lambda n: getattr(n, "attributes", {}).get("secnumber")):
                node["secnumber"] = renumbered(node["secnumber"], chapter)
            if "secnumber" in env.titles[doc]:
                env.titles[doc]["secnumber"] = renumbered(env.titles[doc]["secnumber"], chapter)
        return changed

    wrapped.by_file_name = True
    return wrapped


def setup(app):
    if not getattr(Collector.assign_section_numbers, "by_file_name", False):
        Collector.assign_section_numbers = number_by_file_name(Collector.assign_section_numbers)
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    app.connect("builder-inited", singlehtml_falls_back, priority=1)
    app.connect("doctree-read", explicit_targets)
    app.connect("html-page-context", without_unused, priority=900)
    app.connect("build-finished", finish, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
