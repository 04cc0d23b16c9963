"""Temporally correlated errors of students that learn one graph in their weights (see `experiments.temporal_errors`).

With a graph in every prompt a student must read it each time; with one graph for all examples its error is a standing
preference among children that should be equal. Labels and order of the graph are drawn several times, with students of
their own for each drawing, so that intervals tell of drawings too.

  python -m experiments.fixed_graph --output_dir=/tmp/fixed_graph --config.drawings=0,1
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd

from experiments import temporal_error_claims, temporal_errors
from experiments.experiment import Experiment, Tables, main
from experiments.temporal_error_conditions import TemporalErrors
from experiments.temporal_errors import COLUMNS
from loopjax import statistics
from loopjax.claims import Claim
from loopjax.star_graph.sharing import Obtain, Request
from loopjax.training.step import Training

NAME = "fixed_graph"
BASE = "one graph for all examples"


def requests(config: TemporalErrors) -> list[Request]:
  """As those of `temporal_errors`."""
  return temporal_errors.requests(config, NAME)


def measure(config: TemporalErrors, obtain: Obtain) -> dict[str, pd.DataFrame]:
  """As that of `temporal_errors`."""
  return temporal_errors.measure(config, obtain, NAME)


def table_over_drawings(frame: pd.DataFrame) -> str:
  """Mean and 95% interval over the drawings' means, a row per margin and group of walks."""
  keys = ["condition", "walks", "temperature"]
  means = frame.groupby([*keys, "drawing"], sort=False, dropna=False)[COLUMNS].mean().reset_index()
  return statistics.describe_groups(means, keys, COLUMNS).to_string()


def show(config: TemporalErrors, tables: Tables, figures: Path) -> str:
  """As that of `temporal_errors`; the table over drawings too."""
  over_students = temporal_errors.show(config, tables, figures, NAME)
  return f"{over_students}\n\nover drawings\n{table_over_drawings(tables[NAME])}"


def claims(config: TemporalErrors) -> list[Claim]:
  """As those of `temporal_errors`."""
  return temporal_error_claims.claims(config, NAME, BASE)


PRESETS = {
  "quick": dataclasses.replace(
    temporal_errors.PRESETS["quick"],
    task=dataclasses.replace(temporal_errors.PRESETS["quick"].task, graph_fixed=True),
    drawings=(0,),
    training=Training(num_steps=400, rows_per_step=16, learning_rate=8e-3),
  ),
  "standard": dataclasses.replace(
    temporal_errors.PRESETS["standard"],
    task=dataclasses.replace(temporal_errors.NO_HARDNESS, max_steps=128, graph_fixed=True),
    visited_margins=(0.0, 0.05, 0.1),
    drawings=(0, 1, 2, 3),
    training=Training(num_steps=2_000, rows_per_step=16, learning_rate=3e-3),
  ),
  "paper": dataclasses.replace(
    temporal_errors.PRESETS["paper"],
    task=dataclasses.replace(temporal_errors.PRESETS["paper"].task, graph_fixed=True),
    drawings=(0, 1),
  ),
}

EXPERIMENT = Experiment(NAME, __doc__, PRESETS, measure, show, requests, claims)

if __name__ == "__main__":
  main(EXPERIMENT)
