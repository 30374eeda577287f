"""Sphinx extension: the files of the explorer, of "See it think" and of the quizzes, on those pages
only that hold one; and each view's own files only where the view stands.
"""

from __future__ import annotations

import re


def think_view(name: str) -> str:
    """What a page holds that shows this view of "See it think", alone or among others."""
    return rf'class="think" data-view="(?:[a-z]+ )*{name}\b'


# What a page holds, and the scripts and styles that it then needs; scripts run in this order.
FILES = {
    'class="explorer"': (
        ["explorer/configs.js", "explorer/arithmetic.js", "explorer/kit.js"],
        ["explorer/explorer.css"],
    ),
    'class="explorer" data-view="network"': (["explorer/network.js"], []),
    'class="explorer" data-view="stack"': (["explorer/stack.js"], []),
    'class="explorer" data-view="connections"': (["explorer/connections.js"], []),
    'class="explorer" data-view="testing"': (["explorer/testing.js"], []),
    'class="explorer" data-view="memory"': (["explorer/memory.js"], []),
    'class="think"': (
        [
            "think/scenes.js",
            "think/scene.js",
            "think/net.js",
            "think/shapes.js",
            "think/reading.js",
            "think/forward.js",
            "think/protocols.js",
            "think/unit.js",
            "think/numbers.js",
            "think/elements.js",
            "think/drawing.js",
            "think/worker.js",
            "think/nets.js",
            "think/edits.js",
            "think/hand.js",
            "think/controls.js",
            "think/answer.js",
            "think/view.js",
            "think/think.js",
        ],
        ["think/think.css"],
    ),
    think_view("layers"): (["think/units.js", "think/sum.js", "think/layers.js"], []),
    think_view("occlusion"): (["think/occlusion.js"], []),
    think_view("testing"): (["think/scoremap.js", "think/testing.js"], []),
    'class="quiz"': (["quiz.js"], ["quiz.css"]),
}


def needed(body: str) -> tuple[list[str], list[str]]:
    """The scripts and the styles that a page with this body needs."""
    used = [files for mark, files in FILES.items() if re.search(mark, body)]
    scripts = [name for names, _ in used for name in names]
    styles = [name for _, names in used for name in names]
    return scripts, styles


def load_where_used(app, pagename, templatename, context, doctree):
    scripts, styles = needed(context.get("body", ""))
    for name in scripts:
        app.add_js_file(name, loading_method="defer")
    for name in styles:
        app.add_css_file(name)


def setup(app):
    app.connect("html-page-context", load_where_used)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
