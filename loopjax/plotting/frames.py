"""What figures ask of tidy frames: checks, the conditions, seeds in columns, how many of them count.

Shapes: S seeds, X places on the horizontal axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from loopjax.runtime.config import require


def check_columns(frame: pd.DataFrame, columns: Sequence[str]) -> None:
  """Raises `ValueError` where a column is missing, or every row."""
  for column in columns:
    require(column in frame.columns, "column", column, f"one of {sorted(map(str, frame.columns))}")
  require(len(frame) > 0, "frame", "no rows", "a frame of one row or more")


def check_unique(frame: pd.DataFrame, columns: Sequence[str]) -> None:
  """Raises `ValueError` where several rows agree in `columns`: their mean would hide a setting."""
  if frame.duplicated(list(columns)).any():
    names = ", ".join(columns)
    raise ValueError(f"several rows of one {names}: keep those of one setting, or name the setting in the condition")


def check_conditions(name: str, other: pd.DataFrame | None, hue: str, frame: pd.DataFrame) -> None:
  """Conditions misspelt in theory or published points would leave the figure unnoticed."""
  if other is not None:
    require(
      {hue, "temperature"} <= set(other.columns), f"{name}.columns", list(other.columns), f"with {hue}, temperature"
    )
    unknown = sorted(set(other[hue]) - set(frame[hue]))
    require(not unknown, f"{name}.{hue}", unknown, f"among those of the frame: {list(frame[hue].unique())}")


def choose_conditions(frame: pd.DataFrame, hue: str, conditions: Sequence[str] | None) -> list[str]:
  """Those asked for, in that order, or all as they come; `ValueError` where one is not in the frame."""
  there = list(frame[hue].unique())
  conditions = there if conditions is None else list(conditions)
  require(len(conditions) > 0 and set(conditions) <= set(there), "conditions", conditions, f"one or more of {there}")
  return conditions


def seed_table(rows: pd.DataFrame, x: str, measure: str) -> pd.DataFrame:
  """The measure as [X, S], `x` ascending in the index, seeds in columns; NaN where a seed lacks a row."""
  check_unique(rows, [x, "seed"])
  return rows.pivot(index=x, columns="seed", values=measure).astype(float)


class Counts(NamedTuple):
  """Per condition: the seeds with any number to show (where students differ in p too: at the worst p), all seeds."""

  counted: dict[Any, int]
  total: dict[Any, int]


def seed_counts(frame: pd.DataFrame, hue: str, measures: Sequence[str], within: Sequence[str] = ()) -> Counts:
  """Counts the students, which `hue`, the columns `within` and the seed tell apart."""
  is_known = frame[list(measures)].notna().any(axis=1)
  students = is_known.groupby([frame[name] for name in (hue, *within, "seed")]).any()
  cells = students.groupby(level=[hue, *within])
  counted, total = (x.groupby(level=hue).min().to_dict() for x in (cells.sum(), cells.size()))
  return Counts(counted, total)
