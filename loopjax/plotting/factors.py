"""One factor changed at a time: a dot and an interval for every value, a row of panels per factor.

Shapes: S seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from loopjax import statistics
from loopjax.plotting.frames import check_columns, check_unique
from loopjax.plotting.legends import ABOVE, BELOW, add_legend
from loopjax.plotting.panels import WIDTHS, new_figure
from loopjax.plotting.style import BAND, PREDICTION, SMALL, TEXT, TITLE, palette

_ALONE = "0.25"  # the colour of a measure that stands alone in its column
_BASE_FILL: dict[str, Any] = dict(color="0.92", linewidth=0)
_REFERENCE: dict[str, Any] = dict(color=PREDICTION, linewidth=0.8, linestyle=(0, (1, 1.2)))
_DOT: dict[str, Any] = dict(marker="o", markersize=3.2, linestyle="none")


class Column(NamedTuple):
  """A column of panels.

  Attributes:
    title: above it.
    unit: of the horizontal axis, which all its panels share.
    measures: what is drawn: name in the legend -> column of the frame. A measure alone has a neutral colour.
    reference: a value to hold the dots against, as a dotted line.
  """

  title: str
  unit: str
  measures: Mapping[str, str]
  reference: float | None = None


def factor_chart(frame: pd.DataFrame, columns: Sequence[Column], *, title: str | None = None) -> Figure:
  """Means over seeds with their intervals, by factor and value; the base's row is shaded in every panel.

  Args:
    frame: one row per factor, value and seed; columns factor, value (text, in the order to be shown), is_base, seed
      and the measures. A measure without any finite seed has no dot.
    columns: of panels, left to right.
    title: of the figure.

  Raises:
    ValueError: a column is missing; a row is there twice; a value is infinite.
  """
  measures = [name for column in columns for name in column.measures.values()]
  check_columns(frame, ["factor", "value", "is_base", "seed", *measures])
  check_unique(frame, ["factor", "value", "seed"])
  factors = {name: list(frame.loc[frame["factor"] == name, "value"].unique()) for name in frame["factor"].unique()}
  sizes = [len(values) for values in factors.values()]
  several = [list(column.measures) for column in columns if len(column.measures) > 1]
  colours = palette(list(dict.fromkeys(name for names in several for name in names)))

  figure = new_figure((WIDTHS[-1], 0.22 * sum(sizes) + 0.24 * len(sizes)))
  grid = figure.subplots(len(sizes), len(columns), sharex="col", sharey="row", squeeze=False, height_ratios=sizes)
  for row, (factor, values) in enumerate(factors.items()):
    rows = frame[frame["factor"] == factor]
    for axes, column in zip(grid[row], columns, strict=True):
      _draw_panel(axes, rows, values, column, colours)
    grid[row, 0].set_yticks(range(len(values)), values)
    grid[row, 0].set_ylim(len(values) - 0.5, -0.5)
    grid[row, 0].set_ylabel(factor, fontsize=TEXT, rotation=0, ha="right", va="center", weight="bold")
  figure.align_ylabels(grid[:, 0])
  _dress_columns(grid, columns)
  _add_legends(figure, colours, columns, frame["seed"].nunique(), title)
  return figure


def _draw_panel(
  axes: Axes, rows: pd.DataFrame, values: Sequence[str], column: Column, colours: Mapping[str, str]
) -> None:
  """A dot and its interval per value and measure; several measures lie beside each other within a value's row."""
  if column.reference is not None:
    axes.axvline(column.reference, **_REFERENCE)
  for place, value in enumerate(values):
    here = rows[rows["value"] == value]
    if here["is_base"].any():
      axes.axhspan(place - 0.5, place + 0.5, **_BASE_FILL)
    shifts = np.linspace(-0.22, 0.22, len(column.measures)) if len(column.measures) > 1 else [0.0]
    for (name, measure), shift in zip(column.measures.items(), shifts, strict=True):
      colour = colours.get(name, _ALONE) if len(column.measures) > 1 else _ALONE
      _draw_dot(axes, here[measure].to_numpy(float), place + shift, colour, f"{value}, {name}")


def _draw_dot(axes: Axes, values: np.ndarray, y: float, colour: str, label: str) -> None:
  """The mean of `values` [S] and, where two seeds or more count, its interval."""
  mean, low, high = map(float, statistics.mean_interval(values)[:3])
  if np.isfinite(mean):
    axes.plot([mean], [y], **_DOT, color=colour, label=label)
  if np.isfinite(low):
    axes.plot([low, high], [y, y], color=colour, linewidth=1.2, label=f"{label}, {BAND}")


def _dress_columns(grid: np.ndarray, columns: Sequence[Column]) -> None:
  for axes in grid.flat:
    axes.tick_params(labelsize=SMALL)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="0.85", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
  for top, bottom, column in zip(grid[0], grid[-1], columns, strict=True):
    top.set_title(column.title, fontsize=TITLE)
    bottom.set_xlabel(column.unit, fontsize=TEXT)


def _add_legends(
  figure: Figure, colours: Mapping[str, str], columns: Sequence[Column], num_seeds: int, title: str | None
) -> None:
  """Above what colours mean; below it dots, shading and dotted lines."""
  if colours:
    dots = [Line2D([], [], **_DOT, color=colour) for colour in colours.values()]
    add_legend(figure, dots, list(colours), ABOVE, title)
  seeds = f"mean, {num_seeds} seeds, {BAND}" if num_seeds > 1 else "one seed"
  styles: dict[str, Any] = {
    seeds: Line2D([], [], **{**_DOT, "linestyle": "-"}, color=_ALONE), "base student": Patch(**_BASE_FILL)
  }  # fmt: skip
  if any(column.reference is not None for column in columns):
    styles["what chance gives"] = Line2D([], [], **_REFERENCE)
  add_legend(figure, list(styles.values()), list(styles), BELOW)
