"""Variant cycles and enumerations: turns of one length of which some places, the slots, change from turn to turn.

A run of digits counts as one unit, so that a counter that grows from 9 to 10 does not change the length of a turn. A
place of the turn is a slot where no unit stands in more than two thirds of the turns. The fixed share f is the share of
all units of the turns that are what their place mostly holds, slots counting as nothing. With f >= 0.9 the stretch is a
variant cycle, with 0.4 <= f < 0.9 an enumeration (a table, a numbered list, getters), which is no loop. This is a
threshold and not truth. Words that are longer in one turn than in another change the length of a turn: a stretch ends
there.

How they are found. A unit in a fixed place comes back after one turn. Where two neighbours in the sequence of units
that do come back have one distance, they vote for it as a period. Votes for one period that are close together make a
candidate; the candidates with the most votes are looked at in full.

Example: `a b 1 a b 2 a b 3 a b 4` has turns of 3 units, one slot (the digit), 4 turns and f = 2/3.

Shapes: N units, C units after digits are taken together, V votes, T turns of p units.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from loopjax.loops.cycles import MIN_LENGTH
from loopjax.loops.ids import Ids, as_ids
from loopjax.runtime.config import require

VARIANT_SHARE = 0.9  # fixed share f from which on the stretch is a variant cycle
ENUMERATION_SHARE = 0.4  # from which on it is an enumeration
MIN_TURNS = 5  # fewer turns of one form happen in ordinary text
_SLOT_SHARE = 2 / 3  # of the turns: a unit that stands in more of them is fixed
_LOOKED_AT = 64  # candidates looked at in full


@dataclasses.dataclass(frozen=True)
class Variant:
  """A variant cycle or an enumeration.

  Attributes:
    start: its first unit, in the sequence as given (digits apart).
    end: the unit after its last.
    period: units of a turn, a run of digits counting as one.
    slots: how many places of the turn change.
    turns: how many turns there are.
    fixed_share: f.
    values_come_back: whether some slot holds one value in two turns or more.
    kind: "variant" or "enumeration".
  """

  start: int
  end: int
  period: int
  slots: int
  turns: int
  fixed_share: float
  values_come_back: bool
  kind: str


class _Units(NamedTuple):
  """A sequence with runs of digits taken together: `forms` [C], all runs alike; `values` [C]; `starts` [C + 1]."""

  forms: np.ndarray
  values: np.ndarray
  starts: np.ndarray


def longest_variant(
  ids: np.ndarray | Sequence[int], *, digits: np.ndarray | None = None, min_length: int = MIN_LENGTH
) -> Variant | None:
  """The longest variant cycle, or where there is none the longest enumeration, or None; errors as `variants`."""
  found = variants(ids, digits=digits, min_length=min_length)
  return max(found, key=lambda v: (v.kind == "variant", v.end - v.start, -v.start), default=None)


def variants(
  ids: np.ndarray | Sequence[int], *, digits: np.ndarray | None = None, min_length: int = MIN_LENGTH
) -> list[Variant]:
  """Variant cycles and enumerations, those with the most votes first; locked cycles are not among them.

  Args:
    ids: [N], integers.
    digits: [N], bool, which units are digits; none where left out.
    min_length: units that the stretch has at least.

  Raises:
    ValueError: `ids` is no sequence of integers, `digits` has another shape, or `min_length` is negative.
  """
  ids = as_ids(ids)
  require(min_length >= 0, "min_length", min_length, "at least 0")
  digits = np.zeros(ids.size, bool) if digits is None else np.asarray(digits, bool)
  require(digits.shape == ids.shape, "digits", f"an array of shape {digits.shape}", f"of the shape of ids, {ids.shape}")
  units, found, seen = _together(ids, digits), [], np.zeros(ids.size, bool)
  for start, end, period in _candidates(units.forms):
    variant = _looked_at(units, start, end, period)
    if variant and variant.end - variant.start >= min_length and not seen[variant.start : variant.end].any():
      seen[variant.start : variant.end] = True
      found.append(variant)
  return found


def _together(ids: Ids, digits: np.ndarray) -> _Units:
  inside = np.zeros(ids.size, bool)
  inside[1:] = digits[1:] & digits[:-1]
  starts = np.flatnonzero(~inside)
  _, values = np.unique(ids, return_inverse=True)
  forms, values = values[starts], values[starts]
  is_number = digits[starts]
  ends = np.append(starts, ids.size)
  names: dict[bytes, int] = {}
  for i in np.flatnonzero(is_number):
    values[i] = ids.size + names.setdefault(ids[ends[i] : ends[i + 1]].tobytes(), len(names))
  forms[is_number] = -1
  return _Units(forms, values, ends)


def _candidates(forms: np.ndarray) -> list[tuple[int, int, int]]:
  """(start, end, period) of the stretches with the most votes, at most `_LOOKED_AT` of them."""
  places, periods = _votes(forms)
  order = np.lexsort((places, periods))
  places, periods = places[order], periods[order]
  new = np.ones(places.size, bool)
  new[1:] = (np.diff(periods) != 0) | (np.diff(places) > 2 * periods[1:])
  first = np.flatnonzero(new)
  sizes = np.diff(np.append(first, places.size))
  last = first + sizes - 1
  long = places[last] - places[first] >= (MIN_TURNS - 3) * periods[first]
  best = np.argsort(-sizes[long], kind="stable")[:_LOOKED_AT]
  first, last = first[long][best], last[long][best]
  starts = np.maximum(0, places[first] - periods[first])
  return list(zip(starts.tolist(), (places[last] + 1).tolist(), periods[first].tolist(), strict=True))


def _votes(forms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Places [V] and periods [V]: units that come back after one distance, the one before them that comes back too."""
  order = np.argsort(forms, kind="stable")
  again = forms[order[1:]] == forms[order[:-1]]
  distances = np.zeros(forms.size, np.int64)
  distances[order[1:][again]] = np.diff(order)[again]
  places = np.flatnonzero(distances)
  distances = distances[places]
  same = np.flatnonzero(distances[1:] == distances[:-1])
  both = np.concatenate((places[same], places[same + 1]))
  both, index = np.unique(both, return_index=True)
  return both, np.concatenate((distances[same], distances[same + 1]))[index]


def _looked_at(units: _Units, start: int, end: int, period: int) -> Variant | None:
  """The stretch as a variant or an enumeration, None where it is neither; units [start, end) after digits are one."""
  turns = (end - start) // period
  if turns < MIN_TURNS - 2:
    return None
  shares, _ = _shares(units, start, period, turns)
  slots = shares <= _SLOT_SHARE
  start, end, slots = _widened(units, start, end, period, slots)
  start, turns = _whole_turns(units, start, end, period, slots)
  shares, come_back = _shares(units, start, period, turns)
  slots = shares <= _SLOT_SHARE
  share = float(shares[~slots].sum()) / period
  if turns < MIN_TURNS or share < ENUMERATION_SHARE or share == 1:
    return None
  return Variant(
    int(units.starts[start]),
    int(units.starts[start + turns * period]),
    period,
    int(slots.sum()),
    turns,
    share,
    bool(come_back[slots].any()),
    "variant" if share >= VARIANT_SHARE else "enumeration",
  )


def _widened(units: _Units, start: int, end: int, period: int, slots: np.ndarray) -> tuple[int, int, np.ndarray]:
  """The stretch with what it lacks at its edges: units that did not vote, but are what their place mostly holds.

  Up to a turn is added on each side. Slots are added only where a fixed unit follows. Gives start, end and the slots
  of a turn that begins at the new start.
  """
  turns = (end - start) // period
  usual = np.sort(units.forms[start : start + turns * period].reshape(turns, period), axis=0)[turns // 2]
  before = units.forms[max(0, start - period) : start]
  left = _agreeing(before[::-1], usual[::-1], slots[::-1])
  place = (end - start) % period
  after = units.forms[end : end + period]
  right = _agreeing(after, np.roll(usual, -place), np.roll(slots, -place))
  return start - left, end + right, np.roll(slots, left)


def _agreeing(forms: np.ndarray, usual: np.ndarray, slots: np.ndarray) -> int:
  """How many units from the first on belong to the turns; the last of them is no slot."""
  is_usual, is_slot = forms == usual[: forms.size], slots[: forms.size]
  wrong = np.flatnonzero(~is_usual & ~is_slot)
  fixed = np.flatnonzero((is_usual & ~is_slot)[: wrong[0] if wrong.size else forms.size])
  return int(fixed[-1]) + 1 if fixed.size else 0


def _whole_turns(units: _Units, start: int, end: int, period: int, slots: np.ndarray) -> tuple[int, int]:
  """Start and number of turns; slots at the end, or else at the start, that complete a turn belong to it."""
  turns, rest = divmod(end - start, period)
  if rest and slots[rest:].all() and start + (turns + 1) * period <= units.forms.size:
    return start, turns + 1
  before = 0
  while before < min(start, period - rest) and slots[-1 - before]:
    before += 1
  if rest and before == period - rest:
    return start - before, turns + 1
  return start, turns


def _shares(units: _Units, start: int, period: int, turns: int) -> tuple[np.ndarray, np.ndarray]:
  """For each place of a turn, [p]: the share of turns with its commonest unit, and whether a unit comes twice.

  The share is exact above one half, where the commonest unit is the median.
  """
  table = np.sort(units.values[start : start + turns * period].reshape(turns, period), axis=0)
  return (table == table[turns // 2]).mean(0), (table[1:] == table[:-1]).any(0)
