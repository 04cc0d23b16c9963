"""Confidence intervals over seeds: of a mean, and of a ratio of means.

A seed whose value is NaN (a diverged, excluded run) is left out, and `num_seeds` tells how many counted.

Shapes: S seeds. Both intervals reduce one axis and keep the others, so [S] gives scalars and [S, X] gives [X].

Sources: Student's t-interval; E. C. Fieller, "Some problems in interval estimation", J. R. Statist. Soc. B 16 (1954)
175-185, for the ratio; for two independent groups of unequal variance its degrees of freedom by Satterthwaite at the
estimated ratio, as A. C. Tamhane and B. R. Logan, J. Biopharm. Statist. 14 (2004) 843-856, have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from loopjax.config import require


class Interval(NamedTuple):
  """An estimate with its confidence interval; scalars, or arrays of one shape.

  Attributes:
    mean: the estimate (of a ratio: the ratio of the means); NaN where no seed counted.
    low: the lower end; -inf where the seeds bound nothing.
    high: the upper end; inf where the seeds bound nothing.
    num_seeds: the seeds that counted; the smaller group's for a ratio of unpaired groups.
    zero_variance: whether two seeds or more all said the same, so that the interval is a point: then it tells of the
      measure's granularity, not of certainty.
  """

  mean: np.ndarray | float
  low: np.ndarray | float
  high: np.ndarray | float
  num_seeds: np.ndarray | int
  zero_variance: np.ndarray | bool


class _Moments(NamedTuple):
  """Of one group along its last axis, NaN left out: count, mean, variance of the mean."""

  num: np.ndarray
  mean: np.ndarray
  variance: np.ndarray


def mean_interval(values: np.ndarray, confidence: float = 0.95, axis: int = 0) -> Interval:
  """The t-interval of the mean over seeds; (-inf, inf) with fewer than two seeds.

  Args:
    values: [S], or more axes; NaN is left out.
    confidence: coverage of the interval, in (0, 1).
    axis: the axis of the seeds.

  Returns:
    An `Interval` of the shape of `values` without `axis`.

  Raises:
    ValueError: an infinite value, or a confidence outside (0, 1).
  """
  require(0 < confidence < 1, "confidence", confidence, "in (0, 1)")
  values = _seeds_last(values, axis)
  count, mean, variance = _moments(values)
  half = _quantile(confidence, count - 1) * np.sqrt(variance)
  return _interval(mean, mean - half, mean + half, count, _all_equal(values))


def describe(values: np.ndarray, spec: str) -> str:
  """Mean and 95% interval of `values` [S] as text, `mean [low, high]`, the numbers in the format `spec`."""
  interval = mean_interval(values)
  return f"{interval.mean:{spec}} [{interval.low:{spec}}, {interval.high:{spec}}]"


def describe_groups(frame: pd.DataFrame, by: Sequence[str], columns: Sequence[str], spec: str = ".3g") -> pd.DataFrame:
  """`describe` of `columns` over the seeds of each group of rows that agree `by` columns, in the order of the frame."""
  grouped = frame.groupby(list(by), sort=False, dropna=False)[list(columns)]
  return grouped.agg(lambda values: describe(values.to_numpy(), spec))


def ratio_interval(
  numerator: np.ndarray, denominator: np.ndarray, *, paired: bool, confidence: float = 0.95, axis: int = 0
) -> Interval:
  """Fieller's interval of mean(numerator) / mean(denominator); (-inf, inf) where the denominator may be zero.

  The interval holds the ratios r for which numerator - r denominator has a mean that a t-test does not tell from zero.
  It is exact for normal values in pairs, and nearly so for independent groups.

  Args:
    numerator: [S], or more axes; NaN is left out.
    denominator: likewise; of the same shape where paired, else with any number of seeds.
    paired: whether entry i of both is the same seed under two conditions: the covariance then counts, and a seed with a
      NaN in either is left out of both.
    confidence: coverage of the interval, in (0, 1).
    axis: the axis of the seeds.

  Returns:
    An `Interval` of the shape of `numerator` without `axis`.

  Raises:
    ValueError: an infinite value, a confidence outside (0, 1), or paired values of different shapes.
  """
  require(0 < confidence < 1, "confidence", confidence, "in (0, 1)")
  x, y = _seeds_last(numerator, axis), _seeds_last(denominator, axis)
  if paired:
    if x.shape != y.shape:
      raise ValueError(f"paired values must have one shape, got {np.shape(numerator)} and {np.shape(denominator)}")
    x, y = np.where(np.isnan(y), np.nan, x), np.where(np.isnan(x), np.nan, y)
  x_moments, y_moments = _moments(x), _moments(y)
  with np.errstate(divide="ignore", invalid="ignore"):
    ratio = x_moments.mean / y_moments.mean
  if paired:
    covariance = _covariance(x, y)
    freedom = x_moments.num - 1
    is_point = _is_proportional(x, y, ratio)
  else:
    covariance = np.zeros(ratio.shape)
    freedom = _satterthwaite(x_moments, y_moments, ratio)
    is_point = _all_equal(x) & _all_equal(y)
  low, high = _fieller(x_moments, y_moments, covariance, _quantile(confidence, freedom))
  return _interval(ratio, low, high, np.minimum(x_moments.num, y_moments.num), is_point)


def _fieller(x: _Moments, y: _Moments, covariance: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The roots of (x - r y)^2 = t^2 var(x - r y) in r, or (-inf, inf) where they do not enclose a finite interval."""
  with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
    a = y.mean**2 - t**2 * y.variance
    b = x.mean * y.mean - t**2 * covariance
    c = x.mean**2 - t**2 * x.variance
    root = np.sqrt(np.maximum(b**2 - a * c, 0))  # negative by rounding only, where a > 0
    bounded = (a > 0) & np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
    return np.where(bounded, (b - root) / a, -np.inf), np.where(bounded, (b + root) / a, np.inf)


def _satterthwaite(x: _Moments, y: _Moments, ratio: np.ndarray) -> np.ndarray:
  """Degrees of freedom of the variance of x - ratio y, independent groups; 0 where a group has no variance to give."""
  x_part, y_part = x.variance, ratio**2 * y.variance
  with np.errstate(invalid="ignore", divide="ignore"):
    freedom = (x_part + y_part) ** 2 / (x_part**2 / (x.num - 1) + y_part**2 / (y.num - 1))
  freedom = np.where(x_part + y_part == 0, np.inf, freedom)
  return np.where((x.num < 2) | (y.num < 2) | np.isnan(freedom), 0, freedom)


def _interval(mean: np.ndarray, low: np.ndarray, high: np.ndarray, count: np.ndarray, is_point: np.ndarray) -> Interval:
  """Closes the interval where all seeds agree, opens it where there are fewer than two, and unwraps scalars."""
  is_point = is_point & (count >= 2) & np.isfinite(mean)
  unknown = count < 2
  low = np.where(unknown, -np.inf, np.where(is_point, mean, low))
  high = np.where(unknown, np.inf, np.where(is_point, mean, high))
  return Interval(*(np.asarray(part)[()] for part in (mean, low, high, count, is_point)))


def _seeds_last(values: np.ndarray, axis: int) -> np.ndarray:
  values = np.moveaxis(np.asarray(values, dtype=np.float64), axis, -1)
  if np.isinf(values).any():
    raise ValueError("values hold an infinity: leave the seed out with a NaN, or measure something finite")
  return values


def _moments(values: np.ndarray) -> _Moments:
  known = ~np.isnan(values)
  count = known.sum(-1)
  with np.errstate(invalid="ignore", divide="ignore"):
    mean = np.where(known, values, 0).sum(-1) / count
    variance = np.where(known, values - mean[..., None], 0) ** 2
    # Equal values have a mean that may be off by rounding; say the value itself, so that a bound meets it exactly.
    mean = np.where(_all_equal(values), np.where(known, values, -np.inf).max(-1, initial=-np.inf), mean)
    return _Moments(count, mean, variance.sum(-1) / (np.maximum(count - 1, 0) * count))


def _covariance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Of the two means, pairs along the last axis with NaN in both or neither."""
  known = ~np.isnan(x)
  count = known.sum(-1)
  x, y = (np.where(known, v - _moments(v).mean[..., None], 0) for v in (x, y))
  with np.errstate(invalid="ignore", divide="ignore"):
    return (x * y).sum(-1) / (np.maximum(count - 1, 0) * count)


def _all_equal(values: np.ndarray) -> np.ndarray:
  """Whether there are values along the last axis, and all the same."""
  highest = np.where(np.isnan(values), -np.inf, values).max(-1, initial=-np.inf)
  lowest = np.where(np.isnan(values), np.inf, values).min(-1, initial=np.inf)
  return highest == lowest


def _is_proportional(x: np.ndarray, y: np.ndarray, ratio: np.ndarray) -> np.ndarray:
  """Whether x = ratio y for all pairs, to rounding."""
  with np.errstate(invalid="ignore"):
    residual = np.where(np.isnan(x), 0, np.abs(x - ratio[..., None] * y))
  size = np.where(np.isnan(x), 0, np.abs(x)).max(-1, initial=0)
  return residual.max(-1, initial=0) <= 16 * np.finfo(np.float64).eps * size


def _quantile(confidence: float, freedom: np.ndarray) -> np.ndarray:
  """The two-sided quantile of Student's t; inf where there is no degree of freedom."""
  from scipy import special  # takes a quarter of a second, scipy.stats a half: whoever only trains should not wait

  # What scipy.stats.t.ppf calls.
  quantile = special.stdtrit(np.maximum(freedom, 1e-9), (1 + confidence) / 2)
  return np.where(freedom > 0, quantile, np.inf)
