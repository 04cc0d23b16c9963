"""Locked cycles while a sequence grows: append ids, one by one or in blocks, and hear of the cycle at its end.

After every call the answer is the one that `cycles` gives for all ids so far: the longest locked cycle that reaches the
end, among periods up to a largest one. Memory is bounded by that largest period.

How it works. A cycle shows early, when its block has come twice: the last p ids equal the p before them. Such squares
are looked for from time to time, for all periods of a range at once, by hashes; hits are compared id by id. The range
up to 2 s is looked at every s ids, the range from 2 s to 4 s every 2 s ids, and so on. So a period is looked at before
a third repetition is whole. From then on one comparison an id follows it, until an id differs.

Shapes: W ids that are kept.

Source: as in `cycles`; squares that end at one place and have different roots are few (M. Crochemore and W. Rytter,
Algorithmica 13 (1995) 405-425).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loopjax.loops.cycles import MIN_LENGTH, REPETITIONS, Cycle
from loopjax.loops.hashes import BASE, powers
from loopjax.loops.ids import as_ids
from loopjax.runtime.config import require

MAX_PERIOD = 4096


class CycleWatch:
  """Watches a growing sequence for locked cycles.

  Example:

      watch = CycleWatch()
      for token in stream:
        cycle = watch.append(token)
        if cycle:
          break  # cycle.start is where it began, cycle.period its period

  Args:
    max_period: the largest period watched for, at least 1.
    min_length: ids that a cycle has at least.

  Raises:
    ValueError: a setting is out of its range.
  """

  def __init__(self, max_period: int = MAX_PERIOD, *, min_length: int = MIN_LENGTH):
    require(max_period >= 1, "max_period", max_period, "at least 1")
    require(min_length >= 0, "min_length", min_length, "at least 0")
    self._max_period, self._min_length = max_period, min_length
    self._stride = _first_stride(min_length)
    self._block = max(max_period, self._stride)  # ids taken in at once, at most
    self._keep = 4 * self._block
    self._ids = np.zeros(2 * (self._keep + self._block), np.int64)
    self._powers = powers(BASE, self._ids.size)
    self._sums = np.zeros(self._ids.size + 1, np.uint64)
    self._size = 0  # ids kept
    self._summed = 0  # of those, in `_sums`
    self._dropped = 0  # ids no longer kept
    self._looked = 0  # where the last look was, in strides
    self._next = self._stride  # size at which the next look is due
    self._active: dict[int, int] = {}  # period -> start of the stretch with this period that reaches the end

  def __len__(self) -> int:
    return self._dropped + self._size

  @property
  def tail(self) -> Cycle | None:
    """The longest locked cycle that reaches the end; None where there is none."""
    end, least, best = len(self), self._min_length, None
    for period, start in self._active.items():
      length = end - start
      if length >= REPETITIONS * period and length >= least and (best is None or length > best.length):
        best = Cycle(start, end, period, True)
    return best

  def append(self, token: int) -> Cycle | None:
    """Takes in one id, and gives `tail`."""
    size = self._size
    self._ids[size] = token
    self._size = size + 1
    if self._active:
      self._follow_one(token, size)
    if self._size >= self._next:
      self._look()
    return self.tail if self._active else None

  def extend(self, ids: np.ndarray | Sequence[int]) -> Cycle | None:
    """Takes in a block of ids [B], and gives `tail`, the cycle at the end of the block.

    Raises:
      ValueError: `ids` is no sequence of integers.
    """
    ids = as_ids(ids)
    for first in range(0, ids.size, self._block):
      block = ids[first : first + self._block]
      before = self._size
      self._ids[before : before + block.size] = block
      self._size += block.size
      if self._active:
        self._follow(before)
      if self._size >= self._next:
        self._look()
    return self.tail

  def _follow_one(self, token: int, place: int) -> None:
    ended = [period for period in self._active if self._ids[place - period] != token]
    for period in ended:
      del self._active[period]

  def _follow(self, before: int) -> None:
    """Drops the periods that the ids from `before` on do not keep."""
    new = self._ids[before : self._size]
    for period in list(self._active):
      if (new != self._ids[before - period : self._size - period]).any():
        del self._active[period]

  def _look(self) -> None:
    """Looks for squares at the end, of the periods that are due, and follows those that are there."""
    strides = len(self) // self._stride
    power = 1 << ((strides ^ self._looked).bit_length() - 1)  # the largest one with a multiple in the new strides
    self._looked = strides
    longest = min(self._max_period, 2 * self._stride * power, self._size // 2)
    self._sum_up()
    periods = self._squares(longest)
    for period in list(self._active):
      periods = self._no_powers(periods, period)
    while periods.size:
      period, periods = int(periods[0]), periods[1:]
      if self._start(period):
        periods = self._no_powers(periods, period)
    if self._size >= 2 * self._keep:
      self._drop()
    self._next = (strides + 1) * self._stride - self._dropped

  def _sum_up(self) -> None:
    new = slice(self._summed, self._size)
    terms = self._ids[new].view(np.uint64) * self._powers[new]
    np.cumsum(terms, out=terms)
    np.add(terms, self._sums[self._summed], out=self._sums[self._summed + 1 : self._size + 1])
    self._summed = self._size

  def _squares(self, longest: int) -> np.ndarray:
    """Periods up to `longest`, ascending, for which the last two blocks have equal hashes."""
    size, sums = self._size, self._sums
    middle = sums[size - longest : size][::-1]
    last = sums[size] - middle
    before = middle - sums[size - 2 * longest : size - 1 : 2][::-1]
    return np.flatnonzero(before * self._powers[:longest] == last) + 1

  def _no_powers(self, periods: np.ndarray, period: int) -> np.ndarray:
    """Those of the periods that are not mere multiples of one that is followed: its stretch holds their squares."""
    return periods[(periods < period) | (2 * periods > len(self) - self._active[period])]

  def _start(self, period: int) -> bool:
    """Follows a period from the start of its stretch on, if its last two blocks are equal."""
    size, ids = self._size, self._ids
    if (ids[size - period : size] != ids[size - 2 * period : size - period]).any():
      return False
    reach = max(0, size - self._keep)
    differs = np.flatnonzero(ids[reach + period : size] != ids[reach : size - period])
    start = reach + (int(differs[-1]) + 1 if differs.size else 0)
    self._active[period] = self._dropped + start
    return True

  def _drop(self) -> None:
    """Forgets all but the last ids."""
    gone = self._size - self._keep
    self._ids[: self._keep] = self._ids[gone : self._size]
    self._dropped += gone
    self._size, self._summed = self._keep, 0
    self._sum_up()


def _first_stride(min_length: int) -> int:
  """Ids between two looks at the smallest periods, such that none is looked at too late.

  A look finds a stretch of two periods. It has to come before the stretch has the least length of a cycle.
  """
  periods = range(1, min_length // REPETITIONS + 2)
  return min(max(REPETITIONS * period, min_length) - 2 * period + 1 for period in periods)
