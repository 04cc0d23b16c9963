"""Length against how random the first choice at r is: temperatures as a curve, other ways of being random as marks.

A mark below the curve: this way of being random gives shorter walks than temperature does at the same entropy.

Shapes: S seeds.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loopjax import statistics
from loopjax.plotting.frames import check_columns, check_unique
from loopjax.plotting.labels import LABELS
from loopjax.plotting.legends import ABOVE, add_legend
from loopjax.plotting.panels import dress, new_panels
from loopjax.plotting.style import MARKERS, SWEEP, palette
from loopjax.runtime.config import require

X, Y = "root_entropy", "excess_length"
KEYS = ["base", "condition", "temperature"]


def against_entropy(frame: pd.DataFrame, plain: str) -> Figure:
  """A panel per base: means over seeds, with 95% t-intervals of the length.

  Args:
    frame: a row per base, condition, temperature and seed, with root_entropy and excess_length. Of conditions other
      than `plain` only the lowest temperature is drawn.
    plain: the condition whose temperatures are joined.

  Raises:
    ValueError: a column is missing; a row is there twice; a base has no rows of `plain`; there are too many conditions.
  """
  check_columns(frame, [*KEYS, "seed", X, Y])
  check_unique(frame, [*KEYS, "seed"])
  others = [name for name in frame["condition"].unique() if name != plain]
  bases = list(frame["base"].unique())
  figure, panels = new_panels(len(bases))
  for axes, base in zip(panels, bases, strict=True):
    _draw_panel(axes, frame[frame["base"] == base], plain, others)
  handles, labels = panels[0].get_legend_handles_labels()
  add_legend(figure, handles, labels, ABOVE)
  return figure


def _draw_panel(axes: Axes, rows: pd.DataFrame, plain: str, others: list[str]) -> None:
  base = str(rows["base"].iloc[0])
  sweep = rows[rows["condition"] == plain]
  require(len(sweep) > 0, "frame", base, f"a base with rows of {plain!r}")
  _draw(axes, sweep, f"{plain}, from T = {sweep['temperature'].min():g} to {sweep['temperature'].max():g}", **SWEEP)
  for name, color, marker in zip(others, palette(others).values(), MARKERS, strict=False):
    own = rows[rows["condition"] == name]
    lowest = own[own["temperature"] == own["temperature"].min()]
    if len(lowest):
      label = f"{name}, T = {lowest['temperature'].iloc[0]:g}"
      _draw(axes, lowest, label, color=color, marker=marker, markersize=5, linestyle="none", zorder=3)
  dress(axes, LABELS[Y]._replace(title=base), Y, LABELS[X].unit)


def _draw(axes: Axes, rows: pd.DataFrame, label: str, **style: Any) -> None:
  """Means over seeds, from temperature to temperature, and the intervals of Y."""
  groups = [one for _, one in rows.groupby("temperature")]
  x = [one[X].mean() for one in groups]
  intervals = [statistics.mean_interval(one[Y].to_numpy(float), limits=statistics.LIMITS[Y]) for one in groups]
  axes.vlines(
    x, [float(i.low) for i in intervals], [float(i.high) for i in intervals], color=style["color"], linewidth=0.8
  )
  axes.plot(x, [float(i.mean) for i in intervals], label=label, **style)
