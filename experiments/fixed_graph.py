"""Temporally correlated errors of students that learn one graph in their weights (see `experiments.temporal_errors`).

With a graph in every prompt a student must read it each time; with one graph for all examples its error is a standing
preference among children that should be equal. Labels and order of the graph are drawn several times, with students of
their own for each drawing, so that intervals tell of drawings too.

  python -m experiments.fixed_graph --output_dir=/tmp/fixed_graph --config.drawings=0,1
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments import binary, temporal_errors
from experiments.temporal_errors import COLUMNS, TemporalErrors
from loopjax import statistics
from loopjax.claims import Claim
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.sharing import Obtain, Request
from loopjax.training.step import Training

NAME = "fixed_graph"
BASE = "one graph for all examples"
DEFAULT = TemporalErrors(
  task=StarGraph(chain_length=3, max_steps=128, reset_prob=0.0, explore_prob=1.0, graph_fixed=True),
  drawings=(0, 1, 2, 3),
  training=Training(num_steps=2_000, rows_per_step=16),
  num_seeds=4,
)


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


def run(config: TemporalErrors, output_dir: Path) -> pd.DataFrame:
  """Results (computed once per folder), figures and printed tables, over students and over drawings."""
  frame = temporal_errors.run(config, output_dir, NAME)
  print("\nover drawings", table_over_drawings(frame), sep="\n")
  return frame


def claims(config: TemporalErrors) -> list[Claim]:
  """As those of `temporal_errors`."""
  return temporal_errors.claims(config, NAME, BASE)


if __name__ == "__main__":
  binary.run_experiment(NAME, DEFAULT, run)
