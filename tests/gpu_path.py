"""A chapter's profile ``gpu`` walked on the CPU: its own file shrunk by one rule; Imagenette,
Caltech's sets and VOC as the archives that they are.
"""

import hashlib
import io
import json
import subprocess
import tarfile
import zipfile
from pathlib import Path

import nbformat
import stand_in
from conftest import ROOT
from pictures import jpeg
from PIL import Image
from serving import served
from shrink import shrink

from tools.environment import clean
from tools.execute import papermill
from tools.processes import lifeline
from vggbook.book import profiles
from vggbook.book.photos import photograph_path

# What every chapter runs first: the shrunk profile, the archives on disk, and a record of every net
# that is trained. All of Caltech's and VOC's sets are taken, as a reader can ask for.
FIRST = """
import json
import torchvision
import vggbook.train
from pathlib import Path
from vggbook.book import profiles

small = {small}
small["chapter_09"]["voc"] = small["chapter_10"]["voc"] = ["2007", "2012"]
small["chapter_10"]["caltech"] = [101, 256]
profiles.read = lambda name: small
torchvision.datasets.Imagenette._ARCHIVES = {archives}


def from_the_shelf(fetch):
    def fetched(url, *where, filename, md5, **options):
        near, digest = {sets}[filename]
        return fetch(near, *where, filename=filename, md5=digest, **options)

    return fetched


for module in (torchvision.datasets.caltech, torchvision.datasets.voc):
    module.download_and_extract_archive = from_the_shelf(module.download_and_extract_archive)


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


def tar(files: dict[str, bytes], mode: str = "w") -> bytes:
    """An archive of these files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


CALTECH = {
    101: ("BACKGROUND_Google", "Faces", "accordion"),
    256: ("001.ak47", "002.american-flag", "257.clutter"),
}
A_CLASS = 12  # pictures


def caltech(classes: int) -> tuple[str, bytes]:
    """A small archive in the form of the published one: name and content."""
    files = {}
    for at, name in enumerate(CALTECH[classes]):
        for i in range(1, A_CLASS + 1):
            picture = f"image_{i:04d}.jpg" if classes == 101 else f"{name[:3]}_{i:04d}.jpg"
            place = f"{classes}_ObjectCategories/{name}/{picture}"
            files[place] = jpeg((40 + i, 30), seed=100 * at + i)
    if classes == 256:
        return "256_ObjectCategories.tar", tar(files)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("caltech-101/101_ObjectCategories.tar.gz", tar(files, "w:gz"))
        archive.writestr("caltech-101/Annotations.tar", tar({"Annotations/x.mat": b""}))
    return "caltech-101.zip", data.getvalue()


OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>3</xmin><ymin>{}</ymin>"
    "<xmax>30</xmax><ymax>28</ymax></bndbox></object>"
)
SIZE = "<size><width>40</width><height>30</height><depth>3</depth></size>"


def voc(year: str) -> tuple[str, bytes]:
    """As :func:`caltech`. Cats are in half of the pictures, in a fifth as difficult ones."""
    top = f"VOCdevkit/VOC{year}"
    files = {}
    for split, first in (("train", 1), ("val", 21)):
        names = [f"{i:06d}" for i in range(first, first + 20)]
        files[f"{top}/ImageSets/Main/{split}.txt"] = "\n".join([*names, ""]).encode()
        for i, name in enumerate(names):
            things = OBJECT.format("cat", int(i % 5 == 0), 2 + i % 9) if i % 2 else ""
            things += OBJECT.format("dog", 0, 5) if i % 3 else ""
            note = f"<annotation><filename>{name}.jpg</filename>{SIZE}{things}</annotation>"
            files[f"{top}/Annotations/{name}.xml"] = note.encode()
            files[f"{top}/JPEGImages/{name}.jpg"] = jpeg((40, 30), seed=first + i)
    months = {"2007": "06-Nov", "2012": "11-May"}
    return f"VOCtrainval_{months[year]}-{year}.tar", tar(files)


def read(path: Path) -> nbformat.NotebookNode:
    """A notebook."""
    return nbformat.read(path, 4)


def walk(
    notebook: Path, folder: Path, weights: Path | None = None
) -> tuple[subprocess.CompletedProcess, list[list]]:
    """Run a chapter with the shrunk profile as the book would (strict); the nets that it
    trained. ``weights``: a stand-in for the released file (tests/stand_in.py).
    """
    (name, digest), notes = imagenette(folder), folder / "trained.jsonl"
    shelf = dict([caltech(101), caltech(256), voc("2007"), voc("2012")])
    for file_name, content in shelf.items():
        (folder / file_name).write_bytes(content)
    copy = folder / notebook.name
    environment = clean() | {"HOME": str(folder), "NO_PROXY": "127.0.0.1"}  # downloads go below it
    with served(folder) as address:
        archives = {"320px": [f"{address}/{name}", digest]}
        sets = {k: [f"{address}/{k}", hashlib.md5(v).hexdigest()] for k, v in shelf.items()}
        source = FIRST.format(
            small=shrink(profiles.read("gpu")), archives=archives, sets=sets, notes=str(notes)
        )
        if weights:
            source += stand_in.FIRST.format(file=weights.name)
            environment[stand_in.released.FOLDER_VARIABLE] = str(weights.parent)
        nb = read(notebook)
        nb.cells.insert(0, nbformat.v4.new_code_cell(source, id="shrunk"))
        nbformat.write(nb, copy)
        command = papermill(copy, folder / "out.ipynb", "gpu", 300)
        how = {"env": environment, "cwd": ROOT, "stdin": lifeline()}
        r = subprocess.run(command, **how, capture_output=True, text=True, encoding="utf-8")
    lines = notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []
    return r, [json.loads(line) for line in lines]
