"""The published numbers beside which ours are shown; see README.md in this folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

HARDNESS = {"G(5,3)": "easy", "G(5,5)": "hard"}
CUT = 128  # "about 130 nodes"


def graph_task() -> pd.DataFrame:
  """Columns graph, hardness, exploration (0 or 1), temperature, reached, returns, response_length, approx."""
  points = _read("graph_task.csv")
  return points.assign(hardness=points["graph"].map(HARDNESS))


def margin() -> pd.DataFrame:
  """Columns margin, temperature, reached, returns, response_length; no hardness, G(5, l), l not known."""
  return _read("margin.csv")


def _read(name: str) -> pd.DataFrame:
  """A file with our names for the paper's accuracy and loop count."""
  frame = pd.read_csv(Path(__file__).parent / name)
  return frame.rename(columns={"accuracy": "reached", "loop_count": "returns"})


PERSISTENCE = 0.967  # at temperature 0 without a margin; independent errors would give at most INDEPENDENT_PERSISTENCE
INDEPENDENT_PERSISTENCE = 0.2
PERSISTENCE_WITH_MARGIN = 0.61  # which margin is not said
