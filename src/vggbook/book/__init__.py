"""What the pages need and training does not: claims, figures, photographs, profiles, results."""

from .miniatures import miniature
from .progress import progress

__all__ = ["miniature", "progress"]
