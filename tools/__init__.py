"""What turns the notebooks into a book: execute, stage, render; and the ledger and misreadings made
from the execution.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "_build"
EXECUTED = (
    BUILD / "executed"
)  # notebooks/*.ipynb as executed, runs/*.json: what was run, when, on what
SITE = BUILD / "site-source"  # what Sphinx reads
HTML = BUILD / "html"
