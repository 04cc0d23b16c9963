"""The reset probability after pure s-r-s cycles: how far students believe that a walk is an injected loop."""

from __future__ import annotations

import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from loopjax.plotting.artists import draw_curve, draw_mean
from loopjax.plotting.frames import check_columns, seed_counts, seed_table
from loopjax.plotting.labels import BETWEEN_0_AND_1, Label
from loopjax.plotting.legends import add_legends, line_style
from loopjax.plotting.panels import dress, new_panels
from loopjax.plotting.style import LEARNERS, palette


def resets_by_cycles(frame: pd.DataFrame, *, title: str | None = None) -> Figure:
  """Reset probability at r against the number of s-r-s cycles before, beside the exact loop-posterior learner's.

  Args:
    frame: columns condition, seed, cycles, reset_probability, exact_reset_probability.
    title: of the figure.

  Raises:
    ValueError: a column is missing; a row is there twice.
  """
  check_columns(frame, ["condition", "seed", "cycles", "reset_probability", "exact_reset_probability"])
  colours, learner = palette(list(frame["condition"].unique())), "loop posterior"
  figure, (axes,) = new_panels(1)
  for condition, colour in colours.items():
    rows = frame[frame["condition"] == condition]
    draw_mean(axes, seed_table(rows, "cycles", "reset_probability"), condition, colour)
    exact = seed_table(rows, "cycles", "exact_reset_probability").mean(axis=1)
    draw_curve(axes, exact.index, exact, colour, LEARNERS[learner], f"{condition}, {learner}")
  axes.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))
  label = Label("Reset after pure s-r-s cycles", "probability of s at r", BETWEEN_0_AND_1)
  dress(axes, label, "reset_probability", "cycles before")
  counts = seed_counts(frame, "condition", ["reset_probability"])
  add_legends(figure, colours, counts, {learner: line_style(LEARNERS[learner])}, title)
  return figure
