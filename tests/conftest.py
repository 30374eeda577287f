"""What several test files share: where things are, the built book, a browser."""

import io
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

# Drawn anew in every run, with the same settings everywhere; an example that failed once is not
# stored, so that a reader's next run starts afresh. The report prints what repeats it.
settings.register_profile("book", database=None, derandomize=False, print_blob=True)
settings.load_profile("book")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def html() -> Path:
    """The folder of the built book: `make test` builds it first; a bare `pytest` skips what needs
    it.
    """
    path = ROOT / "_build" / "html"
    if not (path / "index.html").exists():
        if os.environ.get("CHECK_BUILT"):
            pytest.fail("the book is not built, although make test should have built it")
        pytest.skip("needs the built book: run make book first")
    return path


@pytest.fixture
def ascii_machine(monkeypatch):
    """A machine whose own encoding is ASCII: files that are read or written without a word on their
    encoding fail at the first other character.
    """
    monkeypatch.setattr(io, "text_encoding", lambda encoding, stacklevel=2: encoding or "ascii")


def chromium() -> str | None:
    """The system's Chromium or Chrome; the environment variable CHROMIUM names another."""
    mac = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
    names = [
        os.environ.get("CHROMIUM"),
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
        mac,
    ]
    return next((found for name in names if name and (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium; without one the browser tests are skipped, except where NEEDS_BROWSER is
    set.
    """
    path = chromium()
    if path is None:
        if os.environ.get("NEEDS_BROWSER"):
            pytest.fail("no Chromium or Chrome on the PATH, and NEEDS_BROWSER is set")
        pytest.skip(
            "no Chromium or Chrome on the PATH; name one in CHROMIUM (Debian: apt install chromium)"
        )
    from playwright.sync_api import sync_playwright

    arguments = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-first-run",
    ]
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=path, args=arguments)
        yield b
        b.close()


def pytest_collection_modifyitems(items):
    """Tests that drive a browser can be chosen: tools/test.sh runs them beside the others."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
