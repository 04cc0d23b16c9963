"""Measures of walks against temperature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loopjax.config import require
from loopjax.plotting.artists import draw_curve, draw_mean
from loopjax.plotting.frames import (
  check_columns,
  check_conditions,
  check_unique,
  choose_conditions,
  seed_counts,
  seed_table,
)
from loopjax.plotting.labels import LABELS
from loopjax.plotting.legends import add_legends, line_style, marker_style
from loopjax.plotting.panels import dress, new_panels
from loopjax.plotting.style import LEARNERS, MARKER, palette


def against_temperature(
  frame: pd.DataFrame,
  measures: Sequence[str],
  *,
  hue: str = "condition",
  conditions: Sequence[str] | None = None,
  colours: Mapping[str, str] | None = None,
  theory: pd.DataFrame | None = None,
  published: pd.DataFrame | None = None,
  title: str | None = None,
) -> Figure:
  """Measures of walks against temperature, a panel each: students, exact theory, published points.

  Args:
    frame: one row per condition, seed and temperature; columns `hue`, seed, temperature and the measures.
    measures: columns of `frame`.
    hue: the column that names the condition.
    conditions: which to show, in the legend's order; None: all, as they come in `frame`.
    colours: a colour per condition; None: `palette(conditions)`.
    theory: columns `hue`, learner (a key of `LEARNERS`), temperature and the measures that theory gives.
    published: columns `hue`, temperature and the measures that are published.
    title: of the figure.

  Raises:
    ValueError: a column is missing; a row is there twice; a condition or learner is not known; a value is infinite.
  """
  check_columns(frame, [hue, "seed", "temperature", *measures])
  conditions = choose_conditions(frame, hue, conditions)
  colours = palette(conditions) if colours is None else colours
  for name, other in {"theory": theory, "published": published}.items():
    check_conditions(name, other, hue, frame)
  figure, panels = new_panels(len(measures))
  learners, has_published = [], False
  for axes, measure in zip(panels, measures, strict=True):
    for condition in conditions:
      rows = [None if x is None else x[x[hue] == condition] for x in (frame, theory, published)]
      draw_mean(axes, seed_table(rows[0], "temperature", measure), condition, colours[condition])
      learners += _draw_theory(axes, rows[1], measure, condition, colours[condition])
      has_published |= _draw_published(axes, rows[2], measure, condition, colours[condition])
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
    dress(axes, LABELS.get(measure), measure, "temperature")
  styles: dict[str, Any] = {name: line_style(LEARNERS[name]) for name in LEARNERS if name in learners}
  styles |= {"published": marker_style("0.35")} if has_published else {}
  add_legends(figure, {c: colours[c] for c in conditions}, seed_counts(frame, hue, measures), styles, title)
  return figure


def _draw_theory(axes: Axes, rows: pd.DataFrame | None, measure: str, condition: str, colour: Any) -> list[str]:
  """Draws the theoretical learners of one condition and gives their names."""
  if rows is None or measure not in rows.columns or rows.empty:
    return []
  check_columns(rows, ["learner"])
  check_unique(rows, ["learner", "temperature"])
  learners = list(rows["learner"].unique())
  for learner in learners:
    require(learner in LEARNERS, "learner", learner, f"one of {list(LEARNERS)}")
    curve = rows[rows["learner"] == learner].sort_values("temperature")
    draw_curve(axes, curve["temperature"], curve[measure], colour, LEARNERS[learner], f"{condition}, {learner}")
  return learners


def _draw_published(axes: Axes, rows: pd.DataFrame | None, measure: str, condition: str, colour: Any) -> bool:
  """Draws the published points of one condition; whether there are any."""
  if rows is None or measure not in rows.columns or rows[measure].notna().sum() == 0:
    return False
  x, y = rows["temperature"].to_numpy(float), rows[measure].to_numpy(float)
  axes.plot(x, y, **MARKER, markeredgecolor=colour, zorder=4, label=f"{condition}, published")
  return True
