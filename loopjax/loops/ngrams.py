"""Recurrences: an n-gram that comes back k times or more, overlaps counted; the (n, k) staircase of a sequence.

c(n), the highest count of any n-gram, never rises with n. So one pass over ascending n gives the whole staircase. An
n-gram that occurs less than k times is in no longer one that occurs k times, and its position is left out from there
on. What is left has classes: two n-grams have one class if and only if they are equal. An n-gram of up to twice the
length is then told by the classes at its start and at its end. Its units need not be compared, but in texts so long
that two classes and a position do not fit into 64 bits.

Example: in `a b c a b c a b c` the 3-gram `a b c` occurs 3 times, and c(3) = 3. With k = 3 it has fired at length 9,
its onset is 0, and it covers the whole sequence. No 4-gram occurs more than twice: c(4) = 2.

Source: "Wait, Wait, Wait... Why Do Reasoning Models Loop?" (arXiv 2512.12895), which calls a response looping where
some 30-gram occurs 20 times. For longer words from the classes of shorter ones: R. M. Karp, R. E. Miller and
A. L. Rosenberg, STOC 1972, 125-136.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from loopjax.loops.grams import Grams, Groups
from loopjax.loops.hashes import BASE, gram_hashes
from loopjax.loops.ids import Ids, as_ids, dense, place_type, places_where
from loopjax.loops.winnowing import frequent, may_recur
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
    TypeError: a setting is no whole number.
    ValueError: `ids` is no sequence of integers, or a setting is out of its range.
  """
  ids, lengths, k = as_ids(ids), [operator.index(n) for n in lengths], operator.index(k)
  for n in lengths:
    require(n >= 1, "lengths", n, "at least 1")
  require(k >= 2, "k", k, "at least 2")
  found = {step.n: step for step in _steps(ids, sorted(set(lengths)), k)}
  return tuple(found[n] for n in lengths)


def _steps(ids: Ids, lengths: Sequence[int], k: int) -> Iterator[Recurrence]:
  """The staircase for ascending lengths."""
  classes: _Classes | None = _Classes(ids, 0, 0)  # of n-grams that occur k times; None: there are none
  twice, count = _Twice(None, 0), k
  for n in lengths:
    if n > ids.size or count == 1:
      yield Recurrence(n, k, min(1, max(0, ids.size - n + 1)), None, None, 0.0)
      continue
    found, classes = _climb(ids, n, k, classes)
    if found is None:
      count, twice = _rare_step(ids, n, twice)
      found = Recurrence(n, k, count, None, None, 0.0)
    yield found


class _Classes(NamedTuple):
  """n-grams of one length `n` that occur k times or more, `num` different ones; n is 0 before the first.

  Attributes:
    of: [N], int32, the class of the n-gram at a position; -1 where it occurs less often. Two n-grams are equal if and
      only if they have one class.
  """

  of: np.ndarray
  n: int
  num: int


class _Twice(NamedTuple):
  """Where n-grams of some length `n` start that occur twice or more: `places` [N], bool; None: perhaps everywhere."""

  places: np.ndarray | None
  n: int


def _climb(ids: Ids, n: int, k: int, known: _Classes | None) -> tuple[Recurrence | None, _Classes | None]:
  """As `_frequent_step`, from classes of any shorter length, which is doubled until it is half of n or more."""
  while known and 0 < 2 * known.n < n:
    _, known = _frequent_step(ids, 2 * known.n, k, known)
  return _frequent_step(ids, n, k, known) if known else (None, None)


def _frequent_step(ids: Ids, n: int, k: int, known: _Classes) -> tuple[Recurrence | None, _Classes | None]:
  """The recurrence where some n-gram occurs k times, and the classes of those that do; None and None elsewhere."""
  grams = _often(_joined(ids, n, known) if known.n else _first(ids, n, k), k)
  groups = _groups(ids, n, k, grams)
  if not groups.sizes.size:
    return None, None
  kth = groups.positions[groups.starts + k - 1]
  onset = int(groups.positions[groups.starts[np.argmin(kth)]])
  classes = np.full(ids.size, -1, np.int32)
  classes[groups.positions] = np.repeat(np.arange(groups.sizes.size, dtype=np.int32), groups.sizes)
  covered = _num_covered(classes >= 0, n) / ids.size
  found = Recurrence(n, k, int(groups.sizes.max()), onset, int(kth.min()) + n, covered)
  return found, _Classes(classes, n, groups.sizes.size)


class _Numbered(NamedTuple):
  """n-grams as numbers, equal ones as equal numbers.

  Attributes:
    numbers: [M], uint64.
    bits: that hold every number; 64 where different n-grams may have one number, a hash.
    positions: [M], ascending, where they start.
  """

  numbers: np.ndarray
  bits: int
  positions: np.ndarray


def _first(ids: Ids, n: int, k: int) -> _Numbered:
  """All n-grams, or those that may occur k times: by their units as digits, where 64 bits suffice, or by a hash."""
  positions = may_recur(ids, n, k)
  if positions is not None:
    return _Numbered(gram_hashes(ids, n, positions), 64, positions)
  positions = np.arange(ids.size - n + 1, dtype=place_type(ids.size))
  ranks = dense(ids)
  bits = 64 if ranks is None else ((int(ranks.max()) + 1) ** n).bit_length()
  if ranks is None or not _fits(bits, ids):
    return _Numbered(gram_hashes(ids, n), 64, positions)
  return _Numbered(_by_digits(ranks, n), bits, positions)


def _by_digits(ranks: np.ndarray, n: int) -> np.ndarray:
  """[N - n + 1], uint64: each n-gram of `ranks` [N] as a number whose digits they are."""
  numbers = np.zeros(ranks.size - n + 1, np.uint64)
  for j in range(n):
    numbers *= ranks.max() + np.uint64(1)
    numbers += ranks[j : j + numbers.size]
  return numbers


def _joined(ids: Ids, n: int, known: _Classes) -> _Numbered:
  """n-grams both of whose ends have a class: pairs of classes. `known.n` is at least n / 2."""
  num = ids.size - n + 1
  first, last = known.of[:num], known.of[n - known.n : n - known.n + num]
  positions = places_where((first >= 0) & (last >= 0))
  pairs = first[positions].astype(np.uint64) * np.uint64(known.num) + last[positions].astype(np.uint64)
  return _Numbered(pairs, int(known.num**2).bit_length(), positions)


def _fits(bits: int, ids: Ids) -> bool:
  """Whether a number of so many bits and a position are within 64 bits together."""
  return bits + int(ids.size).bit_length() <= 64


def _often(grams: _Numbered, k: int) -> _Numbered:
  """Those that may occur k times, found in a fraction of the time of a sort."""
  often = frequent(grams.numbers, k)
  return grams._replace(numbers=grams.numbers[often], positions=grams.positions[often])


def _groups(ids: Ids, n: int, k: int, grams: _Numbered) -> Groups:
  """Groups of k or more equal n-grams; their units are compared where numbers do not tell them apart for certain."""
  is_exact = _fits(grams.bits, ids)
  scale = 2 ** (64 - grams.bits) if is_exact else BASE  # the upper bits count in a sort
  in_order = Grams(ids, n, grams.numbers * np.uint64(scale), grams.positions)
  candidates = in_order.candidates()
  if is_exact:
    return in_order.chosen(candidates, candidates.sizes >= k)
  groups = in_order.groups(candidates, candidates.sizes >= k)
  large = groups.sizes >= k
  sizes = groups.sizes[large]
  return Groups(groups.positions[np.repeat(large, groups.sizes)], np.cumsum(sizes) - sizes, sizes)


def _rare_step(ids: Ids, n: int, known: _Twice) -> tuple[int, _Twice]:
  """c(n), and where n-grams start that may occur twice."""
  positions = may_recur(ids, n, 2) if known.places is None else _positions(known.places, known.n, n)
  grams = Grams(ids, n, gram_hashes(ids, n, positions), positions)
  candidates, places = grams.candidates(), np.zeros(ids.size, bool)
  places[grams.chosen(candidates, candidates.sizes > 1).positions] = True
  return _highest_count(grams, candidates, 1), _Twice(places, n)


def _positions(twice: np.ndarray, shorter: int, n: int) -> np.ndarray:
  """Positions of n-grams at both ends of which there is a shorter one that occurs twice: `twice` [N], bool."""
  num = twice.size - n + 1
  return places_where(twice[:num] & twice[n - shorter : n - shorter + num])


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
