"""Remedies in a plane: how often walks lie in locked cycles against how long they are, temperature as a curve.

Down and left is better in both. A remedy that only does what a temperature does lies on the curve.

Shapes: S seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from loopjax import statistics
from loopjax.leaderboard import best_temperatures
from loopjax.plotting.frames import check_columns, check_unique, seed_counts
from loopjax.plotting.labels import LABELS
from loopjax.plotting.legends import ABOVE, BELOW, add_legend, name_with_seeds
from loopjax.plotting.panels import WIDTHS, dress, new_figure
from loopjax.plotting.placing import Text, place
from loopjax.plotting.style import PALETTE, SWEEP
from loopjax.runtime.config import require

X, Y = "excess_length", "locked_cycle_share"
KEYS = ["base", "remedy", "trial", "temperature"]
STYLES: Mapping[str, dict[str, Any]] = {
  "decoding": dict(color=PALETTE[0], marker="o", markersize=4.5),
  "training": dict(color=PALETTE[1], marker="s", markersize=4.2),
}
_BEST: dict[str, Any] = dict(marker="D", markersize=5.5, color="0.15", markerfacecolor="white", linestyle="none")
_FEW_SEEDS = 3  # with fewer the seeds are shown, and no interval
_HEIGHT = 2.6  # inches of a panel


def remedy_plane(frame: pd.DataFrame, plain: str, kinds: Mapping[str, str], *, title: str | None = None) -> Figure:
  """A panel per base: a numbered marker for every setting, plain students at all temperatures joined by a line.

  Args:
    frame: a row per base, remedy, trial, temperature and seed, with excess_length and locked_cycle_share. Several
      settings of a remedy have the same number.
    plain: the remedy whose temperatures are joined.
    kinds: remedy -> `decoding` or `training`; plain students need none.
    title: of the figure.

  Raises:
    ValueError: a column is missing; a row is there twice; a remedy is of no known kind; a base has no plain students.
  """
  check_columns(frame, [*KEYS, "seed", X, Y])
  check_unique(frame, [*KEYS, "seed"])
  remedies = [name for name in frame["remedy"].unique() if name != plain]
  for name in remedies:
    require(kinds.get(name) in STYLES, f"kinds[{name!r}]", kinds.get(name), f"one of {list(STYLES)}")
  best, bases = best_temperatures(frame[frame["remedy"] == plain]), list(frame["base"].unique())
  for base in bases:
    require(base in best, "frame", base, f"a base with rows of {plain!r}")
  columns = min(len(bases), 3)
  figure = new_figure((WIDTHS[columns - 1], _HEIGHT * -(-len(bases) // columns)))
  grid = figure.subplots(-(-len(bases) // columns), columns, squeeze=False).flatten()
  numbers = {name: (number, kinds[name]) for number, name in _numbered(remedies)}
  texts = [
    _draw_panel(axes, frame[frame["base"] == base], plain, best[base], numbers)
    for axes, base in zip(grid, bases, strict=False)
  ]
  for axes in grid[len(bases) :]:
    axes.remove()
  _add_legends(figure, frame, remedies, kinds, plain, title)
  place(figure, dict(zip(grid, texts, strict=False)))
  return figure


def _numbered(remedies: Sequence[str]) -> list[tuple[int, str]]:
  return list(enumerate(remedies, start=1))


def _draw_panel(
  axes: Axes, rows: pd.DataFrame, plain: str, best: float, numbers: Mapping[str, tuple[int, str]]
) -> list[Text]:
  """Curve and markers; gives the texts that are to stand beside them, the more important first."""
  settings = {key[1:]: one for key, one in rows.groupby(KEYS, sort=False)}
  marks = [_draw_setting(axes, one, *numbers[key[0]]) for key, one in settings.items() if key[0] in numbers]
  curve = _draw_curve(axes, rows[rows["remedy"] == plain], best)
  dress(axes, LABELS[Y]._replace(title=str(rows["base"].iloc[0]), limits=None), Y, LABELS[X].unit)
  axes.xaxis.set_major_locator(ticker.MaxNLocator(5, steps=[1, 2, 5, 10]))
  return [*filter(None, marks), *curve]


def _draw_setting(axes: Axes, rows: pd.DataFrame, number: int, kind: str) -> Text | None:
  """The marker at the means over seeds, its cross, and its number; nothing where no seed has a value."""
  style = STYLES[kind]
  values = {name: rows[name].to_numpy(float) for name in (X, Y)}
  x, y = (statistics.mean_interval(values[name], limits=statistics.LIMITS[name]) for name in (X, Y))
  at = float(x.mean), float(y.mean)
  if not np.isfinite(at).all():
    return None
  cross: dict[str, Any] = dict(color=style["color"], linewidth=0.6, alpha=0.8, zorder=3)
  if min(x.num_seeds, y.num_seeds) < _FEW_SEEDS:
    axes.plot(values[X], values[Y], color=style["color"], marker=".", markersize=2, linestyle="none", alpha=0.6)
  else:
    axes.plot([float(x.low), float(x.high)], [at[1]] * 2, **cross, label=f"{number}, interval of {X}")
    axes.plot([at[0]] * 2, [float(y.low), float(y.high)], **cross, label=f"{number}, interval of {Y}")
  axes.plot(*at, **style, markeredgewidth=0.5, markeredgecolor="white", zorder=4, label=f"{number}")
  return Text(str(number), at, style["color"], True, "bold")


def _draw_curve(axes: Axes, rows: pd.DataFrame, best: float) -> list[Text]:
  """The means of plain students from temperature to temperature; the ends and the best are labelled first."""
  means = rows.groupby("temperature")[[X, Y]].mean().sort_index()
  axes.plot(means[X], means[Y], **SWEEP, zorder=2, label="temperature alone")
  axes.plot([means.loc[best, X]], [means.loc[best, Y]], **_BEST, zorder=2.5, label="best temperature")
  first = list(dict.fromkeys([means.index[0], means.index[-1], best]))
  order = [*first, *(t for t in means.index if t not in first)]
  at = {t: (float(x), float(y)) for t, x, y in means.itertuples()}
  return [Text(f"T {t:g}", at[t], "0.35", t in first) for t in order]


def _add_legends(
  figure: Figure, frame: pd.DataFrame, remedies: Sequence[str], kinds: Mapping[str, str], plain: str, title: str | None
) -> None:
  """Above what markers mean; below the remedies' numbers."""
  num_seeds = frame["seed"].nunique()
  used = [kind for kind in STYLES if kind in {kinds[name] for name in remedies}]
  entries: dict[str, Any] = {f"{kind} remedy": Line2D([], [], **STYLES[kind], linestyle="none") for kind in used}
  entries[f"{plain} (T)"] = Line2D([], [], **SWEEP)
  entries["its best temperature"] = Line2D([], [], **_BEST)
  if num_seeds >= _FEW_SEEDS and remedies:
    entries["95% t-interval"] = Line2D([], [], color="0.35", linewidth=0.6, marker="|", markersize=6)
  add_legend(figure, list(entries.values()), list(entries), ABOVE, title)
  if remedies:
    counts = seed_counts(frame, "remedy", [X], within=["base", "trial", "temperature"])
    markers = [Line2D([], [], **STYLES[kinds[name]], linestyle="none") for name in remedies]
    add_legend(figure, markers, [f"{i}  {name_with_seeds(n, counts)}" for i, n in _numbered(remedies)], BELOW)
