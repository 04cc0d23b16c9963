"""The columns of the summary, compact: about 250 bytes a response, whatever the length of its text.

Shapes: R responses, N lengths n of the (n, k) map, B bins of confidence.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from loopjax.traces import measure

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Columns:
  """One entry a response, in the order of reading; numbers are NaN where the response has none.

  Attributes:
    names: [R] each, objects: model, problem, units, ending, loop_class, reasoning_class, answer_class; None where null.
    numbers: [R] each, float64: sample, temperature, label, num_units, recurrence_fired, cycle_onset, is_unclosed.
    counts: [R, N], c(n) for each n of `measure.STAIRCASE`; -1 where the response is lost.
    confidence: response -> [B], for the few that have one.
  """

  names: dict[str, np.ndarray]
  numbers: dict[str, np.ndarray]
  counts: np.ndarray
  confidence: dict[int, np.ndarray]

  def __len__(self) -> int:
    return len(self.counts)

  def __getitem__(self, name: str) -> np.ndarray:
    """The column of that name, [R]."""
    return self.names[name] if name in self.names else self.numbers[name]


NAMES = ("model", "problem", "units", "ending", "loop_class", "reasoning_class", "answer_class")
NUMBERS = ("sample", "temperature", "label", "num_units", "recurrence_fired", "cycle_onset", "is_unclosed")


def of_rows(rows: Sequence[Row]) -> Columns:
  """The columns of some rows; equal names share one string."""
  lost = [-1] * len(measure.STAIRCASE)
  return Columns(
    names={name: _objects([_interned(row.get(name)) for row in rows]) for name in NAMES},
    numbers={name: np.array([_number(row.get(name)) for row in rows], np.float64) for name in NUMBERS},
    counts=np.array([row.get("counts") or lost for row in rows], np.int64).reshape(-1, len(lost)),
    confidence={i: np.array(row["confidence"], np.float64) for i, row in enumerate(rows) if row.get("confidence")},
  )


def joined(parts: Iterable[Columns]) -> Columns:
  """The columns of all parts, one after another."""
  parts = [of_rows([]), *parts]
  starts = np.cumsum([0, *(len(part) for part in parts)])
  return Columns(
    names={name: np.concatenate([part.names[name] for part in parts]) for name in NAMES},
    numbers={name: np.concatenate([part.numbers[name] for part in parts]) for name in NUMBERS},
    counts=np.concatenate([part.counts for part in parts]),
    confidence={
      int(start) + i: bins for start, part in zip(starts, parts, strict=False) for i, bins in part.confidence.items()
    },
  )


def _interned(value: str | None) -> str | None:
  return None if value is None else sys.intern(value)


def _objects(values: list[str | None]) -> np.ndarray:
  array = np.empty(len(values), object)
  array[:] = values
  return array


def _number(value: Any) -> float:
  return np.nan if value is None else float(value)
