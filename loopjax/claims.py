"""Claims: what is asserted, registered before it is measured, and the verdict that the measurement gives.

A verdict concerns a named estimand: the median over seeds of a claim's per-seed value. It is decided by order
statistics (`statistics.median_interval`), at 6 seeds or more, and only on students that are fit. Experiments list their
claims as plain `Claim` objects and pass the list to `evaluate`; there is no global registry.

Measures read a tidy frame: one row per condition, seed and temperature, settings and results in columns.

Shapes: S seeds.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from loopjax import statistics
from loopjax.claim_measures import Measure, NotRun
from loopjax.runtime import files
from loopjax.runtime.config import require
from loopjax.statistics import MedianInterval

DIRECTIONS = ("below", "above")
HOLDS, FAILS, UNDECIDED, UNFIT, NOT_RUN = "holds", "fails", "undecided", "unfit", "not run"
LEVEL = 0.05  # of Holm-adjusted verdicts; two-sided, as are the 95% intervals of the others


@dataclasses.dataclass(frozen=True)
class Fitness:
  """What every student must fulfil before a claim is judged on it.

  Attributes:
    name: what is looked at, as the report shall call it, such as "broken".
    measure: from the frame to per-seed values, of the conditions that the claim reads.
    at_most: the largest value of a student that is fit. A seed without a value is not fit.
  """

  name: str
  measure: Measure
  at_most: float

  def __post_init__(self) -> None:
    require(_is_text(self.name), "fitness.name", self.name, "a text that is not empty")
    require(callable(self.measure), "fitness.measure", self.measure, "a function from a frame to per-seed values")
    require(_is_finite(self.at_most), "fitness.at_most", self.at_most, "a finite number")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
  """One assertion, complete before anything is run.

  The bound of a claim of ours separates two worlds. `predicted`, the mechanism's exact effect, lies strictly on the
  claim's side of it. `null`, the value without the mechanism, lies strictly on the other side. (Where nothing is
  predicted the bound may be `null` itself.) The usual bound is `halfway` between the two.

  A published statement keeps the bound that its authors' words give. The mechanism's own prediction may then lie on the
  other side: a `fails` that the exact learner shares is a finding about the statement.

  Attributes:
    name: short and unique, as in the report's table.
    description: the assertion in a sentence.
    source: whose it is, and where: a section or figure of a paper, or our own.
    condition: under which it is tested: the task, the student, the temperatures.
    measure: from the frame to the per-seed values, [S], indexed by seed. A seed without a value is NaN, and counts
      against a decision. Raises `NotRun` where the frame lacks the condition.
    bound: what the median of the values is held against.
    direction: `below` or `above`: the side of the bound on which the claim holds.
    presets: the presets large enough to test it; `not run` at all others.
    family: the mechanism that it is a claim of. Verdicts are adjusted for the number of claims in a family.
    published: the published value, shown beside the measured one and never used; None where there is none.
    null: the measure's exact value in the worlds in which the claim must not hold; of several the one nearest to the
      claim's side. None where it is not known.
    predicted: the measure's exact value if the mechanism is as said; None where it is not known.
    is_published_statement: whether the bound is a published statement's, wherever null and prediction lie.
    must_not_hold: the names of the worlds in which the claim must not hold.
    fitness: what every student that the claim is judged on must fulfil.
  """

  name: str
  description: str
  source: str
  condition: str
  measure: Measure
  bound: float
  direction: str
  presets: tuple[str, ...]
  family: str
  published: float | None = None
  null: float | None = None
  predicted: float | None = None
  is_published_statement: bool = False
  must_not_hold: tuple[str, ...] = ()
  fitness: tuple[Fitness, ...] = ()

  def __post_init__(self) -> None:
    for field in ("name", "description", "source", "condition", "family"):
      value = getattr(self, field)
      require(_is_text(value), f"claim.{field}", value, "a text that is not empty")
    require(callable(self.measure), "claim.measure", self.measure, "a function from a frame to per-seed values")
    require(_is_finite(self.bound), "claim.bound", self.bound, "a finite number")
    require(self.direction in DIRECTIONS, "claim.direction", self.direction, "'below' or 'above'")
    for field in ("presets", "must_not_hold"):
      value = getattr(self, field)
      require(isinstance(value, tuple) and all(map(_is_text, value)), f"claim.{field}", value, "a tuple of names")
    require(len(self.presets) > 0, "claim.presets", self.presets, "a tuple of one preset name or more")
    for field in ("published", "null", "predicted"):
      value = getattr(self, field)
      require(value is None or _is_finite(value), f"claim.{field}", value, "a finite number or None")
    is_checks = isinstance(self.fitness, tuple) and all(isinstance(check, Fitness) for check in self.fitness)
    require(is_checks, "claim.fitness", self.fitness, "a tuple of Fitness")
    if not self.is_published_statement:
      self._require_that_the_bound_separates()

  def _require_that_the_bound_separates(self) -> None:
    sign, other = (1, "below") if self.direction == "above" else (-1, "above")
    if self.predicted is not None:
      allowed = f"strictly {self.direction} the bound {self.bound:g}"
      require(sign * (self.predicted - self.bound) > 0, "claim.predicted", self.predicted, allowed)
    if self.null is not None:
      distance = sign * (self.bound - self.null)
      allowed = f"{'at or' if self.predicted is None else 'strictly'} {other} the bound {self.bound:g}"
      require(distance >= 0 if self.predicted is None else distance > 0, "claim.null", self.null, allowed)


def halfway(null: float, predicted: float) -> float:
  """The arithmetic middle: the bound of a claim of an effect, unless there is a reason for another."""
  return (null + predicted) / 2


def judge(interval: MedianInterval, bound: float, direction: str) -> str:
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


def evaluate(claims: Iterable[Claim], frame: pd.DataFrame, preset: str, *, check_fitness: bool = True) -> pd.DataFrame:
  """Measures and judges every claim.

  Args:
    claims: registered beforehand; names are unique.
    frame: the results, tidy.
    preset: the one that gave the results; claims that do not list it are not measured.
    check_fitness: whether claims are judged on fit students alone; not so where there are no trained students.

  Returns:
    A row per claim, in order, with the columns `COLUMNS`. Numbers that are not there are NaN.
    `value` is the median of the `num_seeds` seeds that have a value; `low` and `high` are its 95% interval.
    `seeds_undefined` counts the seeds without a value, `seeds_beyond` those strictly beyond the bound on the claim's
    side. `p_value` is the two-sided sign test's, NaN where the verdict is `unfit` or `not run`. `unfit_because` is
    empty unless the verdict is `unfit`. The columns of families concern these claims alone; `adjust_families` redoes
    them.

  Raises:
    ValueError: two claims of one name, or a measure that gives other than one value a seed. What a measure raises,
      other than `NotRun`, with a note naming the claim.
  """
  claims = list(claims)
  names = [claim.name for claim in claims]
  repeated = sorted({name for name in names if names.count(name) > 1})
  require(not repeated, "claim.name", repeated, "unique")
  rows = []
  for claim in claims:
    try:
      rows.append(_row(claim, *_measured(claim, frame, preset, check_fitness)))
    except Exception as error:
      error.add_note(f"while measuring the claim {claim.name!r}")
      raise
  return adjust_families(pd.DataFrame(rows, columns=COLUMNS))


NUMBERS = ["value", "low", "high", "null", "predicted", "published", "bound", "num_seeds", "seeds_undefined"]
NUMBERS += ["seeds_beyond", "p_value", "family_size", "holm_p"]
COLUMNS = ["claim", "value", "low", "high", "null", "predicted", "published", "verdict"]
COLUMNS += ["bound", "direction", "num_seeds", "seeds_undefined", "seeds_beyond", "p_value"]
COLUMNS += ["family", "family_size", "holm_p", "holm_verdict", "unfit_because", "description", "condition", "source"]


def adjust_families(table: pd.DataFrame) -> pd.DataFrame:
  """The table with family_size, holm_p and holm_verdict over all its rows; to be called after tables are joined.

  A family is the judged claims with one name of `family`; claims that are `unfit` or `not run` do not count. holm_p is
  the p-value adjusted by Holm's method. holm_verdict is the verdict where holm_p is under `LEVEL`, and else
  `undecided`; `unfit` and `not run` stay.

  Args:
    table: rows of `evaluate`, of one experiment or of several joined. What an earlier call has put there is not read.
  """
  p_values = table.groupby("family")["p_value"]
  holm_p = p_values.transform(lambda values: statistics.holm(values.to_numpy())).astype(float)
  is_open = table["p_value"].notna() & ~(holm_p < LEVEL)
  return table.assign(
    family_size=p_values.transform("count").astype(int), holm_p=holm_p,
    holm_verdict=table["verdict"].where(~is_open, UNDECIDED),
  )  # fmt: skip


def _measured(claim: Claim, frame: pd.DataFrame, preset: str, check_fitness: bool) -> tuple[pd.Series | None, str]:
  """The per-seed values, None where the claim was not run; and why the students are not fit, empty where they are."""
  if preset not in claim.presets:
    return None, ""
  try:
    values = _per_seed(claim.measure(frame))
  except NotRun:
    return None, ""
  reasons = (_unfit(fitness, frame, values.index) for fitness in claim.fitness if check_fitness)
  return values, next(filter(None, reasons), "")


def _per_seed(values: pd.Series) -> pd.Series:
  is_per_seed = isinstance(values, pd.Series) and values.index.is_unique
  require(is_per_seed, "measure", values, "a function from a frame to a Series with one value a seed")
  return values.astype(float)


def _unfit(fitness: Fitness, frame: pd.DataFrame, seeds: pd.Index) -> str:
  """What is wrong with the worst seed, or nothing. A seed of the claim of which the measure says nothing is not fit."""
  try:
    values = _per_seed(fitness.measure(frame))
  except NotRun:
    values = pd.Series(dtype=float)
  values = values.reindex(values.index.union(seeds))
  if values.isna().any():
    return f"{fitness.name} not known for {values.isna().sum()} of {len(values)} seeds"
  is_fit = values.empty or values.max() <= fitness.at_most
  return "" if is_fit else f"{fitness.name} up to {values.max():.3g}, at most {fitness.at_most:.3g} is fit"


def _row(claim: Claim, values: pd.Series | None, unfit_because: str) -> dict[str, Any]:
  """The columns but those of the family, which `adjust_families` adds."""
  given = np.empty(0) if values is None else values.to_numpy()
  interval = statistics.median_interval(given)
  verdict = judge(interval, claim.bound, claim.direction)
  verdict = NOT_RUN if values is None else UNFIT if unfit_because else verdict
  is_judged = verdict not in (NOT_RUN, UNFIT)
  is_beyond = given > claim.bound if claim.direction == "above" else given < claim.bound
  return {
    "claim": claim.name,
    "value": float(interval.median),
    "low": math.nan if values is None else float(interval.low),
    "high": math.nan if values is None else float(interval.high),
    **{name: _number(getattr(claim, name)) for name in ("null", "predicted", "published", "bound")},
    "verdict": verdict,
    "num_seeds": int(interval.num_seeds),
    "seeds_undefined": len(given) - int(interval.num_seeds),
    "seeds_beyond": int(is_beyond.sum()),
    "p_value": statistics.sign_test(given, claim.bound).p_value if is_judged else math.nan,
    "unfit_because": unfit_because,
    **{name: getattr(claim, name) for name in ("direction", "family", "description", "condition", "source")},
  }


def write_csv(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
  """Writes the verdicts as CSV, atomically; a number that is not there is an empty field."""
  files.write_atomically(path, lambda temporary: frame.to_csv(temporary, index=False))


def _is_text(value: Any) -> bool:
  return isinstance(value, str) and bool(value.strip())


def _is_finite(value: Any) -> bool:
  is_number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
  return is_number and math.isfinite(value)


def _number(value: float | None) -> float:
  return math.nan if value is None else float(value)
