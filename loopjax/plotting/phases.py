"""The phase diagram of Proposition 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from loopjax.plotting.frames import check_columns, check_unique
from loopjax.plotting.labels import P_LABEL
from loopjax.plotting.legends import BELOW, add_legend
from loopjax.plotting.panels import new_figure
from loopjax.plotting.style import SMALL, TEXT, TITLE
from loopjax.runtime.config import require
from loopjax.star_graph.theory import proposition_threshold

_NO_SEED = "0.8"
_MEASURED: dict[str, Any] = dict(
  marker="o", markersize=2.5, markerfacecolor="white", markeredgecolor="black", markeredgewidth=0.5, linestyle="none"
)
_RIM = [patheffects.Stroke(linewidth=3.2, foreground="white"), patheffects.Normal()]
_LINE: dict[str, Any] = dict(color="black", linewidth=1.4, path_effects=_RIM)


def phase_diagram(frame: pd.DataFrame, visits: Sequence[int] | None = None, *, title: str | None = None) -> Figure:
  """Over (p, n) the share of prompts whose argmax is the cycle, mean over seeds, beside the line p = 1/(n + 1).

  A cell reaches half-way to the next p that was measured; a dot marks the p itself.

  Args:
    frame: one row per n, p, seed and visit, with cycle_is_argmax.
    visits: one panel each; None: the first, and of further ones the middle and the last.
    title: of the figure.

  Raises:
    ValueError: a column is missing; a row is there twice; a visit is not in `frame`.
  """
  check_columns(frame, ["n", "p", "seed", "visit", "cycle_is_argmax"])
  there = sorted(frame["visit"].unique())
  visits = sorted({there[0], there[len(there) // 2], there[-1]}) if visits is None else list(visits)
  require(len(visits) > 0 and set(visits) <= set(there), "visits", visits, f"one or more of {there}")
  check_unique(frame, ["n", "p", "seed", "visit"])
  num_rows = frame["n"].nunique()
  size = (1.2 + 1.9 * len(visits), 0.9 + max(1.2, 0.22 * num_rows))
  figure = new_figure(size)
  panels = figure.subplots(1, len(visits), sharey=True, squeeze=False)[0]
  for axes, visit in zip(panels, visits, strict=True):
    mesh = _draw_phases(axes, frame[frame["visit"] == visit])
    axes.set_title(f"Visit {visit} to r", fontsize=TITLE)
  panels[0].set_ylabel("children n", fontsize=TEXT)
  bar = figure.colorbar(mesh, ax=list(panels), fraction=0.05, pad=0.02)
  bar.set_label("share of prompts\nwith argmax the cycle", fontsize=TEXT)
  bar.ax.tick_params(labelsize=SMALL)
  handles: list[Any] = [Line2D([], [], **_LINE), Line2D([], [], **_MEASURED)]
  labels = ["predicted: p = 1/(n + 1)", "measured p"]
  if frame["cycle_is_argmax"].isna().any():
    handles, labels = [*handles, Patch(color=_NO_SEED)], [*labels, "no finite seed"]
  add_legend(figure, handles, labels, BELOW)
  if title is not None:
    figure.suptitle(title, fontsize=TITLE)
  return figure


def _draw_phases(axes: Axes, rows: pd.DataFrame) -> Any:
  """One phase diagram; rows of equal height, since n is whole. Gives the coloured mesh."""
  share = rows.groupby(["n", "p"])["cycle_is_argmax"].mean().unstack("p")
  p, n = share.columns.to_numpy(float), share.index.to_numpy()
  middles = (p[1:] + p[:-1]) / 2
  half = np.diff(p)[[0, -1]] / 2 if len(p) > 1 else np.full(2, 0.05)
  edges = np.clip(np.concatenate([p[:1] - half[0], middles, p[-1:] + half[1]]), 0, 1)  # probabilities
  axes.set_facecolor(_NO_SEED)
  heights = np.arange(len(n) + 1) - 0.5
  mesh = axes.pcolormesh(edges, heights, share, cmap="PuOr", vmin=0, vmax=1, edgecolors="white", linewidth=0.3)
  axes.plot(*np.meshgrid(p, np.arange(len(n))), **_MEASURED)
  line = np.repeat(proposition_threshold(n), 2)
  axes.plot(line, np.repeat(heights, 2)[1:-1], **_LINE, label="p = 1/(n + 1)")
  axes.set_yticks(np.arange(len(n)), [str(x) for x in n])
  axes.set_xlim(edges[0], edges[-1])
  axes.set_ylim(heights[0], heights[-1])
  axes.set_xlabel(P_LABEL, fontsize=TEXT)
  axes.tick_params(labelsize=SMALL)
  return mesh
