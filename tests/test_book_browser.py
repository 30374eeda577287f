"""The pages in a browser: at a desk, on a phone, in the dark. No request leaves the machine, nothing is written to the console,
nothing is wider than the window, formulas are set; the ledger's filter works and is not needed.
"""

import functools
import gzip
import http.server
import os
import threading
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from tools import check, stage

VIEWS = {
    "desk": {"viewport": {"width": 1280, "height": 800}},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
}
PAGES = [f"{f}.html" for f in stage.toc_files(yaml.safe_load((ROOT / "_toc.yml").read_text()))] + ["search.html?q=convolution"]
STATE = """() => ({
  math: document.querySelectorAll('span.math, div.math').length,
  raw: [...document.querySelectorAll('span.math, div.math')].filter(e => !e.querySelector('mjx-container')).length,
  broken: [...document.querySelectorAll('mjx-merror, [data-mjx-error]')].length,
  wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  images: [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src),
  theme: document.documentElement.dataset.theme,
})"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files compressed, as a web host does, and counts what it sent."""

    protocol_version = "HTTP/1.1"
    sent = 0
    packed: dict = {}  # noqa: RUF012  one cache for all requests

    def log_message(self, *args):
        pass

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file():
            return self.send_error(404)
        kind = self.guess_type(str(path))
        text = kind.split("/")[0] == "text" or kind.split("/")[-1] in ("javascript", "json", "svg+xml")
        body = self.packed.setdefault(path, gzip.compress(path.read_bytes(), 6) if text else path.read_bytes())
        type(self).sent += len(body)
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if text:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def base(html):
    Quiet.packed = {}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(html)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def visit(context, base, page):
    """Open a page; returns it with what went wrong on the way."""
    p, wrong = context.new_page(), []
    p.on("console", lambda m: m.type in ("error", "warning") and wrong.append(f"console: {m.text[:200]}"))
    p.on("pageerror", lambda e: wrong.append(f"script error: {str(e)[:200]}"))
    p.on("request", lambda r: r.url.startswith((base, "data:", "blob:")) or wrong.append(f"request to another host: {r.url}"))
    p.on("response", lambda r: r.status >= 400 and wrong.append(f"{r.status}: {r.url}"))
    p.goto(f"{base}/{page}", wait_until="load")
    p.evaluate("async () => { if (window.MathJax?.startup) await MathJax.startup.promise; await document.fonts.ready; }")
    return p, wrong


@pytest.mark.parametrize("view", VIEWS)
def test_every_page_in_a_browser(browser, base, view):
    context, wrong = browser.new_context(**VIEWS[view]), []
    for page in PAGES:
        p, seen = visit(context, base, page)
        state = p.evaluate(STATE)
        seen += [f"{state['raw']} of {state['math']} formulas are not set"] if state["raw"] else []
        seen += [f"{state['broken']} formulas are wrong"] if state["broken"] else []
        seen += [f"{state['wide']} pixels wider than the window"] if state["wide"] > 0 else []
        seen += [f"picture not shown: {src}" for src in state["images"]]
        seen += ["not in dark mode"] if view == "dark" and state["theme"] != "dark" else []
        wrong += [f"{page} ({view}): {s}" for s in dict.fromkeys(seen)]
        p.close()
    context.close()
    assert wrong == []


def test_first_load_is_light(browser, base):
    """What a first visit to any page fetches, compressed: at most 600 kB."""
    sizes = {}
    for page in PAGES:
        context, Quiet.sent = browser.new_context(), 0
        p, _ = visit(context, base, page)
        p.wait_for_load_state("networkidle")
        sizes[page] = Quiet.sent // 1000
        context.close()
    assert {page: kb for page, kb in sizes.items() if kb > 600} == {}


def test_ledger_filters_by_status_and_can_be_read_without_script(browser, base):
    p, wrong = visit(browser.new_context(), base, "book/ledger.html")
    visible = "table.ledger tbody tr:visible"
    assert p.locator(visible).count() == 174
    p.get_by_role("button", name="open", exact=True).click()
    summary = int(p.locator(".ledger-summary tr", has=p.locator(".status-open")).locator(".number").inner_text())
    assert p.locator(visible).count() == summary
    assert p.get_by_role("button", name="open", exact=True).get_attribute("aria-pressed") == "true"
    p.get_by_role("button", name="all", exact=True).click()
    assert p.locator(visible).count() == 174 and wrong == []
    p.context.close()
    plain, _ = browser.new_context(java_script_enabled=False), None
    q = plain.new_page()
    q.goto(f"{base}/book/ledger.html")
    assert q.locator(visible).count() == 174 and not q.locator(".ledger-filter").is_visible()
    plain.close()


def test_figures_keep_their_colours_in_the_dark(browser, base, html):
    context = browser.new_context(**VIEWS["dark"])
    pages = [p for p in PAGES if p.startswith("notebooks/") and check.parsed(html / p).select("main .cell_output img")]
    p, _ = visit(context, base, pages[0])
    style = p.evaluate("""() => { const s = getComputedStyle(document.querySelector('main .cell_output img'));
        return [s.filter, s.backgroundColor, s.opacity]; }""")
    assert style == ["none", "rgb(251, 251, 249)", "1"]
    context.close()


def test_accessibility_rules(browser, base):
    """axe-core, where it has been installed (npm install axe-core) or AXE names its axe.min.js."""
    found = [Path(os.environ["AXE"])] if "AXE" in os.environ else sorted(ROOT.glob("node_modules/axe-core/axe.min.js"))
    if not found:
        pytest.skip("axe-core is not installed here (npm install axe-core)")
    script, wrong = found[0].read_text(), []
    for view, options in VIEWS.items():
        context = browser.new_context(**options)
        for page in PAGES:
            p, _ = visit(context, base, page)
            p.evaluate(script)
            for v in p.evaluate("() => axe.run(document, {resultTypes: ['violations']})")["violations"]:
                wrong.append(f"{page} ({view}): {v['id']}: {len(v['nodes'])}: {v['nodes'][0]['html'][:120]}")
            p.close()
        context.close()
    assert wrong == []
