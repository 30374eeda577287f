"""A chapter's profile ``gpu`` walked on the CPU: its own file shrunk by one rule, Imagenette as the
archive that it is.
"""

import functools
import hashlib
import http.server
import io
import json
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import stand_in
from conftest import ROOT
from PIL import Image

from tools.environment import clean
from tools.execute import papermill
from vggbook.book.photos import photograph_path

# What every chapter runs first: the shrunk profile, the archive on disk, and a record of every net
# that is trained.
FIRST = """
import json
import torchvision
import vggbook.train
from pathlib import Path
from vggbook.book import profiles

small = profiles.shrunk("gpu")
profiles.read = lambda name: small
torchvision.datasets.Imagenette._ARCHIVES = {archives}


def noting(train_a_net):
    def noted(recipe, train, *args, **options):
        row = [recipe.config, recipe.width, recipe.crop, recipe.batch_size, recipe.max_epochs]
        with open({notes!r}, "a", encoding="utf-8") as file:
            file.write(json.dumps([*row, len(train)]) + "\\n")
        return train_a_net(recipe, train, *args, **options)

    return noted


vggbook.train.fit = noting(vggbook.train.fit)
"""
WNIDS = (
    *("n01440764", "n02102040", "n02979186", "n03000684", "n03028079"),
    *("n03394916", "n03417042", "n03425413", "n03445777", "n03888257"),
)
IMAGES = {"train": 16, "val": 5}  # a class
FROM_VALIDATION = (
    2  # of a class's five; the others are ImageNet training images, as their names say
)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder's address on this machine."""
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def imagenette(folder: Path) -> tuple[str, str]:
    """Write a small imagenette2-320.tgz in the form of the published one; its name and MD5 sum."""
    path = folder / "imagenette2-320.tgz"
    with Image.open(photograph_path("flower")) as photo, tarfile.open(path, "w:gz") as archive:
        for split, count in IMAGES.items():
            for label, wnid in enumerate(WNIDS):
                for i in range(count):
                    left = 20 * label + 3 * i
                    crop = photo.crop((left, i, left + 96 + label, i + 80)).resize((426, 320))
                    data = io.BytesIO()
                    crop.save(data, "JPEG")
                    own = split == "val" and i < FROM_VALIDATION
                    stem = f"ILSVRC2012_val_{10 * label + i:08}" if own else f"{wnid}_{i}"
                    name = f"imagenette2-320/{split}/{wnid}/{stem}.JPEG"
                    info = tarfile.TarInfo(name)
                    info.size = len(data.getvalue())
                    archive.addfile(info, io.BytesIO(data.getvalue()))
    return path.name, hashlib.md5(path.read_bytes()).hexdigest()


def walk(
    notebook: Path, folder: Path, weights: Path | None = None
) -> tuple[subprocess.CompletedProcess, list[list]]:
    """Run a chapter with the shrunk profile as the book would (strict); the nets that it
    trained. ``weights``: a stand-in for the released file (tests/stand_in.py).
    """
    (name, digest), notes = imagenette(folder), folder / "trained.jsonl"
    copy = folder / notebook.name
    environment = clean() | {"HOME": str(folder), "NO_PROXY": "127.0.0.1"}  # downloads go below it
    with served(folder) as address:
        archives = {"320px": [f"{address}/{name}", digest]}
        source = FIRST.format(archives=archives, notes=str(notes))
        if weights:
            source += stand_in.FIRST.format(file=weights.name)
            environment[stand_in.released.FOLDER_VARIABLE] = str(weights.parent)
        nb = nbformat.read(notebook, 4)
        nb.cells.insert(0, nbformat.v4.new_code_cell(source, id="shrunk"))
        nbformat.write(nb, copy)
        command = papermill(copy, folder / "out.ipynb", "gpu", 300)
        r = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, encoding="utf-8"
        )
    lines = notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []
    return r, [json.loads(line) for line in lines]
