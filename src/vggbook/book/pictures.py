"""A reader's own pictures: a file, a folder or an address, as the nets take them."""

from __future__ import annotations

import urllib.error
import urllib.request
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urlsplit

from torch import Tensor

from ..data import UnreadableImage
from ..data.files import decode

KINDS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
HEIC_KINDS = (".heic", ".heif")
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim", b"heis")
_HEIC_HELP = (
    "HEIC is not supported: export the photograph as JPEG, or choose 'most compatible' in the "
    "phone's camera settings"
)
_MOST_BYTES = 50_000_000  # of a picture from the web
_SECONDS = 30


def pictures(source: str | Path, most: int = 12) -> dict[str, Tensor]:
    """Pictures by name, each uint8 (3, H, W), RGB of 0..255.

    source: a file, a folder (its picture files in the order of their names, ``most`` of them; one
    that cannot be read is named in a line and left out) or an address with http or https. The
    camera's orientation is applied, transparent pixels are laid over white.

    Raises FileNotFoundError, and UnreadableImage for what is no picture; HEIC is named as such.
    """
    if urlsplit(str(source)).scheme in ("http", "https"):
        return _from_address(str(source))
    path = Path(source).expanduser()
    if path.is_dir():
        return _from_folder(path, most)
    if not path.is_file():
        raise FileNotFoundError(f"source={str(source)!r}: expected a file, a folder or an address")
    return {path.name: _picture(path.read_bytes(), path.name)}


def _picture(content: bytes, name: str) -> Tensor:
    """A file's bytes as uint8 (3, H, W); UnreadableImage with a clear word for HEIC."""
    try:
        return decode(BytesIO(content), name)
    except UnreadableImage:
        if _is_heic(content):
            raise UnreadableImage(f"{name}: {_HEIC_HELP}") from None
        raise


def _is_heic(content: bytes) -> bool:
    return content[4:8] == b"ftyp" and content[8:12] in _HEIC_BRANDS


def _from_folder(folder: Path, most: int) -> dict[str, Tensor]:
    known = (*KINDS, *HEIC_KINDS)
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in known)
    found = {}
    for path in files[:most]:
        try:
            found[path.name] = _picture(path.read_bytes(), path.name)
        except OSError as error:
            print(f"left out: {error}")
    if not found:
        raise FileNotFoundError(f"{folder}: no picture that can be read ({', '.join(KINDS)})")
    if len(files) > most:
        print(f"{len(files)} pictures, the first {most} are taken")
    return found


def _from_address(address: str) -> dict[str, Tensor]:
    request = urllib.request.Request(address, headers={"User-Agent": "vggbook"})
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as response:
            content = response.read(_MOST_BYTES + 1)
    except urllib.error.HTTPError as error:
        raise UnreadableImage(f"{address} answers {error.code} {error.reason}") from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise UnreadableImage(f"{address} does not answer ({reason})") from None
    if len(content) > _MOST_BYTES:
        raise UnreadableImage(f"{address}: more than {_MOST_BYTES / 1e6:.0f} MB")
    name = unquote(Path(urlsplit(address).path).name) or "picture"
    try:
        return {name: decode(BytesIO(content), name)}
    except UnreadableImage:
        if _is_heic(content):
            raise UnreadableImage(f"{address}: {_HEIC_HELP}") from None
        start = content[:20]
        raise UnreadableImage(
            f"{address}: is no picture that can be read: it starts with {start!r}"
        ) from None
