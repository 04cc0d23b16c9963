"""Claims: what is asserted, registered before it is measured, and the verdict that the measurement gives.

A claim names a measure, the bound it is held against, and the presets large enough to test it. Experiments list their
claims as plain `Claim` objects and pass the list to `evaluate`; there is no global registry.

Measures read a tidy frame: one row per condition, seed and temperature, settings and results in columns.

Shapes: S seeds.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from loopjax import files, statistics
from loopjax.config import require
from loopjax.statistics import Interval

DIRECTIONS = ("below", "above")
HOLDS, FAILS, UNDECIDED, NOT_RUN = "holds", "fails", "undecided", "not run"

Measure = Callable[[pd.DataFrame], Interval | None]


class NotRun(Exception):
  """Raised by a measure whose conditions are not in the frame."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
  """One assertion, complete before anything is run.

  Attributes:
    name: short and unique, as in the report's table.
    description: the assertion in a sentence.
    source: whose it is, and where: a section or figure of a paper, or our own.
    condition: under which it is tested: the task, the student, the temperatures.
    measure: from the frame to a 95% interval over seeds; None or `NotRun` where the frame lacks the condition.
    bound: what the measure is held against: a direction (0 or 1) or a ratio to exact theory or to a baseline.
    direction: `below` or `above`: the side of the bound on which the claim holds.
    presets: the presets large enough to test it; `not run` at all others.
    published: the published value, shown beside the measured one and never used; None where there is none.
  """

  name: str
  description: str
  source: str
  condition: str
  measure: Measure
  bound: float
  direction: str
  presets: tuple[str, ...]
  published: float | None = None

  def __post_init__(self) -> None:
    for field in ("name", "description", "source", "condition"):
      value = getattr(self, field)
      require(isinstance(value, str) and bool(value.strip()), f"claim.{field}", value, "a text that is not empty")
    require(callable(self.measure), "claim.measure", self.measure, "a function from a frame to an Interval or None")
    require(_is_finite(self.bound), "claim.bound", self.bound, "a finite number")
    require(self.direction in DIRECTIONS, "claim.direction", self.direction, "'below' or 'above'")
    is_names = isinstance(self.presets, tuple) and all(isinstance(preset, str) for preset in self.presets)
    require(is_names and len(self.presets) > 0, "claim.presets", self.presets, "a tuple of one preset name or more")
    require(
      self.published is None or _is_finite(self.published), "claim.published", self.published, "a finite number or None"
    )


def judge(interval: Interval, bound: float, direction: str) -> str:
  """`holds` or `fails` where the interval lies wholly, strictly on one side of the bound, else `undecided`.

  Args:
    interval: of scalars. Ends that are NaN decide nothing.
    bound: what to hold it against.
    direction: the side on which the claim holds, `below` or `above`.

  Raises:
    ValueError: another direction.
  """
  require(direction in DIRECTIONS, "direction", direction, "'below' or 'above'")
  is_below, is_above = bool(interval.high < bound), bool(interval.low > bound)
  if not (is_below or is_above):
    return UNDECIDED
  return HOLDS if is_below == (direction == "below") else FAILS


def evaluate(claims: Iterable[Claim], frame: pd.DataFrame, preset: str) -> pd.DataFrame:
  """Measures and judges every claim.

  Args:
    claims: registered beforehand; names are unique.
    frame: the results, tidy.
    preset: the one that gave the results; claims that do not list it are not measured.

  Returns:
    A row per claim, in order: claim, value, low, high, published, verdict, then bound, direction, num_seeds,
    zero_variance, description, condition, source. Numbers that are not there are NaN.

  Raises:
    ValueError: two claims of one name. What a measure raises, other than `NotRun`, with a note naming the claim.
  """
  claims = list(claims)
  names = [claim.name for claim in claims]
  repeated = sorted({name for name in names if names.count(name) > 1})
  require(not repeated, "claim.name", repeated, "unique")
  return pd.DataFrame([_row(claim, _measured(claim, frame, preset)) for claim in claims], columns=COLUMNS)


NUMBERS = ["value", "low", "high", "published", "bound"]
COLUMNS = ["claim", "value", "low", "high", "published", "verdict"]
COLUMNS += ["bound", "direction", "num_seeds", "zero_variance", "description", "condition", "source"]


def _measured(claim: Claim, frame: pd.DataFrame, preset: str) -> Interval | None:
  if preset not in claim.presets:
    return None
  try:
    return claim.measure(frame)
  except NotRun:
    return None
  except Exception as error:
    error.add_note(f"while measuring the claim {claim.name!r}")
    raise


def _row(claim: Claim, interval: Interval | None) -> dict[str, Any]:
  verdict = NOT_RUN if interval is None else judge(interval, claim.bound, claim.direction)
  if interval is None:
    interval = Interval(math.nan, math.nan, math.nan, 0, False)
  return {
    "claim": claim.name,
    "value": float(interval.mean),
    "low": float(interval.low),
    "high": float(interval.high),
    "published": math.nan if claim.published is None else float(claim.published),
    "verdict": verdict,
    "bound": float(claim.bound),
    "direction": claim.direction,
    "num_seeds": int(interval.num_seeds),
    "zero_variance": bool(interval.zero_variance),
    "description": claim.description,
    "condition": claim.condition,
    "source": claim.source,
  }


def write_csv(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
  """Writes the verdicts as CSV, atomically; a number that is not there is an empty field."""
  files.write_atomically(path, lambda temporary: frame.to_csv(temporary, index=False))


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
  for name in ("seed", column, *where):
    require(name in frame.columns, "column", name, f"one of {sorted(map(str, frame.columns))}")
  is_wanted = np.ones(len(frame), bool)
  for name, value in where.items():
    is_wanted &= (frame[name] == value).to_numpy(bool)
  rows = frame[is_wanted]
  if rows.empty:
    raise NotRun(f"no row with {dict(where)}")
  if rows["seed"].duplicated().any():
    raise ValueError(f"several rows of one seed with {dict(where)}: name the settings that tell them apart")
  return rows.set_index("seed")[column].astype(float)


def mean_measure(column: str, where: Mapping[str, Any]) -> Measure:
  """The measure that is the mean of `column` over the seeds of one condition."""
  return lambda frame: statistics.mean_interval(seed_values(frame, column, where).to_numpy())


def paired_ratio_measure(column: str, numerator: Mapping[str, Any], denominator: Mapping[str, Any]) -> Measure:
  """The measure that is the ratio of the means of `column` under two conditions, for the seeds that have both."""

  def measure(frame: pd.DataFrame) -> Interval:
    pairs = pd.concat([seed_values(frame, column, where) for where in (numerator, denominator)], axis=1, join="inner")
    if pairs.empty:
      raise NotRun(f"no seed has both {dict(numerator)} and {dict(denominator)}")
    x, y = pairs.to_numpy().T
    return statistics.ratio_interval(x, y, paired=True)

  return measure


def _is_finite(value: Any) -> bool:
  is_number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
  return is_number and math.isfinite(value)
