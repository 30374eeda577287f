"""Do the links to other sites still lead somewhere? Read from the notebooks and the pages' sources;
the standard library does.
"""

from __future__ import annotations

import json
import re
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools import ROOT

WORD = r"[^\s<>()\[\]\"'`{}|\\]"
LINK = re.compile(rf"https?://{WORD}+(?:\({WORD}+\))?")
AGENT = "Mozilla/5.0 (compatible; vggbook link check)"
GONE = (404, 410)  # other refusals (403, 429, 5xx) say nothing about the page
TRIES, PAUSE, TIMEOUT = 3, 5.0, 20.0  # seconds


def texts(root: Path) -> dict[str, str]:
    """The prose of the book by file name: Markdown, and the Markdown cells of the notebooks."""
    found = {}
    for path in (*root.glob("*.md"), *(root / "book").glob("*.md")):
        found[path.name] = path.read_text(encoding="utf-8")
    for path in (root / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        prose = ("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
        found[path.name] = "\n".join(prose)
    return found


def links(root: Path = ROOT) -> dict[str, str]:
    """Every address to another site, with the first file that names it."""
    found: dict[str, str] = {}
    for name, text in sorted(texts(root).items()):
        for url in LINK.findall(text):
            found.setdefault(url.rstrip(".,;:!?*"), name)
    return found


def problem(url: str, pause: float = PAUSE) -> str:
    """Why an address leads nowhere; empty where it leads somewhere, or where its host only refuses
    robots.
    """
    request = urllib.request.Request(url.split("#")[0], headers={"User-Agent": AGENT})
    reason = ""
    for attempt in range(TRIES):
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT):
                return ""
        except urllib.error.HTTPError as error:
            return f"answers {error.code}" if error.code in GONE else ""
        except (OSError, ValueError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        if attempt + 1 < TRIES:
            time.sleep(pause)
    return reason


def main() -> int:
    """Look at every link; 1 where one leads nowhere."""
    found = links()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(problem, found))
    dead = [f"{found[url]}: {url}: {why}" for url, why in zip(found, answers) if why]
    print(*dead, f"{len(found)} links, {len(dead)} lead nowhere", sep="\n")
    return bool(dead)


if __name__ == "__main__":
    sys.exit(main())
