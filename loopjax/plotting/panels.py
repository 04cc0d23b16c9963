"""Figures and their panels: sizes, titles, axis labels, limits, scales."""

from __future__ import annotations

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from loopjax.plotting.labels import BETWEEN_0_AND_1, Label
from loopjax.plotting.style import SMALL, TEXT, TITLE
from loopjax.runtime.config import require

DPI = 150
PANEL_HEIGHT, WIDTHS = 1.75, (3.4, 5.5, 6.75)  # inches; of a figure one, two, three panels wide


def new_figure(size: tuple[float, float]) -> Figure:
  """An empty figure of `size` in inches, without pyplot and its global state."""
  figure = Figure(figsize=size, dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.07, h_pad=0.06))
  FigureCanvasAgg(figure)
  return figure


def new_panels(num_panels: int) -> tuple[Figure, list[Axes]]:
  """A figure of at most three panels in a row, two in a row where there are four."""
  require(num_panels >= 1, "measures", [], "one measure or more")
  num_columns = 2 if num_panels == 4 else min(num_panels, 3)
  num_rows = -(-num_panels // num_columns)
  figure = new_figure((WIDTHS[num_columns - 1], PANEL_HEIGHT * num_rows))
  grid = figure.subplots(num_rows, num_columns, squeeze=False).flatten()
  for axes in grid[num_panels:]:
    axes.remove()
  return figure, list(grid[:num_panels])


def dress(axes: Axes, label: Label | None, measure: str, x_label: str) -> None:
  """Title, axis labels and limits: [0, 1] for shares, else from 0 on, each with a little air."""
  label = Label(measure.replace("_", " "), measure) if label is None else label
  axes.set_title(label.title, fontsize=TITLE)
  axes.set_xlabel(x_label, fontsize=TEXT)
  axes.set_ylabel(label.unit, fontsize=TEXT)
  axes.tick_params(labelsize=SMALL, which="both")
  axes.grid(color="0.9", linewidth=0.5)
  axes.set_axisbelow(True)
  axes.spines[["top", "right"]].set_visible(False)
  if axes.get_yscale() == "linear":
    low, high = _limits(label, axes.dataLim.y0, axes.dataLim.y1)
    air = 0.04 * (high - low)
    axes.set_ylim(low - air, high + air)
    axes.ticklabel_format(axis="y", scilimits=(-3, 5))
    axes.yaxis.get_offset_text().set_fontsize(SMALL)


def _limits(label: Label, lowest: float, highest: float) -> tuple[float, float]:
  """The vertical axis's, given the values drawn; none drawn: 0 to 1."""
  if label.limits is not None:
    return label.limits
  if not np.isfinite([lowest, highest]).all():
    return BETWEEN_0_AND_1
  if label.least_span is not None:
    missing = max(0.0, label.least_span - (highest - lowest)) / 2
    return lowest - missing, highest + missing
  return min(0.0, lowest), highest if highest > min(0.0, lowest) else 1.0


def set_log_scale(axes: Axes) -> None:
  """A log scale with plain numbers at 1, 2 and 5 of each decade."""
  axes.set_yscale("log")
  axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
  axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
  axes.yaxis.set_minor_locator(ticker.NullLocator())
