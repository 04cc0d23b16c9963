"""Loops in sequences of ids: recurrences, locked cycles, variant cycles, enumerations; needs NumPy and no jax."""
