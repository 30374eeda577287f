"""What the pages need and training does not: claims, figures, photographs, profiles, recorded runs, tables, exercises."""

from .miniatures import miniature

__all__ = ["miniature"]
