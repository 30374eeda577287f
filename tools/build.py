"""``make book``: execute what changed, stage, render with Sphinx; every warning is an error. One build at a time."""

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

from tools import BUILD, EXECUTED, HTML, ROOT, SITE, check
from tools.execute import ANSI, CELL_TIMEOUT, NOTEBOOK_TIMEOUT, PROFILES, NotebookFailed, execute
from tools.stage import stage

PLACE = re.compile(r"(\.ipynb):(\d+):")


def cell(m: re.Match) -> str:
    """The place of a warning: MyST-NB counts 10,000 lines a cell."""
    return f"{m[1]}, cell {int(m[2]) // 10000}:"


class BuildFailed(RuntimeError):
    pass


@contextmanager
def alone():
    """Hold the build's lock: two builds in one checkout would write into each other's pages."""
    BUILD.mkdir(exist_ok=True)
    with open(BUILD / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another build is running here; waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def render(builder: str = "html", strict: bool = True) -> None:
    """Run Sphinx through Jupyter Book. Its memory is deleted after a failure, for it would not repeat the warnings of unchanged
    pages, and where pages came or went, for it would not look again for what the others refer to."""
    toc, known = (SITE / "_toc.yml").read_text(), BUILD / ".toc"
    if not known.exists() or known.read_text() != toc:
        shutil.rmtree(BUILD / ".doctrees", ignore_errors=True)
    known.write_text(toc)
    command = [
        sys.executable,
        "-c",
        "import sys; from jupyter_book.cli.main import main; sys.exit(main())",
        "build",
        str(SITE),
        "--path-output",
        str(ROOT),
        "--builder",
        builder,
        "--keep-going",
        "-n",
        "-q",
    ]
    env = {
        **os.environ,
        "NO_COLOR": "1",
        "PYTHONWARNINGS": "ignore",
    }  # deprecations inside docutils and click, not ours
    r = subprocess.run(command + ["-W"] * strict, env=env, capture_output=True, text=True)
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


# Jupyter Book's own index is one tag: no title, no icon, nothing to click where a browser does not follow it.
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
    """What a page's download button gives: the executed notebook as its author wrote it, not the page's form of it."""
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
) -> None:
    start = time.perf_counter()
    notebooks = sorted((ROOT / "notebooks").glob(f"{only or ''}*.ipynb"))
    if only and not notebooks:
        names = ", ".join(p.stem for p in sorted((ROOT / "notebooks").glob("*.ipynb")))
        raise BuildFailed(f"no notebook starts with {only!r}; there are: {names}")
    execute(
        notebooks,
        profile,
        cell_timeout=cell_timeout,
        timeout=timeout,
        say=lambda s: print(s, flush=True),
    )
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
    index.write_text(
        DOOR.format(first=yaml.safe_load((ROOT / "_toc.yml").read_text())["root"] + ".html")
    )
    print(
        f"{'draft' if only else 'book'} built in {time.perf_counter() - start:.1f} s: {index.relative_to(ROOT)}"
    )


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--profile", default="auto", choices=PROFILES)
    p.add_argument(
        "--only",
        help="one chapter, by the start of its file name: a draft, whose warnings are shown and not errors",
    )
    p.add_argument("--cell-timeout", type=float, default=CELL_TIMEOUT, help="seconds")
    p.add_argument(
        "--timeout", type=float, default=NOTEBOOK_TIMEOUT, help="seconds for a whole notebook"
    )
    a = p.parse_args(argv)
    try:
        with alone():
            build(a.profile, a.only, a.cell_timeout, a.timeout)
    except (NotebookFailed, BuildFailed, ValueError) as e:
        print(f"\n{e}\n\nThe book was not built.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
