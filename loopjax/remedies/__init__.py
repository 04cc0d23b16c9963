"""One training-time remedy a file."""
