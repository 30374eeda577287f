"""Files that are whole or not there: written beside their place, then moved into it."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any


def write(path: Path, text: str) -> None:
    """Write UTF-8 text; a crash, a kill or a full disk leaves what was there before. Each process
    and thread that writes the same file has a temporary one of its own.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    write(path, json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The file's data; None where it is absent or cannot be read, so that the caller makes it
    again.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
