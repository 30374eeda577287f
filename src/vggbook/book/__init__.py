"""What the pages need and training does not: claims, figures, photographs, tables, exercises."""
