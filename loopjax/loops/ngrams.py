"""Recurrences: an n-gram that comes back k times or more, overlaps counted; the (n, k) staircase of a sequence.

c(n), the highest count of any n-gram, never rises with n. So one pass over ascending n gives the whole staircase: an
n-gram that occurs once is in no longer one that occurs twice, and its position is left out from there on.

Example: in `a b c a b c a b c` the 3-gram `a b c` occurs 3 times, and c(3) = 3. With k = 3 it has fired at length 9,
its onset is 0, and it covers the whole sequence. No 4-gram occurs more than twice: c(4) = 2.

Source: "Wait, Wait, Wait... Why Do Reasoning Models Loop?" (arXiv 2512.12895), which calls a response looping where
some 30-gram occurs 20 times.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from loopjax.loops.grams import Grams, Groups, HashesAt, crowds, window_hashes
from loopjax.loops.ids import Ids, as_ids, places_where
from loopjax.runtime.config import require


@dataclasses.dataclass(frozen=True)
class Recurrence:
  """What one (n, k) says of a sequence; positions and lengths are in units.

  Attributes:
    n: units of an n-gram.
    k: the count from which on an n-gram is a recurrence.
    count: c(n), the highest count of any n-gram; 0 where the sequence is shorter than n.
    onset: where the n-gram that is the first to occur k times begins; None where none does.
    fired: the length of the shortest prefix in which some n-gram occurs k times; None where none does.
    covered: the share of units that lie inside n-grams with k occurrences or more; 0 in an empty sequence.
  """

  n: int
  k: int
  count: int
  onset: int | None
  fired: int | None
  covered: float


def recurrence(ids: np.ndarray | Sequence[int], n: int = 30, k: int = 20) -> Recurrence:
  """The recurrence (n, k) of the sequence `ids` [N]; errors as `staircase`."""
  return staircase(ids, [n], k)[0]


def staircase(ids: np.ndarray | Sequence[int], lengths: Sequence[int], k: int = 20) -> tuple[Recurrence, ...]:
  """The recurrences (n, k) of a sequence for each n.

  Args:
    ids: [N], integers.
    lengths: the values of n, each at least 1.
    k: the count from which on an n-gram is a recurrence, at least 2.

  Returns:
    A `Recurrence` for each of `lengths`, in their order.

  Raises:
    ValueError: `ids` is no sequence of integers, or a setting is out of its range.
  """
  ids = as_ids(ids)
  for n in lengths:
    require(n >= 1, "lengths", n, "at least 1")
  require(k >= 2, "k", k, "at least 2")
  found = {step.n: step for step in _steps(ids, sorted(set(lengths)), k)}
  return tuple(found[n] for n in lengths)


def _steps(ids: Ids, lengths: Sequence[int], k: int) -> Iterator[Recurrence]:
  """The staircase for ascending lengths."""
  frequent: _Alive | None = _Alive(None, 0)  # where n-grams that occur k times may start; None: nowhere
  twice = _Alive(None, 0)  # where those that occur twice may
  count, hashes = k, _Hashes(ids)
  for n in lengths:
    step = None
    if n > ids.size or count == 1:
      step = Recurrence(n, k, min(1, max(0, ids.size - n + 1)), None, None, 0.0)
    if step is None and frequent:
      step, frequent = _frequent_step(ids, n, k, frequent, hashes)
    if step is None:
      count, twice = _rare_step(ids, n, k, twice, hashes)
      step = Recurrence(n, k, count, None, None, 0.0)
    yield step


class _Hashes:
  """Hashes of all n-grams, or of those at some positions; what the latter need is made when it is first wanted."""

  def __init__(self, ids: Ids):
    self._ids = ids

  def __call__(self, n: int, positions: np.ndarray | None) -> np.ndarray:
    if positions is None:
      self.__dict__.pop("_at", None)  # hashes of all n-grams need its memory
      return window_hashes(self._ids, n)
    return self._at(n, positions)

  @functools.cached_property
  def _at(self) -> HashesAt:
    return HashesAt(self._ids)


class _Alive(NamedTuple):
  """Where n-grams of some length `n` start that occur often enough: `places` [N], bool; None: perhaps everywhere."""

  places: np.ndarray | None
  n: int


def _positions(alive: _Alive, n: int, size: int) -> np.ndarray | None:
  """Positions of n-grams whose shorter parts at both ends are alive; None for all."""
  if alive.places is None:
    return None
  num = size - n + 1
  return places_where(alive.places[:num] & alive.places[n - alive.n : n - alive.n + num])


def _frequent_step(
  ids: Ids, n: int, k: int, alive: _Alive, hashes_of: _Hashes
) -> tuple[Recurrence | None, _Alive | None]:
  """The recurrence where some n-gram occurs k times, and what is alive for longer ones; None and None elsewhere."""
  positions = _positions(alive, n, ids.size)
  hashes = hashes_of(n, positions)
  if positions is None:
    positions = places_where(crowds(hashes) >= min(k, 255))
    hashes = hashes[positions]
  grams = Grams(ids, n, hashes, positions)
  del hashes, positions
  candidates = grams.candidates()
  groups = grams.groups(candidates, candidates.sizes >= k)
  frequent = groups.sizes >= k
  if not frequent.any():
    return None, None
  kth = groups.positions[groups.starts[frequent] + k - 1]
  onset = int(groups.positions[groups.starts[frequent][np.argmin(kth)]])
  places = np.zeros(ids.size, bool)
  places[groups.positions[np.repeat(frequent, groups.sizes)]] = True
  covered = _num_covered(places, n) / ids.size
  return Recurrence(n, k, int(groups.sizes.max()), onset, int(kth.min()) + n, covered), _Alive(places, n)


def _rare_step(ids: Ids, n: int, k: int, alive: _Alive, hashes_of: _Hashes) -> tuple[int, _Alive]:
  """c(n) where it is below k, and where n-grams start that may occur twice.

  The fullest buckets are sorted first. No n-gram occurs more often than the bucket of its hash is full.
  """
  positions = _positions(alive, n, ids.size)
  hashes = hashes_of(n, positions)
  crowd, places = crowds(hashes), np.zeros(ids.size, bool)
  places[slice(crowd.size) if positions is None else positions] = crowd > 1
  count, least = 1, min(k, int(crowd.max(initial=1)) + 1)
  while least > count + 1:
    least = max(least // 2, count + 1)
    if np.count_nonzero(crowd >= least) > crowd.size // 4:
      least = 2  # most have to be sorted anyway: once, then
    chosen = places_where(crowd >= least)
    grams = Grams(ids, n, hashes[chosen], chosen if positions is None else positions[chosen])
    candidates = grams.candidates()
    count = _highest_count(grams, candidates, count)
    if least == 2:
      places[:] = False
      places[grams.chosen(candidates, candidates.sizes > 1).positions] = True
  return count, _Alive(places, n)


def _highest_count(grams: Grams, candidates: Groups, known: int) -> int:
  """The highest count among some n-grams, or `known` where it is no higher; the largest candidates come first."""
  for size in np.unique(candidates.sizes[candidates.sizes > known])[::-1]:
    groups = grams.groups(candidates, candidates.sizes >= size)
    if groups.sizes.max(initial=0) >= size:
      return int(groups.sizes.max())
  groups = grams.groups(candidates, candidates.sizes > known)
  return int(groups.sizes.max(initial=known))


def _num_covered(places: np.ndarray, n: int) -> int:
  """The units in n-grams that start where `places` [N] is true, somewhere at least."""
  return n + int(np.minimum(np.diff(np.flatnonzero(places)), n).sum())
