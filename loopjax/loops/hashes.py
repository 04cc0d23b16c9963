"""Hashes of n-grams: polynomials modulo 2^64 with an odd base, of all n-grams or of those at some positions.

They are made block by block. What a block needs then stays in the processor's caches, which takes a third of the time
of whole arrays. A hash depends on the units alone, and not on the position, so blocks agree.

Shapes: N units, M positions of n-grams.

Source: R. M. Karp and M. O. Rabin, IBM J. Res. Dev. 31 (1987) 249-260, for the hash of a window from its neighbour's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from loopjax.loops.ids import Ids

BASE = 0x9E3779B97F4A7C15
INVERSE = pow(BASE, -1, 2**64)
_BLOCK = 2**15  # n-grams of a block, at least


class Block(NamedTuple):
  """Hashes of neighbouring n-grams.

  Attributes:
    first: the position of the first of `hashes`.
    start: of the block itself, `first` or later; hashes before it are those of neighbours.
    end: of the block itself; hashes from it on are those of neighbours.
    hashes: [H], uint64, of the n-grams at `first` and the H - 1 positions after it.
  """

  first: int
  start: int
  end: int
  hashes: np.ndarray


def powers(base: int, num: int) -> np.ndarray:
  """base, base^2, base^3, ... modulo 2^64: [num], uint64."""
  result = np.full(num, base, np.uint64)
  return np.multiply.accumulate(result, out=result)


def upper_bits(hashes: np.ndarray) -> np.ndarray:
  """[M], uint32: the upper half of hashes [M]; equal hashes have equal halves."""
  return np.right_shift(hashes, np.uint64(32), dtype=np.uint64).astype(np.uint32)


def gram_hashes(ids: Ids, n: int, positions: np.ndarray | None = None) -> np.ndarray:
  """The hash of each n-gram, [N - n + 1], or of those at `positions` [M], ascending: [M], uint64.

  The hash of the n-gram at i is the sum over j of id(i + j - 1) base^j, modulo 2^64. j runs from 1 to n, since the
  upper bits do not tell small ids apart that are not multiplied.
  """
  if positions is None:
    result = np.empty(ids.size - n + 1, np.uint64)
    for block in blocks(ids, n):
      result[block.start : block.end] = block.hashes
    return result
  starts, edges = _filled(ids.size - n + 1, _block_size(n), positions)
  result = np.empty(positions.size, np.uint64)
  for block, part in zip(blocks(ids, n, starts=starts), edges, strict=True):
    result[part[0] : part[1]] = block.hashes[positions[part[0] : part[1]] - block.start]
  return result


def blocks(ids: Ids, n: int, *, around: int = 0, starts: Iterable[int] | None = None) -> Iterator[Block]:
  """The hashes of all n-grams, block by block, or of the blocks that begin at `starts`.

  Args:
    ids: [N].
    n: units of an n-gram, 1 to N.
    around: how many neighbours each block has on both sides, where there are as many.
    starts: some of the multiples of the size of a block, `_block_size(n)`.
  """
  num, size = ids.size - n + 1, _block_size(n)
  length = min(ids.size, size + 2 * around + n)  # units of a block, at most
  upwards, downwards = powers(BASE, length), powers(INVERSE, length - n + 1)
  sums = np.zeros(length + 1, np.uint64)
  for start in range(0, num, size) if starts is None else starts:
    first, end = max(0, start - around), min(num, start + size)
    part = ids[first : min(num, end + around) + n - 1]
    terms = sums[1 : part.size + 1]
    terms[:] = part
    terms *= upwards[: part.size]
    np.cumsum(terms, out=terms)
    found = sums[n : part.size + 1] - sums[: part.size + 1 - n]
    found[1:] *= downwards[: found.size - 1]
    yield Block(first, start, end, found)


def _block_size(n: int) -> int:
  return max(_BLOCK, n)


def _filled(num: int, size: int, positions: np.ndarray) -> tuple[list[int], np.ndarray]:
  """Starts of the blocks that hold some of `positions` [M], and the part [first, last) of `positions` in each."""
  starts = np.arange(0, num, size)
  edges = np.append(np.searchsorted(positions, starts.astype(positions.dtype)), positions.size)
  parts = np.stack((edges[:-1], edges[1:]), axis=1)
  filled = parts[:, 0] < parts[:, 1]
  return starts[filled].tolist(), parts[filled]
