"""All that one row of a table says of a sequence: its recurrence, its longest locked cycle, its class."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from loopjax.loops.cycles import MIN_LENGTH, Cycle, longest_cycle
from loopjax.loops.ids import as_ids
from loopjax.loops.ngrams import Recurrence, recurrence
from loopjax.loops.variants import Variant, longest_variant

CLASSES = ("none", "recurrence", "locked cycle", "run", "variant", "enumeration")


@dataclasses.dataclass(frozen=True)
class LoopReport:
  """What `describe` says; positions are in units, and None where there is nothing to say.

  Attributes:
    recurrence_count: c(n), the highest count of any n-gram.
    recurrence_onset: where the n-gram that is the first to occur k times begins.
    recurrence_fired: the length of the shortest prefix in which some n-gram occurs k times.
    recurrence_covered: the share of units inside n-grams that occur k times or more.
    cycle_onset: where the longest locked cycle starts.
    cycle_end: where it ends; the unit at this position is outside.
    cycle_period: its smallest period.
    cycle_repetitions: its length over its period, at least 3.
    cycle_is_tail: whether it reaches the end.
    loop_class: one of `CLASSES`.
    variant: where the class is "variant" or "enumeration", what it is.
  """

  recurrence_count: int
  recurrence_onset: int | None
  recurrence_fired: int | None
  recurrence_covered: float
  cycle_onset: int | None
  cycle_end: int | None
  cycle_period: int | None
  cycle_repetitions: float | None
  cycle_is_tail: bool | None
  loop_class: str
  variant: Variant | None = None


def describe(
  ids: np.ndarray | Sequence[int],
  *,
  n: int = 30,
  k: int = 20,
  min_length: int = MIN_LENGTH,
  digits: np.ndarray | None = None,
  repeated: Recurrence | None = None,
) -> LoopReport:
  """What loops in a sequence, in one row.

  The class is the most specific that applies: a run (a locked cycle of period 1), another locked cycle, a variant
  cycle, a recurrence, an enumeration, or none. Enumerations are no loops.

  Args:
    ids: [N], integers.
    n: units of an n-gram, for the recurrence.
    k: the count from which on an n-gram is a recurrence.
    min_length: units that a cycle, a variant or an enumeration has at least.
    digits: [N], bool, which units are digits; none where left out.
    repeated: the recurrence of these ids, n and k, where it was measured already, as `staircase` does.

  Raises:
    ValueError: `ids` is no sequence of integers, or a setting is out of its range.
  """
  ids = as_ids(ids)
  repeated = recurrence(ids, n, k) if repeated is None else repeated
  cycle = longest_cycle(ids, min_length=min_length)
  variant = None if cycle else longest_variant(ids, digits=digits, min_length=min_length)
  loop_class = _loop_class(repeated, cycle, variant)
  return LoopReport(
    recurrence_count=repeated.count,
    recurrence_onset=repeated.onset,
    recurrence_fired=repeated.fired,
    recurrence_covered=repeated.covered,
    cycle_onset=cycle.start if cycle else None,
    cycle_end=cycle.end if cycle else None,
    cycle_period=cycle.period if cycle else None,
    cycle_repetitions=cycle.repetitions if cycle else None,
    cycle_is_tail=cycle.is_tail if cycle else None,
    loop_class=loop_class,
    variant=variant if variant and variant.kind == loop_class else None,
  )


def _loop_class(repeated: Recurrence, cycle: Cycle | None, variant: Variant | None) -> str:
  if cycle:
    return "run" if cycle.period == 1 else "locked cycle"
  if variant and variant.kind == "variant":
    return "variant"
  if repeated.fired is not None:
    return "recurrence"
  return variant.kind if variant else "none"
