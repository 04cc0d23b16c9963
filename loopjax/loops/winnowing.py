"""Where n-grams may start that recur: a few positions are looked at in place of all.

An n-gram holds w = n - m + 1 m-grams. The least hash among them is at the same place in every copy of the n-gram. So an
n-gram that occurs k times has an m-gram that occurs k times and has the least hash of w neighbours. Such m-grams alone
are counted or sorted. In a text without runs they stand at a share of about 2 / (w + 1) of all positions. Where a text
does not loop, hardly any m-gram is left after that, and hardly any n-gram has to be sorted. Hashes are compared by
their upper half, and of equal ones all are taken.

Shapes: N units, M positions.

Source: S. Schleimer, D. S. Wilkerson and A. Aiken, SIGMOD 2003, 76-85, for the choice of m-grams by their least hash.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from loopjax.loops.hashes import BASE, blocks, upper_bits
from loopjax.loops.ids import Ids, place_type, places_where

_SHORTEST = 8  # units of an m-gram: shorter ones recur by chance
_FEWEST = 3  # m-grams of an n-gram, to be worth their time
_LONGEST = 2**15  # m-grams of an n-gram: with more, a block's neighbours would be most of it
_TABLE_BITS = 20  # of the table of what has copies
_MANY = 8  # copies, from which on numbers are counted rather than sorted
_PLACES_BY_K, _MOST_BITS = 2, 22  # a table to count in has `_PLACES_BY_K` / k places a number, up to 2^22
_PART = 2**20  # numbers counted at once


def may_recur(ids: Ids, n: int, k: int) -> np.ndarray | None:
  """[M], ascending: all positions of n-grams that occur k times or more, and some others; None: perhaps all.

  Args:
    ids: [N].
    n: units of an n-gram, 1 to N; None is given for very short and very long ones.
    k: at least 2.
  """
  m = max(n // 2, _SHORTEST)
  window = n - m + 1
  if not _FEWEST <= window <= _LONGEST:
    return None
  positions, hashes = _chosen(ids, m, window)
  recurring = np.zeros(ids.size - m + 1, bool)
  recurring[positions[(frequent if k >= _MANY else _copied)(hashes, k)]] = True
  return places_where(_over_windows(np.maximum, recurring, window))


def _chosen(ids: Ids, m: int, window: int) -> tuple[np.ndarray, np.ndarray]:
  """The positions [M] of m-grams with the least hash of `window` neighbours, ascending; their hashes.

  Of equal hashes all are chosen.
  """
  positions, hashes = [], []
  for block in blocks(ids, m, around=window - 1):
    upper = upper_bits(block.hashes)
    least = np.zeros(upper.size + window - 1, np.uint32)  # that of a window stands at its end; 0 where there is none
    least[window - 1 : upper.size] = _over_windows(np.minimum, upper, window)
    inside = slice(block.start - block.first, block.end - block.first)
    places = np.flatnonzero((_over_windows(np.maximum, least, window) == upper)[inside])
    hashes.append(block.hashes[inside][places])
    positions.append((places + block.start).astype(place_type(ids.size)))
  return np.concatenate(positions), np.concatenate(hashes)


def _over_windows(extreme: Callable[..., np.ndarray], values: np.ndarray, window: int) -> np.ndarray:
  """[M - window + 1], the minimum or maximum over each `window` neighbours among `values` [M]."""
  size = 1
  while 2 * size <= window:
    values, size = extreme(values[:-size], values[size:]), 2 * size
  rest = window - size
  return extreme(values[:-rest], values[rest:]) if rest else values


def frequent(numbers: np.ndarray, k: int) -> np.ndarray:
  """[M], bool: whether each of `numbers` [M], uint64, comes k times or more; true for some others too.

  They are counted in a table. k copies stand out from what else falls into one of its places. This goes part by part,
  since fresh memory for all places at once would take longer than the counting.
  """
  bits = min(_MOST_BITS, max(1, int(_PLACES_BY_K * numbers.size / k).bit_length()))
  parts = range(0, numbers.size, _PART)
  counts = np.zeros(2**bits, np.int64)
  for i in parts:
    counts += np.bincount(_places(numbers[i : i + _PART], bits), minlength=counts.size)
  result, often = np.empty(numbers.size, bool), counts >= k
  for i in parts:
    result[i : i + _PART] = often[_places(numbers[i : i + _PART], bits)]
  return result


def _places(numbers: np.ndarray, bits: int) -> np.ndarray:
  """[M], places in a table of 2^bits: multiplied, numbers that are alike lie far apart (D. E. Knuth, TAOCP 6.4)."""
  return (numbers * np.uint64(BASE) >> np.uint64(64 - bits)).view(np.int64)


def _copied(hashes: np.ndarray, k: int) -> np.ndarray:
  """As `frequent`, for fewer copies than `_MANY`, which do not stand out: half of each hash is sorted."""
  values = upper_bits(hashes)
  in_order = np.sort(values)
  often = in_order[k - 1 :][in_order[k - 1 :] == in_order[: max(0, in_order.size - k + 1)]]
  mask = np.uint32(2**_TABLE_BITS - 1)
  table = np.zeros(2**_TABLE_BITS, bool)
  table[often & mask] = True
  return table[values & mask]
