"""Exact theory as rows beside the students' results."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from loopjax import theory
from loopjax.star_graph import StarGraph


def teacher_rows(tasks: Mapping[str, StarGraph], temperatures: Sequence[float]) -> pd.DataFrame:
  """The exact teacher's walk statistics, a row per condition and temperature, as `plotting` asks for them.

  Args:
    tasks: condition -> its task.
    temperatures: of the walks.
  """
  return _rows("exact teacher", theory.teacher_statistics, tasks, temperatures)


def memoryless_rows(tasks: Mapping[str, StarGraph], temperatures: Sequence[float]) -> pd.DataFrame:
  """As `teacher_rows`, of the learner that plays Proposition 1's solution at every visit, ties broken afresh."""
  return _rows("memoryless learner", theory.memoryless_statistics, tasks, temperatures)


def _rows(
  learner: str, statistics: Callable[..., theory.WalkStatistics], tasks: Mapping[str, StarGraph],
  temperatures: Sequence[float],
) -> pd.DataFrame:  # fmt: skip
  return pd.DataFrame(
    {"condition": condition, "temperature": temperature, "learner": learner}
    | dataclasses.asdict(statistics(task, temperature=temperature))
    for condition, task in tasks.items()
    for temperature in temperatures
  )


def with_chance(rows: pd.DataFrame, rollouts: pd.DataFrame) -> pd.DataFrame:
  """`teacher_rows` with the exact teacher's persistence, ties broken afresh, on the students' walks, mean over seeds.

  Args:
    rows: columns condition, temperature.
    rollouts: columns condition, temperature, chance; a row per seed.
  """
  chance = rollouts.groupby(["condition", "temperature"])["chance"].mean().rename("persistence")
  return rows.merge(chance.reset_index(), on=["condition", "temperature"], validate="one_to_one")
