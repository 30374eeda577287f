"""Every chapter as Colab opens it: alone, in an empty folder, in an environment of Colab's packages
without this one.

A copy of the checkout gets an address and becomes a git repository that stands in for the one on
GitHub, so that each notebook's install cell installs it as Colab would: with build isolation, by
the newest setuptools. pip may fetch nothing else, and what was there must stay as it was. Minutes:
`pytest -m slow tests/test_colab.py`, and in .ci/run. The times are written to _build/colab.json.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT

from tools import address
from tools.stage import stage

pytestmark = pytest.mark.slow
REPO = "somebody/vggbook"
CONSTRAINTS = ROOT / "tests" / "colab" / "constraints.txt"
NOTEBOOKS = sorted(p.stem for p in (ROOT / "notebooks").glob("*.ipynb"))
# What Colab has and a kernel needs, beside what pyproject.toml asks for.
BESIDE = ["ipykernel", "ipython", "pip", "setuptools"]


def sh(*command, **options) -> str:
    r = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    assert r.returncode == 0, (
        f"{' '.join(map(str, command))[:200]}\n{(r.stdout + r.stderr)[-3000:]}"
    )
    return r.stdout


def python() -> str:
    """Colab's Python 3.13 where there is one, else 3.12 or this one; its packages need 3.11."""
    pyenv = sorted(Path.home().glob(".pyenv/versions/3.1[23]*/bin/python"), reverse=True)
    named = [found for name in ("python3.13", "python3.12") if (found := shutil.which(name))]
    script = "import ensurepip, sys; print(sys.version_info[:2])"
    versions = {}
    for candidate in (*named, *pyenv, sys.executable):
        r = subprocess.run([candidate, "-c", script], capture_output=True, text=True)
        versions.setdefault(r.stdout.strip(), str(candidate))
    found = [versions.get(f"(3, {minor})") for minor in (13, 12, 11)]
    if not any(found):
        pytest.skip("Colab has Python 3.13 and packages that need 3.11; here is neither")
    return next(filter(None, found))


def dependencies() -> list[str]:
    """Names of what the package asks for, from pyproject.toml."""
    block = re.search(
        r"^dependencies = \[(.*?)^\]",
        (ROOT / "pyproject.toml").read_text(encoding="utf-8"),
        re.S | re.M,
    )[1]
    return re.findall(r'"([A-Za-z0-9-]+)', block)


def site_packages(environment: Path) -> Path:
    return next((environment / "lib").glob("python3.*")) / "site-packages"


@pytest.fixture(scope="session")
def colab() -> Path:
    """An environment with Colab's versions; made once, and again whenever the constraints
    change.
    """
    interpreter = python()
    mark = hashlib.sha256(
        f"{CONSTRAINTS.read_text(encoding='utf-8')}{sh(interpreter, '-V')}{dependencies()}".encode()
    ).hexdigest()[:12]
    target = ROOT / "_build" / f"colab-{mark}"
    if not (target / "ready").exists():
        for old in (ROOT / "_build").glob("colab-*"):
            shutil.rmtree(old)
        sh(interpreter, "-m", "venv", target)
        uv = shutil.which("uv") or Path(sys.prefix, "bin", "uv")
        has_uv = (
            subprocess.run([str(uv), "--version"], capture_output=True).returncode == 0
            if Path(uv).exists()
            else False
        )
        install = [uv, "pip", "install", "--python"] if has_uv else []
        install = (
            [*install, target / "bin/python"]
            if install
            else [target / "bin/python", "-m", "pip", "install"]
        )
        sh(*install, *dependencies(), *BESIDE, "-c", CONSTRAINTS)
        download = ["-m", "pip", "download", "--no-deps", "--dest", target / "wheels"]
        sh(target / "bin/python", *download, "setuptools")  # what build isolation fetches
        (target / "ready").touch()
    return target


@pytest.fixture(scope="session")
def checkout(tmp_path_factory) -> Path:
    """The working tree as a repository of its own, with an address."""
    copy = tmp_path_factory.mktemp("github") / "vggbook"
    listed = sh(
        "git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"
    ).split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file() or (ROOT / name).is_symlink():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    address.write(REPO, copy)
    git = [
        "git",
        "-C",
        copy,
        "-c",
        "user.name=Test",
        "-c",
        "user.email=test@example.org",
        "-c",
        "init.defaultBranch=main",
    ]
    sh(*git, "init", "-q")
    sh(*git, "add", "-A")
    sh(*git, "commit", "-q", "-m", "A copy with an address")
    return copy


def alone(notebook: Path, folder: Path, colab: Path, checkout: Path) -> dict:
    """Run one notebook in a fresh environment that sees Colab's packages, and report."""
    fresh, work = folder / "environment", folder / "content"
    work.mkdir(parents=True)
    sh(colab / "bin/python", "-m", "venv", "--without-pip", fresh)
    own = site_packages(fresh)
    (own / "colab.pth").write_text(f"{site_packages(colab)}\n")
    spec = folder / "jupyter" / "kernels" / "colab"
    spec.mkdir(parents=True)
    argv = [str(fresh / "bin/python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "Colab", "language": "python"})
    )
    env = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("PIP_", "UV_", "PYTHON", "VIRTUAL_ENV"))
    } | {
        "JUPYTER_PATH": str(folder / "jupyter"),
        "OMP_NUM_THREADS": "1",
        "PIP_NO_INDEX": "1",  # nothing else is fetched: what is missing fails
        "PIP_FIND_LINKS": str(colab / "wheels"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{checkout}.insteadOf",
        "GIT_CONFIG_VALUE_0": f"https://github.com/{REPO}",
    }
    found = "u.find_spec('{}') is not None"
    visible = (
        f"import importlib.util as u; print({found.format('vggbook')}, {found.format('torch')})"
    )
    before = sh(fresh / "bin/python", "-c", visible, env=env, cwd=work).split()
    shutil.copy(notebook, work / notebook.name)
    command = [
        sys.executable,
        "-m",
        "papermill",
        notebook.name,
        "out.ipynb",
        "--kernel",
        "colab",
        "--no-progress-bar",
        "--no-request-save-on-cell-execute",
        "--execution-timeout",
        "600",
    ]
    start = time.perf_counter()
    r = subprocess.run(command, env=env, cwd=work, capture_output=True, text=True, timeout=1200)
    cells = nbformat.read(work / "out.ipynb", 4).cells if (work / "out.ipynb").exists() else []
    return {
        "before": before,
        "rc": r.returncode,
        "log": (r.stdout + r.stderr)[-3000:],
        "seconds": round(time.perf_counter() - start, 1),
        "installed": sorted(p.name.split("-")[0] for p in own.glob("*.dist-info")),
        "left": sorted(
            p.name for p in work.iterdir() if p.name not in (notebook.name, "out.ipynb")
        ),
        "last": max((c.get("execution_count") or 0 for c in cells), default=0),
        "cells": sum(c.cell_type == "code" for c in cells),
    }


def listing(environment: Path) -> list[str]:
    return sorted(
        f"{p.relative_to(environment)} {p.stat().st_size}"
        for p in environment.rglob("*")
        if p.suffix == ".py"
    )


@pytest.fixture(scope="session")
def runs(request, colab, checkout, tmp_path_factory) -> dict[str, dict]:
    """The notebooks whose tests are selected, two at a time; "untouched": whether Colab's packages
    stayed as they were.
    """
    folder, before = tmp_path_factory.mktemp("colab"), listing(colab)
    selected = [
        item.callspec.params.get("name")
        for item in request.session.items
        if hasattr(item, "callspec")
    ]
    with ThreadPoolExecutor(2) as pool:
        futures = {
            n: pool.submit(
                alone, checkout / "notebooks" / f"{n}.ipynb", folder / n, colab, checkout
            )
            for n in NOTEBOOKS
            if n in selected
        }
        done = {name: future.result() for name, future in futures.items()}
    table = {name: {"seconds": run["seconds"], "ok": run["rc"] == 0} for name, run in done.items()}
    times = ROOT / "_build" / "colab.json"
    known = json.loads(times.read_text()) if times.exists() else {}
    times.write_text(json.dumps({**known, **table}, indent=1, sort_keys=True) + "\n")
    return {**done, "untouched": before == listing(colab)}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs_alone_where_only_colab_s_packages_are(runs, name):
    run = runs[name]
    assert run["before"] == ["False", "True"], "the environment must have torch and lack vggbook"
    assert run["rc"] == 0, run["log"]
    assert run["installed"] == ["vggbook"], "the install cell may add this package and nothing else"
    assert run["last"] >= run["cells"] - 1, "not all cells ran"


def test_colab_s_own_packages_stay_as_they_are(runs):
    assert runs["untouched"]


def test_a_notebook_that_needs_more_would_fail(colab, checkout, tmp_path):
    """The canary: a package that Colab lacks is not to be had here."""
    nb = nbformat.read(checkout / "notebooks" / f"{NOTEBOOKS[0]}.ipynb", 4)
    nb.cells = [
        *[c for c in nb.cells if c.cell_type == "code"][:1],
        nbformat.v4.new_code_cell("import vggbook, jupytext"),
    ]
    nbformat.write(nb, tmp_path / "canary.ipynb")
    run = alone(tmp_path / "canary.ipynb", tmp_path / "run", colab, checkout)
    assert run["rc"] != 0 and "No module named 'jupytext'" in run["log"]
    assert run["installed"] == ["vggbook"]


def test_versions_are_those_of_the_list(colab):
    wanted = dict(re.findall(r"^([\w.-]+)==(\S+)$", CONSTRAINTS.read_text(encoding="utf-8"), re.M))
    pairs = "{d.name: d.version for d in m.distributions()}"
    script = f"import importlib.metadata as m, json; print(json.dumps({pairs}))"

    def key(name):
        return re.sub(r"[._-]+", "-", name).lower()

    have = {
        key(n): v.split("+")[0]
        for n, v in json.loads(sh(colab / "bin/python", "-c", script)).items()
    }
    assert {name: have[key(name)] for name in wanted if key(name) in have} == {
        n: v for n, v in wanted.items() if key(n) in have
    }
    assert {key(n) for n in (*dependencies(), *BESIDE)} <= {key(n) for n in wanted}


@pytest.fixture(scope="session")
def pages(checkout) -> Path:
    """The copy's pages, from notebooks without outputs: enough to read the links on them."""
    out = checkout / "_build"
    stage(checkout, out / "site-source", out / "executed", draft=True)
    main = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"
    env = {**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(checkout)}
    sh(
        sys.executable,
        "-c",
        main,
        "build",
        out / "site-source",
        "--path-output",
        checkout,
        "-q",
        env=env,
        cwd=checkout,
    )
    return out / "html"


def test_badges_and_repository_links_lead_to_files(pages, checkout):
    from bs4 import BeautifulSoup

    seen = set()
    for path in pages.rglob("*.html"):
        for a in BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser").select("a[href]"):
            m = re.fullmatch(
                rf"https://(?:colab\.research\.google\.com/github|github\.com)/{REPO}/(?:blob|edit|tree|raw)/main/([^?#]+)\S*",
                a["href"],
            )
            if m:
                assert (checkout / m[1]).exists(), (
                    f"{path.name} links to {a['href']}, and there is no such file"
                )
                seen.add(a["href"])
            assert "colab.research" not in a["href"] or m, (
                f"{path.name}: a link to Colab that names no file: {a['href']}"
            )
    badges = {href for href in seen if "colab.research" in href}
    assert badges == {
        f"https://colab.research.google.com/github/{REPO}/blob/main/notebooks/{p.name}"
        for p in (checkout / "notebooks").glob("*.ipynb")
    }
