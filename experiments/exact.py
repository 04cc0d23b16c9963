"""Exact theory as rows beside the students' results."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import pandas as pd

from loopjax import theory
from loopjax.star_graph import StarGraph


def teacher_rows(tasks: Mapping[str, StarGraph], temperatures: Sequence[float]) -> pd.DataFrame:
  """The exact teacher's walk statistics, a row per condition and temperature, as `plotting` asks for them.

  Args:
    tasks: condition -> its task.
    temperatures: of the walks.
  """
  return pd.DataFrame(
    {"condition": condition, "temperature": temperature, "learner": "exact teacher"}
    | dataclasses.asdict(theory.teacher_statistics(task, temperature=temperature))
    for condition, task in tasks.items()
    for temperature in temperatures
  )
