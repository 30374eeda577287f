"""What the pages need and training does not: claims, figures, photographs, profiles, results."""

from .progress import progress

__all__ = ["progress"]
