"""The processes that a build starts: a signal to the build ends them, and the kernels that they
started.
"""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

STOP = tuple(getattr(signal, n) for n in ("SIGTERM", "SIGHUP", "SIGINT") if hasattr(signal, n))


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
                stdin=subprocess.DEVNULL,
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
            family = psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            family = []
        for p in (process, *family):
            try:
                p.kill()
            except (psutil.NoSuchProcess, ProcessLookupError):
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
