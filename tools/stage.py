"""Assemble what Sphinx reads (_build/site-source) from the executed notebooks and the prose pages.

Notebooks hold plain Markdown, so that they read well in Jupyter and Colab; here its conventions (CONTRIBUTING.md) become what
the page shows: boxes, exercises, folded cells, quizzes, a note on the run. The ledger and the misreadings are made here as well.
"""

from __future__ import annotations

import copy
import hashlib
import html
import json
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import nbformat
import yaml

from tools import EXECUTED, ROOT, SITE, address, execute, ledger, quizzes
from vggbook import __version__

KINDS = {
    "Objectives": "objectives",
    "Paper": "paper",
    "Deviation": "deviation",
    "Trap": "trap",
    "Take-aways": "takeaways",
    "How sure": "sure",
}
BOX = re.compile(
    rf"> \*\*({'|'.join(KINDS)})(?:([:,]) (.+?))?(?:([.?!])\*\*|\*\*(, [^.]+)\.)[ \t]*(.*)"
)
EXERCISE = re.compile(r"^### (Exercise \d+\.\d+) \((\w+)\): (.+)$", re.M)
LINK = re.compile(r"(\]\()([^)\s:#]+)((?:#[^)\s]*)?\))")
FOLDED = {
    "answer": ("hide-cell", "Answer"),
    "setup": ("hide-input", "Setup"),
    "plumbing": ("hide-input", "Plumbing"),
}


class Trap(NamedTuple):
    title: str
    text: str
    anchor: str
    notebook: str
    shown: str  # the code cell that follows the box, which exposes the misreading


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def blocks(source: str):
    """Split Markdown into (is_quote, text) runs of whole lines, leaving fenced code alone."""
    run, quote, fence = [], False, ""
    for line in source.split("\n"):
        mark = re.match(r"\s*(`{3,}|~{3,})", line)
        if mark and not fence:
            fence = mark[1]
        elif mark and fence and mark[1].startswith(fence):
            fence = ""
        is_quote = line.startswith(">") and not fence
        if is_quote != quote and run:
            yield quote, "\n".join(run)
            run = []
        quote = is_quote
        run.append(line)
    yield quote, "\n".join(run)


def box(quote: str, notebook: str) -> tuple[str, Trap | None]:
    """A block quote in the form of a box as a MyST admonition (and its Trap); any other block quote as it is."""
    first, *rest = quote.split("\n")
    m = BOX.fullmatch(first)
    if not m:
        return quote, None
    kind, mark, title, end, aside, text = m.groups(default="")
    body = "\n".join([text, *(re.sub(r"^> ?", "", line) for line in rest)]).strip()
    heading = (
        f"[{kind}{':' * (mark == ':')}]{{.box-kind}} {title}" if title else f"[{kind}]{{.box-kind}}"
    )
    heading += aside + end.strip(".")
    anchor = f"{KINDS[kind]}-{notebook[:2]}-{slug(title or kind)}"
    trap = (
        Trap((title or kind) + end.strip("."), body, anchor, notebook, "")
        if kind == "Trap"
        else None
    )
    name = f":name: {anchor}\n" if trap else ""
    return f"::::::{{admonition}} {heading}\n:class: {KINDS[kind]}\n{name}\n{body}\n::::::", trap


def markdown(source: str, notebook: str) -> tuple[str, list[Trap]]:
    """The page's form of a Markdown cell, and the traps in it."""
    parts, traps = [], []
    for is_quote, text in blocks(source):
        if is_quote:
            text, trap = box(text, notebook)
            traps += [trap] if trap else []
            text = f"\n{text}\n"
        parts.append(text)
    text = EXERCISE.sub(r"### \1: \3 [\2]{.exercise-kind}", "\n".join(parts))
    return text, traps


def run_note(record: dict) -> str:
    v = record["versions"]
    commit = f"commit {html.escape(record['commit'])}, " if record["commit"] else ""
    return (
        f'<p class="run-note">Everything on this page was computed on {record["date"]} in {record["seconds"]:g} seconds: profile '
        f"<code>{record['profile']}</code>, {commit}Python {v['python']}, torch {v['torch']}, torchvision {v['torchvision']}, "
        f"{html.escape(record['device'])}.</p>"
    )


def edition_note(root: Path, *sources: Path) -> str:
    """The foot of a prose page: the book's version and the commit that last changed the page (a plus sign: changed since)."""

    def git(*command):
        return subprocess.run(
            ["git", "-C", str(root), *command, "--", *map(str, sources)],
            capture_output=True,
            text=True,
        )

    last = git("log", "-1", "--format=%h %cs").stdout.split()
    plus = "+" if last and git("diff", "--quiet", "HEAD").returncode else ""
    changed = (
        f"; this page last changed on {last[1]}, commit {html.escape(last[0])}{plus}"
        if last
        else ""
    )
    return f'<p class="run-note">VGG, executed: version {__version__}{changed}.</p>'


def runs_note(records: list[dict]) -> str:
    """The foot of a page made from all chapters: when, how long, with what they ran."""
    if not records:
        return ""

    def each(key):
        return html.escape(", ".join(dict.fromkeys(str(key(r)) for r in records if key(r))))

    seconds, n = sum(r["seconds"] for r in records), len(records)
    commit = f"commit {each(lambda r: r['commit'])}, " if any(r["commit"] for r in records) else ""
    names = {"python": "Python"}
    versions = ", ".join(
        f"{names.get(k, k)} {each(lambda r, k=k: r['versions'][k])}"
        for k in ("python", "torch", "torchvision")
    )
    return (
        f'<p class="run-note">VGG, executed: version {__version__}. This page was made from the run{"s" * (n > 1)} of {n} '
        f"chapter{'s' * (n > 1)} on {each(lambda r: r['date'])}, {seconds:.0f} seconds in all: profile "
        f"<code>{each(lambda r: r['profile'])}</code>, {commit}{versions}, {each(lambda r: r['device'])}.</p>"
    )


def page(nb, name: str, record: dict) -> tuple[nbformat.NotebookNode, list[Trap]]:
    """The executed notebook as the page shows it: upgraded Markdown, folded cells, no traces of the tools."""
    nb.metadata = nbformat.from_dict(
        {
            k: v
            for k, v in nb.metadata.items()
            if k in ("kernelspec", "language_info", "mystnb", "myst")
        }
    )
    traps, open_trap = [], False
    for c in nb.cells:
        tags = c.metadata.get("tags", [])
        c.metadata = nbformat.from_dict(
            {k: c.metadata[k] for k in ("tags", "mystnb") if k in c.metadata}
        )
        if c.cell_type == "markdown":
            c.source, found = markdown(c.source, name)
            traps += found
            open_trap = bool(found) or (open_trap and not c.source.lstrip().startswith("#"))
            continue
        for o in c.get("outputs", []):
            o.get("data", {}).pop(ledger.MIME, None)  # the ledger has read it
        if "injected-parameters" in tags:
            c.metadata.tags = ["remove-cell"]
            continue
        for tag, (hide, prompt) in FOLDED.items():
            if tag in tags:
                c.metadata.tags = [*tags, hide]
                c.metadata.setdefault("mystnb", {}).update(
                    code_prompt_show=prompt, code_prompt_hide=prompt
                )
        if open_trap:  # the code that follows a trap is what shows it
            traps[-1] = traps[-1]._replace(shown=c.source)
            open_trap = False
    if quiz := quizzes.render(name[:2]):
        ends = [
            i
            for i, c in enumerate(nb.cells)
            if c.cell_type == "markdown" and c.source.startswith("## References")
        ]
        nb.cells.insert(
            ends[-1] if ends else len(nb.cells), nbformat.v4.new_markdown_cell(quiz, id="quiz")
        )
    if record:
        nb.cells.append(nbformat.v4.new_markdown_cell(run_note(record), id="run-note"))
    return nb, traps


def relocate(text: str, notebook_dir: str = "../notebooks/") -> str:
    """Markdown of a notebook, as it must read on a page in book/: links to other files rewritten."""

    def moved(m):
        target = (
            m[2].removeprefix("../book/") if m[2].startswith("../book/") else notebook_dir + m[2]
        )
        return m[1] + target + m[3]

    return LINK.sub(moved, text)


def misreadings(traps: list[Trap], titles: dict[str, str]) -> str:
    """The misreadings page's body: every trap, by chapter, with the lines that show it and the way back."""
    parts, last = [], ""
    for t in traps:
        if t.notebook != last:
            parts.append(f"## {titles[t.notebook]}")
            last = t.notebook
        title = t.title[0].upper() + t.title[1:]
        code = f"\n\n```python\n{t.shown}\n```" if t.shown else ""
        parts.append(
            f"### {title}\n\n{relocate(t.text)}{code}\n\n[Shown in chapter {int(t.notebook[:2])}](#{t.anchor})"
        )
    return "\n\n".join(parts)


def title_of(nb) -> str:
    for c in nb.cells:
        if m := re.search(r"^# (.+)$", c.source, re.M) if c.cell_type == "markdown" else None:
            return m[1]
    return "Untitled"


class Writer:
    """Writes files only where they change, so that Sphinx reads again only what changed; then removes what is stale."""

    def __init__(self, root: Path):
        self.root, self.kept = root, set()

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


def existing(toc: dict, present) -> dict:
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
    """_config.yml as Sphinx gets it here: nothing is executed again; what needs an address appears once there is one."""
    cfg = yaml.safe_load((root / "_config.yml").read_text())
    cfg["execute"] = {"execute_notebooks": "off"}
    # Sphinx does not see a change of its extensions: this value makes it write all pages anew.
    everywhere = [
        *sorted((root / "tools").glob("*.py")),
        *root.glob("book/glossary.md"),
    ]  # the glossary: tools/terms.py
    mark = hashlib.sha256(b"".join(p.read_bytes() for p in everywhere)).hexdigest()[:12]
    cfg["sphinx"]["config"].setdefault("html_context", {})["tools"] = mark
    cfg["sphinx"]["local_extensions"] = dict.fromkeys(
        cfg["sphinx"]["local_extensions"], str(Path("..") / ".." / "tools")
    )
    if repo := address.address(root):
        cfg["html"] |= {
            "use_repository_button": True,
            "use_issues_button": True,
            "use_edit_page_button": True,
            "baseurl": address.pages(repo),
        }
    return cfg


def stage(
    root: Path = ROOT, site: Path = SITE, executed: Path = EXECUTED, draft: bool = False
) -> list[str]:
    """Write the site's sources; returns the names of pages that the table of contents lists and nobody has written.

    ValueError: such a page, or a notebook that the table of contents leaves out, in a book that is not a draft.
    """
    toc, out = yaml.safe_load((root / "_toc.yml").read_text()), Writer(site)
    sources = {f"notebooks/{p.stem}": p for p in sorted((root / "notebooks").glob("*.ipynb"))}
    sources |= {f"book/{p.stem}": p for p in sorted((root / "book").glob("*.md"))}
    missing = [f for f in toc_files(toc) if f not in sources]
    unlisted = [f for f in sources if f not in toc_files(toc)]
    if not draft and (missing or unlisted):
        raise ValueError(
            f"_toc.yml and the files disagree; not written: {missing or 'none'}; not listed: {unlisted or 'none'}"
        )
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
    (executed.parent / "ledger.json").write_text(
        json.dumps(entries, indent=1, ensure_ascii=False) + "\n"
    )
    filled = {
        "ledger": lambda: ledger.render(entries, titles),
        "misreadings": lambda: misreadings(traps, titles),
        "contributing": lambda: (
            (root / "CONTRIBUTING.md").read_text().split("\n", 1)[1]
        ),  # without its title
    }
    for name in [f for f in toc_files(toc) if f in sources and f.startswith("book/")]:
        text, stem = sources[name].read_text(), Path(name).name
        if stem in filled:
            if "% FILLED BY THE BUILD" not in text:
                raise ValueError(
                    f"book/{stem}.md has lost the line '% FILLED BY THE BUILD', where the build writes"
                )
            text = text.replace("% FILLED BY THE BUILD", filled[stem]())
        behind = [sources[name], *([root / "CONTRIBUTING.md"] if stem == "contributing" else [])]
        note = runs_note(runs) if stem in ("ledger", "misreadings") else edition_note(root, *behind)
        out.put(f"{name}.md", f"{text.rstrip()}\n\n{note}\n")
    for path in sorted((root / "book").rglob("*")):
        if path.is_file() and path.suffix != ".md":
            out.put(str(path.relative_to(root)), path.read_bytes())
    present = existing(toc, sources.__contains__)
    out.put("_toc.yml", yaml.safe_dump(present, sort_keys=False))
    out.put("_config.yml", yaml.safe_dump(config(root), sort_keys=False))
    out.sweep()
    return missing
