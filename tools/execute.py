"""Execute the notebooks with papermill, each once, side by side: notebooks/*.ipynb -> _build/executed/notebooks/*.ipynb.

A notebook runs again only where its stamp has changed: the notebook, the profile, the package, the recorded results, the
versions and the machine. Beside each executed notebook lies a record (``_build/executed/runs/*.json``) of its run: seconds,
date, device, versions, commit. A notebook that fails or runs out of time stops everything, with its name, cell and traceback.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import nbformat
import psutil

from tools import BUILD, EXECUTED, ROOT

PROFILES = ("auto", "ci", "laptop", "gpu")
VERSIONED = (
    "torch",
    "torchvision",
    "torchsummary",
    "numpy",
    "matplotlib",
    "scikit-learn",
    "papermill",
    "ipykernel",
)
CELL_TIMEOUT, NOTEBOOK_TIMEOUT = (
    600,
    1200,
)  # seconds; generous, for machines that are busy with something else
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class NotebookFailed(RuntimeError):
    """A notebook raised, timed out or lost its kernel; the message says which, and shows the cell and the traceback."""


@lru_cache
def device() -> str:
    """The machine in words: the GPU where there is one, else the processor and the cores that this process may use."""
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        names = subprocess.run(query, capture_output=True, text=True).stdout.split("\n")
        if names[0].strip():
            return names[0].strip()
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        name = next(
            (
                line.split(":", 1)[1].strip()
                for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")
            ),
            name,
        )
    elif sys.platform == "darwin":
        name = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True
        ).stdout.strip()
    n = cores()
    return f"{name}, {n} core{'s' * (n > 1)}"


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache
def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


@lru_cache
def commit() -> str:
    """The short commit, with a plus sign where the tree has changes; empty outside a git checkout."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short=7", "HEAD"], capture_output=True, text=True)
    if head.returncode:
        return ""
    changed = subprocess.run(
        [*git, "status", "--porcelain"], capture_output=True, text=True
    ).stdout.strip()
    return head.stdout.strip() + ("+" if changed else "")


def package_dir() -> Path:
    return ROOT / "src" / "vggbook"


@lru_cache
def shared_hash() -> str:
    """What all notebooks depend on: the package, the recorded results, files beside the notebooks, versions, machine."""
    h = hashlib.sha256(json.dumps([versions(), device()], sort_keys=True).encode())
    files = [
        p
        for d in (package_dir(), ROOT / "results", ROOT / "notebooks")
        for p in d.rglob("*")
        if p.is_file()
    ]
    for p in sorted(files):
        if p.suffix not in (".pyc", ".ipynb") and ".ipynb_checkpoints" not in p.parts:
            h.update(
                str(p.relative_to(ROOT)).encode() + b"\0" + hashlib.sha256(p.read_bytes()).digest()
            )
    return h.hexdigest()


def stamp(notebook: Path, profile: str) -> str:
    return hashlib.sha256(
        notebook.read_bytes() + profile.encode() + shared_hash().encode()
    ).hexdigest()


def record_of(notebook: Path) -> Path:
    return EXECUTED / "runs" / f"{notebook.stem}.json"


def record(notebook: Path) -> dict:
    """The record of the notebook's last good run; empty where there is none."""
    path = record_of(notebook)
    return (
        json.loads(path.read_text())
        if path.exists() and (EXECUTED / "notebooks" / notebook.name).exists()
        else {}
    )


def failing_cell(executed: Path, log: str) -> str:
    """The source and traceback of the cell that failed, from the half-executed notebook and papermill's log."""
    cells = nbformat.read(executed, 4).cells if executed.exists() else []
    for c in cells:
        for o in c.get("outputs", []):
            if o.output_type == "error":
                return (
                    f"the cell\n\n{indent(c.source)}\n\n{ANSI.sub('', chr(10).join(o.traceback))}"
                )
    # A timed-out cell leaves no error in the notebook (papermill marks all cells completed): the log names it.
    return ANSI.sub("", log.strip())[-4000:]


def indent(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())


def stop(process: subprocess.Popen) -> None:
    """End papermill and the kernel that it started."""
    for p in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        try:
            p.kill()
        except psutil.NoSuchProcess:
            pass


def run(notebook: Path, profile: str, threads: int, cell_timeout: float, timeout: float) -> dict:
    """Execute one notebook; only a complete run replaces what the last run left."""
    target, temporary = EXECUTED / "notebooks" / notebook.name, EXECUTED / "running" / notebook.name
    temporary.unlink(missing_ok=True)
    mark = stamp(notebook, profile)
    env = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(notebook),
        str(temporary),
        "-p",
        "profile",
        profile,
        "--kernel",
        "python3",
        "--no-progress-bar",
        "--no-request-save-on-cell-execute",  # saved at the end, and after an error; a save a cell is slow
        "--cwd",
        str(notebook.parent),
        "--execution-timeout",
        str(int(cell_timeout)),
    ]
    start = time.perf_counter()
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        log, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        stop(process)
        process.communicate()
        raise NotebookFailed(f"{notebook.name} did not finish within {timeout:g} s") from None
    if process.returncode:
        late = f"a cell took longer than {cell_timeout:g} s; " if "CellTimeoutError" in log else ""
        raise NotebookFailed(f"{notebook.name} failed: {late}{failing_cell(temporary, log)}")
    seconds = time.perf_counter() - start
    cells = [c for c in nbformat.read(temporary, 4).cells if c.cell_type == "code"]
    slowest = max((c.metadata.get("papermill", {}).get("duration") or 0 for c in cells), default=0)
    done = {
        "notebook": notebook.name,
        "stamp": mark,
        "profile": profile,
        "seconds": round(seconds, 1),
        "slowest_cell": round(slowest, 1),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "device": device(),
        "commit": commit(),
        "versions": versions(),
    }
    record_of(notebook).unlink(
        missing_ok=True
    )  # so that no record ever vouches for another run's output
    temporary.replace(target)
    record_of(notebook).write_text(json.dumps(done, indent=1) + "\n")
    return done


def execute(
    notebooks: list[Path],
    profile: str = "auto",
    jobs: int | None = None,
    cell_timeout: float = CELL_TIMEOUT,
    timeout: float = NOTEBOOK_TIMEOUT,
    say=print,
) -> list[dict]:
    """Execute what has changed, ``jobs`` side by side (default: two, with the cores shared out); return all records."""
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, got {profile!r}")
    for d in ("notebooks", "runs", "running"):
        (EXECUTED / d).mkdir(parents=True, exist_ok=True)
    jobs = jobs or min(2, cores())
    threads = max(1, cores() // jobs)
    due = [n for n in notebooks if record(n).get("stamp") != stamp(n, profile)]
    due.sort(key=lambda n: -record(n).get("seconds", 0))  # the longest first, as far as known
    fresh, failures, start = set(), [], time.perf_counter()
    if due:
        say(
            f"executing {len(due)} of {len(notebooks)} notebooks, profile {profile}, {jobs} at a time, {threads} thread(s) each"
        )
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(run, n, profile, threads, cell_timeout, timeout): n for n in due}
        for future in as_completed(futures):
            name = futures[future].stem
            if future.cancelled():
                continue
            if error := future.exception():
                failures.append(error)
                say(f"  {name}: FAILED")
                for other in futures:
                    other.cancel()
            else:
                fresh.add(name)
                say(f"  {name}: {future.result()['seconds']:.1f} s  ({len(fresh)} of {len(due)})")
    if failures:
        raise NotebookFailed("\n\n".join(str(f) for f in failures))
    records = [record(n) for n in notebooks]
    (EXECUTED / "runs.json").write_text(json.dumps(records, indent=1) + "\n")
    table(records, fresh, time.perf_counter() - start, say)
    return records


def table(records: list[dict], fresh: set[str], wall: float, say=print) -> None:
    width = max([len(r["notebook"]) for r in records], default=8)
    say(f"{'notebook':{width}}  seconds  slowest cell")
    for r in records:
        note = "" if Path(r["notebook"]).stem in fresh else f"   unchanged since {r['date']}"
        say(f"{r['notebook']:{width}}  {r['seconds']:7.1f}  {r['slowest_cell']:12.1f}{note}")
    say(
        f"{'in all':{width}}  {sum(r['seconds'] for r in records):7.1f}   executed now: {len(fresh)} in {wall:.1f} s"
    )


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--profile", default="auto", choices=PROFILES)
    p.add_argument("--only", help="the chapter to execute, by the start of its file name")
    p.add_argument("--jobs", type=int)
    p.add_argument("--cell-timeout", type=float, default=CELL_TIMEOUT, help="seconds")
    p.add_argument(
        "--timeout", type=float, default=NOTEBOOK_TIMEOUT, help="seconds for a whole notebook"
    )
    a = p.parse_args(argv)
    notebooks = sorted((ROOT / "notebooks").glob(f"{a.only or ''}*.ipynb"))
    BUILD.mkdir(exist_ok=True)
    try:
        execute(notebooks, a.profile, a.jobs, a.cell_timeout, a.timeout)
    except NotebookFailed as e:
        print(f"\n{e}\n\nThe book was not built.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
