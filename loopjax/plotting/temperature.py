"""Measures of walks against temperature."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from loopjax.plotting.artists import draw_curve, draw_mean
from loopjax.plotting.frames import (
  check_columns,
  check_conditions,
  check_unique,
  choose_conditions,
  seed_counts,
  seed_table,
)
from loopjax.plotting.labels import LABELS, Label
from loopjax.plotting.legends import (
  BELOW,
  add_legend,
  add_legends,
  line_style,
  marker_style,
  mean_style,
  name_with_seeds,
)
from loopjax.plotting.panels import WIDTHS, dress, new_figure, new_panels
from loopjax.plotting.style import LEARNERS, MARKER, SMALL, TITLE, palette
from loopjax.runtime.config import require

_PUBLISHED, _OTHER_CUT, _GREY = "published", "published, another cut", "0.75"


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
    published: columns `hue`, temperature and the measures that are published; and same_cut where walks were cut
      elsewhere than here: those points are grey.
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
  chosen = {condition: colours[condition] for condition in conditions}
  styles: dict[str, Any] = {}
  for axes, measure in zip(panels, measures, strict=True):
    styles |= _draw_panel(axes, measure, [frame, theory, published], hue, chosen)
    dress(axes, LABELS.get(measure), measure, "temperature")
  add_legends(figure, chosen, seed_counts(frame, hue, measures), _in_order(styles), title)
  return figure


def temperature_grid(
  frame: pd.DataFrame,
  measures: Sequence[str],
  columns: Mapping[str, Sequence[str]],
  *,
  theory: pd.DataFrame | None = None,
  published: pd.DataFrame | None = None,
) -> Figure:
  """As `against_temperature`, a row of panels per measure, a column per group of conditions with a legend of its own.

  Args:
    frame, theory, published: as in `against_temperature`, with hue `condition`.
    measures: columns of `frame`.
    columns: title of a column -> its conditions; the n-th has the n-th colour in every column.

  Raises:
    ValueError: as in `against_temperature`.
  """
  check_columns(frame, ["condition", "seed", "temperature", *measures])
  for name, other in {"theory": theory, "published": published}.items():
    check_conditions(name, other, "condition", frame)
  counts = seed_counts(frame, "condition", measures)
  figure = new_figure((WIDTHS[min(len(columns), len(WIDTHS)) - 1], 1.4 * len(measures)))
  grid = figure.subplots(len(measures), len(columns), sharex=True, sharey="row", squeeze=False)
  styles: dict[str, Any] = {}
  for place, (title, conditions) in enumerate(columns.items()):
    colours = palette(choose_conditions(frame, "condition", conditions))
    for row, (axes, measure) in enumerate(zip(grid[:, place], measures, strict=True)):
      styles |= _draw_panel(axes, measure, [frame, theory, published], "condition", colours)
      label = LABELS.get(measure) or Label(measure.replace("_", " "), measure)
      unit = "" if place else f"{textwrap.fill(label.title, 20)}\n{label.unit}"  # a panel is 20 letters high
      is_last = row == len(measures) - 1
      dress(axes, label._replace(title="", unit=unit), measure, "temperature" if is_last else "")
    lines = [Line2D([], [], color=colour, linewidth=2) for colour in colours.values()]
    names = [name_with_seeds(condition, counts) for condition in colours]
    grid[0, place].legend(
      lines, names, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, fontsize=SMALL, title=title,
      title_fontproperties={"size": TITLE, "weight": "bold"},
    )  # fmt: skip
  for axes, measure in zip(grid[:, 0], measures, strict=True):  # one scale a row: that of all its columns
    if measure not in LABELS or LABELS[measure].limits is None:
      drawn = [other.dataLim for other in axes.get_shared_y_axes().get_siblings(axes)]
      ends = [end for x in drawn for end in (x.y0, x.y1) if math.isfinite(end)]  # a panel may have nothing to show
      low, high = min([0.0, *ends]), max([*ends, 1e-6])
      axes.set_ylim(low - 0.04 * (high - low), high + 0.04 * (high - low))
  figure.set_figheight(figure.get_figheight() + 0.3 + 0.14 * max(map(len, columns.values())))
  shown = [counts.counted[condition] for conditions in columns.values() for condition in conditions]
  styles = mean_style(shown) | _in_order(styles)
  add_legend(figure, list(styles.values()), list(styles), BELOW)
  return figure


def _in_order(styles: Mapping[str, Any]) -> dict[str, Any]:
  """The legend's entries in one order, whichever panel had them first."""
  return {name: styles[name] for name in (*LEARNERS, _PUBLISHED, _OTHER_CUT) if name in styles}


def _draw_panel(
  axes: Axes, measure: str, frames: Sequence[pd.DataFrame | None], hue: str, colours: Mapping[str, Any]
) -> dict[str, Any]:
  """Students, theory and published points (`frames`) of the conditions; gives the legend's entries beside students."""
  learners: list[str] = []
  markers: dict[str, Any] = {}
  for condition, colour in colours.items():
    rows, theory, published = (None if x is None else x[x[hue] == condition] for x in frames)
    draw_mean(axes, seed_table(rows, "temperature", measure), condition, colour)
    learners += _draw_theory(axes, theory, measure, condition, colour)
    markers |= _draw_published(axes, published, measure, condition, colour)
  axes.xaxis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
  return {name: line_style(LEARNERS[name]) for name in learners} | markers


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


def _draw_published(axes: Axes, rows: pd.DataFrame | None, measure: str, condition: str, colour: Any) -> dict[str, Any]:
  """Draws the published points of one condition; gives the legend's entry, if there are any."""
  if rows is None or measure not in rows.columns or rows[measure].notna().sum() == 0:
    return {}
  is_same = "same_cut" not in rows or bool(rows["same_cut"].all())
  name, edge = (_PUBLISHED, colour) if is_same else (_OTHER_CUT, _GREY)
  x, y = rows["temperature"].to_numpy(float), rows[measure].to_numpy(float)
  axes.plot(x, y, **MARKER, markeredgecolor=edge, zorder=4, label=f"{condition}, {name}")
  return {name: marker_style("0.35" if is_same else _GREY)}
