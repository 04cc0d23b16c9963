"""Locked cycles: maximal stretches [start, end) that repeat one block, three times or more, exactly.

The period p is the smallest for which every unit equals the one p before it, from start + p on. The stretch is maximal:
it can be made longer on neither side. Its number of repetitions, (end - start) / p, is a real number, at least 3. Its
length is at least `min_length`.

How they are found. Take an n-gram of n units that lies in a cycle of period p, p <= n <= 2p. The next place where it
occurs is exactly p further on: a nearer one would give the cycle a smaller period (N. J. Fine and H. S. Wilf). So the
distances to the next occurrence are p all along a cycle, and nowhere before it. One sort for n finds all cycles
with periods n/2 to n. n doubles from round to round. Before each round all positions are left out that are shown to be
in no cycle of a larger period; in most texts none is left after the first.

Example: `x a b a b a b y` with `min_length` 0 has the locked cycle [1, 7) of period 2, with 3 repetitions.

Shapes: N units, R cycles.

Source: N. J. Fine and H. S. Wilf, Proc. Am. Math. Soc. 16 (1965) 109-114; runs of exponent 3 and more are a subset of
the runs of R. Kolpakov and G. Kucherov, FOCS 1999.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from loopjax.loops.grams import Grams
from loopjax.loops.hashes import gram_hashes
from loopjax.loops.ids import Ids, as_ids, places_where
from loopjax.loops.winnowing import may_recur
from loopjax.runtime.config import require

REPETITIONS = 3  # from which on a periodic stretch is a locked cycle
MIN_LENGTH = 30  # units
_PRUNINGS = 40  # each halves what is left of a long cycle; more than these are not worth their time


@dataclasses.dataclass(frozen=True, order=True)
class Cycle:
  """A locked cycle: units [start, end) of period `period`; `is_tail`, whether it reaches the end of the sequence."""

  start: int
  end: int
  period: int
  is_tail: bool

  @property
  def length(self) -> int:
    """Units of the cycle."""
    return self.end - self.start

  @property
  def repetitions(self) -> float:
    """Length over period, at least 3; the last repetition may be cut."""
    return self.length / self.period


class Spans(NamedTuple):
  """Cycles as arrays [R]: `starts`, `ends`, `periods`."""

  starts: np.ndarray
  ends: np.ndarray
  periods: np.ndarray


def locked_cycles(ids: np.ndarray | Sequence[int], *, min_length: int = MIN_LENGTH) -> list[Cycle]:
  """All locked cycles of a sequence, in the order of their starts, then ends.

  Args:
    ids: [N], integers.
    min_length: units that a cycle has at least; 0 for no such bound.

  Raises:
    ValueError: `ids` is no sequence of integers, or `min_length` is negative.
  """
  ids = as_ids(ids)
  spans = cycle_spans(ids, min_length)
  return sorted(_cycle(spans, i, ids.size) for i in range(spans.starts.size))


def longest_cycle(ids: np.ndarray | Sequence[int], *, min_length: int = MIN_LENGTH) -> Cycle | None:
  """The locked cycle with the most units, the first of them where several have as many; errors as `locked_cycles`."""
  ids = as_ids(ids)
  spans = cycle_spans(ids, min_length)
  if not spans.starts.size:
    return None
  best = np.lexsort((spans.starts, spans.starts - spans.ends))[0]
  return _cycle(spans, int(best), ids.size)


def _cycle(spans: Spans, i: int, num_units: int) -> Cycle:
  end = int(spans.ends[i])
  return Cycle(int(spans.starts[i]), end, int(spans.periods[i]), end == num_units)


def cycle_spans(ids: Ids, min_length: int = MIN_LENGTH) -> Spans:
  """All locked cycles of `ids` [N] as arrays, by no order in particular; errors as `locked_cycles`."""
  require(min_length >= 0, "min_length", min_length, "at least 0")
  none = np.zeros(0, np.int64)
  found = Spans(none, none, none)
  for spans in _rounds(ids, min_length, found):
    found = Spans(*(np.concatenate(pair) for pair in zip(found, spans, strict=True)))
  return found


def _rounds(ids: Ids, min_length: int, found: Spans) -> Iterator[Spans]:
  """The cycles of each round: of periods up to n in the first, where n + p <= the least length; then of n/2 to n."""
  n, shortest = max(2, 2 * min_length // 3), 1
  if n > ids.size:
    return
  positions = may_recur(ids, n, 2)
  while shortest <= ids.size // REPETITIONS and n <= ids.size:
    distances = _distances(ids, n, positions)
    exact = _raised(distances, n, found) == distances
    spans = _cycles(distances, exact, n, shortest, min_length)
    found = Spans(*(np.concatenate(pair) for pair in zip(found, spans, strict=True)))
    yield spans
    n, positions = _next_round(_raised(distances, n, found), n, found)
    shortest = n // 2 + 1


def _distances(ids: Ids, n: int, positions: np.ndarray | None) -> np.ndarray:
  """[N], int32, how far the next equal n-gram is among those at `positions`, or all; 0 where there is none.

  A distance above n may be too small (it rests on hashes alone), one up to n is exact.
  """
  grams = Grams(ids, n, gram_hashes(ids, n, positions), positions)
  candidates = grams.candidates()
  groups = grams.groups(candidates, candidates.sizes > 1, within=n)
  del grams
  distances = np.zeros(ids.size, np.int32)
  steps = np.diff(groups.positions, append=0).astype(np.int32)
  steps[groups.starts + groups.sizes - 1] = 0
  distances[groups.positions] = steps
  return distances


def _cycles(distances: np.ndarray, exact: np.ndarray, n: int, shortest: int, min_length: int) -> Spans:
  """The cycles of periods `shortest` to n: neighbours with one exact distance, as many as the least length asks for."""
  places = np.flatnonzero(exact & (distances >= shortest) & (distances <= n))
  periods = distances[places].astype(np.int64)
  first = np.ones(places.size, bool)
  first[1:] = (np.diff(places) != 1) | (np.diff(periods) != 0)
  first = np.flatnonzero(first)
  starts, periods = places[first], periods[first]
  ends = starts + np.diff(np.append(first, places.size)) - 1 + periods + n
  enough = ends - starts >= np.maximum(REPETITIONS * periods, min_length)
  return Spans(starts[enough], ends[enough], periods[enough])


def _raised(distances: np.ndarray, n: int, found: Spans) -> np.ndarray:
  """The least period, [N], that a cycle still to be found has where it holds an n-gram and the next equal one.

  It is no less than the distance. Two cycles of periods q < p share fewer than p + q units. So a cycle of period p that
  holds unit i of a known one, [start, end) of period q, has p > end - q - i. Known cycles have been left out in part:
  their n-grams do occur again, a period on.
  """
  result = distances.copy()
  limits = found.ends - found.periods + 1
  for i in np.flatnonzero(limits - found.starts > n):
    part = result[found.starts[i] : limits[i]]
    again = part > 0
    again[: max(0, part.size - n)] = True
    np.maximum(part, np.arange(part.size, 0, -1, dtype=part.dtype), out=part, where=again)
  return result


def _next_round(least: np.ndarray, n: int, found: Spans) -> tuple[int, np.ndarray]:
  """The n of the next round and the positions to look at, [M], ascending; n beyond N where no cycle is left.

  `least` [N] is what `_raised` gives for n. A cycle of period p > n has 2p - n + 1 or more neighbouring positions with
  a least period of at most p. Where fewer are side by side, none of them is in such a cycle.
  """
  places = places_where((least > 0) & (least <= least.size // REPETITIONS))
  for _ in range(_PRUNINGS):
    starts, sizes = _stretches(places)
    side_by_side = np.repeat(sizes.astype(places.dtype), sizes)
    keep = (side_by_side > n + 2) & (least[places] <= (side_by_side + n - 1) // 2)
    if keep.all():
      break
    places = places[keep]
  if not places.size:
    return 2 * least.size + 2, places
  nearest, bound = least[places].min(), n
  while n < max(nearest, bound + 1):
    n *= 2
  return n, _looked_at(*_stretches(places), bound, n, found, least.size)


def _stretches(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Where runs of neighbours start among ascending positions [M], and their sizes."""
  first = np.flatnonzero(np.diff(places, prepend=places.dtype.type(-2)) != 1)
  return places[first].astype(np.int64), np.diff(np.append(first, places.size))


def _looked_at(starts: np.ndarray, sizes: np.ndarray, bound: int, n: int, found: Spans, num_units: int) -> np.ndarray:
  """The stretches and what lies a period further, without known cycles but for their first period and last n-grams.

  An n-gram inside a known cycle occurs in its first period too, so what is left out is next to nothing before it.
  """
  wanted = _painted(starts, np.minimum(num_units, starts + 2 * sizes + bound), num_units)
  wanted &= ~_painted(found.starts + found.periods, found.ends - found.periods - n + 1, num_units)
  return places_where(wanted[: max(0, num_units - n + 1)])


def _painted(starts: np.ndarray, ends: np.ndarray, num_units: int) -> np.ndarray:
  """[N], whether a position is in one of the spans [start, end) that are not empty."""
  edges = np.zeros(num_units + 1, np.int32)
  there = ends > starts
  np.add.at(edges, starts[there], 1)
  np.add.at(edges, ends[there], -1)
  return np.cumsum(edges[:-1], out=edges[:-1]) > 0
