"""Notebooks as text and back: ``make text NB=02`` writes _build/text/02_*.py, ``make notebook
NB=02`` reads it back with outputs stripped, stable cell ids and the current install cell. ``make
tidy`` does the same to all notebooks in place.
"""

from __future__ import annotations

import hashlib
import sys
from collections import Counter, defaultdict
from pathlib import Path

import jupytext
import nbformat

from tools import BUILD, ROOT
from tools.address import address, branch, put_install_cell, untitled

TEXT = BUILD / "text"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


# Tags whose code Colab and JupyterLab fold, and the title that stays to be seen.
TITLES = {
    "setup": "Setup",
    "checker": "Checker",
    "check": "Check",
    "plot": "Plot",
    "answer": "Answer",
}


def title_of(cell) -> str:
    """The title of a folded cell; empty for the others. The parameters stay open: readers edit
    them.
    """
    tags = cell.metadata.get("tags", [])
    if cell.cell_type != "code" or "parameters" in tags:
        return ""
    return next((title for tag, title in TITLES.items() if tag in tags), "")


def fold(cell) -> None:
    """What Colab (cellView, # @title) and JupyterLab (source_hidden) need to fold a cell, derived
    from its tags.
    """
    title = title_of(cell)
    if title:
        cell.source = f"# @title {title}\n{cell.source}"
        cell.metadata["cellView"] = "form"
        cell.metadata["jupyter"] = {"source_hidden": True}


def normalise(nb, old=None):
    """Strip outputs, counts and tools' metadata, and derive the folds. A cell keeps the id that it
    has in ``old``; a new one gets one from its text.
    """
    nb.metadata = nbformat.from_dict(METADATA)
    nb.nbformat, nb.nbformat_minor = 4, 5
    seen, kept = Counter(), defaultdict(list)
    for c in old.cells if old else []:
        kept[c.cell_type, untitled(c.source)].append(c.get("id"))
    put_install_cell(nb, address(), branch())
    for c in nb.cells:
        lines = untitled(c.source).split("\n")
        c.source = "\n".join(line.rstrip() for line in lines).strip("\n")
        digest = hashlib.sha1(f"{c.cell_type}\n{c.source}".encode()).hexdigest()[:10]
        digest = (kept[c.cell_type, c.source] or [None]).pop(0) or digest
        seen[digest] += 1
        c.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        own = {k: v for k, v in c.metadata.items() if k in ("tags", "mystnb") and v}
        c.metadata = nbformat.from_dict(own)
        if c.cell_type == "code":
            c.outputs, c.execution_count = [], None
    nb.cells = [c for c in nb.cells if c.source]
    for c in nb.cells:
        fold(c)
    nbformat.validate(nb)
    return nb


def pick(folder: Path, name: str, suffix: str) -> Path:
    found = sorted(folder.glob(f"{name}*{suffix}")) if name else []
    if len(found) != 1:
        have = ", ".join(p.stem for p in sorted(folder.glob(f"*{suffix}"))) or "nothing"
        place = folder.relative_to(ROOT)
        raise SystemExit(
            f"NB must be the start of one file in {place}, got {name!r}; there: {have}"
        )
    return found[0]


def to_text(name: str) -> Path:
    path = pick(ROOT / "notebooks", name, ".ipynb")
    TEXT.mkdir(parents=True, exist_ok=True)
    nb = nbformat.read(path, 4)
    for c in nb.cells:  # folds are made again on the way back
        c.source = untitled(c.source)
        c.metadata = {k: v for k, v in c.metadata.items() if k in ("tags", "mystnb")}
    filters = {"notebook_metadata_filter": "-all", "cell_metadata_filter": "tags,mystnb,-all"}
    nb.metadata = nbformat.from_dict({"jupytext": filters})
    target = TEXT / f"{path.stem}.py"
    target.write_text(jupytext.writes(nb, fmt="py:percent"), encoding="utf-8")
    return target


def to_notebook(name: str) -> Path:
    path = pick(TEXT, name, ".py")
    target = ROOT / "notebooks" / f"{path.stem}.ipynb"
    target.parent.mkdir(exist_ok=True)
    nb = normalise(
        jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent"),
        nbformat.read(target, 4) if target.exists() else None,
    )
    nbformat.write(nb, target)
    return target


def tidy() -> list[str]:
    """Normalise every notebook in place; returns the names of those that changed."""
    changed = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        before = path.read_bytes()
        nbformat.write(normalise(nbformat.read(path, 4), nbformat.read(path, 4)), path)
        changed += [path.name] if path.read_bytes() != before else []
    return changed


def main(argv: list[str]) -> None:
    if argv == ["tidy"]:
        print("tidied:", ", ".join(tidy()) or "nothing to do")
        return
    ways = {"to-text": to_text, "to-notebook": to_notebook}
    if len(argv) != 2 or argv[0] not in ways:
        raise SystemExit("usage: python -m tools.notebook tidy | to-text NB | to-notebook NB")
    print(ways[argv[0]](argv[1]).relative_to(ROOT))


if __name__ == "__main__":
    main(sys.argv[1:])
