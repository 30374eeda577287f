"""The misreadings page: ``book/misreadings.yaml`` and the chapters' Trap boxes, a line each.

Every snippet of the file is run as it is shown, and the page shows what it printed.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import yaml

from tools import ROOT
from tools.boxes import Trap, slug
from tools.quizzes import inline

FILE = ROOT / "book" / "misreadings.yaml"
TOPICS = {
    "architecture": "The architecture",
    "fields": "Kernels, fields and parameters",
    "cost": "Memory, work and time",
    "before": "The nets before VGG",
    "training": "Training",
    "testing": "Testing and its numbers",
    "comparing": "Comparing experiments",
    "code": "Code that runs and is wrong",
}
# Where a chapter's Trap boxes belong.
TOPIC_OF = {
    "01": "architecture",
    "02": "fields",
    "03": "cost",
    "04": "before",
    "05": "training",
    "06": "testing",
    "07": "testing",
    "08": "comparing",
    "11": "cost",
    "12": "code",
}
SOURCES = {
    "paper": "the paper's own wording",
    "notes": "study notes and reviews",
    "slides": "lecture slides",
    "code": "public code",
    "docs": "documentation and printed summaries",
    "ocr": "damaged copies of the text",
    "own": "an earlier edition of this book",
    "contrived": "made up for this book, to show the mechanism",
}
LINK = re.compile(r"(\]\()([^)\s:#]+)((?:#[^)\s]*)?\))")
RUNNER = """
import contextlib, io, json, sys, traceback
found = []
for name, code in json.load(sys.stdin):
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(code, name, "exec"), {"__name__": "__main__"})
    except Exception:
        print(f"{name}\\n{traceback.format_exc()}", file=sys.stderr)
        sys.exit(1)
    found.append(printed.getvalue())
json.dump(found, sys.stdout)
"""


class SnippetFailed(ValueError):
    """A snippet does not run as shown; the message names it and has the traceback."""


class Misreading(NamedTuple):
    """One entry of the file: what is said, what is right, why, and lines that show it."""

    wrong: str
    right: str
    topic: str
    source: str
    text: str
    code: str

    @property
    def anchor(self) -> str:
        return f"misreading-{slug(self.wrong)[:60].strip('-')}"


def load(file: Path = FILE) -> list[Misreading]:
    """The entries of the file; ValueError, naming the entry, for one that cannot be shown."""
    entries = yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else []
    found = []
    for number, entry in enumerate(entries or [], 1):
        where = f"{file.name}, entry {number}"
        missing = [key for key in Misreading._fields if not str(entry.get(key) or "").strip()]
        unknown = sorted(set(entry) - set(Misreading._fields))
        if missing or unknown:
            raise ValueError(f"{where}: missing keys {missing}, unknown keys {unknown}")
        if entry["topic"] not in TOPICS or entry["source"] not in SOURCES:
            raise ValueError(
                f"{where}: topic={entry['topic']!r}, source={entry['source']!r}: expected one of "
                f"{', '.join(TOPICS)}, and one of {', '.join(SOURCES)}"
            )
        found.append(Misreading(**{key: str(entry[key]).strip() for key in Misreading._fields}))
    twice = {m.anchor for m in found if [n.anchor for n in found].count(m.anchor) > 1}
    if twice:
        raise ValueError(f"{file.name}: entries begin alike: {sorted(twice)}")
    return found


def package_mark() -> str:
    """A hash of the package, on which the snippets' outputs depend."""
    files = sorted((ROOT / "src" / "vggbook").rglob("*.py"))
    files += sorted((ROOT / "src" / "vggbook" / "paper").glob("*.yaml"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def outputs(entries: list[Misreading], memory: Path | None = None) -> list[str]:
    """What each snippet prints, run as shown; ``memory`` is a file that saves running it again.

    SnippetFailed for one that raises.
    """
    known = json.loads(memory.read_text(encoding="utf-8")) if memory and memory.exists() else {}
    mark = package_mark()
    keys = [hashlib.sha256(f"{mark}{m.code}".encode()).hexdigest() for m in entries]
    due = [i for i, key in enumerate(keys) if key not in known]
    if due:
        jobs = json.dumps([(entries[i].wrong, entries[i].code) for i in due])
        command = [sys.executable, "-W", "ignore", "-c", RUNNER]
        run = subprocess.run(
            command, input=jobs, capture_output=True, text=True, encoding="utf-8", cwd=ROOT
        )
        if run.returncode:
            raise SnippetFailed(f"{FILE.name}: {run.stderr.strip()}")
        known |= {keys[i]: text for i, text in zip(due, json.loads(run.stdout))}
    if memory:
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.write_text(
            json.dumps({key: known[key] for key in keys}, indent=1) + "\n", encoding="utf-8"
        )
    return [known[key] for key in keys]


def relocate(text: str, notebook_dir: str = "../notebooks/") -> str:
    """Markdown of a notebook as it must read on a page in book/: links to other files rewritten."""

    def moved(m: re.Match) -> str:
        target = m[2]
        inside = target.startswith("../book/")
        return m[1] + (target.removeprefix("../book/") if inside else notebook_dir + target) + m[3]

    return LINK.sub(moved, text)


def entry(m: Misreading, printed: str) -> str:
    """One misreading: a line that opens to the reason, the code that shows it and its output."""
    result = f"\n\nIt prints:\n\n```text\n{printed.rstrip()}\n```" if printed.strip() else ""
    return (
        f'<details class="misreading" id="{m.anchor}"><summary><span class="wrong">'
        f'{inline(m.wrong)}</span> <span class="arrow">→</span> '
        f'<span class="right">{inline(m.right)}</span></summary>\n\n'
        f"{m.text}\n\n```python\n{m.code}\n```{result}\n\n"
        f"Seen in: {SOURCES[m.source]}.\n\n</details>"
    )


def trap_line(trap: Trap) -> str:
    """A chapter's Trap box: its title, which opens to its text and the way to the chapter."""
    title = trap.title[0].upper() + trap.title[1:]
    number = int(trap.notebook[:2])
    return (
        f'<details class="misreading" id="of-{trap.anchor}"><summary>{inline(title)} '
        f'<span class="place">Chapter {number}</span></summary>\n\n{relocate(trap.text)}\n\n'
        f"[Shown in chapter {number}](#{trap.anchor})\n\n</details>"
    )


def render(traps: list[Trap], entries: list[Misreading], printed: list[str]) -> str:
    """The page's body: a section a topic, in each the chapters' traps and the file's entries."""
    lines: dict[str, list[str]] = {topic: [] for topic in TOPICS}
    for trap in traps:
        lines[TOPIC_OF.get(trap.notebook[:2], "code")].append(trap_line(trap))
    for m, text in zip(entries, printed):
        lines[m.topic].append(entry(m, text))
    return "\n\n".join(
        f"## {TOPICS[topic]}\n\n" + "\n\n".join(lines[topic]) for topic in TOPICS if lines[topic]
    )
