"""Confidence inside the loops of students, as tidy frames: the host side of `analysis.confidence`.

Shapes: S seeds, R temperatures, M repetitions, A repetitions that are asked for, Q quantiles.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd
from jax.sharding import Mesh

from loopjax.analysis import confidence
from loopjax.analysis.confidence import QUANTILES, ConfidenceSummary
from loopjax.runtime import seeds
from loopjax.star_graph import teacher, tidy
from loopjax.star_graph.evaluation import Rollouts
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.students import Students

PER_STUDENT = {
  "num_loops": "num_loops",
  "loop_share": "loop_share",
  "loop_onset": "onset",
  "loop_period": "period",
  "share_monotone": "share_monotone",
  "cohort_size": "cohort_size",
  "cohort_share_monotone": "cohort_share_monotone",
}  # column of a frame -> field of `ConfidenceSummary`
PER_REPETITION = {
  "confidence": "by_repetition",
  "num_reaching": "num_reaching",
  "cohort_confidence": "cohort_by_repetition",
}  # likewise


class LoopFrames(NamedTuple):
  """Columns row (of the student) and temperature, then the fields of `ConfidenceSummary`; NaN if not finite.

  Attributes:
    summary: a row per student and temperature: the columns of `PER_STUDENT`.
    by_repetition: a row per student, temperature and repetition, from 1: the columns of `PER_REPETITION` and, at the
      repetitions asked for, quantiles q10, q25, q50, q75, q90 of the confidence over loops.
  """

  summary: pd.DataFrame
  by_repetition: pd.DataFrame


def max_repetitions(task: StarGraph) -> int:
  """M: how often s-r, the shortest loop in the graph, fits into a walk."""
  return task.max_steps // 2


def evaluate_loops(
  students: Students, rollouts: Rollouts, *, temperatures: Sequence[float], repetitions: Sequence[int]
) -> LoopFrames:
  """The loops in the walks of every student.

  Args:
    students: S of them.
    rollouts: theirs.
    temperatures: of the rollouts, R.
    repetitions: at which quantiles are taken, A of M at most; the largest defines the cohort.
  """
  summarise = _summarising(teacher.sizes_of(students.tasks[0]), students.mesh, tuple(repetitions))
  summaries, is_finite = summarise((rollouts.nodes, rollouts.confidence)), students.is_finite
  return to_frames(seeds.to_host(summaries, len(is_finite)), temperatures, repetitions, is_finite)


@functools.lru_cache(maxsize=seeds.PROGRAMS)
def _summarising(task: StarGraph, mesh: Mesh, repetitions: tuple[int, ...]) -> jax.stages.Wrapped:
  def of_column(nodes: jax.Array, values: jax.Array) -> ConfidenceSummary:
    return confidence.summarise(task, nodes, values, max_repetitions=max_repetitions(task), at=repetitions)

  return seeds.map_seeds(lambda row: jax.vmap(of_column, in_axes=1)(*row), mesh, brief=True)


def to_frames(
  summaries: ConfidenceSummary, temperatures: Sequence[float], repetitions: Sequence[int], is_finite: np.ndarray
) -> LoopFrames:
  """The frames of summaries on the host, whose leaves begin with [S, R]."""
  quantiles = np.full((*summaries.by_repetition.shape, len(QUANTILES)), np.nan)
  quantiles[:, :, np.array(repetitions) - 1] = summaries.quantiles
  columns = {column: getattr(summaries, field) for column, field in PER_REPETITION.items()}
  columns |= {f"q{100 * level:.0f}": quantiles[..., i] for i, level in enumerate(QUANTILES)}
  groups, places = {"temperature": temperatures}, {"repetition": np.arange(1, summaries.by_repetition.shape[-1] + 1)}
  per_student = {column: getattr(summaries, field) for column, field in PER_STUDENT.items()}
  return LoopFrames(tidy.frame(is_finite, per_student, groups), tidy.frame(is_finite, columns, groups, places))
