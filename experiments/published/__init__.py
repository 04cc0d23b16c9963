"""The published numbers beside which ours are shown; see README.md in this folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd


def graph_task() -> pd.DataFrame:
  """Columns graph, exploration (0 or 1), temperature, accuracy, loop_count, response_length, approx."""
  return pd.read_csv(Path(__file__).parent / "graph_task.csv")
