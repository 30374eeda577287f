"""What search engines and messengers read once the book has an address: a site map, and a card a
page.
"""

from __future__ import annotations

import html as markup
import re
from pathlib import Path

from tools import check

CARD = "_static/card.png"  # book/_static/card.png: 1200 by 630 pixels
DESCRIPTION = re.compile(r'<meta content="([^"]*)" (?:lang="en" )?name="description"')
TITLE = re.compile(r"<title>(.*?)</title>", re.S)
MARK = '<meta property="og:site_name"'


def sitemap(html: Path, base: str) -> str:
    """The pages' addresses in the form of sitemaps.org."""
    skip = ("search.html", "genindex.html", "index.html")
    names = [p.relative_to(html).as_posix() for p in check.pages(html) if p.name not in skip]
    rows = "".join(f"<url><loc>{markup.escape(base + name)}</loc></url>\n" for name in names)
    form = "http://www.sitemaps.org/schemas/sitemap/0.9"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="{form}">\n{rows}</urlset>\n'


def card(page: str, url: str, base: str) -> str:
    """The page with what a messenger shows of it: title, description, picture."""
    if MARK in page:
        return page
    title, description = TITLE.search(page), DESCRIPTION.search(page)
    about = {
        "og:site_name": "VGG, executed",
        "og:type": "article",
        "og:title": title[1].strip() if title else "VGG, executed",
        "og:url": url,
        "og:image": base + CARD,
    }
    if description:
        about["og:description"] = description[1]
    tags = "".join(f'<meta property="{k}" content="{v}" />\n' for k, v in about.items())
    tags += '<meta name="twitter:card" content="summary_large_image" />\n'
    return page.replace("</head>", tags + "</head>", 1)


def write(html: Path, base: str) -> None:
    """The site map and robots.txt, and a card in every page."""
    (html / "sitemap.xml").write_text(sitemap(html, base), encoding="utf-8")
    robots = f"User-agent: *\nAllow: /\nSitemap: {base}sitemap.xml\n"
    (html / "robots.txt").write_text(robots, encoding="utf-8")
    for path in check.pages(html):
        page = path.read_text(encoding="utf-8")
        url = base + path.relative_to(html).as_posix()
        path.write_text(card(page, url, base), encoding="utf-8")
