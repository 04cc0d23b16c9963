"""Measures of claims: from a tidy frame to one value per seed.

The frame has one row per condition, seed and temperature, settings and results in columns. What `seed_values` raises,
all measures raise. A seed that lacks one of two conditions has no value.

Shapes: S seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from loopjax.runtime.config import require

Measure = Callable[[pd.DataFrame], pd.Series]


class NotRun(Exception):
  """Raised by a measure whose conditions are not in the frame."""


def seed_values(frame: pd.DataFrame, column: str, where: Mapping[str, Any]) -> pd.Series:
  """The values of `column` in the rows of one condition, [S], indexed by seed.

  Args:
    frame: tidy, with a column `seed`.
    column: the result to read.
    where: column -> the value that it must equal.

  Raises:
    NotRun: no row is of that condition.
    ValueError: a column is missing, or a seed has several rows, so that `where` leaves a setting open.
  """
  rows = _rows(frame, column, where)
  if rows["seed"].duplicated().any():
    raise ValueError(f"several rows of one seed with {dict(where)}: name the settings that tell them apart")
  return rows.set_index("seed")[column].astype(float)


def _rows(frame: pd.DataFrame, column: str, where: Mapping[str, Any]) -> pd.DataFrame:
  """Those of one condition; one at least."""
  for name in ("seed", column, *where):
    require(name in frame.columns, "column", name, f"one of {sorted(map(str, frame.columns))}")
  is_wanted = np.ones(len(frame), bool)
  for name, value in where.items():
    is_wanted &= (frame[name] == value).to_numpy(bool)
  if not is_wanted.any():
    raise NotRun(f"no row with {dict(where)}")
  return frame[is_wanted]


def value_measure(column: str, where: Mapping[str, Any]) -> Measure:
  """The measure that is `column` under one condition."""
  return lambda frame: seed_values(frame, column, where)


def ratio_measure(column: str, numerator: Mapping[str, Any], denominator: Mapping[str, Any]) -> Measure:
  """The measure that is the ratio of `column` under two conditions; a seed whose denominator is 0 has no value."""

  def measure(frame: pd.DataFrame) -> pd.Series:
    x, y = (seed_values(frame, column, where) for where in (numerator, denominator))
    return x / y.mask(y == 0)

  return measure


def difference_measure(column: str, minuend: Mapping[str, Any], subtrahend: Mapping[str, Any]) -> Measure:
  """The measure that is `column` under one condition minus that under another."""
  return lambda frame: seed_values(frame, column, minuend) - seed_values(frame, column, subtrahend)


def worst_measure(column: str, where: Mapping[str, Any], worst: str) -> Measure:
  """The measure that is the worst cell of each seed: of `column` over all of its rows of one condition.

  A cell that is NaN may be the worst, and so may a row that only other seeds have: such a seed has no value.

  Args:
    column: the result to read.
    where: column -> the value that it must equal; what it leaves open are the cells.
    worst: `min` or `max`.
  """
  require(worst in ("min", "max"), "worst", worst, "'min' or 'max'")

  def measure(frame: pd.DataFrame) -> pd.Series:
    cells = _rows(frame, column, where).groupby("seed")[column]
    values = cells.agg(lambda cell: getattr(cell, worst)(skipna=False)).astype(float)
    return values.where(cells.size() == cells.size().max())

  return measure
