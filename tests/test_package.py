"""The package as pip builds it with the newest setuptools: what it holds, what it says of
itself.
"""

import configparser
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path

import pytest
from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that setuptools makes of the files that git knows, and what setuptools said."""
    folder = tmp_path_factory.mktemp("wheel")
    command = ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, listed):
        wanted = name.split("/")[0] in ("src", "results") or "/" not in name
        if wanted and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    script = "import setuptools.build_meta as b; print(b.build_wheel('dist'))"
    (folder / "dist").mkdir()
    command = [sys.executable, "-W", "default", "-c", script]
    r = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8")
    assert r.returncode == 0, r.stderr
    return next((folder / "dist").glob("*.whl")), r.stdout + r.stderr


def test_setuptools_has_nothing_to_object_to(wheel):
    _, log = wheel
    assert "Deprecat" not in log and "deprecat" not in log, log


def test_the_licence_is_an_expression_with_its_files(wheel):
    path, _ = wheel
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        about = archive.read(next(n for n in names if n.endswith("METADATA"))).decode()
    assert re.search(r"^License-Expression: MIT$", about, re.M)
    assert "Requires-Python: !=3.14.1,>=3.11" in about
    assert {Path(n).name for n in names if "/licenses/" in n} == {"LICENSE", "LICENSE-TEXT"}
    assert not [c for c in PROJECT["project"]["classifiers"] if c.startswith("License ::")]


def test_data_of_the_package_and_the_recorded_results_come_along(wheel):
    path, _ = wheel
    with zipfile.ZipFile(path) as archive:
        inside = {n for n in archive.namelist() if n.startswith("vggbook/")}
    source = ROOT / "src" / "vggbook"
    kinds = (".py", ".yaml", ".pt", ".typed")
    own = {p for p in source.rglob("*") if p.suffix in kinds and "__pycache__" not in p.parts}
    assert {f"vggbook/{p.relative_to(source).as_posix()}" for p in own} <= inside
    results = {p.relative_to(ROOT).as_posix() for p in (ROOT / "results").rglob("*.json")}
    assert {f"vggbook/{name}" for name in results} <= inside and results


def test_the_commands_exist(wheel):
    path, _ = wheel
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("entry_points.txt"))
        points = configparser.ConfigParser()
        points.read_string(archive.read(name).decode())
    assert set(points["console_scripts"]) == {"vggbook-train", "vggbook-evaluate"}
    for target in points["console_scripts"].values():
        module, function = target.split(":")
        command = getattr(import_module(module), function)
        # setuptools' script ends with sys.exit(command()): anything but None is exit status 1
        assert callable(command) and command.__annotations__["return"] in (None, "None")


def test_an_installed_package_finds_the_results_that_came_with_it(wheel, tmp_path):
    path, _ = wheel
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    script = "from vggbook.book.recorded import folder, load; print(folder(), len(load('bench-*')))"
    command = [sys.executable, "-c", script]
    env = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    r = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    folder, count = r.stdout.split()
    assert folder == str(tmp_path / "vggbook" / "results") and int(count) >= 1


PACKAGES = ("vggbook", "book", "data", "evaluate", "roofline", "train", "weights")


@pytest.mark.parametrize("name", PACKAGES)
def test_what_is_offered_is_there(name):
    module = import_module(name if name == "vggbook" else f"vggbook.{name}")
    assert len(set(module.__all__)) == len(module.__all__)
    for offered in module.__all__:
        assert getattr(module, offered) is not None, offered
    with pytest.raises(AttributeError, match="no_such_thing"):
        module.no_such_thing  # noqa: B018


def test_the_package_has_the_version_of_its_project():
    assert import_module("vggbook").__version__ == PROJECT["project"]["version"]


def test_torch_is_never_pinned():
    """A reader's torch, and Colab's, stays as it is: lower bounds only, and no index of its own."""
    for line in PROJECT["project"]["dependencies"]:
        assert re.fullmatch(r"[A-Za-z0-9-]+>=[\d.]+", line)


def test_the_rooms_that_contributing_names_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (part,) = re.findall(r"^Who reads the package.*?\n\n", text, re.S | re.M)
    rooms = re.findall(r"`([a-z/]+)`", part)
    assert len(set(rooms)) == len(rooms) > 20
    for room in rooms:
        assert (ROOT / "src" / "vggbook" / f"{room}.py").is_file(), room
