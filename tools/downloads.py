"""What lies beside the published pages: the book as one PDF, and the pages in a zip, to read
without a network.
"""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

from tools import BUILD, HTML

PDF, ZIP = "vggbook.pdf", "vggbook-html.zip"


def pack(html: Path, target: Path) -> int:
    """Pack a folder of pages, without what lies beside them; returns the number of files."""
    files = [p for p in sorted(html.rglob("*")) if p.is_file() and p.name not in (PDF, ZIP)]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, Path("vggbook", path.relative_to(html)))
    return len(files)


def main(html: Path = HTML, build: Path = BUILD) -> int:
    """Copy and pack; 1 where the pages or the PDF have not been made."""
    if not (html / "index.html").exists() or not (build / PDF).exists():
        print("downloads: make pdf first", file=sys.stderr)
        return 1
    shutil.copyfile(build / PDF, html / PDF)
    count = pack(html, html / ZIP)
    print(f"downloads: {PDF}, and {ZIP} with {count} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
