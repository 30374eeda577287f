"""What must hold of the built pages: links and anchors resolve, images say what they show, nothing
comes from another host, ids are unique. ``make book`` and the tests use it.
"""

from __future__ import annotations

import re
import sys
import urllib.parse
from collections import Counter
from functools import lru_cache
from pathlib import Path

from bs4 import BeautifulSoup

from tools import HTML

RESOURCES = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "object": "data",
    "embed": "src",
    "link": "href",
}
LOADED = {
    "stylesheet",
    "icon",
    "shortcut",
    "preload",
    "modulepreload",
    "prefetch",
    "preconnect",
    "manifest",
}
ELSEWHERE = re.compile(r"^(?:https?:)?//")


def pages(html: Path) -> list[Path]:
    return [p for p in sorted(html.rglob("*.html")) if "_static" not in p.parts]


@lru_cache(maxsize=256)
def _parsed(path: Path, modified: int) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def parsed(path: Path) -> BeautifulSoup:
    return _parsed(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _ids(path: Path, modified: int) -> frozenset[str]:
    soup = _parsed(path, modified)
    return frozenset(
        {e["id"] for e in soup.select("[id]")} | {e["name"] for e in soup.select("a[name]")}
    )


def ids(path: Path) -> frozenset[str]:
    return _ids(path, path.stat().st_mtime_ns)


def links(html: Path) -> list[str]:
    """Links to files or anchors that are not there."""
    wrong, html = [], html.resolve()
    for page in pages(html):
        for e in parsed(page).select("[href], [src]"):
            url = e.get("href") or e.get("src")
            parts = urllib.parse.urlsplit(url)
            if not url or parts.scheme or parts.netloc:
                continue
            target = (
                (page.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else page
            )
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                wrong.append(f"{page.relative_to(html)}: dead link {url}")
            elif (
                parts.fragment
                and target.suffix == ".html"
                and urllib.parse.unquote(parts.fragment) not in ids(target)
            ):
                wrong.append(f"{page.relative_to(html)}: dead link {url}: no such anchor")
    return wrong


def images(html: Path) -> list[str]:
    """Images without alternative text, drawings without a label."""
    wrong = []
    for page in pages(html):
        main = parsed(page).find("main") or parsed(page)
        for img in main.find_all("img"):
            if not (img.get("alt") or "").strip() or Path(img["alt"]).suffix in (
                ".svg",
                ".png",
                ".jpg",
            ):
                wrong.append(
                    f"{page.relative_to(html)}: image without alt text: {img.get('src', '')[:80]}"
                )
        for svg in main.find_all("svg"):
            hidden = any(
                t.get("aria-hidden") == "true" for t in [svg, *svg.parents] if hasattr(t, "get")
            )
            if not hidden and not (
                svg.get("aria-label")
                or svg.get("aria-labelledby")
                or svg.find("title", recursive=False)
            ):
                wrong.append(
                    f"{page.relative_to(html)}: inline drawing without a label: {str(svg)[:80]}"
                )
    return wrong


def hosts(html: Path) -> list[str]:
    """Scripts, styles, fonts and images that a browser would fetch from another host."""
    wrong = []
    for page in pages(html):
        for e in parsed(page).find_all(list(RESOURCES)):
            url = e.get(RESOURCES[e.name]) or ""
            if ELSEWHERE.match(url) and (e.name != "link" or LOADED & set(e.get("rel", []))):
                wrong.append(f"{page.relative_to(html)}: {e.name} from another host: {url}")
        styles = [s.get_text() for s in parsed(page).find_all("style")] + [
            e["style"] for e in parsed(page).select("[style]")
        ]
        wrong += [
            f"{page.relative_to(html)}: style from another host: {u}"
            for s in styles
            for u in outside(s)
        ]
    for sheet in sorted(html.rglob("*.css")):
        wrong += [
            f"{sheet.relative_to(html)}: from another host: {u}"
            for u in outside(sheet.read_text(encoding="utf-8", errors="replace"))
        ]
    return wrong


def outside(css: str) -> list[str]:
    urls = re.findall(r"""(?:@import\s+(?:url\()?|url\()\s*['"]?([^'")\s;]+)""", css)
    return [u for u in urls if ELSEWHERE.match(u)]


def unique(html: Path) -> list[str]:
    """Ids that appear twice on a page: a link to one leads to the first only."""
    wrong = []
    for page in pages(html):
        main = parsed(page).find("main") or parsed(page)
        twice = [i for i, n in Counter(e["id"] for e in main.select("[id]")).items() if n > 1]
        wrong += [f"{page.relative_to(html)}: the id {i!r} appears twice" for i in twice]
    return wrong


def problems(html: Path = HTML) -> list[str]:
    return [*links(html), *images(html), *hosts(html), *unique(html)]


if __name__ == "__main__":
    found = problems()
    print(*found or ["no problems"], sep="\n")
    sys.exit(bool(found))
