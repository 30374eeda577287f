"""Assemble what Sphinx reads (_build/site-source) from the executed notebooks and the prose pages.

Chapters go through ``tools.page``; the ledger, the misreadings and the contributors' page are
filled here.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import yaml

from tools import EXECUTED, ROOT, SITE, address, execute, files, ledger, misreadings, notes
from tools.page import page

FILLED = "% FILLED BY THE BUILD"


def title_of(nb: nbformat.NotebookNode) -> str:
    for cell in nb.cells:
        if cell.cell_type == "markdown" and (m := re.search(r"^# (.+)$", cell.source, re.M)):
            return m[1]
    return "Untitled"


class Writer:
    """Writes only files that change, for Sphinx reads those again; then removes stale ones."""

    def __init__(self, root: Path):
        self.root = root
        self.kept: set[Path] = set()

    def put(self, name: str, data: str | bytes) -> None:
        path = self.root / name
        data = data.encode() if isinstance(data, str) else data
        self.kept.add(path)
        if not path.exists() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def sweep(self) -> None:
        for path in sorted(self.root.rglob("*"), reverse=True):
            if path.is_file() and path not in self.kept:
                path.unlink()
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def toc_files(toc: dict) -> list[str]:
    entries = [e for part in toc.get("parts", [toc]) for e in part.get("chapters", [])]
    return [toc["root"], *(e["file"] for e in entries)]


def existing(toc: dict, present: Callable[[str], bool]) -> dict:
    """The table of contents without the pages that do not exist (a draft's)."""
    parts = [
        {**p, "chapters": [e for e in p["chapters"] if present(e["file"])]} for p in toc["parts"]
    ]
    kept = {**toc, "parts": [p for p in parts if p["chapters"]]}
    if not present(toc["root"]):
        first = kept["parts"][0]["chapters"]
        kept["root"] = first.pop(0)["file"]
        kept["parts"] = [p for p in kept["parts"] if p["chapters"]]
    return kept


def config(root: Path = ROOT) -> dict:
    """_config.yml as Sphinx gets it: nothing runs again; an address shows once there is one."""
    cfg = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    cfg["execute"] = {"execute_notebooks": "off"}
    # Sphinx does not see a change of its extensions, its templates or the terms of the glossary:
    # this value makes it write all pages anew.
    behind = [*(root / "tools").glob("*.py"), *(root / "book" / "_templates").rglob("*.html")]
    behind += root.glob("book/glossary.md")
    mark = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(behind))).hexdigest()[:12]
    context = cfg["sphinx"]["config"].setdefault("html_context", {})
    context["tools"] = mark
    extensions = cfg["sphinx"]["local_extensions"]
    cfg["sphinx"]["local_extensions"] = dict.fromkeys(extensions, str(Path("..", "..", "tools")))
    if repo := address.address(root):
        cfg["html"] |= {
            "use_repository_button": True,
            "use_issues_button": True,
            "use_edit_page_button": True,
            "baseurl": address.pages(repo),
        }
    return cfg


def sources_of(root: Path, toc: dict, draft: bool) -> tuple[dict[str, Path], list[str]]:
    """The files behind the pages, by name, and the names that nobody has written.

    ValueError: a page or notebook that only the table of contents, or only the disk, has; a draft
    may lack pages.
    """
    sources = {f"notebooks/{p.stem}": p for p in sorted((root / "notebooks").glob("*.ipynb"))}
    sources |= {f"book/{p.stem}": p for p in sorted((root / "book").glob("*.md"))}
    missing = [name for name in toc_files(toc) if name not in sources]
    unlisted = [name for name in sources if name not in toc_files(toc)]
    if not draft and (missing or unlisted):
        raise ValueError(
            f"_toc.yml and the files disagree; not written: {missing or 'none'}; "
            f"not listed: {unlisted or 'none'}"
        )
    return sources, missing


def stage(
    root: Path = ROOT, site: Path = SITE, executed: Path = EXECUTED, draft: bool = False
) -> list[str]:
    """Write the site's sources; returns the names of pages that are listed and nobody has written.

    ValueError: the table of contents and the files disagree, or two pages give one claim two
    statuses, in a book that is not a draft.
    """
    toc, out = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8")), Writer(site)
    sources, missing = sources_of(root, toc, draft)
    traps, titles, notebooks, runs = [], {}, {}, []
    for name in [f for f in toc_files(toc) if f in sources and f.startswith("notebooks/")]:
        stem = Path(name).name
        run, source = execute.record(sources[name]), executed / f"{name}.ipynb"
        nb = nbformat.read(source if source.exists() else sources[name], 4)
        notebooks[stem] = copy.deepcopy(nb)
        runs += [run] if run else []
        titles[stem] = title_of(nb)
        nb, found = page(nb, stem, run)
        traps += found
        out.put(f"{name}.ipynb", nbformat.writes(nb))
    entries = ledger.entries(notebooks)
    conflicts = ledger.conflicts(entries)
    if conflicts and not draft:
        raise ValueError("One status a claim:\n" + "\n".join(conflicts))
    print(*conflicts, sep="\n", end="\n" if conflicts else "")
    files.write_json(executed.parent / "ledger.json", entries)

    def collected() -> str:
        known = misreadings.load(root / "book" / "misreadings.yaml")
        printed = misreadings.outputs(known, executed.parent / "misreadings.json")
        return misreadings.render(traps, known, printed)

    def contributing() -> str:
        return (
            (root / "CONTRIBUTING.md").read_text(encoding="utf-8").split("\n", 1)[1]
        )  # without its title

    filled = {
        "ledger": lambda: ledger.render(entries, titles),
        "misreadings": collected,
        "contributing": contributing,
    }
    for name in [f for f in toc_files(toc) if f in sources and f.startswith("book/")]:
        text, stem = sources[name].read_text(encoding="utf-8"), Path(name).name
        if stem in filled:
            if FILLED not in text:
                raise ValueError(
                    f"book/{stem}.md has lost the line {FILLED!r}, where the build writes"
                )
            text = text.replace(FILLED, filled[stem]())
        behind = [sources[name], *([root / "CONTRIBUTING.md"] if stem == "contributing" else [])]
        made_from_runs = stem in ("ledger", "misreadings")
        note = notes.runs_note(runs) if made_from_runs else notes.edition_note(root, *behind)
        out.put(f"{name}.md", f"{text.rstrip()}\n\n{note}\n")
    for path in sorted((root / "book").rglob("*")):
        if path.is_file() and path.suffix != ".md":
            out.put(str(path.relative_to(root)), path.read_bytes())
    present = existing(toc, sources.__contains__)
    out.put("_toc.yml", yaml.safe_dump(present, sort_keys=False))
    out.put("_config.yml", yaml.safe_dump(config(root), sort_keys=False))
    out.sweep()
    return missing
