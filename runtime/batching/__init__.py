"""Several answers at once: one pass reads a row for each of them, and changes no bit of any."""
