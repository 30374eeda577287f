"""Statistical bands: what a run is expected to show, though no single run has to."""

from __future__ import annotations

from .profiles import Settings

MADE_FOR = ("cpu",)  # the profiles whose runs the bands were measured on
MISSED = "Not as expected: "  # how the line of a missed band begins


class BandMissed(AssertionError):
    """A statistical band was missed where the book itself is built."""


def expect(holds: bool, message: str, settings: Settings) -> bool:
    """Compare a run with its band; returns ``holds``.

    In the book's own build (``settings.strict``), at the sizes that the band was made for, a miss
    raises :class:`BandMissed`. In a reader's run, or at other sizes, it is reported and the run
    goes on: seeds differ.

    message: what was found instead, such as "a net did not learn".
    """
    if holds:
        return True
    if settings.strict and settings.profile in MADE_FOR and not settings.changed:
        raise BandMissed(message)
    print(
        f"{MISSED}{message}. Training has luck in it, and this run had less than most: "
        "another seed or longer training may show it. The page goes on."
    )
    return False
