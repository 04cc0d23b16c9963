"""Comparisons between models: student against teacher, hard against easy problems, confidence about a loop's onset.

Everything is paired, or clustered, by problem.

Shapes: R responses, G problems, B bins.

Source: Figures 1, 2 and 15 of "Wait, Wait, Wait... Why Do Reasoning Models Loop?" (arXiv 2512.12895).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from loopjax.runtime.config import require
from loopjax.traces import intervals, measure, summary
from loopjax.traces.columns import Columns


def pair(columns: Columns, student: str, teacher: str) -> list[dict[str, Any]]:
  """Student against teacher at each temperature that both have, over the problems that both have (Figure 1).

  Returns:
    A mapping a temperature: the looping shares, their difference with its t-interval over problems, and the ratio of
    mean lengths, student over teacher, with Fieller's interval. A problem counts with the mean of its responses.

  Raises:
    ValueError: a name is no model of the scan.
  """
  models = sorted(set(columns["model"].tolist()))
  for field, name in (("student", student), ("teacher", teacher)):
    require(name in models, field, name, f"one of the models, {', '.join(map(repr, models))}")
  looping = summary.is_looping(columns)
  found = []
  for temperature in _temperatures(columns, student, teacher):
    both = [_means(columns, looping, model, temperature) for model in (student, teacher)]
    names = sorted(both[0].keys() & both[1].keys())
    if names:
      values = np.array([[one[name] for name in names] for one in both])  # [2, G, 2]: loops, length
      found.append({"student": student, "teacher": teacher, "temperature": temperature, **_compared(values)})
  return found


def _temperatures(columns: Columns, *models: str) -> list[float | None]:
  per_model = [
    {None if np.isnan(t) else float(t) for t in columns["temperature"][columns["model"] == model]} for model in models
  ]
  return sorted(set.intersection(*per_model), key=lambda t: -1.0 if t is None else t)


def _means(
  columns: Columns, looping: np.ndarray, model: str, temperature: float | None
) -> dict[str, tuple[float, float]]:  # fmt: skip
  """Problem -> looping share and mean length of its responses that are not lost."""
  own = columns["temperature"]
  chosen = (columns["model"] == model) & (np.isnan(own) if temperature is None else own == temperature)
  sums: dict[str, np.ndarray] = {}
  for i in np.flatnonzero(chosen & ~np.isnan(looping)):
    one = sums.setdefault(columns["problem"][i], np.zeros(3))
    one += (looping[i], columns["num_units"][i], 1)
  return {name: (loops / num, length / num) for name, (loops, length, num) in sums.items()}


def _compared(values: np.ndarray) -> dict[str, Any]:
  from loopjax import ratios, statistics

  (student_loops, student_length), (teacher_loops, teacher_length) = (one.T for one in values)
  difference = statistics.mean_interval(student_loops - teacher_loops, limits=(-1, 1))
  ratio = ratios.ratio_interval(student_length, teacher_length, paired=True)
  return {
    "problems": values.shape[1],
    "student_looping": float(student_loops.mean()),
    "teacher_looping": float(teacher_loops.mean()),
    "difference": _ends(difference),
    "length_ratio": _ends(ratio),
  }


def _ends(interval: Any) -> dict[str, float | None]:
  values = {"value": interval.mean, "low": interval.low, "high": interval.high}
  return {name: float(value) if np.isfinite(value) else None for name, value in values.items()}


def difficulty(columns: Columns) -> list[dict[str, Any]]:
  """Looping shares on hard and on easy problems, per group; empty without labels.

  A problem's accuracy is the mean label of its responses in the whole scan. It is hard where that is below the mean
  over problems. Responses that loop are mostly wrong, so a problem on which many loop counts as hard for that alone.
  """
  labels, names = columns["label"], columns["problem"]
  known = ~np.isnan(labels)
  if not known.any():
    return []
  distinct, problems = np.unique(names.astype(str), return_inverse=True)
  num = np.bincount(problems[known], minlength=len(distinct))
  accuracy = np.where(num > 0, np.bincount(problems[known], labels[known], len(distinct)) / np.maximum(num, 1), np.nan)
  hard, looping = accuracy < np.nanmean(accuracy), summary.is_looping(columns)
  found = []
  for group in summary.groups(columns):
    at = group.rows
    kinds = {"hard": hard[problems[at]], "easy": ~hard[problems[at]] & (num[problems[at]] > 0)}
    shares = {
      kind: summary.as_json(intervals.share(looping[at][is_in], problems[at][is_in])) for kind, is_in in kinds.items()
    }
    found.append({"model": group.model, "temperature": group.temperature, "units": group.units, **shares})
  return found


def confidence(columns: Columns) -> list[dict[str, Any]]:
  """The mean probability of emitted tokens about the loop's onset, per group that has log-probabilities (Figure 15).

  Returns:
    A mapping a group: `position`, the middle of each bin in tokens from the onset; `mean`, `low`, `high`, over
    problems (a problem counts with the mean of its responses), null where fewer than 3 problems have a token there.
  """
  found = []
  middle = ((np.arange(measure.BEFORE + measure.AFTER) - measure.BEFORE + 0.5) * measure.BIN).tolist()
  for group in summary.groups(columns):
    rows = [i for i in group.rows.tolist() if i in columns.confidence]
    if rows:
      curves = _curves(np.array([columns.confidence[i] for i in rows]), columns["problem"][rows])
      about = {"model": group.model, "temperature": group.temperature, "responses": len(rows)}
      found.append({**about, "position": middle, **curves})
  return found


def _curves(bins: np.ndarray, names: np.ndarray) -> dict[str, list[float | None]]:
  """Mean and ends over problems, from [R, B]."""
  distinct, problems = np.unique(names.astype(str), return_inverse=True)
  known = ~np.isnan(bins)
  sums, num = np.zeros((len(distinct), bins.shape[1])), np.zeros((len(distinct), bins.shape[1]))
  np.add.at(sums, problems, np.where(known, bins, 0))
  np.add.at(num, problems, known)
  means = [(sums[:, b] / np.maximum(num[:, b], 1))[num[:, b] > 0] for b in range(bins.shape[1])]
  return {name: [_curve(one, sign) for one in means] for name, sign in (("mean", 0), ("low", -1), ("high", 1))}


def _curve(means: np.ndarray, sign: int) -> float | None:
  if len(means) < (intervals.LEAST if sign else 1):
    return None
  half = intervals.quantile(len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means)) if sign else 0.0
  return float(np.clip(means.mean() + sign * half, 0, 1))
