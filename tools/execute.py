"""Execute the notebooks with papermill, each once, side by side: notebooks/*.ipynb ->
_build/executed/notebooks/*.ipynb.

A notebook runs again only where its stamp has changed: the notebook, the profile, the weights that
it shows, the package, the recorded results, the versions and the machine. Beside each executed
notebook lies a record (``_build/executed/runs/*.json``) of its run: seconds, date, device,
versions, commit. What was executed before a failure is kept.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import nbformat

from tools import BUILD, EXECUTED, ROOT
from tools.environment import KERNEL, clean
from tools.failure import (
    AGAIN,
    FULL,
    NotebookFailed,
    explain,
    message,
    shown,
    unreadable,
    without_picture,
)
from tools.files import read_json, write_json
from tools.processes import Processes, Stopped, lifebound, stoppable
from tools.weights import WEIGHTS, chosen, has_switch
from vggbook.book import profiles, provenance
from vggbook.book.provenance import cores, device

PROFILES = ("auto", *profiles.NAMES)
VERSIONED = (
    *("torch", "torchvision", "torchsummary", "numpy", "matplotlib", "scikit-learn"),
    *("papermill", "ipykernel"),
)
CELL_TIMEOUT = 600  # seconds; generous, for machines that are busy with something else
NOTEBOOK_TIMEOUT = 1200

Say = Callable[[str], object]


@lru_cache
def versions() -> dict[str, str]:
    return provenance.versions(VERSIONED)


@lru_cache
def commit() -> str:
    """The checkout's short commit, with a plus sign where it has changes; empty where the book's
    folder is no checkout.
    """
    return provenance.commit(ROOT)


@lru_cache
def shared_hash() -> str:
    """What all notebooks depend on: the package, the recorded results, files beside the notebooks,
    versions, machine.
    """
    h = hashlib.sha256(json.dumps([versions(), device()], sort_keys=True).encode())
    folders = (ROOT / "src" / "vggbook", ROOT / "results", ROOT / "notebooks")
    for path in sorted(p for folder in folders for p in folder.rglob("*") if p.is_file()):
        place = path.relative_to(ROOT)
        hidden = any(part.startswith(".") for part in place.parts)  # a tool's cache, checkpoints
        if path.suffix not in (".pyc", ".ipynb") and not hidden:
            h.update(place.as_posix().encode() + b"\0")
            h.update(hashlib.sha256(path.read_bytes()).digest())
    return h.hexdigest()


def shows(notebook: Path, released: Path | None) -> str:
    """Which weights the notebook shows: the released file's name, which carries its checksum;
    "miniature"; or empty where there is no choice.
    """
    if not has_switch(notebook):
        return ""
    return released.name if released else "miniature"


def stamp(notebook: Path, profile: str, released: Path | None = None) -> str:
    seen = profile + shows(notebook, released) + shared_hash()
    return hashlib.sha256(notebook.read_bytes() + seen.encode()).hexdigest()


def record_of(notebook: Path) -> Path:
    return EXECUTED / "runs" / f"{notebook.stem}.json"


def record(notebook: Path) -> dict:
    """The record of the notebook's last good run; empty where there is none, or where it or its
    output was cut.
    """
    found, output = read_json(record_of(notebook)), EXECUTED / "notebooks" / notebook.name
    if not isinstance(found, dict) or not output.exists():
        return {}
    return found if found.get("bytes") == output.stat().st_size else {}


def papermill(
    notebook: Path,
    output: Path,
    profile: str,
    cell_timeout: float,
    weights: str = "",
    strict: bool = True,
) -> list[str]:
    """The command that executes a notebook as the book does: a missed band stops it
    (``strict``). ``weights``, where given: the notebook's own switch.
    """
    return [
        *lifebound("papermill.cli", "papermill", str(notebook), str(output)),
        *("-p", "profile", profile, "-p", "strict", str(strict)),
        *(("-p", "weights", weights) if weights else ()),
        *("--kernel", KERNEL, "--cwd", str(notebook.parent), "--no-progress-bar"),
        "--no-request-save-on-cell-execute",  # a save at the end, and after an error, is enough
        *("--execution-timeout", str(int(cell_timeout))),
    ]


def run(
    notebook: Path,
    profile: str,
    released: Path | None,
    threads: int,
    cell_timeout: float,
    timeout: float,
    processes: Processes,
) -> dict:
    """Execute one notebook; only a complete run replaces what the last run left."""
    target, temporary = EXECUTED / "notebooks" / notebook.name, EXECUTED / "running" / notebook.name
    temporary.unlink(missing_ok=True)
    if broken := unreadable(notebook):
        raise broken
    mark, start = stamp(notebook, profile, released), time.perf_counter()
    weights = shows(notebook, released)
    switch = "auto" if released and weights else weights  # "auto" finds the file that was chosen
    command = papermill(notebook, temporary, profile, cell_timeout, switch)
    process = processes.start(command, clean(threads))
    try:
        log, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        processes.stop(process)
        late = f"it did not finish within {timeout:g} s"
        raise message(
            notebook, "", late, "end other programs, or allow more: --timeout 3600"
        ) from None
    finally:
        processes.running.discard(process)
    if processes.stopped:
        raise Stopped
    if process.returncode:
        raise explain(notebook, temporary, log, cell_timeout)
    if figure := without_picture(temporary):
        raise message(
            notebook,
            "",
            f"the cell of the figure {figure} shows no picture",
            f"look at {shown(notebook)}",
        )
    done = {
        "notebook": notebook.name,
        "stamp": mark,
        "profile": profile,
        "weights": weights,
        "seconds": round(time.perf_counter() - start, 1),
        "slowest_cell": slowest_cell(temporary),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "device": device(),
        "commit": commit(),
        "versions": versions(),
        "bytes": temporary.stat().st_size,
    }
    # Removed first, so that no record ever vouches for another run's output.
    record_of(notebook).unlink(missing_ok=True)
    temporary.replace(target)
    write_json(record_of(notebook), done)
    return done


def slowest_cell(executed: Path) -> float:
    """Seconds of the cell that took longest."""
    cells = nbformat.read(executed, 4).cells
    seconds = [c.metadata.get("papermill", {}).get("duration") or 0.0 for c in cells]
    return round(max(seconds, default=0.0), 1)


def execute(
    notebooks: list[Path],
    profile: str = "auto",
    jobs: int | None = None,
    cell_timeout: float = CELL_TIMEOUT,
    timeout: float = NOTEBOOK_TIMEOUT,
    say: Say = print,
    weights: str = "auto",
) -> list[dict]:
    """Execute what has changed, ``jobs`` side by side (default: two, with the cores shared out);
    return all records. ``weights``: see :func:`tools.weights.chosen`.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile={profile!r}: expected one of {', '.join(map(repr, PROFILES))}")
    profile = profiles.choose() if profile == "auto" else profile
    for folder in ("notebooks", "runs", "running"):
        (EXECUTED / folder).mkdir(parents=True, exist_ok=True)
    jobs = jobs or min(2, cores())
    threads = max(1, cores() // jobs)
    switched = any(has_switch(n) for n in notebooks)
    released = chosen(weights, profile, say) if switched else None
    due = [n for n in notebooks if record(n).get("stamp") != stamp(n, profile, released)]
    due.sort(key=lambda n: -record(n).get("seconds", 0))  # the longest first, as far as known
    start = time.perf_counter()
    if due:
        many = f"{len(due)} of {len(notebooks)} notebooks"
        say(f"executing {many}, profile {profile}, {jobs} at a time, {threads} thread(s) each")
        if switched:
            say(f"weights: {released or 'the miniatures that come with the book'}")
    limits = (profile, released, threads, cell_timeout, timeout)
    fresh = side_by_side(due, limits, jobs, say)
    records = [record(n) for n in notebooks]
    write_json(EXECUTED / "runs.json", records)
    table(records, fresh, time.perf_counter() - start, say)
    return records


def side_by_side(due: list[Path], limits: tuple, jobs: int, say: Say) -> set[str]:
    """Run the notebooks and tell of each as it starts and ends; after a failure no other is
    started.
    """
    processes, fresh, failures, begin = Processes(), set(), [], time.perf_counter()

    def tell(text: str) -> None:
        say(f"  {time.perf_counter() - begin:5.0f} s  {text}")

    def one(notebook: Path) -> dict:
        tell(f"{notebook.stem} ...")
        return run(notebook, *limits, processes)

    pool = ThreadPoolExecutor(jobs)
    names = {pool.submit(one, n): n.stem for n in due}
    waiting = set(names)
    try:
        while waiting:
            ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in ended:
                name = names[future]
                if error := future.exception():
                    failures.append(error)
                    tell(f"{name} FAILED")
                    waiting = {other for other in waiting if not other.cancel()}
                else:
                    fresh.add(name)
                    seconds = future.result()["seconds"]
                    tell(f"{name} done in {seconds:.1f} s  ({len(fresh)} of {len(due)})")
    except BaseException:
        processes.stop_all()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if failures:
        raise NotebookFailed("\n\n".join(described(error) for error in failures))
    return fresh


def described(error: BaseException) -> str:
    """A failure's own message; a full disk and the like in words."""
    if isinstance(error, NotebookFailed):
        return str(error)
    if isinstance(error, OSError):
        advice = FULL if error.errno == 28 else AGAIN
        return f"a file could not be written\n  reason   {error}\n  to do    {advice}"
    raise error


def table(records: list[dict], fresh: set[str], wall: float, say: Say = print) -> None:
    width = max([len(r["notebook"]) for r in records], default=8)
    say(f"{'notebook':{width}}  seconds  slowest cell")
    for r in records:
        note = "" if Path(r["notebook"]).stem in fresh else f"   unchanged since {r['date']}"
        say(f"{r['notebook']:{width}}  {r['seconds']:7.1f}  {r['slowest_cell']:12.1f}{note}")
    total = sum(r["seconds"] for r in records)
    say(f"{'in all':{width}}  {total:7.1f}   executed now: {len(fresh)} in {wall:.1f} s")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options that executing has, here and in tools/build.py."""
    parser.add_argument("--profile", default="auto", choices=PROFILES)
    parser.add_argument("--weights", default="auto", choices=WEIGHTS, help="of VGG-16")
    parser.add_argument("--only", help="one chapter, by the start of its file name: a draft")
    seconds = {"type": float, "metavar": "SECONDS"}
    parser.add_argument("--cell-timeout", default=CELL_TIMEOUT, help="for a cell", **seconds)
    parser.add_argument("--timeout", default=NOTEBOOK_TIMEOUT, help="for a notebook", **seconds)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    arguments(parser)
    parser.add_argument("--jobs", type=int)
    a = parser.parse_args(argv)
    notebooks = sorted((ROOT / "notebooks").glob(f"{a.only or ''}*.ipynb"))
    try:
        BUILD.mkdir(exist_ok=True)
        with stoppable():
            execute(notebooks, a.profile, a.jobs, a.cell_timeout, a.timeout, weights=a.weights)
    except (NotebookFailed, OSError) as error:
        print(f"\n{described(error)}\n\nThe book was not built.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; what was executed is kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
