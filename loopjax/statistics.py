"""What seeds tell: intervals of a median, of a mean and of a ratio of means; the sign test, and Holm's adjustment.

Verdicts rest on the median, by order statistics, which assumes nothing about how the seeds' values are distributed.
t-intervals of means and of ratios are for tables and figures. A seed whose value is NaN (a diverged run) is left out of
those; against a decision about the median it counts. `num_seeds` tells how many seeds had a value.

Shapes: S seeds. Intervals reduce one axis and keep the others, so [S] gives scalars and [S, X] gives [X].

Sources: order statistics as confidence limits of a quantile, H. A. David and H. N. Nagaraja, Order Statistics (3rd
edition, 2003), section 7.1; the sign test, W. J. Dixon and A. M. Mood, J. Am. Stat. Assoc. 41 (1946) 557-566; S. Holm,
Scand. J. Statist. 6 (1979) 65-70; Student's t-interval; E. C. Fieller, "Some problems in interval estimation", J. R.
Statist. Soc. B 16 (1954) 175-185, for the ratio; for two independent groups of unequal variance its degrees of freedom
by Satterthwaite at the estimated ratio, as A. C. Tamhane and B. R. Logan, J. Biopharm. Statist. 14 (2004) 843-856, have
it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from loopjax.runtime.config import require

Limits = tuple[float, float]
UNLIMITED: Limits = (-math.inf, math.inf)


class MedianInterval(NamedTuple):
  """A sample median with its confidence interval; scalars, or arrays of one shape.

  Attributes:
    median: of the seeds that have a value; NaN where none has.
    low: the lower end; -inf where the seeds bound nothing.
    high: the upper end; inf where the seeds bound nothing.
    num_seeds: the seeds that have a value.
  """

  median: np.ndarray | float
  low: np.ndarray | float
  high: np.ndarray | float
  num_seeds: np.ndarray | int


class Interval(NamedTuple):
  """A mean, or a ratio of means, with its confidence interval; scalars, or arrays of one shape.

  Attributes:
    mean: the estimate (of a ratio: the ratio of the means); NaN where no seed counted.
    low: the lower end; -inf where the seeds bound nothing.
    high: the upper end; inf where the seeds bound nothing.
    num_seeds: the seeds that counted; the smaller group's for a ratio of unpaired groups.
  """

  mean: np.ndarray | float
  low: np.ndarray | float
  high: np.ndarray | float
  num_seeds: np.ndarray | int


class SignTest(NamedTuple):
  """The exact p-value, and the side of the bound, `below` or `above`, with more seeds; None where both have as many."""

  p_value: float
  direction: str | None


class Moments(NamedTuple):
  """Of one group along its last axis, NaN left out: count, mean, variance of the mean."""

  num: np.ndarray
  mean: np.ndarray
  variance: np.ndarray


def median_interval(values: np.ndarray, confidence: float = 0.95, axis: int = 0) -> MedianInterval:
  """The median over seeds with its distribution-free interval; (-inf, inf) with too few seeds (at 0.95: below 6).

  The ends are the k-th smallest and the k-th largest of the S values. The median lies below the k-th smallest with at
  most the probability that fewer than k of S fair coins show heads; k is the largest at which that is at most
  (1 - confidence) / 2. A NaN counts against a decision: it stands at -inf for the lower end and at inf for the upper.

  Args:
    values: [S], or more axes.
    confidence: the least coverage of the interval, in (0, 1).
    axis: the axis of the seeds.

  Returns:
    A `MedianInterval` of the shape of `values` without `axis`.

  Raises:
    ValueError: an infinite value, or a confidence outside (0, 1).
  """
  require(0 < confidence < 1, "confidence", confidence, "in (0, 1)")
  values = seeds_last(values, axis)
  unknown = np.isnan(values)
  count, rank = (~unknown).sum(-1), _median_rank(values.shape[-1], confidence)
  if rank == 0:
    low, high = (np.full(count.shape, end) for end in UNLIMITED)
  else:
    low = np.sort(np.where(unknown, -np.inf, values), axis=-1)[..., rank - 1]
    high = np.sort(np.where(unknown, np.inf, values), axis=-1)[..., -rank]
  return MedianInterval(*unwrapped(_median(values, count), low, high, count))


def _median(values: np.ndarray, count: np.ndarray) -> np.ndarray:
  """Along the last axis, of which `count` [...] are not NaN; those are sorted last."""
  ordered = np.concatenate([np.sort(values, axis=-1), np.full((*count.shape, 1), np.nan)], axis=-1)
  middle = np.stack([np.maximum(count - 1, 0) // 2, count // 2], axis=-1)
  return np.take_along_axis(ordered, middle, axis=-1).mean(-1)


@functools.cache
def _median_rank(num_seeds: int, confidence: float) -> int:
  """The k of `median_interval`; 0 where not even the extremes enclose the median surely enough."""
  return int(np.count_nonzero(_at_most_heads(np.arange(num_seeds), num_seeds) <= (1 - confidence) / 2))


def _at_most_heads(most: np.ndarray | int, num_coins: int) -> np.ndarray | float:
  """The probability that at most so many of the fair coins show heads."""
  from scipy import special  # takes a quarter of a second, scipy.stats a half: whoever only trains should not wait

  return special.bdtr(most, num_coins, 0.5)


def sign_test(values: np.ndarray, bound: float) -> SignTest:
  """The exact two-sided test that the median over seeds lies on one side of the bound.

  A seed at the bound, or without a value (NaN), counts as a seed and for neither side, and so against a decision. The
  p-value is below 0.05 where the interval of `median_interval` lies strictly on one side of the bound, nowhere else.

  Args:
    values: [S].
    bound: what the median is held against.

  Raises:
    ValueError: an infinite value.
  """
  values = seeds_last(values, 0)
  below, above = int((values < bound).sum()), int((values > bound).sum())
  p_value = min(1.0, 2 * float(_at_most_heads(len(values) - max(below, above), len(values))))
  return SignTest(p_value, None if below == above else "below" if below > above else "above")


def holm(p_values: np.ndarray) -> np.ndarray:
  """Holm's adjusted p-values, [N] from [N]: those under a level keep the chance of any false rejection under it.

  A NaN is no test: it stays NaN and does not count among the tests.
  """
  p_values = np.asarray(p_values, np.float64)
  order = np.argsort(p_values)[: np.count_nonzero(~np.isnan(p_values))]  # NaN are sorted last
  adjusted = np.full(p_values.shape, np.nan)
  adjusted[order] = np.minimum(1, np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1)))
  return adjusted


def mean_interval(values: np.ndarray, confidence: float = 0.95, axis: int = 0, limits: Limits = UNLIMITED) -> Interval:
  """The t-interval of the mean over seeds, cut at the limits; before the cut (-inf, inf) with fewer than two seeds.

  Args:
    values: [S], or more axes; NaN is left out.
    confidence: coverage of the interval, in (0, 1).
    axis: the axis of the seeds.
    limits: between which the measured quantity always lies. Cutting there does not lower the coverage.

  Returns:
    An `Interval` of the shape of `values` without `axis`.

  Raises:
    ValueError: an infinite value, one outside the limits (by more than rounding), or a confidence outside (0, 1).
  """
  require(0 < confidence < 1, "confidence", confidence, "in (0, 1)")
  values = seeds_last(values, axis)
  is_outside = (values < limits[0] - _ROUNDING) | (values > limits[1] + _ROUNDING)
  require(not is_outside.any(), "values", values[is_outside].tolist(), f"in [{limits[0]:g}, {limits[1]:g}]")
  count, mean, variance = moments(values)
  half = quantile(confidence, count - 1) * np.sqrt(variance)
  low = np.maximum(np.where(count < 2, -np.inf, mean - half), limits[0])
  high = np.minimum(np.where(count < 2, np.inf, mean + half), limits[1])
  return Interval(*unwrapped(mean, low, high, count))


_ROUNDING = 1e-4  # of sums in float32

_SHARES = (
  "reached", "broken", "cut", "accuracy_ignoring_validity", "root_loop_share", "loop_share", "share_monotone",
  "cohort_share_monotone", "persistence", "other_walks_persistence", "other_graphs_persistence", "persistence_per_walk",
  "chance", "other_walks_chance", "other_graphs_chance", "chance_per_walk", "invalid_mass", "cycle_probability",
  "cycle_is_argmax", "largest_child_probability", "goal_child_probability", "total_variation", "confidence",
  "cohort_confidence", "q10", "q25", "q50", "q75", "q90", "position_share", "locked_cycle_share",
)  # fmt: skip
_CORRELATIONS = ("correlation", "other_walks_correlation", "other_graphs_correlation")
_SIZES = (
  "returns", "root_loops", "response_length", "successful_length", "distinct_children", "revisits", "length_ratio",
  "loop_ratio", "persistence_ratio", "risk_aversion_ratio", "num_loops", "loop_onset", "loop_period", "cohort_size",
  "num_reaching", "num_pairs", "child_entropy", "kl_from_solution", "excess_length", "root_kl", "root_entropy",
)  # fmt: skip
LIMITS: Mapping[str, Limits] = {
  **dict.fromkeys(_SHARES, (0.0, 1.0)),
  **dict.fromkeys(_CORRELATIONS, (-1.0, 1.0)),
  **dict.fromkeys(_SIZES, (0.0, math.inf)),
}  # column of a table of results -> between which its values lie, by definition


def describe(values: np.ndarray, spec: str, limits: Limits = UNLIMITED) -> str:
  """`values` [S] as text, `mean [low, high]`, numbers in the format `spec`; with fewer than 3 seeds the values.

  The interval is the mean's at 95%, cut at `limits`. NaN seeds are left out; `nan` where all are.
  """
  known = np.asarray(values, np.float64)
  known = known[~np.isnan(known)]
  if len(known) < 3:
    return ", ".join(f"{value:{spec}}" for value in known) or "nan"
  interval = mean_interval(known, limits=limits)
  return f"{interval.mean:{spec}} [{interval.low:{spec}}, {interval.high:{spec}}]"


def describe_groups(
  frame: pd.DataFrame, by: Sequence[str], columns: Sequence[str], spec: str = ".3g",
  limits: Mapping[str, Limits] = LIMITS,
) -> pd.DataFrame:  # fmt: skip
  """`describe` of `columns` over the seeds of each group of rows that agree in the columns `by`, in the frame's order.

  Args:
    frame: a row per seed and group.
    by: the columns that name a group; NaN is a name too.
    columns: what to describe.
    spec: the format of numbers.
    limits: column -> between which its values lie; a column that is not named has none.
  """
  grouped = frame.groupby(list(by), sort=False, dropna=False)[list(columns)]
  return grouped.agg(lambda values: describe(values.to_numpy(), spec, limits.get(values.name, UNLIMITED)))


def unwrapped(*parts: np.ndarray) -> Iterator[Any]:
  """Arrays without an axis as scalars, others as they are."""
  return (np.asarray(part)[()] for part in parts)


def seeds_last(values: np.ndarray, axis: int) -> np.ndarray:
  """The values as float64 with the axis of the seeds last; `ValueError` where one is infinite."""
  values = np.moveaxis(np.asarray(values, dtype=np.float64), axis, -1)
  if np.isinf(values).any():
    raise ValueError("values hold an infinity: leave the seed out with a NaN, or measure something finite")
  return values


def moments(values: np.ndarray) -> Moments:
  """The `Moments` of values [..., S] over their last axis."""
  known = ~np.isnan(values)
  count = known.sum(-1)
  with np.errstate(invalid="ignore", divide="ignore"):
    mean = np.where(known, values, 0).sum(-1) / count
    variance = np.where(known, values - mean[..., None], 0) ** 2
    return Moments(count, mean, variance.sum(-1) / (np.maximum(count - 1, 0) * count))


def quantile(confidence: float, freedom: np.ndarray) -> np.ndarray:
  """The two-sided quantile of Student's t; inf where there is no degree of freedom."""
  from scipy import special

  # What scipy.stats.t.ppf calls.
  quantile = special.stdtrit(np.maximum(freedom, 1e-9), (1 + confidence) / 2)
  return np.where(freedom > 0, quantile, np.inf)
