"""``make book``: execute what changed, stage, render with Sphinx; every warning is an error. One
build at a time.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager

import nbformat
import yaml

from tools import BUILD, EXECUTED, HTML, ROOT, SITE, address, cards, check
from tools.environment import for_sphinx
from tools.execute import (
    CELL_TIMEOUT,
    NOTEBOOK_TIMEOUT,
    arguments,
    commit,
    described,
    execute,
    stoppable,
)
from tools.failure import ANSI, NotebookFailed
from tools.processes import lifebound, lifeline
from tools.stage import stage

PLACE = re.compile(r"(\.ipynb):(\d+):")


def cell(m: re.Match) -> str:
    """The place of a warning: MyST-NB counts 10,000 lines a cell."""
    return f"{m[1]}, cell {int(m[2]) // 10000}:"


class BuildFailed(RuntimeError):
    """The pages could not be made; the message says why."""


def say(text: str) -> None:
    print(text, flush=True)


@contextmanager
def alone():
    """Hold the build's lock: two builds in one checkout would write into each other's pages."""
    BUILD.mkdir(exist_ok=True)
    with open(BUILD / ".lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another build is running here; waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def render(builder: str = "html", strict: bool = True) -> None:
    """Run Sphinx through Jupyter Book. Its memory is deleted after a failure, for it would not
    repeat the warnings of unchanged pages, and where pages came or went, for it would not look
    again for what the others refer to.
    """
    toc, known = (SITE / "_toc.yml").read_text(encoding="utf-8"), BUILD / ".toc"
    if not known.exists() or known.read_text(encoding="utf-8", errors="replace") != toc:
        shutil.rmtree(BUILD / ".doctrees", ignore_errors=True)
    known.write_text(toc, encoding="utf-8")
    options = ["--path-output", str(ROOT), "--builder", builder, "--keep-going", "-n", "-q"]
    command = lifebound("jupyter_book.cli.main", "main", "build", str(SITE), *options)
    r = subprocess.run(
        command + ["-W"] * strict,
        env=for_sphinx(),
        stdin=lifeline(),
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    lines = [
        ANSI.sub("", line)
        for line in (r.stdout + r.stderr).replace(str(SITE) + os.sep, "").splitlines()
    ]
    log = "\n".join(
        PLACE.sub(cell, line)
        for line in lines
        if "WARNING" in line or "ERROR" in line or "rror:" in line
    )
    if r.returncode:
        shutil.rmtree(BUILD / ".doctrees", ignore_errors=True)
        shutil.rmtree(BUILD / builder, ignore_errors=True)
        raise BuildFailed("Sphinx found:\n" + (log or "\n".join(lines[-40:])))
    if log:
        print(log)


# Jupyter Book's own index is one tag: no title, no icon, nothing to click where a browser does not
# follow it.
DOOR = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" /><title>vggbook</title>
<meta name="viewport" content="width=device-width, initial-scale=1" />
<link rel="icon" href="_static/favicon.svg" />
<meta http-equiv="Refresh" content="0; url={first}" />
</head>
<body><main><p><a href="{first}">vggbook, first page</a></p></main></body>
</html>
"""


def publish_sources(notebooks: list) -> None:
    """What a page's download button gives: the executed notebook as its author wrote it, not the
    page's form of it.
    """
    for path in notebooks:
        nb = nbformat.read(EXECUTED / "notebooks" / path.name, 4)
        nb.metadata.pop("papermill", None)
        nb.cells = [c for c in nb.cells if "injected-parameters" not in c.metadata.get("tags", [])]
        for c in nb.cells:
            c.metadata.pop("papermill", None)
            c.metadata.pop("execution", None)
        nbformat.write(nb, HTML / "_sources" / "notebooks" / path.name)


def build(
    profile: str,
    only: str | None = None,
    cell_timeout: float = CELL_TIMEOUT,
    timeout: float = NOTEBOOK_TIMEOUT,
    weights: str = "auto",
) -> None:
    start = time.perf_counter()
    notebooks = sorted((ROOT / "notebooks").glob(f"{only or ''}*.ipynb"))
    if only and not notebooks:
        names = ", ".join(p.stem for p in sorted((ROOT / "notebooks").glob("*.ipynb")))
        raise BuildFailed(f"no notebook starts with {only!r}; there are: {names}")
    if not commit():
        say("the pages name no commit: without git, or not in a checkout of this book")
    limits = {"cell_timeout": cell_timeout, "timeout": timeout}
    execute(notebooks, profile, **limits, say=say, weights=weights)
    say("rendering the pages")
    missing = stage(draft=bool(only))
    if missing:
        print(f"draft without: {', '.join(missing)}")
    render(strict=not only)
    for page in check.pages(HTML):  # a page that the book no longer has
        if page.parent != HTML and not any(
            (SITE / page.relative_to(HTML)).with_suffix(s).exists() for s in (".md", ".ipynb")
        ):
            page.unlink()
    found = check.problems(HTML)
    if found and not only:
        raise BuildFailed("The pages have problems:\n" + "\n".join(found))
    print(*found, sep="\n", end="\n" if found else "")
    publish_sources(notebooks)
    index = HTML / "index.html"
    root = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["root"]
    index.write_text(DOOR.format(first=root + ".html"), encoding="utf-8")
    if repo := address.address():
        cards.write(HTML, address.pages(repo))
    kind, seconds = "draft" if only else "book", time.perf_counter() - start
    say(f"{kind} built in {seconds:.1f} s: {index.relative_to(ROOT)}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    arguments(parser)
    a = parser.parse_args(argv)
    try:
        with stoppable(), alone():
            build(a.profile, a.only, a.cell_timeout, a.timeout, a.weights)
    except (NotebookFailed, BuildFailed, ValueError) as error:
        print(f"\n{error}\n\nThe book was not built.", file=sys.stderr)
        return 1
    except OSError as error:  # a full disk, a folder that cannot be written
        print(f"\n{described(error)}\n\nThe book was not built.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; what was executed is kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
