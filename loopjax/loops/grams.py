"""Equal n-grams of a sequence: sorted by a hash, then compared unit by unit, so that no two different ones are equal.

The hash is a polynomial modulo 2^64 with an odd base. Its upper bits and the position share one 64-bit key. One sort of
the keys then brings equal n-grams together, in the order of their positions. n-grams with equal hashes are candidates.
`Grams.groups` compares the candidates themselves, and separates those that differ.

Shapes: N units, M positions of n-grams, G groups.

Source: R. M. Karp and M. O. Rabin, IBM J. Res. Dev. 31 (1987) 249-260, for the hash of a window from its neighbour's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from loopjax.loops.ids import Ids, places_where

BASE = 0x9E3779B97F4A7C15
INVERSE = pow(BASE, -1, 2**64)
_BUCKET_BITS = 22  # a larger table is slower: it leaves the processor's caches
_LOW_BITS = 12  # of a position: powers are the product of two that are kept in tables
_ROWS = 2**14  # n-grams compared at once: bounds the memory


class Groups(NamedTuple):
  """Positions that belong together.

  Attributes:
    positions: [M]; a group's are adjacent and ascending.
    starts: [G], where in `positions` each group starts.
    sizes: [G].
  """

  positions: np.ndarray
  starts: np.ndarray
  sizes: np.ndarray


def powers(base: int, num: int) -> np.ndarray:
  """base, base^2, base^3, ... modulo 2^64: [num], uint64."""
  result = np.full(num, base, np.uint64)
  return np.multiply.accumulate(result, out=result)


def _prefix_sums(ids: np.ndarray) -> np.ndarray:
  """[N + 1], uint64: the sums of id(i) base^(i + 1) up to each unit, modulo 2^64."""
  sums = np.zeros(ids.size + 1, np.uint64)
  np.multiply(ids.astype(np.uint64, copy=False), powers(BASE, ids.size), out=sums[1:])
  np.cumsum(sums[1:], out=sums[1:])
  return sums


class HashesAt:
  """Hashes of n-grams at chosen positions, for several n; equal to those of `window_hashes`; keeps 8 bytes a unit."""

  def __init__(self, ids: Ids):
    self._sums = _prefix_sums(ids)
    one = np.ones(1, np.uint64)
    self._low = np.concatenate((one, powers(INVERSE, 2**_LOW_BITS - 1)))
    self._high = np.concatenate((one, powers(pow(INVERSE, 2**_LOW_BITS, 2**64), ids.size >> _LOW_BITS)))

  def __call__(self, n: int, positions: np.ndarray) -> np.ndarray:
    """[M], uint64, the hashes of the n-grams at `positions` [M]."""
    hashes = self._sums[positions + n]
    hashes -= self._sums[positions]
    hashes *= self._low[positions & (2**_LOW_BITS - 1)]
    hashes *= self._high[positions >> _LOW_BITS]
    return hashes


def window_hashes(ids: np.ndarray, n: int) -> np.ndarray:
  """The hash of each n-gram, [N - n + 1], uint64: the sum over j of id(i + j - 1) base^j, modulo 2^64.

  j runs from 1 to n, since the upper bits do not tell small ids apart that are not multiplied.
  """
  sums = _prefix_sums(ids)
  hashes = sums[n:] - sums[: sums.size - n]
  del sums
  hashes[1:] *= powers(INVERSE, hashes.size - 1)
  return hashes


def crowds(hashes: np.ndarray) -> np.ndarray:
  """[M], uint8: at least how often the hash of each n-gram comes, up to 255; often more, never less.

  Hashes are counted by their upper bits alone. That takes a fraction of the time of a sort.
  """
  bits = min(_BUCKET_BITS, max(1, int(1.4 * hashes.size).bit_length()))
  buckets = (hashes >> np.uint64(64 - bits)).view(np.int64)
  counts = np.bincount(buckets)
  return np.minimum(counts, 255, out=counts).astype(np.uint8)[buckets]


class Grams:
  """The n-grams of one length that start at some positions, sorted.

  Args:
    ids: [N].
    n: units of an n-gram, 1 to N.
    hashes: [M], of the n-grams.
    positions: [M], ascending, where they start; 0 to M - 1 where left out.
  """

  def __init__(self, ids: Ids, n: int, hashes: np.ndarray, positions: np.ndarray | None = None):
    self._ids, self._n = ids, n
    self._position_bits = np.uint64(max(1, int(ids.size).bit_length()))
    keys = hashes >> self._position_bits
    keys <<= self._position_bits
    keys |= np.arange(keys.size, dtype=np.uint64) if positions is None else positions.astype(np.uint64)
    keys.sort()
    self._keys = keys

  def candidates(self) -> Groups:
    """Groups of two or more n-grams with equal hashes; `starts` are places in the sorted keys, `positions` is empty."""
    hits = places_where((self._keys[1:] ^ self._keys[:-1]) >> self._position_bits == 0)
    if not hits.size:
      return Groups(hits, hits, hits)
    ends = np.flatnonzero(np.diff(hits) > 1)  # two groups never have adjacent hits
    starts = hits[np.concatenate(([0], ends + 1))]
    return Groups(hits[:0], starts, hits[np.concatenate((ends, [hits.size - 1]))] + 2 - starts)

  def chosen(self, candidates: Groups, which: np.ndarray) -> Groups:
    """Those of the candidates at which `which` [G] is true, with their positions, not compared yet."""
    starts, sizes = candidates.starts[which], candidates.sizes[which]
    edges = np.zeros(self._keys.size + 1, np.int8)
    edges[starts] += 1
    edges[starts + sizes] -= 1
    inside = np.cumsum(edges[:-1], out=edges[:-1]).view(bool)
    positions = self._keys[inside] & ((np.uint64(1) << self._position_bits) - np.uint64(1))
    return Groups(positions.astype(np.int32 if self._ids.size < 2**31 else np.int64), np.cumsum(sizes) - sizes, sizes)

  def groups(self, candidates: Groups, which: np.ndarray, within: int | None = None) -> Groups:
    """The chosen candidates, compared: within a group the n-grams are equal, between groups they differ.

    With `within`, neighbours in a group that are farther apart are not compared, and may differ.
    """
    groups = self.chosen(candidates, which)
    wrong = self._wrong(groups, within)
    return _separated(self._ids, self._n, groups, wrong) if wrong.any() else groups

  def _wrong(self, groups: Groups, within: int | None) -> np.ndarray:
    """[G], whether a group may hold n-grams that differ.

    A link joins an n-gram to the one before it in its group. Links of neighbouring positions over one distance form a
    chain. Of a chain the first n-grams are compared in full, and of all others the last unit: the rest has been. Where
    units differ, the n - 1 n-grams that follow may hold them too.
    """
    earlier = np.full(self._ids.size, -1, groups.positions.dtype)
    linked = np.ones(groups.positions.size, bool)
    linked[groups.starts] = False
    if within is not None:
      linked[1:] &= np.diff(groups.positions) <= within
    earlier[groups.positions[linked]] = groups.positions[np.flatnonzero(linked) - 1]
    second = np.flatnonzero(earlier >= 0)
    first = earlier[second]
    del earlier
    head = np.ones(second.size, bool)
    head[1:] = (np.diff(second) != 1) | (np.diff(first) != 1)
    differs = self._ids[first + self._n - 1] != self._ids[second + self._n - 1]
    differs[head] |= different(self._ids, self._n, first[head], second[head])
    if not differs.any():
      return np.zeros(groups.starts.size, bool)
    suspect = np.zeros(self._ids.size + self._n, np.int32)
    np.add.at(suspect, second[differs], 1)
    np.add.at(suspect, second[differs] + self._n, -1)
    return np.logical_or.reduceat(np.cumsum(suspect)[groups.positions] > 0, groups.starts)


def different(ids: Ids, n: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """[M], whether the n-grams at `first` [M] and at `second` [M] differ."""
  result = np.zeros(first.size, bool)
  windows = np.lib.stride_tricks.sliding_window_view(ids, n)
  rows = max(1, 32 * _ROWS // n)
  for i in range(0, first.size, rows):
    result[i : i + rows] = (windows[first[i : i + rows]] != windows[second[i : i + rows]]).any(1)
  return result


def _separated(ids: Ids, n: int, groups: Groups, wrong: np.ndarray) -> Groups:
  """The groups with those at which `wrong` [G] is true split by their units; single n-grams are left out."""
  names = np.repeat(np.arange(groups.starts.size), groups.sizes)
  rest, fresh = np.flatnonzero(wrong[names]), groups.starts.size
  while rest.size:  # what equals the first of its group stays; all others make a group of their own
    first = np.flatnonzero(np.diff(names[rest], prepend=-1))
    number = np.cumsum(np.diff(names[rest], prepend=-1) != 0) - 1
    heads = groups.positions[rest[first]][number]
    rest, number = (part[different(ids, n, heads, groups.positions[rest])] for part in (rest, number))
    names[rest] = fresh + number
    fresh += first.size
  order = np.argsort(names, kind="stable")
  positions, names = groups.positions[order], names[order]
  starts = np.flatnonzero(np.diff(names, prepend=-1))
  sizes = np.diff(np.append(starts, names.size))
  keep = sizes > 1
  return Groups(positions[np.repeat(keep, sizes)], np.cumsum(sizes[keep]) - sizes[keep], sizes[keep])
