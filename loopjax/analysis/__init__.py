"""Measurements on walks and students: pure and jittable."""
