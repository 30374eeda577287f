"""The net that a chapter looks through: the released VGG-16 where it is, else a miniature."""

from __future__ import annotations

from dataclasses import dataclass

from ..checks import choice
from ..model import Network
from ..weights import FetchError, fetch_weights, find_weights, load_weights
from .miniatures import miniature
from .profiles import Settings

CHOICES = ("auto", "download", "miniature")


@dataclass(frozen=True)
class Trained:
    """A trained net in evaluation mode, the names of its classes, and which weights it has."""

    net: Network
    names: tuple[str, ...]
    which: str
    released: bool


def trained_net(weights: str, settings: Settings) -> Trained:
    """The released VGG-16, or the miniature of D, on the device of ``settings``.

    weights: "auto" takes the released file where it lies on this machine, and fetches it (528 MB,
    once) with profile ``gpu``; "download" fetches it with any profile; "miniature" never looks for
    it. A failed download is reported in one line, and the miniature stands in.
    """
    choice("weights", weights, CHOICES)
    path = None if weights == "miniature" else find_weights("vgg16")
    fetch = weights == "download" or (weights == "auto" and settings.profile == "gpu")
    if path is None and fetch:
        try:
            path = fetch_weights("vgg16")
        except FetchError as error:
            print(error)
    if path is None:
        net = miniature("D")
        return Trained(net.to(settings.device), net.classes, "miniature of D", False)
    net = load_weights(path)
    names = tuple(net.class_names or ())
    return Trained(net.to(settings.device), names, "released VGG-16", True)
