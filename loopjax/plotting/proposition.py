"""Students at the root against Proposition 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loopjax.plotting.artists import draw_curve, draw_mean
from loopjax.plotting.frames import check_columns, seed_counts, seed_table
from loopjax.plotting.labels import LABELS, P_LABEL
from loopjax.plotting.legends import add_legends, line_style
from loopjax.plotting.panels import dress, new_panels, set_log_scale
from loopjax.plotting.style import LEARNERS, PREDICTION, ordered_colours
from loopjax.star_graph.theory import proposition_one, proposition_threshold

# What Proposition 1 predicts of a measure, from p [X] and n. At its solution nothing else is left over.
_PREDICTIONS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
  "cycle_probability": lambda p, n: proposition_one(p, n).cycle,
  "largest_child_probability": lambda p, n: proposition_one(p, n).child,
  "goal_child_probability": lambda p, n: proposition_one(p, n).child,
  "risk_aversion_ratio": lambda p, n: proposition_one(p, n).cycle / proposition_one(p, n).child,
  "child_entropy": lambda p, n: np.ones_like(p),
  "cycle_is_argmax": lambda p, n: (p > proposition_threshold(n)).astype(float),
}
_DEPENDS_ON_N = {"largest_child_probability", "goal_child_probability", "risk_aversion_ratio", "cycle_is_argmax"}
_LOG_SCALE = {"risk_aversion_ratio"}


def proposition_panels(
  frame: pd.DataFrame,
  measures: Sequence[str] = (
    "cycle_probability", "risk_aversion_ratio", "total_variation", "child_entropy", "invalid_mass",
  ),
  *,
  cycle_prob: float = 0.3,
  title: str | None = None,
) -> Figure:  # fmt: skip
  """Students at the root against Proposition 1: measures at visit 1 against p, and the cycle over further visits.

  Args:
    frame: one row per n, p, seed and visit (1: the first; then after 1, 2, ... pure s-r-s cycles), and the measures.
    measures: columns of `frame`; a panel each.
    cycle_prob: the last panel, of the cycle probability by visit, is of the p nearest to this.
    title: of the figure.

  Raises:
    ValueError: a column is missing; a row is there twice; a value is infinite.
  """
  check_columns(frame, ["n", "p", "seed", "visit", "cycle_probability", *measures])
  colours = ordered_colours(sorted(frame["n"].unique()))
  figure, panels = new_panels(len(measures) + 1)
  for axes, measure in zip(panels, measures, strict=False):
    _draw_proposition(axes, frame[frame["visit"] == 1], measure, colours)
  _draw_visits(panels[-1], frame, cycle_prob, colours)
  counts = seed_counts(frame, "n", [*measures, "cycle_probability"], within=["p"])
  styles = {"Proposition 1": line_style(LEARNERS["exact teacher"])}
  add_legends(figure, colours, counts, styles, title, prefix="n = ")
  return figure


def _draw_proposition(axes: Axes, first: pd.DataFrame, measure: str, colours: Mapping[int, Any]) -> None:
  """One measure at visit 1 against p, and what the Proposition predicts of it (0 where it leaves nothing over)."""
  predict = _PREDICTIONS.get(measure, lambda p, n: np.zeros_like(p))
  p = np.linspace(first["p"].min(), first["p"].max(), 201)
  for n, colour in colours.items():
    draw_mean(axes, seed_table(first[first["n"] == n], "p", measure), f"n = {n}", colour)
    if measure in _DEPENDS_ON_N:
      draw_curve(axes, p, predict(p, n), colour, LEARNERS["exact teacher"], f"n = {n}, Proposition 1")
  if measure not in _DEPENDS_ON_N:
    draw_curve(axes, p, predict(p, 1), PREDICTION, LEARNERS["exact teacher"], "Proposition 1")
  if measure in _LOG_SCALE:
    set_log_scale(axes)
  dress(axes, LABELS.get(measure), measure, P_LABEL)


def _draw_visits(axes: Axes, frame: pd.DataFrame, cycle_prob: float, colours: Mapping[int, Any]) -> None:
  """The cycle probability by visit to r, at the p nearest to `cycle_prob`."""
  there = frame["p"].unique()
  p = there[np.argmin(np.abs(there - cycle_prob))]
  rows = frame[frame["p"] == p]
  for n, colour in colours.items():
    draw_mean(axes, seed_table(rows[rows["n"] == n], "visit", "cycle_probability"), f"n = {n}", colour)
  ends = [frame["visit"].min(), frame["visit"].max()]
  draw_curve(axes, ends, [p, p], PREDICTION, LEARNERS["exact teacher"], "Proposition 1")
  axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
  label = LABELS["cycle_probability"]
  dress(axes, label._replace(title=f"Cycle by visit, p = {p:g}", least_span=0.1), "", "visit to r")
