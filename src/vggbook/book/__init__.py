"""What the pages need and training does not: claims, figures, photographs, profiles, recorded runs, tables, exercises."""
