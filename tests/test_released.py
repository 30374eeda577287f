"""Released weights: found where they lie, fetched from a local server, or refused cleanly."""

import hashlib
import http.client
import http.server
import re
import shutil
import threading
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import stand_in
import torch
import torchvision
from conftest import ROOT
from torchvision.models import VGG11_Weights, list_models

from tools import execute, weights
from tools.failure import NotebookFailed
from tools.notebook import METADATA, pick
from vggbook import build, released
from vggbook.book import trained
from vggbook.released import FetchError, fetch_weights, find_weights, weights_url
from vggbook.weights import load_weights


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """A file of torchvision's form, zip archive and names of layers, with random numbers."""
    path = tmp_path_factory.mktemp("made") / "vgg11.pth"
    torch.manual_seed(0)
    torch.save(build("A", 5, width=1 / 16, image_size=32).state_dict(), path)
    return path.read_bytes()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.content`; `server.breaks`: bytes after which each connection ends.
    `server.length`: a size that is not the content's; "" for none.
    """

    def do_GET(self):
        server = self.server
        server.asked.append(self.headers.get("Range"))
        whole = server.content
        start = 0
        if server.ranges and (wanted := self.headers.get("Range")):
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
        self.send_response(server.status if not start else 206)
        if server.length != "":
            self.send_header("Content-Length", str(server.length or len(whole) - start))
        self.end_headers()
        stop = start + server.breaks.pop(0) if server.breaks else len(whole)
        self.wfile.write(whole[start:stop])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(content, tmp_path, monkeypatch):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.content, found.status, found.length = content, 200, None
        found.ranges, found.breaks, found.asked = True, [], []
        digits = hashlib.sha256(content).hexdigest()[:8]
        address = f"http://127.0.0.1:{found.server_port}/vgg11-{digits}.pth"
        monkeypatch.setattr(released, "weights_url", lambda name: address)
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
        monkeypatch.delenv("VGGBOOK_WEIGHTS", raising=False)
        found.file = tmp_path / "cache" / "hub" / "checkpoints" / f"vgg11-{digits}.pth"
        threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True).start()
        yield found
        found.shutdown()


def left_behind(server):
    folder = server.file.parent
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def refused(server, words):
    with pytest.raises(FetchError) as caught:
        fetch_weights("vgg11", progress=False)
    assert re.search(words, str(caught.value)) and "\n" not in str(caught.value)
    assert left_behind(server) == []


def test_addresses_and_names_are_torchvisions():
    assert weights_url("vgg11") == VGG11_Weights.IMAGENET1K_V1.url
    assert set(released.NAMES) == {name for name in list_models() if name.startswith("vgg")}
    with pytest.raises(ValueError, match="name='vgg12': expected one of 'vgg11', 'vgg11_bn'"):
        weights_url("vgg12")


def test_fetched_once_then_found(server, content, capsys):
    assert find_weights("vgg11") is None
    assert fetch_weights("vgg11") == server.file and server.file.read_bytes() == content
    assert "vgg11" in capsys.readouterr().err  # the progress bar
    assert left_behind(server) == [server.file.name]
    assert find_weights("vgg11") == server.file == fetch_weights("vgg11")
    assert server.asked == [None]


def test_progress_can_be_silent(server, capsys):
    fetch_weights("vgg11", progress=False)
    assert capsys.readouterr().err == ""


def test_load_weights_fetches_by_name(server, content, tmp_path):
    (tmp_path / "same.pth").write_bytes(content)
    loaded = load_weights("vgg11", image_size=32)
    same = load_weights(tmp_path / "same.pth", family="torchvision", image_size=32)
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(loaded(x), same(x)) and loaded.preprocessing.name == "torchvision"


def test_the_readers_folder_comes_first(server, content, tmp_path, monkeypatch):
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    monkeypatch.setenv("VGGBOOK_WEIGHTS", str(chosen))
    assert fetch_weights("vgg11", progress=False).parent == chosen
    fetch = server.file
    fetch.parent.mkdir(parents=True)
    fetch.write_bytes(content)
    assert find_weights("vgg11").parent == chosen
    (chosen / fetch.name).unlink()
    assert find_weights("vgg11") == fetch
    monkeypatch.setenv("VGGBOOK_WEIGHTS", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"VGGBOOK_WEIGHTS=.*nowhere.: expected a folder"):
        find_weights("vgg11")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_connection_is_resumed(server, content, ranges):
    server.breaks, server.ranges = [1000, 2000], ranges
    assert fetch_weights("vgg11", progress=False).read_bytes() == content
    assert server.asked == [None, "bytes=1000-", f"bytes={3000 if ranges else 2000}-"]


def test_a_connection_that_breaks_again_and_again(server):
    server.breaks = [1000] * 9
    refused(server, r"broke off after 4,000 of [\d,]+ bytes")


def test_a_wrong_checksum(server, content):
    server.content = content[:-1] + b"?"
    refused(server, "SHA-256 is [0-9a-f]{64}, expected [0-9a-f]{8}: not kept")


def test_a_page_in_place_of_the_file(server):
    page = b"<!DOCTYPE html><title>Sign in</title>"
    for content in (page, b'{"error": "no such file", "code": 404}'):
        server.content = b"\n" + content
        shown = re.escape(repr(content[:30]))
        refused(server, f"answers with a page, no weights: it starts with {shown}$")


def test_an_error_of_the_server(server):
    server.status = 404
    refused(server, "answers 404 Not Found")


def test_no_network(server, monkeypatch):
    address = "http://127.0.0.1:9/vgg11-00000000.pth"  # nobody listens there
    monkeypatch.setattr(released, "weights_url", lambda name: address)
    refused(server, r"does not answer \(Connection refused\)")


def test_no_space(server, monkeypatch):
    server.length = 10**17
    refused(server, "no space in .*: 100,000,000,000 MB needed")


def test_the_disk_fills_while_it_is_written(server, monkeypatch):
    def full(block, *_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(released, "_refuse_pages", full)
    refused(server, r"cannot write to .* \(No space left on device\); name another folder")


def test_a_folder_that_cannot_be_written(server, monkeypatch):
    real = Path.mkdir

    def mkdir(self, *args, **options):
        if self == server.file.parent:
            raise OSError(30, "Read-only file system")
        return real(self, *args, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    refused(server, r"cannot write to .* \(Read-only file system\).*VGGBOOK_WEIGHTS")


@pytest.fixture
def opened(monkeypatch):
    """``opened(*errors)``: what each next request meets, None where it is let through. It returns
    the requests and how long they wait.
    """
    real = urllib.request.urlopen
    asked = []

    def plan(*errors):
        left = list(errors)

        def urlopen(request, timeout):
            asked.append((request, timeout))
            error = left.pop(0) if left else None
            if error is not None:
                raise error
            return real(request, timeout=timeout)

        monkeypatch.setattr(urllib.request, "urlopen", urlopen)
        return asked

    return plan


GONE = urllib.error.URLError(ConnectionRefusedError(111, "Connection refused"))


def test_a_server_that_is_away_for_a_while(server, content, opened):
    server.breaks = [1000]
    asked = opened(None, GONE, GONE)
    assert fetch_weights("vgg11", progress=False).read_bytes() == content
    assert server.asked == [None, "bytes=1000-"] and len(asked) == 4
    for request, patience in asked:
        assert request.get_header("User-agent") == "vggbook" and 0 < patience <= 60


def test_a_server_that_does_not_come_back(server, opened):
    server.breaks = [1000]
    asked = opened(None, GONE, GONE, GONE)
    refused(server, r"does not answer \(Connection refused\)$")
    assert len(asked) == 4


@pytest.mark.parametrize(
    "error, reason",
    [
        (http.client.BadStatusLine("garbage"), "garbage"),
        (TimeoutError(), "TimeoutError"),
        (OSError(113, "No route to host"), "No route to host"),
    ],
)
def test_why_there_is_no_answer(server, opened, error, reason):
    opened(error)
    refused(server, rf"^vgg11: http.* does not answer \({reason}\)$")


def test_a_file_that_became_shorter_meanwhile(server, content, monkeypatch):
    """The server cannot resume: it sends all of the new file, and nothing of the old is kept."""
    server.ranges, server.breaks = False, [len(content) + 500]
    server.content = content + b"?" * 1000
    needs_space = released._needs_space

    def replaced(*given):
        needs_space(*given)
        if len(server.asked) == 1:
            server.length = None
        server.content = content

    monkeypatch.setattr(released, "_needs_space", replaced)
    assert fetch_weights("vgg11", progress=False).read_bytes() == content


@pytest.mark.parametrize("error", [http.client.IncompleteRead, ConnectionResetError])
def test_a_connection_that_ends_within_a_block(server, content, monkeypatch, error):
    """What came of the block is kept where it is handed over, and asked for again where not."""
    real = http.client.HTTPResponse.read
    server.breaks = [3000]

    def read(self, amount=None):
        block = real(self, amount)
        if len(server.asked) == 1 and block:
            raise error(block)
        return block

    monkeypatch.setattr(http.client.HTTPResponse, "read", read)
    assert fetch_weights("vgg11", progress=False).read_bytes() == content
    kept = error is http.client.IncompleteRead
    assert server.asked == [None, "bytes=3000-" if kept else None]


def test_a_server_that_does_not_tell_the_size(server, content):
    server.length = ""
    assert fetch_weights("vgg11", progress=False).read_bytes() == content
    server.file.unlink()
    server.content = b""
    refused(server, "SHA-256 is [0-9a-f]{64}, expected [0-9a-f]{8}: not kept")
    assert server.asked == [None, None]


def test_space_for_what_is_still_to_come(server, content, monkeypatch):
    """Enough to the byte; a part that is there already needs none."""
    free = [len(content), len(content) - 1000]
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free.pop(0)))
    server.breaks = [1000]
    assert fetch_weights("vgg11", progress=False).read_bytes() == content and free == []
    server.file.unlink()
    free.append(len(content) - 1)
    refused(server, "no space in .* MB needed, .* MB free")


@pytest.mark.parametrize("ranges", [True, False])
def test_the_progress_bar_counts_bytes_of_the_whole_file(server, content, capsys, ranges):
    server.breaks, server.ranges = [len(content) // 3], ranges
    fetch_weights("vgg11")
    last = capsys.readouterr().err.split("\r")[-1]
    size = len(content) / 1000
    assert 10 < size < 1000 and last.startswith("vgg11: 100%")
    done = f"{size:.1f}k" if size < 99.95 else f"{size:.0f}k"
    assert f"{done}/{done} [" in last and last.rstrip().endswith("B/s]")


def test_a_folder_that_is_there_already_is_used(server, content):
    server.file.parent.mkdir(parents=True)
    assert fetch_weights("vgg11", progress=False).read_bytes() == content


def test_an_empty_variable_names_no_folder(server, monkeypatch):
    monkeypatch.setenv("VGGBOOK_WEIGHTS", "")
    assert find_weights("vgg11") is None
    assert fetch_weights("vgg11", progress=False) == server.file


# make book WEIGHTS=...


def test_the_build_fetches_where_it_is_told_to(server):
    said = []
    assert weights.chosen("miniature", "gpu", said.append) is None
    assert weights.chosen("auto", "cpu", said.append) is None
    assert server.asked == [] == said
    assert weights.chosen("download", "cpu", said.append) == server.file
    assert said == ["fetching the released VGG-16: 528 MB, once"] and server.asked == [None]
    assert weights.chosen("auto", "cpu", said.append) == server.file  # found, not asked for
    assert weights.chosen("miniature", "cpu", said.append) is None
    assert server.asked == [None] and weights.WEIGHTS == trained.CHOICES
    with pytest.raises(ValueError, match=r"weights='best': expected one of 'auto', 'download'"):
        weights.chosen("best", "cpu")


def test_a_graphics_card_fetches_by_itself_and_can_do_without(server):
    server.status, said = 503, []
    assert weights.chosen("auto", "gpu", said.append) is None
    assert said[1].endswith("answers 503 Service Unavailable; the miniatures stand in")
    server.status = 200
    assert weights.chosen("auto", "gpu", said.append) == server.file


def refused_build(*lines):
    with pytest.raises(NotebookFailed) as caught:
        weights.chosen("download", "cpu", lambda text: None)
    text = str(caught.value)
    assert all(re.search(line, text) for line in lines) and len(text.splitlines()) <= 10
    assert "make book WEIGHTS=miniature" in text


def test_a_refusal_says_what_to_do(server, tmp_path, monkeypatch):
    server.status = 404
    refused_build("reason .* answers 404 Not Found", "to do .*run the same command again")
    server.file.parent.mkdir(parents=True, exist_ok=True)
    server.file.write_bytes(b"PK damaged")
    refused_build("SHA-256 is .* the file is damaged", f"to do +delete {server.file}")
    monkeypatch.setenv("VGGBOOK_WEIGHTS", str(tmp_path / "nowhere"))
    refused_build("expected a folder", "to do +make that folder")


def test_the_choice_reaches_the_notebook_and_its_stamp(server, content, tmp_path, monkeypatch):
    """A small notebook, executed for each choice of weights and not again for the same."""
    for name in ("notebooks", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(execute, "EXECUTED", tmp_path / "executed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VGGBOOK_WEIGHTS", "here")  # relative to where make was called
    (tmp_path / "here" / server.file.name).write_bytes(content)
    lines = 'profile = "auto"\nstrict = False\nweights = "auto"'
    cell = nbformat.v4.new_code_cell(lines, metadata={"tags": ["parameters"]})
    show = nbformat.v4.new_code_cell("import os\nprint(weights, os.environ['VGGBOOK_WEIGHTS'])")
    notebook = tmp_path / "notebooks" / "01_small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell, show], metadata=METADATA), notebook)
    for choice, switch, shown, runs in (
        ("download", "auto", server.file.name, 1),
        ("auto", "auto", server.file.name, 0),
        ("miniature", "miniature", "miniature", 1),
    ):
        said = []
        (record,) = execute.execute([notebook], "cpu", say=said.append, weights=choice)
        assert record["weights"] == shown and f"executed now: {runs}" in said[-1]
        nb = nbformat.read(tmp_path / "executed" / "notebooks" / notebook.name, 4)
        assert nb.cells[-1].outputs[0].text == f"{switch} {tmp_path / 'here'}\n"
    assert server.asked == []


# Chapters with a stand-in


@pytest.mark.parametrize("zipped", [False, True])
def test_the_stand_in_has_torchvisions_form(tmp_path, zipped):
    file = stand_in.write(tmp_path, zipped=zipped)
    assert zipfile.is_zipfile(file) == zipped and released.FILE_NAME.match(file.name)
    state = torch.load(file, weights_only=True)
    with torch.device("meta"):
        theirs = torchvision.models.vgg16(weights=None).state_dict()
    assert list(state) == list(theirs)
    for (name, mine), whole in zip(state.items(), theirs.values()):
        assert mine.dtype == whole.dtype and mine.ndim == whole.ndim, name
    net = load_weights(file)
    assert net.preprocessing.name == "torchvision" and net.class_names[985] == "daisy"


@pytest.mark.slow
@pytest.mark.parametrize(
    "chapter, says",
    [
        ("01", [r"released VGG-16: 224 × 224 pixels, 1000 classes", r"dahlia \(released VGG-16\)"]),
        ("06", [r"released VGG-16: window of 224 pixels, 1000 classes", "china.jpg, released"]),
        ("07", [r"released VGG-16, Q = 256", "dahlia +centre crop", "palace +both"]),
    ],
)
def test_chapters_run_through_with_released_weights(chapter, says, tmp_path):
    file = stand_in.write(tmp_path)
    r, output = stand_in.walk(pick(ROOT / "notebooks", chapter, ".ipynb"), file, tmp_path)
    assert r.returncode == 0, (r.stdout + r.stderr)[-2500:]
    text = stand_in.printed(output)
    assert all(re.search(line, text) for line in says), text
    assert "The miniature knows" not in text and "not on this machine" not in text
