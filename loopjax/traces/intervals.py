"""Shares with intervals that know which responses belong to one problem.

Twenty samples of one problem are not independent, so the variance of a share is that of a ratio of sums over problems.
With it goes an effective number of responses, and with that Wilson's interval, which never leaves [0, 1] and has a
width where the share is 0 or 1.

Shapes: R responses, G problems.

Sources: the variance of a ratio over clusters, W. G. Cochran, Sampling Techniques (3rd edition, 1977), section 9; the
effective number, E. L. Korn and B. I. Graubard, Survey Methodology 24 (1998) 193-201, and with Wilson's interval, N.
Dean and M. Pagano, J. Surv. Stat. Methodol. 3 (2015) 484-503.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

LEAST = 3  # problems; with fewer there is no interval


class Share(NamedTuple):
  """A share with its interval at 95%.

  Attributes:
    share: of the responses that count; NaN where none does.
    low: the lower end; NaN where fewer than `LEAST` problems count.
    high: the upper end, likewise.
    num: the responses that count.
    num_problems: their problems.
  """

  share: float
  low: float
  high: float
  num: int
  num_problems: int


def share(hits: np.ndarray, problems: np.ndarray, confidence: float = 0.95) -> Share:
  """The share of hits with its interval, clustered by problem.

  Args:
    hits: [R], true or false; NaN is left out.
    problems: [R], the problems' numbers, whole and from 0 on.
    confidence: coverage of the interval, in (0, 1).
  """
  hits = np.asarray(hits, np.float64)
  known = ~np.isnan(hits)
  hits, problems = hits[known], np.unique(problems[known], return_inverse=True)[1]
  num, num_problems = len(hits), int(problems.max(initial=-1)) + 1
  if not num:
    return Share(math.nan, math.nan, math.nan, 0, 0)
  mean = float(hits.mean())
  if num_problems < LEAST:
    return Share(mean, math.nan, math.nan, num, num_problems)
  effective = _effective(hits, problems, mean, num_problems)
  return Share(mean, *_wilson(mean, effective, quantile(num_problems - 1, confidence)), num, num_problems)


def _effective(hits: np.ndarray, problems: np.ndarray, mean: float, num_problems: int) -> float:
  """How many independent responses tell as much; where no response differs from another, the number of problems."""
  residuals = np.bincount(problems, hits - mean, num_problems)
  variance = num_problems / (num_problems - 1) * (residuals**2).sum() / len(hits) ** 2
  if mean in (0, 1) or variance <= 0:
    return num_problems
  return min(mean * (1 - mean) / variance, len(hits))


def _wilson(mean: float, num: float, t: float) -> tuple[float, float]:
  middle, scale = mean + t**2 / (2 * num), 1 + t**2 / num
  half = t * math.sqrt(mean * (1 - mean) / num + t**2 / (4 * num**2))
  return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


@functools.cache
def quantile(freedom: int, confidence: float = 0.95) -> float:
  """The two-sided quantile of Student's t."""
  from scipy import special  # a tenth of a second

  return float(special.stdtrit(freedom, (1 + confidence) / 2))
