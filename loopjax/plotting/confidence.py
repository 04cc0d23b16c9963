"""Confidence inside loops by repetition, a panel per temperature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from loopjax.plotting.artists import draw_curve, draw_mean
from loopjax.plotting.frames import check_columns, seed_counts, seed_table
from loopjax.plotting.labels import Label
from loopjax.plotting.legends import add_legends, line_style
from loopjax.plotting.panels import dress, new_panels
from loopjax.plotting.style import LEARNERS, palette

_DASHED, _DOTTED = LEARNERS["exact teacher"], LEARNERS["Bayes learner"]


def confidence_by_repetition(frame: pd.DataFrame, *, title: str | None = None) -> Figure:
  """Mean confidence of the cohort, and broken that of all loops that get as far as each repetition.

  Args:
    frame: columns condition, seed, temperature, repetition, cohort_confidence, confidence; NaN where there is none.
    title: of the figure.

  Raises:
    ValueError: a column is missing; a row is there twice.
  """
  beside = {"all loops that get so far": ("confidence", _DASHED)}
  return _draw(frame, "cohort_confidence", beside, "mean confidence of a cohort", title)


def confidence_quantiles(frame: pd.DataFrame, *, title: str | None = None) -> Figure:
  """The distribution of confidence over loops: the median, broken the lowest and the highest tenth.

  Args:
    frame: columns condition, seed, temperature, repetition, q10, q50, q90; only rows with quantiles are shown.
    title: of the figure.

  Raises:
    ValueError: a column is missing; a row is there twice.
  """
  beside = {"90% quantile": ("q90", _DASHED), "10% quantile": ("q10", _DOTTED)}
  check_columns(frame, ["q50"])
  known = frame[frame.groupby("repetition")["q50"].transform(lambda values: values.notna().any())]
  return _draw(known, "q50", beside, "median confidence", title)


def _draw(
  frame: pd.DataFrame, measure: str, beside: Mapping[str, tuple[str, Any]], unit: str, title: str | None
) -> Figure:
  """A line per condition, and the means over seeds of what stands `beside` it: legend -> column and dashes."""
  columns = [column for column, _ in beside.values()]
  check_columns(frame, ["condition", "seed", "temperature", "repetition", measure, *columns])
  temperatures = sorted(frame["temperature"].unique())
  colours = palette(list(frame["condition"].unique()))
  figure, panels = new_panels(len(temperatures))
  for axes, temperature in zip(panels, temperatures, strict=True):
    for condition, colour in colours.items():
      rows = frame[(frame["condition"] == condition) & (frame["temperature"] == temperature)]
      draw_mean(axes, seed_table(rows, "repetition", measure), condition, colour)
      for name, (column, dashes) in beside.items():
        means = seed_table(rows, "repetition", column).mean(axis=1)
        draw_curve(axes, means.index, means, colour, dashes, f"{condition}, {name}")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))
    dress(axes, Label(f"T = {temperature:g}", unit, least_span=0.1), measure, "repetition")
  styles = {name: line_style(dashes) for name, (_, dashes) in beside.items()}
  add_legends(figure, colours, seed_counts(frame, "condition", [measure, *columns]), styles, title)
  return figure
