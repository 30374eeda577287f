"""``make pdf``: the whole book as one tagged PDF, printed by Chromium from Sphinx's single page:
_build/vggbook.pdf.
"""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import sys
import threading
from pathlib import Path

from playwright.sync_api import sync_playwright

from tools import BUILD
from tools.build import alone, render

PRINT = """
@page { size: A4; margin: 18mm 16mm 20mm; }
html { font-size: 10.5pt; }
.bd-sidebar-primary, .bd-sidebar-secondary, .bd-header, .bd-header-article, .header-article,
.prev-next-footer, #pst-back-to-top, .bd-footer, .bd-footer-content, .headerlink, button.copybtn,
.skip-link, #pst-skip-link, .ledger-filter { display: none !important; } .bd-main, .bd-container,
.bd-content, .bd-article-container, .bd-container__inner, .bd-article { max-width: 100% !important;
  display: block !important; margin: 0 !important; padding: 0 !important; overflow: visible
  !important; }
span[id^="document-"] + section { break-before: page; }
details, details * { animation: none !important; transition: none !important; opacity: 1 !important;
} div.cell_input, details { break-inside: avoid; }
h1, h2, h3, h4 { break-after: avoid; }
figure, img, .admonition, .tick, mjx-container[display=true], table.ledger tr { break-inside:
avoid; } div.highlight pre, .cell_output pre { white-space: pre-wrap !important; overflow-wrap:
anywhere; overflow: visible !important; font-size: 7.6pt; } div.cell, div.cell_input, div.highlight,
.cell_output, .text_html { overflow: visible !important; } a { color: inherit; }
"""
NUMBERS = (
    "<div style='font: 8px sans-serif; width: 100%; text-align: center; color: #555'>"
    "<span class='pageNumber'></span> / <span class='totalPages'></span></div>"
)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def browser_path() -> str:
    names = [os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"]
    found = next((p for n in names if n and (p := shutil.which(n))), None)
    if not found:
        raise SystemExit(
            "pdf: no Chromium or Chrome on the PATH (Debian: apt install chromium); "
            "or name it in CHROMIUM"
        )
    return found


def one_page(folder: Path) -> str:
    """The single page, moved to the folder's root so that its relative paths hold; links between
    pages become links within.
    """
    page = next(
        p
        for p in sorted(folder.rglob("*.html"))
        if "_static" not in p.parts and p.name not in ("print.html", "index.html")
    )
    text = page.read_text(encoding="utf-8")
    text = re.sub(
        r'(href|src)="(?:\.\./)+(_static|_images|_sources|notebooks|book)/', r'\1="\2/', text
    )
    text = re.sub(r'href="(?:\.\./)?(?:notebooks|book)/[\w]+\.html(#[^"]*)"', r'href="\1"', text)
    (folder / "print.html").write_text(text, encoding="utf-8")
    return "print.html"


def main() -> int:
    with alone():
        render("singlehtml", strict=False)
    folder, target, wrong = BUILD / "singlehtml", BUILD / "vggbook.pdf", []
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as p:
        browser = p.chromium.launch(
            executable_path=browser_path(), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.on(
            "response",
            lambda r: (
                r.status >= 400
                and "searchindex" not in r.url
                and wrong.append(f"{r.status} {r.url}")
            ),
        )
        page.on("pageerror", lambda e: wrong.append(str(e)[:200]))
        page.goto(f"http://127.0.0.1:{server.server_port}/{one_page(folder)}", wait_until="load")
        page.add_style_tag(content=PRINT)
        page.evaluate("""async () => {
            document.querySelectorAll('details').forEach(d => { d.open = true; });
            document.querySelectorAll('img').forEach(i => { i.loading = 'eager'; });
            if (window.MathJax?.startup) await MathJax.startup.promise;
            await document.fonts.ready;
        }""")
        page.wait_for_load_state("networkidle")
        page.pdf(
            path=target,
            prefer_css_page_size=True,
            print_background=True,
            outline=True,
            tagged=True,
            display_header_footer=True,
            header_template="<span></span>",
            footer_template=NUMBERS,
        )
        browser.close()
    print(*wrong, sep="\n", end="\n" if wrong else "")
    print(f"{target.relative_to(BUILD.parent)}: {target.stat().st_size / 1e6:.1f} MB")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
