"""The first run on a reader's machine: his environment stays outside, and what breaks is named with
what to do.

Each test does what a reader did, in a small copy of the book, and looks at what came out.
"""

import ast
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import psutil
import pytest
from conftest import ROOT
from test_tools_canaries import book, project, run, write_notebook  # noqa: F401  fixtures

from tools import environment, execute, failure, files
from vggbook.book import provenance

SMALL = "notebooks/99_small.ipynb"


def again(folder, *arguments, **changes):
    """Execute the small book in an environment with changes; return code and what was said."""
    env = {**os.environ, "PYTHONPATH": f"{folder}:{folder}/src", **changes}
    command = [sys.executable, "-m", "tools.execute", "--profile", "cpu", *arguments]
    r = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, encoding="utf-8"
    )
    return r.returncode, r.stdout + r.stderr


def outputs(folder):
    nb = nbformat.read(folder / "_build/executed" / SMALL, 4)
    return [o for c in nb.cells if c.cell_type == "code" for o in c.outputs]


def said(log):
    """The failure's message: at most ten lines, from its name to the last word."""
    text = log[log.index("99_small failed") : log.index("The book was not built.")].strip()
    assert len(text.splitlines()) <= 10
    assert "  reason   " in text and "  to do    " in text
    return text


# The reader's environment


PROBE = """
import locale, os, sys
import matplotlib
import vggbook

print("backend", matplotlib.get_backend())
print("linewidth", matplotlib.rcParams["lines.linewidth"])
print("encoding", locale.getpreferredencoding(False), "ä".encode("utf-8") == "ä".encode())
print("optimised", sys.flags.optimize, "user site", bool(sys.flags.no_user_site))
print("mine", "READER" in globals(), sorted(k for k in os.environ if k.startswith("READER")))
print("kernel", sys.executable)
print("package", os.path.realpath(vggbook.__file__))
""".strip()


def test_nothing_of_the_reader_s_settings_reaches_a_kernel(book, tmp_path):  # noqa: F811
    """matplotlib's backend and rc file, IPython's start-up files, kernels of other installations,
    Python's switches, the locale.
    """
    home = tmp_path / "home"
    rc = home / ".config/matplotlib/matplotlibrc"
    startup = home / ".ipython/profile_default/startup/00.py"
    kernel = home / "share/kernels/python3/kernel.json"
    for path in (rc, startup, kernel):
        path.parent.mkdir(parents=True)
    rc.write_text("lines.linewidth: 9\n", encoding="utf-8")
    startup.write_text("READER = 1\n", encoding="utf-8")
    broken = {"argv": ["/bin/false"], "display_name": "other", "language": "python"}
    kernel.write_text(json.dumps(broken), encoding="utf-8")
    write_notebook(book, extra=[PROBE])
    rc_code, log = again(
        book,
        HOME=str(home),
        MPLBACKEND="agg",
        MATPLOTLIBRC=str(rc),
        IPYTHONDIR=str(home / ".ipython"),
        JUPYTER_PATH=str(home / "share"),
        JUPYTER_DATA_DIR=str(home / "share"),
        JUPYTER_PREFER_ENV_PATH="0",
        LC_ALL="en_US.ISO-8859-1",
        PYTHONOPTIMIZE="1",
        PYTHONWARNINGS="error",
        READER_SETTING="1",
    )
    assert rc_code == 0, log
    text = "".join(o.text for o in outputs(book) if o.output_type == "stream")
    assert "inline" in text.split("backend ")[1].splitlines()[0]
    assert "linewidth 1.5\n" in text
    assert "encoding utf-8 True" in text.replace("UTF-8", "utf-8")
    assert "optimised 0 user site True" in text and "mine False []" in text
    assert f"kernel {sys.executable}\n" in text
    assert f"package {ROOT / 'src/vggbook/__init__.py'}\n" in text
    assert any("image/png" in o.get("data", {}) for o in outputs(book)), "the figure has a picture"


def test_the_style_starts_from_matplotlib_s_defaults():
    """A reader who runs a chapter himself has his rc file loaded before the chapter begins."""
    import matplotlib as mpl

    from vggbook.book.figures import use_style

    with mpl.rc_context():
        use_style()
        alone = dict(mpl.rcParams)
    with mpl.rc_context(
        {"lines.linewidth": 9, "axes.grid.which": "both", "font.family": "cursive"}
    ):
        use_style()
        assert dict(mpl.rcParams) == alone
        assert mpl.rcParams["lines.linewidth"] == mpl.rcParamsDefault["lines.linewidth"]


def test_what_is_needed_still_reaches_a_kernel(tmp_path):
    given = {
        "PATH": "/bin",
        "HOME": "/h",
        "CUDA_VISIBLE_DEVICES": "1",
        "https_proxy": "p",
        "X": "x",
    }
    found = environment.clean(3, given, tmp_path, ROOT)
    assert {k: found[k] for k in given if k != "X"} == {k: v for k, v in given.items() if k != "X"}
    assert "X" not in found and found["OMP_NUM_THREADS"] == "3"
    spec = json.loads((tmp_path / "jupyter/data/kernels/python3/kernel.json").read_text("utf-8"))
    assert spec["argv"][0] == sys.executable


def test_a_figure_cell_without_a_picture_stops_the_build(book):  # noqa: F811
    nb = nbformat.read(book / SMALL, 4)
    nb.cells[-1].source = "figure = None"
    nbformat.write(nb, book / SMALL)
    code, log = again(book)
    assert code == 1 and "the cell of the figure fig-rise shows no picture" in said(log)


# Git


def git(folder, *words):
    who = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
    r = subprocess.run(["git", "-C", folder, *who, *words], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    return r.stdout.strip()


def test_only_the_book_s_own_repository_is_its_provenance(tmp_path, monkeypatch):
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "book"
    inner.mkdir(parents=True)
    (inner / "a").write_text("1", encoding="utf-8")
    assert provenance.commit(inner) == "", "no repository"
    git(outer, "init", "-q")
    git(outer, "add", "-A")
    git(outer, "commit", "-q", "-m", "another's")
    assert provenance.commit(inner) == "", "another's repository"
    assert provenance.commit(outer) == git(outer, "rev-parse", "--short=7", "HEAD")
    (inner / "a").write_text("2", encoding="utf-8")
    assert provenance.commit(outer).endswith("+")
    monkeypatch.setenv("GIT_DIR", str(outer / ".git"))
    assert provenance.commit(inner) == "", "a variable of the reader's names another's"


def test_without_git_there_is_no_commit_and_one_line_says_so(monkeypatch, tmp_path, book):  # noqa: F811
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.commit(ROOT) == ""
    assert provenance.device().endswith(("core", "cores"))
    monkeypatch.undo()
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("env", "sh", "uname"):
        (tools / name).symlink_to(shutil.which(name))
    env = {**os.environ, "PYTHONPATH": f"{book}:{book}/src", "PATH": str(tools)}
    command = [sys.executable, "-m", "tools.build", "--only", "99", "--profile", "cpu"]
    r = subprocess.run(command, cwd=book, env=env, capture_output=True, text=True, encoding="utf-8")
    assert r.returncode == 0, r.stdout + r.stderr
    assert r.stdout.count("the pages name no commit") == 1


# Files


def names_no_encoding(tree):
    """Lines of calls that read or write text without naming its encoding."""
    for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        given = {k.arg for k in call.keywords}
        modes = [*call.args[1:2], *(k.value for k in call.keywords if k.arg == "mode")]
        mode = "".join(str(m.value) for m in modes if isinstance(m, ast.Constant))
        text = name in ("read_text", "write_text") or (
            isinstance(call.func, ast.Name) and name == "open" and "b" not in mode
        )
        positional = len(call.args) > (1 if name == "write_text" else 0)
        if text and "encoding" not in given and not (name.endswith("_text") and positional):
            yield call.lineno
        streams = given & {"text", "universal_newlines"} and name in (
            "run",
            "Popen",
            "check_output",
        )
        if streams and "encoding" not in given:
            yield call.lineno


FOLDERS = ("src", "tools", "benchmarks", "experiments")
SOURCES = [p for folder in FOLDERS for p in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_utf_8_is_named_wherever_text_is_read_or_written(path):
    lines = list(names_no_encoding(ast.parse(path.read_text(encoding="utf-8"))))
    assert lines == [], f"{path.name}: name encoding='utf-8' in the lines {lines}"


def test_the_finder_finds():
    found = "open(p)\nopen(p, 'rb')\np.read_text()\np.write_text('x')\nrun(c, text=True)"
    assert list(names_no_encoding(ast.parse(found))) == [1, 3, 4, 5] or set(
        names_no_encoding(ast.parse(found))
    ) == {1, 3, 4, 5}
    right = "open(p, encoding='utf-8')\np.read_text('utf-8')\np.write_text('x', encoding='utf-8')"
    assert list(names_no_encoding(ast.parse(right))) == []


@pytest.mark.parametrize("what", ["record", "output", "both"])
def test_what_a_crash_cut_is_made_again(book, what):  # noqa: F811
    code, log = again(book)
    assert code == 0, log
    cut = {"record": "runs/99_small.json", "output": SMALL}
    for kind, name in cut.items():
        if what in (kind, "both"):
            path = book / "_build/executed" / name
            path.write_bytes(path.read_bytes()[: 40 * (kind == "output")])
    code, log = again(book)
    assert code == 0 and "executed now: 1" in log
    code, log = again(book)
    assert code == 0 and "executed now: 0" in log


def test_a_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_json(path, {"ä": 1})
    assert files.read_json(path) == {"ä": 1} and [p.name for p in tmp_path.iterdir()] == ["a.json"]

    def full(self, *arguments, **options):
        with open(self, "wb") as file:
            file.write(b"{")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_json(path, {"b": 2})
    monkeypatch.undo()
    assert files.read_json(path) == {"ä": 1} and [p.name for p in tmp_path.iterdir()] == ["a.json"]
    path.write_text("{", encoding="utf-8")
    assert files.read_json(path) is None and files.read_json(tmp_path / "none") is None


def test_a_file_that_many_write_at_once_is_whole(tmp_path):
    """Builds and tests that run side by side describe the same kernel in the same file."""
    path = tmp_path / "a.json"
    files.write_json(path, 0)

    def write(number):
        files.write_json(path, [number] * 1000)
        return files.read_json(path)

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(write, range(200)))
    assert all(isinstance(found, list) and len(set(found)) == 1 for found in seen)
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_line_ends_survive_a_clone_that_converts_them(tmp_path):
    here = tmp_path / "here"
    (here / "tools").mkdir(parents=True)
    for name in (".gitattributes", "tools/setup.sh", ".gitignore"):
        shutil.copy(ROOT / name, here / name)
    git(here, "init", "-q")
    git(here, "add", "-A")
    git(here, "commit", "-q", "-m", "a")
    git(tmp_path, "-c", "core.autocrlf=true", "clone", "-q", str(here), str(tmp_path / "there"))
    for name in ("tools/setup.sh", ".gitignore"):
        assert (tmp_path / "there" / name).read_bytes() == (ROOT / name).read_bytes()


def test_no_link_lies_in_the_package():
    """Git for Windows turns a link into a file that holds its target."""
    assert [p for p in (ROOT / "src").rglob("*") if p.is_symlink()] == []


# Signals


def executing(folder):
    """A build that executes, and it with all processes below it, once a kernel runs."""
    env = {**os.environ, "PYTHONPATH": f"{folder}:{folder}/src"}
    command = [sys.executable, "-m", "tools.execute", "--profile", "cpu", "--jobs", "1"]
    build = subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=-2, text=True
    )
    until = time.monotonic() + 90
    while time.monotonic() < until:
        family = psutil.Process(build.pid).children(recursive=True)
        if any("ipykernel_launcher" in p.cmdline() for p in family if p.is_running()):
            return build, family
        time.sleep(0.2)
    build.kill()
    pytest.fail("no kernel has started")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_papermill_and_its_kernel_end_with_the_build(book, number):  # noqa: F811
    write_notebook(book, extra=[f"import time  # {number}\n\ntime.sleep(300)"])
    build, family = executing(book)
    build.send_signal(number)
    log, _ = build.communicate(timeout=60)
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == [] and build.returncode == 130, log
    assert "what was executed is kept" in log


BUSY = """
import time

until = time.monotonic() + 300
while time.monotonic() < until:
    sum(range(1000))
"""


def test_a_killed_build_leaves_no_kernel_and_the_next_goes_on(book):  # noqa: F811
    """SIGKILL cannot be caught; the kernel computes and would not look up by itself."""
    write_notebook(book, extra=["1  # as long as the file beside it runs"])
    code, log = again(book)
    assert code == 0, log
    done, busy = book / SMALL, book / "notebooks/98_busy.ipynb"
    before = done.read_bytes()
    write_notebook(book, extra=[BUSY.strip()])
    done.replace(busy)
    done.write_bytes(before)
    try:
        build, family = executing(book)
        time.sleep(random.Random(7).uniform(0, 3))
        build.kill()
        log, _ = build.communicate(timeout=60)
        _, alive = psutil.wait_procs(family, timeout=20)
        assert alive == [] and build.returncode == -signal.SIGKILL, log
        write_notebook(book, extra=["2"])
        done.replace(busy)
        done.write_bytes(before)
        code, log = again(book)
        assert code == 0 and "executed now: 1" in log, log
        assert "98_busy done" in log and "99_small.ipynb" in log and "unchanged since" in log
        code, log = again(book)
        assert code == 0 and "executed now: 0" in log
    finally:
        busy.unlink(missing_ok=True)


# What breaks, and what is said


def test_the_build_tells_of_each_notebook_as_it_starts_and_ends(book):  # noqa: F811
    write_notebook(book, extra=["1"])
    code, log = again(book)
    assert code == 0
    start, end = (line for line in log.splitlines() if " s  99_small" in line)
    assert start.endswith("99_small ...") and "99_small done in" in end and "(1 of 1)" in end


def test_a_notebook_cut_in_half_is_named(book):  # noqa: F811
    whole = (book / SMALL).read_bytes()
    for text in (whole[: len(whole) // 2], b"", b"[]", b"\xff\xfe"):
        (book / SMALL).write_bytes(text)
        code, log = again(book)
        assert code == 1 and "git checkout notebooks/99_small.ipynb" in said(log)


def test_a_dead_kernel_is_named(book):  # noqa: F811
    write_notebook(book, extra=["import os, signal\n\nos.kill(os.getpid(), signal.SIGKILL)"])
    code, log = again(book)
    assert code == 1 and "memory" in said(log)


def test_a_missed_band_stops_the_book(book):  # noqa: F811
    source = (
        "from vggbook.book import bands, profiles\n\n"
        'settings = profiles.load(profile, chapter="06", strict=strict)\n'
        'bands.expect(False, "a net did not learn", settings)'
    )
    write_notebook(book, extra=[source])
    code, log = again(book)
    assert code == 1 and "BandMissed: a net did not learn" in said(log)
    assert "failed in cell 4" in log


def test_a_long_message_stays_short(book):  # noqa: F811
    write_notebook(book, extra=["raise RuntimeError('much ' * 2000)"])
    code, log = again(book)
    assert code == 1 and max(map(len, said(log).splitlines())) <= failure.WIDTH + 20


@pytest.mark.parametrize(
    "log, reason",
    [
        ("OSError: [Errno 28] No space left on device", "no space is left on the disk"),
        ("nbclient.exceptions.DeadKernelError: Kernel died", "the notebook's process died"),
        ("", "papermill said nothing"),
        ("x\nValueError: y\n\n", "ValueError: y"),
    ],
)
def test_reasons_from_papermill_s_log(log, reason):
    found, advice = failure.reason_of(log, 600)
    assert found.startswith(reason) and advice


FULL_DISK = """
import resource, runpy, signal, sys

resource.setrlimit(resource.RLIMIT_FSIZE, (99_000, 99_000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sys.argv = ["execute", "--profile", "cpu"]
runpy.run_module("tools.execute", run_name="__main__")
"""


def test_a_full_disk_while_executing(book):  # noqa: F811
    """A limit on the size of files stops the writing in its middle, as a full disk does."""
    write_notebook(book, extra=["print('x' * 300_000)"])
    env = {**os.environ, "PYTHONPATH": f"{book}:{book}/src"}
    command = [sys.executable, "-c", FULL_DISK]
    r = subprocess.run(command, cwd=book, env=env, capture_output=True, text=True, encoding="utf-8")
    log = r.stdout + r.stderr
    assert r.returncode == 1 and "File too large" in said(log)
    again_code, log = again(book)
    assert again_code == 0, log


def test_a_build_folder_that_cannot_be_written(book):  # noqa: F811
    """A file stands where the folder should be: that holds for root as well, whom permissions do
    not stop.
    """
    kept = book / "_build.kept"
    (book / "_build").rename(kept)
    try:
        (book / "_build").write_text("", encoding="utf-8")
        code, log = run(book, "build", "--profile", "cpu")
    finally:
        (book / "_build").unlink()
        kept.rename(book / "_build")
    assert code == 1 and "a file could not be written" in log and "_build" in log
    assert "Traceback" not in log and "The book was not built." in log


def test_the_record_s_parts_are_read_in_one_place():
    """Pages and benchmarks tell of the same machine in the same words."""
    assert execute.device is provenance.device
    assert set(execute.versions()) == {"python", *execute.VERSIONED}
    assert execute.versions()["torch"] == __import__("torch").__version__.split("+")[0]
    assert provenance.version("no-such-package") == "absent"
    assert provenance.cores() == len(os.sched_getaffinity(0))
