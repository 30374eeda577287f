"""Sphinx extension: what the theme gets wrong, put right for this book.

Chapter numbers follow the file names (11_x.ipynb is chapter 11 wherever it stands); no script of
thebe, which loads from another host and is emitted twice, nor of toggle buttons and tabs, which
nothing here uses; only those files of MathJax that a browser may ask for; scripts that do not hold
up the page; pictures whose room is kept; descriptions. What templates can do is done in
``book/_templates``.
"""

from __future__ import annotations

import html
import importlib.util
import re
import shutil
import textwrap
from functools import lru_cache
from pathlib import Path

from docutils import nodes
from PIL import Image
from sphinx_external_toc.collectors import TocTreeCollectorWithStyles as Collector

from tools import weight

SIZE = re.compile(r"(?<=\d) × (?=\d)")
# What no template and no hook reaches, each with its reason (listed in CONTRIBUTING.md as well).
SUBSTITUTIONS = [
    # MyST-NB writes this name itself; it hides the fold's visible words from screen readers.
    (r'<summary aria-label="Toggle hidden content">', "<summary>"),
    # docutils' citations: a list without items, a role that is no longer used.
    (r'<div role="list" class="citation-list">', '<div class="citation-list">'),
    (r'(<div class="citation" id="[^"]*") role="doc-biblioentry"', r"\1"),
    # The corner of a table heads nothing.
    (r"<th\b([^>]*)>\s*(?:<p>\s*</p>)?\s*</th>", r"<td\1></td>"),
    # Said once is enough; settings of thebe and of toggle buttons, which are not here.
    (r'<meta name="viewport" content="width=device-width, initial-scale=1" ?/>\s*', ""),
    (
        r'<script type="text/x-thebe-config">.*?</script>\s*<script>kernelName = [^<]*</script>\s*',
        "",
    ),
    (r"<script>let toggle\w+ = [^<]*</script>\s*", ""),
    # No script holds up the page.
    (r"<script (?![^>]*\b(?:defer|async)\b)(?=[^>]*\bsrc=)", "<script defer "),
]
SUBSTITUTIONS = [(re.compile(pattern, re.S), new) for pattern, new in SUBSTITUTIONS]
# search, close, download, arrows, expand and compress, lists, moon and sun, edit, launch and what
# the theme's boxes use
ICONS = [
    0xF002,
    0xF00D,
    0xF019,
    0xF03A,
    0xF042,
    0xF054,
    0xF058,
    0xF05A,
    0xF062,
    0xF064,
    0xF065,
    0xF066,
    0xF06A,
    0xF071,
    0xF078,
    0xF0C9,
    0xF0EB,
    0xF0F3,
    0xF104,
    0xF105,
    0xF126,
    0xF135,
    0xF15B,
    0xF185,
    0xF186,
    0xF1C1,
    0xF303,
    0xF35D,
]
MATHJAX = (
    "tex-chtml.js",
    "input/tex/extensions/*.js",
    "output/chtml/fonts/woff-v2/*",
    "ui/*.js",
    "a11y/assistive-mml.js",
)


SEARCH = re.compile(
    r'<script [^>]*src="[^"]*(?:searchtools|language_data|searchindex)\.js"[^>]*></script>\s*'
)
OPTIONS = re.compile(r'<script [^>]*src="[^"]*documentation_options\.js[^"]*"[^>]*></script>')
PICTURE = re.compile(r'<img (?![^>]*\b(?:width|height|style)=)([^>]*\bsrc="[^"]*_images/([^"/]+)")')


def without_unused(app, pagename, templatename, context, doctree):
    body = context.get("body", "")
    unused = [
        "thebe",
        "togglebutton",
        *(["design"] if 'class="sd-' not in body else []),
        *(["clipboard", "copybutton"] if "<pre" not in body else []),
        *(["mystnb"] if 'class="cell' not in body else []),
    ]

    def wanted(f):
        text = f"{getattr(f, 'filename', f)}{getattr(f, 'attributes', {}).get('body', '')}".lower()
        return not any(name in text for name in unused)

    context["script_files"] = [f for f in context.get("script_files") or [] if wanted(f)]
    context["css_files"] = [f for f in context.get("css_files") or [] if wanted(f)]


def describe(app, pagename, templatename, context, doctree):
    """What a search engine shows of a page that does not say it: its title and first line."""
    tags = context.get("metatags") or ""
    if (
        doctree is not None
        and 'name="description"' in tags
        and app.config.myst_html_meta["description lang=en"] not in tags
    ):
        return
    title, line = (
        html.unescape(re.sub(r"<[^>]+>", "", context.get("title") or pagename.title())),
        "the pages that hold a word.",
    )
    if doctree is not None:
        first = next((p.astext() for p in doctree.findall(nodes.paragraph)), "")
        place = "a chapter of" if pagename.startswith("notebooks/") else "from"
        line = f"{place} the executable reading of the VGG paper. {first}"
    short = textwrap.shorten(f"{title}: {line}", 220, placeholder=" ...")
    tags = re.sub(r'<meta (?=[^>]*name="description")[^>]*>\s*', "", tags)
    context["metatags"] = f'{tags}<meta name="description" content="{html.escape(short)}" />\n'


def serve_mathjax(app):
    """Put MathJax, from its package, among the site's own files: what a browser may ask for, not
    the package's 24 MB.
    """
    package = (
        Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent
        / "static"
        / "mathjax"
    )
    for pattern in MATHJAX:
        for source in package.glob(pattern):
            target = Path(app.outdir) / "_static" / "mathjax" / source.relative_to(package)
            if not target.exists() or target.stat().st_size != source.stat().st_size:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)


def cut_icons(app):
    """The icon font with the icons that the theme shows, 4 kB instead of 156; book.css names it
    before the whole font.
    """
    target = Path(app.outdir) / "_static" / "icons.woff"
    whole = (
        Path(app.outdir) / "_static" / "vendor" / "fontawesome" / "webfonts" / "fa-solid-900.ttf"
    )
    if target.exists() or not whole.exists():
        return
    from fontTools import subset

    options = subset.Options(flavor="woff", layout_features=[], notdef_outline=True)
    font = subset.load_font(str(whole), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=ICONS)
    subsetter.subset(font)
    subset.save_font(font, str(target), options)


@lru_cache(maxsize=1024)
def size(path: Path) -> tuple[int, int] | None:
    """Width and height of a picture in CSS pixels, so that the page keeps its room while it is
    fetched.
    """
    if not path.exists():
        return None
    if path.suffix != ".svg":
        with Image.open(path) as picture:
            return picture.size
    head = re.search(r"<svg\b[^>]*>", path.read_text(encoding="utf-8"))
    found = (
        [re.search(rf'\b{side}="([\d.]+)(pt|px)?"', head[0]) for side in ("width", "height")]
        if head
        else [None]
    )
    return (
        tuple(round(float(m[1]) * (4 / 3 if m[2] == "pt" else 1)) for m in found)
        if all(found)
        else None
    )


def finish(app, exception):
    if exception or app.builder.format != "html":
        return
    serve_mathjax(app)
    cut_icons(app)
    out = Path(app.outdir)
    settings = (out / "_static" / "documentation_options.js").read_text(encoding="utf-8")
    options = f"<script>{settings}</script>"

    sheet = weight.bundle(out) if app.builder.name == "html" else None
    plain = weight.plain_names((out / "_static" / "pygments.css").read_text(encoding="utf-8"))
    weight.leave_measuring(out)

    def sized(m):
        found = size(out / "_images" / m[2])
        return f'<img width="{found[0]}" height="{found[1]}" {m[1]}' if found else m[0]

    for path in out.rglob("*.html"):
        old = new = path.read_text(encoding="utf-8")
        for pattern, replacement in SUBSTITUTIONS:
            new = pattern.sub(replacement, new)
        new = PICTURE.sub(sized, OPTIONS.sub(lambda m: options, new))
        if (
            path.name != "search.html"
        ):  # results are shown there alone; the index of all words is not needed elsewhere
            new = SEARCH.sub("", new)
        if sheet and "<html" in new and "_static" not in path.relative_to(out).parts:
            new = weight.lighter(new, sheet, plain)
        if new != old:
            path.write_text(new, encoding="utf-8")


def singlehtml_falls_back(app):
    """A handler registered for singlehtml alone would switch off Sphinx's fallback to html for all
    other nodes.
    """
    app.registry.translation_handlers.pop("singlehtml", None)


def explicit_targets(app, doctree):
    """Let [text](page.md#target) reach a page's explicit targets, as the bibliography has them;
    MyST knows headings alone.
    """
    slugs = app.env.metadata[app.env.docname].setdefault("myst_slugs", {})
    for name, explicit in doctree.nametypes.items():
        if explicit and doctree.nameids.get(name):
            slugs.setdefault(name, (None, doctree.nameids[name], name))


def pictures(app, doctree, docname):
    """Pictures are fetched when they come near; a wide drawing gets a box to scroll in."""
    for image in list(doctree.findall(nodes.image)):
        image["loading"] = "lazy"
        if "wide" in image.get("classes", []) and isinstance(image.parent, nodes.figure):
            box = nodes.container(classes=["scroll-box"])
            image.parent.replace(image, box)
            box += image


def unbroken(app, doctree, docname):
    """A size such as 3 × 3 stays on one line; code is left as it is."""
    for text in list(doctree.findall(nodes.Text)):
        kept = SIZE.sub("\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}", text)
        if kept != text and not isinstance(text.parent, nodes.literal | nodes.FixedTextElement):
            text.parent.replace(text, nodes.Text(kept))


def numbered_formulas(app, doctree):
    """A formula of several lines keeps its number: Sphinx's own environment allows none."""
    for node in doctree.findall(nodes.math_block):
        text = node.astext()
        if r"\\" in text and r"\tag" in text and not node.get("nowrap"):
            node["nowrap"] = node["no-wrap"] = True
            node.children = [nodes.Text(rf"\[{text}\]")]


def number_by_file_name(assign):
    """Wrap the numbering of sections: the first number of notebooks/NN_name is NN, not its place in
    the table of contents.
    """

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
            for node in env.tocs[doc].findall(
                lambda n: getattr(n, "attributes", {}).get("secnumber")
            ):
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
    app.connect("doctree-read", numbered_formulas)
    app.connect("doctree-resolved", pictures)
    app.connect("doctree-resolved", unbroken, priority=900)  # after the glossary's terms
    app.connect("html-page-context", without_unused, priority=900)
    app.connect("html-page-context", describe, priority=900)
    app.connect("build-finished", finish, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
