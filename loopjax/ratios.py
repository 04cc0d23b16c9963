"""Fieller's interval of a ratio of means.

Sources: E. C. Fieller, "Some problems in interval estimation", J. R. Statist. Soc. B 16 (1954) 175-185; for two
independent groups of unequal variance the degrees of freedom by Satterthwaite at the estimated ratio, as A. C. Tamhane
and B. R. Logan, J. Biopharm. Statist. 14 (2004) 843-856, have it.

Shapes: S seeds.
"""

from __future__ import annotations

import numpy as np

from loopjax.runtime.config import require
from loopjax.statistics import Interval, Moments, moments, quantile, seeds_last, unwrapped


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
  x, y = seeds_last(numerator, axis), seeds_last(denominator, axis)
  if paired:
    if x.shape != y.shape:
      raise ValueError(f"paired values must have one shape, got {np.shape(numerator)} and {np.shape(denominator)}")
    x, y = np.where(np.isnan(y), np.nan, x), np.where(np.isnan(x), np.nan, y)
  x_moments, y_moments = moments(x), moments(y)
  with np.errstate(divide="ignore", invalid="ignore"):
    ratio = x_moments.mean / y_moments.mean
  if paired:
    covariance = _covariance(x, y)
    freedom = x_moments.num - 1
  else:
    covariance = np.zeros(ratio.shape)
    freedom = _satterthwaite(x_moments, y_moments, ratio)
  low, high = _fieller(x_moments, y_moments, covariance, quantile(confidence, freedom))
  return Interval(*unwrapped(ratio, low, high, np.minimum(x_moments.num, y_moments.num)))


def _fieller(x: Moments, y: Moments, covariance: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The roots of (x - r y)^2 = t^2 var(x - r y) in r, or (-inf, inf) where they do not enclose a finite interval."""
  with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
    a = y.mean**2 - t**2 * y.variance
    b = x.mean * y.mean - t**2 * covariance
    c = x.mean**2 - t**2 * x.variance
    root = np.sqrt(np.maximum(b**2 - a * c, 0))  # negative by rounding only, where a > 0
    bounded = (a > 0) & np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
    return np.where(bounded, (b - root) / a, -np.inf), np.where(bounded, (b + root) / a, np.inf)


def _satterthwaite(x: Moments, y: Moments, ratio: np.ndarray) -> np.ndarray:
  """Degrees of freedom of the variance of x - ratio y, independent groups; 0 where a group has no variance to give."""
  x_part, y_part = x.variance, ratio**2 * y.variance
  with np.errstate(invalid="ignore", divide="ignore"):
    freedom = (x_part + y_part) ** 2 / (x_part**2 / (x.num - 1) + y_part**2 / (y.num - 1))
  freedom = np.where(x_part + y_part == 0, np.inf, freedom)
  return np.where((x.num < 2) | (y.num < 2) | np.isnan(freedom), 0, freedom)


def _covariance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Of the two means, pairs along the last axis with NaN in both or neither."""
  known = ~np.isnan(x)
  count = known.sum(-1)
  x, y = (np.where(known, v - moments(v).mean[..., None], 0) for v in (x, y))
  with np.errstate(invalid="ignore", divide="ignore"):
    return (x * y).sum(-1) / (np.maximum(count - 1, 0) * count)
