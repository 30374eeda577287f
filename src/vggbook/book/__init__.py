"""What the pages need and training does not: claims, figures, photographs, profiles, results."""

__all__ = ["miniature"]


def __getattr__(name: str) -> object:
    """``miniature`` is imported when it is first used: it needs torch, and claims do not."""
    if name != "miniature":
        raise AttributeError(f"module 'vggbook.book' has no attribute {name!r}")
    from .miniatures import miniature

    return miniature
