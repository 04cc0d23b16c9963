"""Binaries, one per figure or question."""
