"""Equal n-grams of a sequence: sorted by a hash, then compared unit by unit, so that no two different ones are equal.

The upper bits of a hash and the position share one 64-bit key. One sort of the keys then brings equal n-grams together,
in the order of their positions. n-grams with equal hashes are candidates. `Grams.groups` compares the candidates
themselves, and separates those that differ.

Shapes: N units, M positions of n-grams, G groups.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from loopjax.loops.ids import Ids, place_type, places_where

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
    return Groups(positions.astype(place_type(self._ids.size)), np.cumsum(sizes) - sizes, sizes)

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
