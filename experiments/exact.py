"""Exact theory, to stand beside the students' results."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from loopjax.star_graph import theory
from loopjax.star_graph.graph import StarGraph


def teacher_rows(
  tasks: Mapping[str, StarGraph], temperatures: Sequence[float], *, persistence: bool = False
) -> pd.DataFrame:
  """The exact teacher's walk statistics, a row per condition and temperature, as `plotting` asks for them.

  Args:
    tasks: condition -> its task.
    temperatures: of the walks.
    persistence: whether to give the persistence of its own walks too, ties broken afresh.
  """
  rows = _rows("exact teacher", theory.teacher_statistics, tasks, temperatures)
  if persistence:
    cells = zip(rows["condition"], rows["temperature"], strict=True)
    rows["persistence"] = [theory.teacher_persistence(tasks[name], temperature=t) for name, t in cells]
  return rows


def memoryless_rows(tasks: Mapping[str, StarGraph], temperatures: Sequence[float]) -> pd.DataFrame:
  """As `teacher_rows`, of the learner that plays Proposition 1's solution at every visit, ties broken afresh."""
  return _rows("memoryless learner", theory.memoryless_statistics, tasks, temperatures)


def loop_posterior_rows(tasks: Mapping[str, StarGraph], temperatures: Sequence[float]) -> pd.DataFrame:
  """As `memoryless_rows`, of the learner that holds the posterior of an injected loop beside; `tasks` have shares."""
  learner = functools.partial(theory.loop_posterior_statistics, traced=False)
  return _rows("loop posterior", learner, tasks, temperatures)


def loop_posterior_resets(task: StarGraph, cycles: np.ndarray) -> np.ndarray:
  """The loop-posterior learner's reset probability at r after pure s-r-s cycles."""
  is_loop = theory.loop_posterior(task, cycles)
  return is_loop + (1 - is_loop) * task.reset_prob


def _rows(
  learner: str, statistics: Callable[..., theory.WalkStatistics], tasks: Mapping[str, StarGraph],
  temperatures: Sequence[float],
) -> pd.DataFrame:  # fmt: skip
  return pd.DataFrame(
    {"condition": condition, "temperature": temperature, "learner": learner}
    | _outcomes(dataclasses.asdict(statistics(task, temperature=temperature)))
    for condition, task in tasks.items()
    for temperature in temperatures
  )


def _outcomes(statistics: dict[str, float]) -> dict[str, float]:
  """The statistics with the other two outcomes beside `reached`: no move of theirs is invalid."""
  return statistics | {"broken": 0.0, "cut": 1 - statistics["reached"]}
