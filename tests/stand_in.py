"""A stand-in for the released VGG-16, and chapters run with it: torchvision's names, shapes and
form of file, random numbers.
"""

import hashlib
import subprocess
from pathlib import Path

import nbformat
import torch
from conftest import ROOT

from tools.environment import clean
from tools.execute import papermill
from tools.processes import lifeline
from vggbook import build, released

# What a chapter runs first: the file's name carries its own checksum, as torchvision's does.
FIRST = """
from vggbook import released

released.weights_url = lambda name: "http://127.0.0.1:9/{file}"  # nobody listens there
"""


def write(folder: Path, width: float = 1 / 16, zipped: bool = False) -> Path:
    """Write weights of D for 1000 classes, narrow unless ``width`` is 1, as torch.save writes them
    in ``folder``. torchvision's own file of VGG-16 is of before the zip form.

    The last layer is large, so that some answers are sure.
    """
    generator = torch.Generator().manual_seed(1)
    state = build("D", width=width, generator=generator).state_dict()
    state["classifier.6.weight"] *= 8
    made = folder / "made.pth"
    torch.save(state, made, _use_new_zipfile_serialization=zipped)
    with open(made, "rb") as file:
        digits = hashlib.file_digest(file, "sha256").hexdigest()[:8]
    return made.replace(folder / f"vgg16-{digits}.pth")


def environment(file: Path, home: Path) -> dict[str, str]:
    """A notebook's environment in which ``file`` is found, and nothing that this machine has."""
    given = {released.FOLDER_VARIABLE: str(file.parent), "TORCH_HOME": str(home / "torch")}
    return clean() | given | {"HOME": str(home), "NO_PROXY": "127.0.0.1"}


def walk(notebook: Path, file: Path, folder: Path) -> tuple[subprocess.CompletedProcess, Path]:
    """Run a chapter, profile ``cpu``, as the book would (strict), with the released weights stood
    in for; its executed form.
    """
    copy, output = folder / notebook.name, folder / "out.ipynb"
    nb = nbformat.read(notebook, 4)
    nb.cells.insert(0, nbformat.v4.new_code_cell(FIRST.format(file=file.name), id="stand-in"))
    nbformat.write(nb, copy)
    r = subprocess.run(
        papermill(copy, output, "cpu", 600),
        env=environment(file, folder),
        stdin=lifeline(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    return r, output


def printed(executed: Path) -> str:
    """All that the executed notebook's cells show as text."""
    outputs = [o for c in nbformat.read(executed, 4).cells for o in c.get("outputs", [])]
    data = [o.get("text", "") or "".join(o.get("data", {}).get("text/html", "")) for o in outputs]
    return "\n".join(data)
