"""A reader's own pictures, from files, folders and addresses; and the net that looks at them."""

import io
import urllib.request
from dataclasses import FrozenInstanceError
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
import torch
from PIL import Image

from vggbook.book import pictures as module
from vggbook.book import profiles, trained
from vggbook.book.pictures import pictures
from vggbook.book.trained import trained_net
from vggbook.data import UnreadableImage
from vggbook.weights import FetchError

HEIC = b"\x00\x00\x00\x18ftypheic" + bytes(200)


@pytest.fixture
def halves(tmp_path):
    """A folder with one picture, red above blue, in several kinds, and two that are no pictures."""
    image = Image.new("RGB", (30, 40), "red")
    image.paste("blue", (0, 20, 30, 40))
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.webp", lossless=True)
    turned = image.rotate(90, expand=True)  # 40 x 30; orientation 6 turns it back
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "c.jpg", exif=exif, quality=95)
    clear = image.convert("RGBA")
    clear.putalpha(0)
    clear.save(tmp_path / "d.png")
    (tmp_path / "e.heic").write_bytes(HEIC)
    (tmp_path / "f.jpg").write_bytes(b"<html>")
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


@pytest.mark.parametrize("kind", ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "JPG"])
def test_a_folder_may_hold_pictures_of_any_kind(tmp_path, kind):
    Image.new("RGB", (30, 40), "red").save(tmp_path / f"a.{kind}")
    assert list(pictures(tmp_path)) == [f"a.{kind}"]


def test_a_folder_gives_its_pictures_upright_and_names_those_left_out(halves, capsys):
    found = pictures(halves)
    assert list(found) == ["a.png", "b.webp", "c.jpg", "d.png"]
    for name in ("a.png", "b.webp", "c.jpg"):
        assert found[name].shape == (3, 40, 30) and found[name].dtype == torch.uint8
        top, bottom = found[name][:, 5, 15].tolist(), found[name][:, 35, 15].tolist()
        assert top[0] > 240 > 20 > top[2] and bottom[2] > 240 > 20 > bottom[0]
    assert (found["d.png"] == 255).all()
    (halves / "e.heic").rename(halves / "e.HEIF")
    assert len(pictures(halves)) == 4 and "left out: e.HEIF: HEIC" in capsys.readouterr().out
    (halves / "e.HEIF").rename(halves / "e.heic")
    pictures(halves)
    said = capsys.readouterr().out
    assert "e.heic: HEIC is not supported" in said and "f.jpg" in said


def test_a_single_file_and_what_is_refused(halves):
    assert list(pictures(halves / "a.png")) == ["a.png"]
    with pytest.raises(UnreadableImage, match="HEIC is not supported: export"):
        pictures(halves / "e.heic")
    with pytest.raises(FileNotFoundError, match="expected a file, a folder or an address"):
        pictures(halves / "nothing.jpg")
    (halves / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no picture that can be read"):
        pictures(halves / "empty")


def test_the_first_pictures_of_a_large_folder_are_taken(halves, capsys):
    assert list(pictures(halves, most=2)) == ["a.png", "b.webp"]
    assert capsys.readouterr().out == "6 pictures, the first 2 are taken\n"
    assert len(pictures(halves, most=6)) == 4
    assert "are taken" not in capsys.readouterr().out
    for n in range(20):
        (halves / f"{n:02}.PNG").write_bytes((halves / "a.png").read_bytes())
    assert list(pictures(halves)) == [f"{n:02}.PNG" for n in range(12)]


def test_a_folder_below_the_readers_home(halves, monkeypatch):
    monkeypatch.setenv("HOME", str(halves))
    assert list(pictures("~/a.png")) == ["a.png"]


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim", b"heis"])
def test_heic_is_known_by_its_brand(tmp_path, brand):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\x00\x00\x00\x18ftyp" + brand + bytes(50))
    with pytest.raises(UnreadableImage, match=r"^a\.jpg: HEIC is not supported: export"):
        pictures(path)
    for other in (b"\x00\x00\x00\x18ftypmp42", b"\x00\x00\x00\x18free" + brand):
        path.write_bytes(other + bytes(50))
        with pytest.raises(UnreadableImage) as error:
            pictures(path)
        assert "HEIC" not in str(error.value)


def test_what_an_address_may_not_be(monkeypatch):
    class Response(io.BytesIO):
        pass

    def large(request, timeout):
        asked.append((request.full_url, request.get_header("User-agent"), timeout))
        return Response(b"x" * 101)

    asked = []
    monkeypatch.setattr(urllib.request, "urlopen", large)
    monkeypatch.setattr(module, "_MOST_BYTES", 100)
    with pytest.raises(UnreadableImage, match=r"^https://a\.example/b\.png: more than 0 MB$"):
        pictures("https://a.example/b.png")
    assert asked == [("https://a.example/b.png", "vggbook", 30)]
    monkeypatch.setattr(module, "_MOST_BYTES", 101)
    with pytest.raises(UnreadableImage, match=r"is no picture .* it starts with b'x{20}'$"):
        pictures("https://a.example/b.png")

    def fails(request, timeout):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", fails)
    with pytest.raises(UnreadableImage, match=r"b\.png does not answer \(no route\)$"):
        pictures("https://a.example/b.png")

    def waits(request, timeout):
        raise TimeoutError("timed out")

    monkeypatch.setattr(urllib.request, "urlopen", waits)
    with pytest.raises(UnreadableImage, match=r"b\.png does not answer \(timed out\)$"):
        pictures("http://a.example/b.png")


def answers(content):
    return lambda request, timeout: io.BytesIO(content)


def test_a_picture_may_have_as_many_bytes_as_are_allowed(halves, monkeypatch):
    content = (halves / "a.png").read_bytes()
    monkeypatch.setattr(urllib.request, "urlopen", answers(content))
    monkeypatch.setattr(module, "_MOST_BYTES", len(content))
    assert pictures("https://a.example/b.png")["b.png"].shape == (3, 40, 30)
    monkeypatch.setattr(module, "_MOST_BYTES", len(content) - 1)
    with pytest.raises(UnreadableImage, match="more than"):
        pictures("https://a.example/b.png")


def test_50_megabytes_are_allowed(monkeypatch):
    for count, words in ((50_000_000, "is no picture"), (50_000_001, "more than 50 MB$")):
        monkeypatch.setattr(urllib.request, "urlopen", answers(bytes(count)))
        with pytest.raises(UnreadableImage, match=words):
            pictures("https://a.example/b.png")


def test_an_address_without_a_name_gives_a_picture(halves, monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", answers((halves / "a.png").read_bytes()))
    assert list(pictures("https://a.example")) == list(pictures("http://b.example/")) == ["picture"]


def test_a_heic_photograph_from_an_address_is_named_by_it(monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", answers(HEIC))
    with pytest.raises(UnreadableImage, match=r"^https://a\.example/e: HEIC is not supported: exp"):
        pictures("https://a.example/e")


def test_an_address_gives_its_picture_or_one_line(halves):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = halves / self.path.split("?")[0].strip("/").replace("%20", " ")
            self.send_response(200 if path.is_file() else 404)
            self.end_headers()
            if path.is_file():
                self.wfile.write(path.read_bytes())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    here = f"http://127.0.0.1:{server.server_port}"
    try:
        assert pictures(f"{here}/a.png")["a.png"].shape == (3, 40, 30)
        (halves / "a b.png").write_bytes((halves / "a.png").read_bytes())
        assert list(pictures(f"{here}/a%20b.png?size=1")) == ["a b.png"]
        for name, word in (("f.jpg", "no picture"), ("x.jpg", "answers 404"), ("e.heic", "HEIC")):
            with pytest.raises(UnreadableImage, match=word) as error:
                pictures(f"{here}/{name}")
            assert "\n" not in str(error.value)
    finally:
        server.shutdown()


def test_without_the_released_file_the_miniature_stands_in(tmp_path, monkeypatch):
    monkeypatch.setenv("VGGBOOK_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    found = trained_net("auto", profiles.load("cpu"))
    assert not found.released and "miniature" in found.which
    assert len(found.names) == 12 and not found.net.training
    with pytest.raises(ValueError, match="weights='best'"):
        trained_net("best", profiles.load("cpu"))


@pytest.fixture
def released(monkeypatch):
    """A machine that may have the released file, or fetch it."""
    calls = []

    class Net:
        class_names = ("tench", "goldfish")

        def to(self, device):
            calls.append(("to", device))
            return self

    def fetch(name):
        calls.append(("fetch", name))
        return "fetched.pth"

    def load(path):
        calls.append(("load", path))
        return Net()

    monkeypatch.setattr(trained, "find_weights", lambda name: calls.append(("find", name)))
    monkeypatch.setattr(trained, "fetch_weights", fetch)
    monkeypatch.setattr(trained, "load_weights", load)
    return calls


@pytest.mark.parametrize(
    "weights, profile, fetches",
    [
        ("auto", "cpu", False),
        ("auto", "gpu", True),
        ("download", "cpu", True),
        ("miniature", "gpu", False),
    ],
)
def test_who_fetches_the_released_file(released, weights, profile, fetches):
    settings = profiles.Settings(profile, {"device": "cpu"})
    found = trained_net(weights, settings)
    assert found.released == fetches == (("fetch", "vgg16") in released)
    assert (("find", "vgg16") in released) == (weights != "miniature")
    if fetches:
        assert released[-2:] == [("load", "fetched.pth"), ("to", "cpu")]
        assert found.names == ("tench", "goldfish") and found.which == "released VGG-16"


def test_the_released_file_is_taken_where_it_lies(released, monkeypatch):
    monkeypatch.setattr(trained, "find_weights", lambda name: f"{name}.pth")
    found = trained_net("auto", profiles.Settings("gpu", {"device": "cpu"}))
    assert found.released and released == [("load", "vgg16.pth"), ("to", "cpu")]
    with pytest.raises(FrozenInstanceError):
        found.which = "another"


def test_a_file_may_come_without_names_of_its_classes(released, monkeypatch):
    class Net:
        class_names = None

        def to(self, device):
            return self

    monkeypatch.setattr(trained, "load_weights", lambda path: Net())
    assert trained_net("download", profiles.Settings("cpu", {"device": "cpu"})).names == ()


def test_a_failed_download_is_one_line(released, monkeypatch, capsys):
    def fails(name):
        raise FetchError("no network")

    monkeypatch.setattr(trained, "fetch_weights", fails)
    found = trained_net("download", profiles.load("cpu"))
    assert not found.released and found.which == "miniature of D"
    assert capsys.readouterr().out == "no network\n"
