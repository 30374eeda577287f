"""Notebooks as text and back: ``make text NB=02`` writes _build/text/02_*.py, ``make notebook NB=02`` reads it back with
outputs stripped, stable cell ids and the current install cell. ``make tidy`` does the same to all notebooks in place.
"""

from __future__ import annotations

import hashlib
import sys
from collections import Counter, defaultdict
from pathlib import Path

import jupytext
import nbformat

from tools import BUILD, ROOT
from tools.address import address, put_install_cell

TEXT = BUILD / "text"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def normalise(nb, old=None):
    """Strip outputs, counts and tools' metadata. A cell keeps the id that it has in ``old``; a new one gets one from its text."""
    nb.metadata = nbformat.from_dict(METADATA)
    nb.nbformat, nb.nbformat_minor = 4, 5
    seen, kept = Counter(), defaultdict(list)
    for c in old.cells if old else []:
        kept[c.cell_type, c.source].append(c.get("id"))
    put_install_cell(nb, address())
    for c in nb.cells:
        c.source = "\n".join(line.rstrip() for line in c.source.split("\n")).strip("\n")
        digest = hashlib.sha1(f"{c.cell_type}\n{c.source}".encode()).hexdigest()[:10]
        digest = (kept[c.cell_type, c.source] or [None]).pop(0) or digest
        seen[digest] += 1
        c.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        c.metadata = nbformat.from_dict(
            {k: v for k, v in c.metadata.items() if k in ("tags", "mystnb") and v}
        )
        if c.cell_type == "code":
            c.outputs, c.execution_count = [], None
    nb.cells = [c for c in nb.cells if c.source]
    nbformat.validate(nb)
    return nb


def pick(folder: Path, name: str, suffix: str) -> Path:
    found = sorted(folder.glob(f"{name}*{suffix}")) if name else []
    if len(found) != 1:
        have = ", ".join(p.stem for p in sorted(folder.glob(f"*{suffix}"))) or "nothing"
        raise SystemExit(
            f"NB must be the start of one file in {folder.relative_to(ROOT)}, got {name!r}; there: {have}"
        )
    return found[0]


def to_text(name: str) -> Path:
    path = pick(ROOT / "notebooks", name, ".ipynb")
    TEXT.mkdir(parents=True, exist_ok=True)
    nb = nbformat.read(path, 4)
    nb.metadata = nbformat.from_dict(
        {"jupytext": {"notebook_metadata_filter": "-all", "cell_metadata_filter": "tags,mystnb"}}
    )
    target = TEXT / f"{path.stem}.py"
    target.write_text(jupytext.writes(nb, fmt="py:percent"))
    return target


def to_notebook(name: str) -> Path:
    path = pick(TEXT, name, ".py")
    target = ROOT / "notebooks" / f"{path.stem}.ipynb"
    target.parent.mkdir(exist_ok=True)
    nb = normalise(
        jupytext.reads(path.read_text(), fmt="py:percent"),
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


if __name__ == "__main__":
    if sys.argv[1] == "tidy":
        print("tidied:", ", ".join(tidy()) or "nothing to do")
    else:
        print(
            {"to-text": to_text, "to-notebook": to_notebook}[sys.argv[1]](sys.argv[2]).relative_to(
                ROOT
            )
        )
