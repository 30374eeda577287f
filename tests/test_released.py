"""Released weights: found where they lie, fetched from a local server, or refused cleanly."""

import hashlib
import http.server
import re
import threading
from pathlib import Path

import pytest
import torch
from torchvision.models import VGG11_Weights, list_models

from vggbook import build, released
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
    """Serves `server.content`; `server.breaks`: bytes after which each connection ends."""

    def do_GET(self):
        server = self.server
        server.asked.append(self.headers.get("Range"))
        whole = server.content
        start = 0
        if server.ranges and (wanted := self.headers.get("Range")):
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
        self.send_response(server.status if not start else 206)
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
    server.content = b"\n<!DOCTYPE html><title>Sign in</title>"
    refused(server, "answers with a page, no weights: it starts with b'<!DOCTYPE html")


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
