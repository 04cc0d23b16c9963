"""Remedies in a plane: how often walks lie in locked cycles against how long they are, temperature as a curve."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loopjax.plotting.frames import check_columns
from loopjax.plotting.panels import dress, new_panels
from loopjax.plotting.style import SMALL


def remedy_plane(frame: pd.DataFrame, plain: str) -> Figure:
  """A panel per base: the mean over seeds of every setting, plain students at all temperatures joined by a line.

  Args:
    frame: columns base, remedy, trial, temperature, seed, excess_length, locked_cycle_share.
    plain: the remedy whose temperatures are joined.

  Raises:
    ValueError: a column is missing.
  """
  check_columns(frame, ["base", "remedy", "trial", "temperature", "seed", "excess_length", "locked_cycle_share"])
  bases = list(frame["base"].unique())
  figure, panels = new_panels(len(bases))
  for axes, base in zip(panels, bases, strict=True):
    _draw(axes, frame[frame["base"] == base], plain)
    dress(axes, None, base, "length over the exact teacher's")
  return figure


def _draw(axes: Axes, rows: pd.DataFrame, plain: str) -> None:
  keys = ["remedy", "trial", "temperature"]
  means = rows.groupby(keys, sort=False)[["excess_length", "locked_cycle_share"]].mean().reset_index()
  line = means[means["remedy"] == plain].sort_values("temperature")
  axes.plot(line["excess_length"], line["locked_cycle_share"], color="0.35", marker=".", label=plain)
  for name, points in means[means["remedy"] != plain].groupby("remedy", sort=False):
    axes.plot(points["excess_length"], points["locked_cycle_share"], ".", label=name)
    axes.annotate(name, points[["excess_length", "locked_cycle_share"]].iloc[0], fontsize=SMALL)
