"""The weights that torchvision releases: found on this machine, or fetched once.

They are looked for in the folder that the environment variable VGGBOOK_WEIGHTS names, and in
PyTorch's hub cache; what is fetched goes into the first of these that is set. torchvision's file
names carry the first digits of the SHA-256 of the content.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from .checks import choice

NAMES = tuple(f"vgg{n}{bn}" for n in (11, 13, 16, 19) for bn in ("", "_bn"))
FILE_NAME = re.compile(r"(vgg1[1369])(_bn)?-([0-9a-f]{8,64})")  # vgg16_bn-6c64b313.pth
FOLDER_VARIABLE = "VGGBOOK_WEIGHTS"
_BLOCK = 1 << 20
_ATTEMPTS = 4  # a broken connection is resumed where it broke, if the server can
_SECONDS = 30  # of silence, before a connection counts as broken


class FetchError(OSError):
    """Weights could not be fetched; the message says why, in one line. No file is left behind."""


def weights_url(name: str) -> str:
    """The address of torchvision's weights, "vgg11" to "vgg19", with "_bn" for batch norm."""
    from torchvision.models import get_model_weights

    weights: Any = get_model_weights(choice("name", name, NAMES))
    return weights.IMAGENET1K_V1.url


def find_weights(name: str) -> Path | None:
    """The file of torchvision's weights on this machine; None where there is none.

    Raises FileNotFoundError where VGGBOOK_WEIGHTS names no folder.
    """
    return find_file(weights_url(name).rsplit("/", 1)[1])


def find_file(file_name: str) -> Path | None:
    """The file of that name in the reader's folder or PyTorch's hub cache; the same errors."""
    places = [_hub_folder()]
    if chosen := _chosen_folder():
        if not chosen.is_dir():
            raise FileNotFoundError(f"{FOLDER_VARIABLE}={str(chosen)!r}: expected a folder")
        places.insert(0, chosen)
    for place in places:
        if (place / file_name).is_file():
            return place / file_name
    return None


def fetch_weights(name: str, progress: bool = True) -> Path:
    """The file of torchvision's weights, downloaded unless it lies here already.

    A broken connection is resumed. Raises FetchError, and leaves nothing behind, for an address
    that does not answer, no space, a folder that cannot be written, something else than weights, or
    a wrong checksum.
    """
    if found := find_weights(name):
        return found
    url = weights_url(name)
    folder = _chosen_folder() or _hub_folder()
    target = folder / url.rsplit("/", 1)[1]
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _download(url, part, name, progress)
        _check_digest(part, target.name, url)
        os.replace(part, target)
    except FetchError:
        raise
    except OSError as error:
        hint = f"name another folder in {FOLDER_VARIABLE}"
        raise FetchError(f"{name}: cannot write to {folder} ({_reason(error)}); {hint}") from None
    finally:
        with suppress(OSError):
            part.unlink()
    return target


def _hub_folder() -> Path:
    return Path(torch.hub.get_dir(), "checkpoints")


def _chosen_folder() -> Path | None:
    value = os.environ.get(FOLDER_VARIABLE)
    return Path(value).expanduser() if value else None


def _download(url: str, part: Path, name: str, progress: bool) -> None:
    from tqdm import tqdm

    have = 0
    with (
        open(part, "wb") as file,
        tqdm(desc=name, unit="B", unit_scale=True, disable=not progress) as bar,
    ):
        for attempt in range(_ATTEMPTS):
            try:
                whole, start, response = _open(url, have)
            except urllib.error.HTTPError as error:
                raise FetchError(f"{name}: {url} answers {error.code} {error.reason}") from None
            except (OSError, http.client.HTTPException) as error:
                if attempt + 1 < _ATTEMPTS and have:
                    continue
                raise FetchError(f"{name}: {url} does not answer ({_reason(error)})") from None
            with response:
                _needs_space(part.parent, name, whole - start)
                file.truncate(start)
                file.seek(start)
                bar.total = whole or None
                bar.n = start
                have = start
                while block := _read(response):
                    if not have:
                        _refuse_pages(block, name, url)
                    file.write(block)
                    have += len(block)
                    bar.update(len(block))
            if have >= whole:
                return
    raise FetchError(
        f"{name}: {url} broke off after {have:,} of {whole:,} bytes, {_ATTEMPTS} times"
    )


def _open(url: str, have: int) -> tuple[int, int, http.client.HTTPResponse]:
    """Size of the whole file (0 if unknown), the byte that the answer starts at, and the answer."""
    request = urllib.request.Request(url, headers={"User-Agent": "vggbook"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    response = urllib.request.urlopen(request, timeout=_SECONDS)
    start = have if response.status == 206 else 0  # 200: the server sends all of it again
    length = response.headers.get("Content-Length")
    return (start + int(length) if length else 0), start, response


def _read(response: http.client.HTTPResponse) -> bytes:
    """The next block; empty where the file or the connection ended."""
    try:
        return response.read(_BLOCK)
    except http.client.IncompleteRead as error:
        return error.partial
    except (OSError, http.client.HTTPException):
        return b""


def _refuse_pages(block: bytes, name: str, url: str) -> None:
    if block.lstrip()[:1] in (b"<", b"{"):
        start = block.lstrip()[:30]
        raise FetchError(f"{name}: {url} answers with a page, no weights: it starts with {start!r}")


def _needs_space(folder: Path, name: str, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        sizes = f"{size / 1e6:,.0f} MB needed, {free / 1e6:,.0f} MB free"
        raise FetchError(f"{name}: no space in {folder}: {sizes}")


def _check_digest(part: Path, file_name: str, url: str) -> None:
    match = FILE_NAME.match(file_name)
    with open(part, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if match and not digest.startswith(match[3]):
        raise FetchError(f"{url}: SHA-256 is {digest}, expected {match[3]}: not kept")


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", None)
    if isinstance(inner, Exception):
        return _reason(inner)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
