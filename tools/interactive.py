"""Sphinx extension: the explorer's and the quizzes' files, on those pages only that hold an
explorer or a quiz; and each of the explorer's views only where it stands.
"""

from __future__ import annotations

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
        ["think/scenes.js", "think/scene.js", "think/net.js", "think/think.js"],
        ["think/think.css"],
    ),
    'class="quiz"': (["quiz.js"], ["quiz.css"]),
}


def load_where_used(app, pagename, templatename, context, doctree):
    for mark, (scripts, styles) in FILES.items():
        if mark in context.get("body", ""):
            for name in scripts:
                app.add_js_file(name, loading_method="defer")
            for name in styles:
                app.add_css_file(name)


def setup(app):
    app.connect("html-page-context", load_where_used)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
