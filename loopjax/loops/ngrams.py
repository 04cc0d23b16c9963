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
from collections.abc import Iterator, Sequence

import numpy as np

from loopjax.config import require
from loopjax.loops.grams import Grams, Groups
from loopjax.loops.ids import Ids, as_ids


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
  alive: np.ndarray | None = None  # [N], false where the n-gram before occurs once; None: not known of any
  shorter = 0
  for place, n in enumerate(lengths):
    if n > ids.size:
      yield Recurrence(n, k, 0, None, None, 0.0)
      continue
    positions = None if alive is None else _still_alive(alive, n, n - shorter)
    if positions is not None and not positions.size:
      yield Recurrence(n, k, 1, None, None, 0.0)
      continue
    grams = Grams(ids, n, positions)
    candidates = grams.candidates()
    yield _step(ids.size, n, k, grams, candidates)
    if place + 1 < len(lengths):
      alive, shorter = _twice(ids.size, grams, candidates), n


def _still_alive(alive: np.ndarray, n: int, longer: int) -> np.ndarray:
  """Positions of n-grams whose parts of `longer` fewer units, at both of their ends, occur twice."""
  num = alive.size - n + 1
  return np.flatnonzero(alive[:num] & alive[longer : longer + num])


def _twice(num_units: int, grams: Grams, candidates: Groups) -> np.ndarray:
  """[N], whether an n-gram starts there whose hash comes twice."""
  alive = np.zeros(num_units, bool)
  alive[grams.chosen(candidates, candidates.sizes > 1).positions] = True
  return alive


def _step(num_units: int, n: int, k: int, grams: Grams, candidates: Groups) -> Recurrence:
  groups = grams.groups(candidates, candidates.sizes >= k)
  frequent = groups.sizes >= k
  if not frequent.any():
    return Recurrence(n, k, _highest_count(grams, candidates), None, None, 0.0)
  kth = groups.positions[groups.starts[frequent] + k - 1]
  first = groups.positions[groups.starts[frequent][np.argmin(kth)]]
  positions = groups.positions[np.repeat(frequent, groups.sizes)]
  return Recurrence(
    n, k, int(groups.sizes.max()), int(first), int(kth.min()) + n, _num_covered(positions, n) / num_units
  )


def _highest_count(grams: Grams, candidates: Groups) -> int:
  """c(n). Groups by hash are only ever too large, so the largest are compared first."""
  for size in np.unique(candidates.sizes)[::-1]:
    groups = grams.groups(candidates, candidates.sizes >= size)
    if groups.sizes.size and groups.sizes.max() >= size:
      return int(groups.sizes.max())
  groups = grams.groups(candidates, candidates.sizes > 1)
  return int(groups.sizes.max(initial=1))


def _num_covered(positions: np.ndarray, n: int) -> int:
  """The units in n-grams that start at `positions`."""
  positions = np.sort(positions)
  return n + int(np.minimum(np.diff(positions), n).sum())
