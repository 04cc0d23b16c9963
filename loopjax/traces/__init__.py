"""Loops in traces of real language models: files in, one row a response, tables and a page out. Imports no jax."""
