"""Image files of every kind: RGB, or a word on why not."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.pictures import jpeg, noise
from vggbook.data import UnreadableImage, load_image
from vggbook.data.files import rgb_tensor


def test_image_modes(tmp_path):
    rgb = noise(20, 30, 3).numpy()
    made = {
        "rgb.png": Image.fromarray(rgb),
        "grey.png": Image.fromarray(rgb[..., 0]),
        "deep.png": Image.fromarray(rgb[..., 0].astype(np.uint16) * 257),
        "alpha.png": Image.fromarray(np.dstack([rgb, np.full((20, 30), 255, np.uint8)])),
        "clear.png": Image.fromarray(np.dstack([rgb, np.zeros((20, 30), np.uint8)])),
        "palette.png": Image.fromarray(rgb).quantize(256),
        "bit.png": Image.fromarray(rgb[..., 0] > 99),
        "cmyk.tif": Image.fromarray(rgb).convert("CMYK"),
    }
    got = {}
    for name, image in made.items():
        image.save(tmp_path / name)
        got[name] = load_image(tmp_path / name)
        assert got[name].dtype == torch.uint8 and got[name].shape == (3, 20, 30)
    true = torch.from_numpy(rgb).permute(2, 0, 1)
    assert torch.equal(got["rgb.png"], true) and torch.equal(got["alpha.png"], true)
    assert (got["clear.png"] == 255).all()
    for name in ("grey.png", "deep.png"):  # 16 bits are scaled, not clipped
        assert torch.equal(got[name], true[:1].expand(3, -1, -1))
    assert torch.equal(got["bit.png"], ((true[:1] > 99) * 255).to(torch.uint8).expand(3, -1, -1))
    assert (got["cmyk.tif"].int() - true.int()).abs().max() <= 2
    assert (got["palette.png"].int() - true.int()).abs().float().mean() < 30


def test_orientation_is_applied(tmp_path):
    image = Image.fromarray(noise(20, 30, 3).numpy())
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    image.save(tmp_path / "turned.png", exif=exif)
    assert load_image(tmp_path / "turned.png").shape == (3, 30, 20)


def test_unreadable_images_are_named(tmp_path):
    (tmp_path / "cut.jpg").write_bytes(jpeg()[:400])
    (tmp_path / "text.png").write_bytes(b"no image")
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(np.full((4, 4), 70_000, np.int32)).save(tmp_path / "wide.tif")
    for name, reason in (
        ("cut.jpg", "truncated"),
        ("text.png", "cannot identify"),
        ("float.tif", "floating-point"),
        ("wide.tif", "70000"),
    ):
        with pytest.raises(UnreadableImage, match=rf"{name}: (?i:.*{reason})"):
            load_image(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load_image(tmp_path / "absent.png")


# --- any mode, any damage: RGB or `UnreadableImage`
MODES = [
    "1",
    "L",
    "LA",
    "La",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "RGBa",
    "RGBX",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "I;16",
    "I;16B",
    "I;16L",
    "F",
]
FORMATS = [
    "PNG",
    "JPEG",
    "GIF",
    "BMP",
    "TIFF",
    "WEBP",
    "PPM",
    "TGA",
    "PCX",
    "ICO",
    "JPEG2000",
    "SGI",
    "DDS",
    "IM",
    "MSP",
    "XBM",
    "EPS",
]


def is_rgb(image, size):
    return image.dtype == torch.uint8 and tuple(image.shape) == (3, size[1], size[0])


def encoded(mode, form, size):
    """A file of this mode and format; None where Pillow cannot write it."""
    buffer = io.BytesIO()
    try:
        Image.new(mode, size).save(buffer, form)
    except Exception:
        return None
    return buffer.getvalue()


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_of_every_mode_is_rgb_or_refused(mode):
    image = Image.new(mode, (5, 3))
    if mode == "F":
        with pytest.raises(UnreadableImage, match="no known range"):
            rgb_tensor(image)
    else:
        assert is_rgb(rgb_tensor(image), (5, 3))


FILES = {
    (mode, form): content
    for mode in MODES
    for form in FORMATS
    if (content := encoded(mode, form, (7, 5))) is not None
}


@pytest.mark.parametrize("form", sorted({form for _, form in FILES}))
def test_whole_files_of_every_format(form, tmp_path):
    for (mode, its), content in FILES.items():
        if its == form:
            path = tmp_path / f"{mode}.img"
            path.write_bytes(content)
            try:
                assert load_image(path).shape[0] == 3
            except UnreadableImage as error:
                assert mode in ("F", "I") or form == "EPS", (mode, error)


@settings(max_examples=250, deadline=None)
@given(
    st.sampled_from(sorted(FILES)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    st.floats(0, 1),
    st.binary(max_size=4),
)
def test_damaged_files_are_rgb_or_unreadable(tmp_path_factory, kind, bytes_changed, kept, more):
    content = bytearray(FILES[kind])
    for place, value in bytes_changed:
        content[int(place * len(content))] = value
    if kept < 0.5:
        content = content[: int(2 * kept * len(content))]
    path = tmp_path_factory.getbasetemp() / "damaged.img"
    path.write_bytes(bytes(content) + more)
    try:
        image = load_image(path)
    except UnreadableImage as error:
        assert "damaged.img" in str(error)
    else:
        assert image.dtype == torch.uint8 and image.ndim == 3 and image.shape[0] == 3


@pytest.mark.parametrize("mode", ["RGBA", "RGBa", "LA", "La", "PA"])
def test_what_is_clear_shows_a_white_ground(mode):
    """Opaque on the left, clear on the right."""
    grey = Image.new("L", (4, 2), 80)
    alpha = Image.new("L", (4, 2), 255)
    alpha.paste(0, (2, 0, 4, 2))
    if mode == "PA":
        image = grey.convert("P").convert("PA")
        image.putalpha(alpha)
    elif mode.startswith("L"):
        image = Image.merge("LA", (grey, alpha)).convert(mode)
    else:
        image = Image.merge("RGBA", (grey, grey, grey, alpha)).convert(mode)
    pixels = rgb_tensor(image)
    assert (pixels[:, :, :2] == 80).all() and (pixels[:, :, 2:] == 255).all()


def test_a_path_that_is_none_and_one_that_is_a_folder(tmp_path):
    with pytest.raises(TypeError):
        load_image(3)
    with pytest.raises(IsADirectoryError):
        load_image(tmp_path)


def test_sixteen_bits_are_scaled_and_more_are_refused():
    """65,535 is white; 0.5 of an 8-bit level is 128.5."""
    for mode, kind in (("I", np.int32), ("I;16", np.uint16)):
        grey = np.array([[0, 128, 129, 257, 385, 386, 65535]], dtype=kind)
        image = Image.fromarray(grey)
        assert image.mode == mode
        assert rgb_tensor(image).tolist() == [[[0, 0, 1, 1, 1, 2, 255]]] * 3
    for low, high in ((-1, 5), (0, 65536)):
        image = Image.fromarray(np.array([[low, high]], dtype=np.int32))
        message = f"^integers from {low} to {high}: expected 8 or 16 bits a channel$"
        with pytest.raises(UnreadableImage, match=message):
            rgb_tensor(image)


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_colour_that_counts_as_clear_shows_a_white_ground(mode, tmp_path):
    """PNG may name one colour, or one entry of the palette, that is transparent."""
    image = Image.new("L", (4, 2), 80).convert(mode)
    image.paste(image.getpixel((0, 0)), (0, 0, 4, 2))
    other = Image.new("L", (2, 2), 10).convert(mode)
    image.paste(other, (2, 0))
    clear = image.getpixel((3, 0))
    image.save(tmp_path / "a.png", transparency=clear)
    pixels = load_image(tmp_path / "a.png")
    assert (pixels[:, :, 2:] == 255).all() and (pixels[:, :, :2] == 80).all()


def test_an_error_without_words_is_named(tmp_path, monkeypatch):
    def fails(name):
        raise EOFError

    monkeypatch.setattr(Image, "open", fails)
    with pytest.raises(UnreadableImage, match=r"a\.png: EOFError$"):
        load_image(tmp_path / "a.png")
