"""A reader's own pictures, from files, folders and addresses; and the net that looks at them."""

from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
import torch
from PIL import Image

from vggbook.book import profiles
from vggbook.book.pictures import pictures
from vggbook.book.trained import trained_net
from vggbook.data import UnreadableImage

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


def test_a_folder_gives_its_pictures_upright_and_names_those_left_out(halves, capsys):
    found = pictures(halves)
    assert list(found) == ["a.png", "b.webp", "c.jpg", "d.png"]
    for name in ("a.png", "b.webp", "c.jpg"):
        assert found[name].shape == (3, 40, 30) and found[name].dtype == torch.uint8
        top, bottom = found[name][:, 5, 15].tolist(), found[name][:, 35, 15].tolist()
        assert top[0] > 240 > 20 > top[2] and bottom[2] > 240 > 20 > bottom[0]
    assert (found["d.png"] == 255).all()
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


def test_an_address_gives_its_picture_or_one_line(halves):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = halves / self.path.strip("/")
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
