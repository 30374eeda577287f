"""The processes that a build starts: they end with it, and the kernels that they started.

A signal that the build can catch ends them from here. One that it cannot, SIGKILL or the kernel's
own when memory runs out, closes the lifeline, a pipe of which the build holds the only writing end:
what ``lifebound`` started reads its end and ends itself within a second. So after any death of the
build no notebook and no Sphinx runs on; what was executed is kept, for the next build.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import psutil

from tools import ROOT

STOP = tuple(getattr(signal, n) for n in ("SIGTERM", "SIGHUP", "SIGINT") if hasattr(signal, n))


START = """
import sys
sys.path.insert(0, {root!r})
from tools import processes
sys.path.remove({root!r})
processes.end_with_lifeline()
from {module} import {main}
sys.exit({main}())
"""


@cache
def lifeline() -> int:
    """The reading end of a pipe into which nobody writes, and which closes when this process
    ends; the standard input of what ``lifebound`` starts.
    """
    return os.pipe()[0]


def lifebound(module: str, main: str, *arguments: str) -> list[str]:
    """A command that calls a program's ``main`` in a process that ends with its lifeline."""
    code = START.format(root=str(ROOT), module=module, main=main)
    return [sys.executable, "-c", code, *arguments]


def end_with_lifeline() -> None:
    """Wait aside until the standard input closes; then end this process and all below it."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        end_family(psutil.Process())

    threading.Thread(target=wait, daemon=True).start()


def end_family(process: psutil.Process) -> None:
    """End all processes below one, then itself."""
    try:
        family = process.children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    for p in (*family, process):
        try:
            p.kill()
        except psutil.NoSuchProcess:
            pass


class Stopped(KeyboardInterrupt):
    """The build was asked to end, by a signal."""


class Processes:
    """The papermills that run now, so that a signal ends them and their kernels."""

    def __init__(self) -> None:
        self.running: set[subprocess.Popen] = set()
        self.lock = threading.Lock()
        self.stopped = False

    def start(self, command: list[str], env: dict[str, str]) -> subprocess.Popen:
        """Start a process in a session of its own: Ctrl-C reaches the build alone, and the build
        ends it.
        """
        with self.lock:
            if self.stopped:
                raise Stopped
            process = subprocess.Popen(
                command,
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=lifeline(),
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
            self.running.add(process)
        return process

    def stop(self, process: subprocess.Popen) -> None:
        """End papermill and the kernel that it started."""
        try:
            end_family(psutil.Process(process.pid))
        except psutil.NoSuchProcess:
            pass
        process.wait()

    def stop_all(self) -> None:
        with self.lock:
            self.stopped = True
            running = list(self.running)
        for process in running:
            self.stop(process)


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn the signals that end a program into an exception, so that what it started is ended
    first.
    """

    def end(number: int, frame: object) -> None:
        raise Stopped(signal.Signals(number).name)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.signal(s, end) for s in STOP}
    try:
        yield
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
