"""Pairs of visits to r, a panel per group of walks: how alike they are in one walk, and in the nulls."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loopjax.plotting.artists import draw_curve, draw_mean
from loopjax.plotting.frames import check_columns, seed_counts, seed_table
from loopjax.plotting.labels import BETWEEN_0_AND_1, LABELS, Label
from loopjax.plotting.legends import add_legends, line_style
from loopjax.plotting.panels import dress, new_panels
from loopjax.plotting.style import LEARNERS, palette

_CHANCE = LEARNERS["exact teacher"]
_CHANCE_STYLE = {"chance: exact teacher": line_style(_CHANCE)}


def correlation_by_lag(frame: pd.DataFrame, *, title: str | None = None) -> Figure:
  """Error correlation against lag, all lags over one set of visits (`repetition.RepetitionFrames.by_lag`).

  Args:
    frame: columns panel, pairs (which visits are compared), seed, lag, correlation.
    title: of the figure.

  Raises:
    ValueError: a column is missing; a row is there twice.
  """
  check_columns(frame, ["correlation"])
  label = Label("", "rho(k)", (min(0.0, frame["correlation"].min()), 1.0))
  return _draw(frame, "lag", "correlation", label, "lag k in visits", title)


def persistence_by_visit(frame: pd.DataFrame, *, title: str | None = None) -> Figure:
  """Top-child persistence against the first visit of the pair, with its chance, the mean over seeds.

  Each visit has other walks than the one before, those that last so long, and the axis says so: a slope may be theirs.

  Args:
    frame: columns panel, pairs (which visits are compared), seed, visit, persistence, chance (NaN where not known).
    title: of the figure.

  Raises:
    ValueError: a column is missing; a row is there twice.
  """
  label = Label("", "share of pairs of visits", BETWEEN_0_AND_1)
  x_label = "first visit of the pair\n(of the walks that last: ever fewer)"
  return _draw(frame, "visit", "persistence", label, x_label, title, chance="chance")


def pairs_by_step(frame: pd.DataFrame, *, title: str | None = None) -> Figure:
  """Top-child persistence with its chance, and error correlation, against the training step.

  Args:
    frame: columns pairs (which visits are compared), seed, step, persistence, chance, correlation.
    title: of the figure.

  Raises:
    ValueError: a column is missing; a row is there twice.
  """
  check_columns(frame, ["pairs", "seed", "step", "persistence", "chance", "correlation"])
  colours = palette(list(frame["pairs"].unique()))
  figure, panels = new_panels(2)
  correlation = Label("Error correlation", "rho(1)", (min(0.0, frame["correlation"].min()), 1.0))
  for axes, measure, label in zip(
    panels, ("persistence", "correlation"), (LABELS["persistence"], correlation), strict=True
  ):
    _draw_panel(axes, frame, colours, "step", measure, "chance" if measure == "persistence" else None)
    dress(axes, label, measure, "training step")
  add_legends(figure, colours, seed_counts(frame, "pairs", ["persistence"]), _CHANCE_STYLE, title)
  return figure


def _draw(
  frame: pd.DataFrame, x: str, measure: str, label: Label, x_label: str, title: str | None, chance: str | None = None
) -> Figure:
  """A panel per group, a line per kind of pairs; `chance` is drawn as the exact teacher is elsewhere."""
  check_columns(frame, ["panel", "pairs", "seed", x, measure, *([chance] if chance else [])])
  names = list(frame["panel"].unique())
  colours = palette(list(frame["pairs"].unique()))
  figure, panels = new_panels(len(names))
  for axes, name in zip(panels, names, strict=True):
    _draw_panel(axes, frame[frame["panel"] == name], colours, x, measure, chance)
    dress(axes, label._replace(title=name), measure, x_label)
  styles = _CHANCE_STYLE if chance is not None else {}
  add_legends(figure, colours, seed_counts(frame, "pairs", [measure], within=["panel"]), styles, title)
  return figure


def _draw_panel(
  axes: Axes, frame: pd.DataFrame, colours: Mapping[str, str], x: str, measure: str, chance: str | None
) -> None:
  """A line per kind of pairs; `chance` is drawn as the exact teacher is elsewhere."""
  for pairs, colour in colours.items():
    rows = frame[frame["pairs"] == pairs]
    draw_mean(axes, seed_table(rows, x, measure), pairs, colour)
    if chance is not None:
      means = seed_table(rows, x, chance).mean(axis=1)
      draw_curve(axes, means.index, means, colour, _CHANCE, f"{pairs}, chance")
  axes.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))
