"""What the detectors of `loopjax.loops` compute, straight from the definitions, and sequences with planted runs."""

from __future__ import annotations

import collections
import contextlib
import os
from collections.abc import Iterator

import hypothesis
import numpy as np
from hypothesis import strategies as st

from loopjax.loops import hashes
from loopjax.loops.ngrams import Recurrence

# A measure's cases; more by hand: LOOPJAX_CASES=10000 pytest -n 0 tests/loops/ngrams_test.py
cases = hypothesis.settings(max_examples=int(os.environ.get("LOOPJAX_CASES", "60")))
seeds = st.integers(0, 2**32 - 1)


def planted(draw: np.random.Generator, longest: int = 160) -> np.ndarray:
  """Up to `longest` ids of a small alphabet: noise, and blocks that are repeated, some of them nested."""
  size = int(draw.integers(1, 6))
  parts = [draw.integers(0, size, draw.integers(0, 25))]
  for _ in range(draw.integers(0, 5)):
    block = draw.integers(0, size, draw.integers(1, draw.choice([3, 9, 30])))
    if draw.random() < 0.3:
      block = np.concatenate([np.tile(block, draw.integers(2, 5)), draw.integers(0, size, draw.integers(0, 4))])
    parts.append(np.tile(block, 12)[: int(block.size * draw.uniform(0.5, 7))])
    parts.append(draw.integers(0, size, draw.integers(0, 12)))
  return np.concatenate(parts)[:longest]


@contextlib.contextmanager
def hash_of(draw: np.random.Generator) -> Iterator[None]:
  """In every third case the hash is hardly more than the sum of an n-gram's ids: different ones often share it."""
  before = hashes.BASE, hashes.INVERSE
  if draw.random() < 1 / 3:
    hashes.BASE, hashes.INVERSE = 2**62 + 1, pow(2**62 + 1, -1, 2**64)
  try:
    yield
  finally:
    hashes.BASE, hashes.INVERSE = before


def recurrence(ids: list[int], n: int, k: int) -> Recurrence:
  places = collections.defaultdict(list)
  onset = fired = None
  for i in range(len(ids) - n + 1):
    seen = places[tuple(ids[i : i + n])]
    seen.append(i)
    if len(seen) == k and fired is None:
      onset, fired = seen[0], i + n
  covered = {i + j for seen in places.values() if len(seen) >= k for i in seen for j in range(n)}
  return Recurrence(n, k, max(map(len, places.values()), default=0), onset, fired, len(covered) / max(1, len(ids)))


def cycles(ids: list[int], min_length: int) -> list[tuple[int, int, int]]:
  """All (start, end, period), ascending."""
  found: dict[tuple[int, int], int] = {}
  for period in range(1, len(ids) // 3 + 1):
    start = 0
    for i in range(period, len(ids) + 1):
      if i == len(ids) or ids[i] != ids[i - period]:
        if i - start >= max(3 * period, min_length):
          found.setdefault((start, i), period)  # the smallest period comes first
        start = i - period + 1
  return sorted((start, end, period) for (start, end), period in found.items())
