"""The published numbers beside which ours are shown; see README.md in this folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd


def graph_task() -> pd.DataFrame:
  """Columns graph, exploration (0 or 1), temperature, accuracy, loop_count, response_length, approx."""
  return pd.read_csv(Path(__file__).parent / "graph_task.csv")


def margin() -> pd.DataFrame:
  """Columns margin, temperature, accuracy, loop_count, response_length; no hardness, G(5, l), l not known."""
  return pd.read_csv(Path(__file__).parent / "margin.csv")


PERSISTENCE = 0.967  # at temperature 0 without a margin; independent errors would give at most INDEPENDENT_PERSISTENCE
INDEPENDENT_PERSISTENCE = 0.2
PERSISTENCE_WITH_MARGIN = 0.61  # which margin is not said
