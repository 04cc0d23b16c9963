"""Figures: tidy frames in, matplotlib figures out. No global state: no pyplot, no rcParams that outlive a call.

One colour per condition, from a palette that colour-blind readers tell apart. A solid line is the mean over seeds of
students and its band the 95% t-interval; seeds that are NaN (diverged, left out of the results) do not count, and the
legend says how many did. Broken lines are exact theory, and the legend names which; hollow diamonds are published.

Shapes: S seeds, X places on the horizontal axis.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import colormaps, patheffects, ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from loopjax import files, statistics
from loopjax.config import require
from loopjax.theory import proposition_one, proposition_threshold

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
LEARNERS = {"exact teacher": (0, (4, 2)), "memoryless learner": (0, (5, 1.5, 1, 1.5)), "Bayes learner": (0, (1, 1.2))}
BETWEEN_0_AND_1 = (0.0, 1.0)
DPI = 150
TITLE, TEXT, SMALL = 8.0, 7.5, 7.0  # points
PANEL_HEIGHT, WIDTHS = 1.75, (3.4, 5.5, 6.75)  # inches; of a figure one, two, three panels wide
PREDICTION = "0.25"  # the colour of predictions that all conditions share
BAND = "95% t-interval"
P_LABEL = "teacher's probability p of s at r"


class Label(NamedTuple):
  """What a panel says of a measure.

  Attributes:
    title: the panel's.
    unit: the vertical axis's.
    limits: of that axis; None: from 0 to the highest value.
    least_span: where given, the axis holds the values and is at least this high, wherever 0 is.
  """

  title: str
  unit: str
  limits: tuple[float, float] | None = None
  least_span: float | None = None


LABELS = {
  "accuracy": Label("Accuracy", "share of walks", BETWEEN_0_AND_1),
  "accuracy_ignoring_validity": Label("Accuracy, invalid moves allowed", "share of walks", BETWEEN_0_AND_1),
  "response_length": Label("Response length", "nodes"),
  "successful_length": Label("Length of successful walks", "nodes"),
  "length_ratio": Label("Response length", "times the exact teacher's"),
  "successful_length_ratio": Label("Length of successful walks", "times the exact teacher's"),
  "loop_count": Label("Loops", "returns to s per walk"),
  "root_loops": Label("Root loops (s-r-s)", "windows per walk"),
  "root_loop_share": Label("Root loops (s-r-s)", "share of nodes", BETWEEN_0_AND_1),
  "invalid_moves": Label("Invalid moves", "moves per walk"),
  "distinct_children": Label("Distinct children", "children per walk"),
  "revisits": Label("Revisits", "entries per walk"),
  "cycle_probability": Label("Cycle at visit 1", "probability of s at r"),
  "largest_child_probability": Label("Largest child", "probability at r", BETWEEN_0_AND_1),
  "goal_child_probability": Label("Goal's child", "probability at r", BETWEEN_0_AND_1),
  "risk_aversion_ratio": Label("Risk-aversion ratio", "cycle / largest child"),
  "child_entropy": Label("Entropy over children", "share of log n", least_span=0.1),
  "invalid_mass": Label("Invalid mass", "probability at r"),
  "kl_from_solution": Label("KL(solution || student)", "nats"),
  "total_variation": Label("Distance from the solution", "total variation"),
  "cycle_is_argmax": Label("Cycle is the argmax", "share of prompts", BETWEEN_0_AND_1),
  "loss": Label("Training loss", "nats per position"),
  "gradient_norm": Label("Gradient norm", "before clipping"),
}

# What Proposition 1 predicts of a measure, from p [X] and n. At its solution nothing else is left over.
_PREDICTIONS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
  "cycle_probability": lambda p, n: proposition_one(p, n).cycle,
  "largest_child_probability": lambda p, n: proposition_one(p, n).child,
  "goal_child_probability": lambda p, n: proposition_one(p, n).child,
  "risk_aversion_ratio": lambda p, n: proposition_one(p, n).cycle / proposition_one(p, n).child,
  "child_entropy": lambda p, n: np.ones_like(p),
  "cycle_is_argmax": lambda p, n: (p > proposition_threshold(n)).astype(float),
}
_DEPENDS_ON_N = {"largest_child_probability", "goal_child_probability", "risk_aversion_ratio", "cycle_is_argmax"}
_LOG_SCALE = {"risk_aversion_ratio"}


def palette(conditions: Sequence[str]) -> dict[str, str]:
  """A colour per condition, in their order; the same conditions in the same order have the same colours anywhere.

  Raises:
    ValueError: more conditions than colours that can be told apart.
  """
  fits = len(conditions) <= len(PALETTE)
  require(fits, "conditions", list(conditions), f"at most {len(PALETTE)}: spread them over several figures")
  return dict(zip(conditions, PALETTE, strict=False))


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
  _check_columns(frame, [hue, "seed", "temperature", *measures])
  conditions = _conditions(frame, hue, conditions)
  colours = palette(conditions) if colours is None else colours
  for name, other in {"theory": theory, "published": published}.items():
    _check_conditions(name, other, hue, frame)
  figure, panels = _panels(len(measures))
  learners, has_published = [], False
  for axes, measure in zip(panels, measures, strict=True):
    for condition in conditions:
      rows = [None if x is None else x[x[hue] == condition] for x in (frame, theory, published)]
      _draw_mean(axes, _seed_table(rows[0], "temperature", measure), condition, colours[condition])
      learners += _draw_theory(axes, rows[1], measure, condition, colours[condition])
      has_published |= _draw_published(axes, rows[2], measure, condition, colours[condition])
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
    _dress(axes, LABELS.get(measure), measure, "temperature")
  styles: dict[str, Any] = {name: _line_style(LEARNERS[name]) for name in LEARNERS if name in learners}
  styles |= {"published": _marker_style("0.35")} if has_published else {}
  _legends(figure, {c: colours[c] for c in conditions}, _seed_counts(frame, hue, measures), styles, title)
  return figure


def proposition_panels(
  frame: pd.DataFrame,
  measures: Sequence[str] = (
    "cycle_probability", "risk_aversion_ratio", "total_variation", "child_entropy", "invalid_mass",
  ),
  *,
  cycle_prob: float = 0.3,
  title: str | None = None,
) -> Figure:  # fmt: skip
  """Students at the root against Proposition 1: measures at visit 1 against p, and the cycle over further visits.

  Args:
    frame: one row per n, p, seed and visit (1: the first; then after 1, 2, ... pure s-r-s cycles), and the measures.
    measures: columns of `frame`; a panel each.
    cycle_prob: the last panel, of the cycle probability by visit, is of the p nearest to this.
    title: of the figure.

  Raises:
    ValueError: a column is missing; a row is there twice; a value is infinite.
  """
  _check_columns(frame, ["n", "p", "seed", "visit", "cycle_probability", *measures])
  colours = _ordered_colours(sorted(frame["n"].unique()))
  figure, panels = _panels(len(measures) + 1)
  for axes, measure in zip(panels, measures, strict=False):
    _draw_proposition(axes, frame[frame["visit"] == 1], measure, colours)
  _draw_visits(panels[-1], frame, cycle_prob, colours)
  counts = _seed_counts(frame, "n", [*measures, "cycle_probability"], within=["p"])
  styles = {"Proposition 1": _line_style(LEARNERS["exact teacher"])}
  _legends(figure, colours, counts, styles, title, prefix="n = ")
  return figure


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
  _check_columns(frame, ["n", "p", "seed", "visit", "cycle_is_argmax"])
  there = sorted(frame["visit"].unique())
  visits = sorted({there[0], there[len(there) // 2], there[-1]}) if visits is None else list(visits)
  require(len(visits) > 0 and set(visits) <= set(there), "visits", visits, f"one or more of {there}")
  _check_unique(frame, ["n", "p", "seed", "visit"])
  num_rows = frame["n"].nunique()
  size = (1.2 + 1.9 * len(visits), 0.9 + max(1.2, 0.22 * num_rows))
  figure = _figure(size)
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
  _legend(figure, handles, labels, _BELOW)
  if title is not None:
    figure.suptitle(title, fontsize=TITLE)
  return figure


def training_curves(
  history: pd.DataFrame,
  measure: str = "loss",
  *,
  hue: str = "condition",
  conditions: Sequence[str] | None = None,
  colours: Mapping[str, str] | None = None,
  title: str | None = None,
) -> Figure:
  """The loss against the training step.

  A seed whose loss is once not finite is left out from the first step on, as it is from the results. Between its own
  steps a seed is interpolated, so that seeds logged at different steps have a mean.

  Args:
    history: one row per condition, seed and step; columns `hue`, seed, step and `measure`.
    measure: what to show, on a log scale.
    hue, conditions, colours, title: as in `against_temperature`.

  Raises:
    ValueError: a column is missing; a row is there twice; a condition is not known.
  """
  _check_columns(history, [hue, "seed", "step", measure])
  conditions = _conditions(history, hue, conditions)
  colours = palette(conditions) if colours is None else colours
  is_finite = np.isfinite(history[measure]).groupby([history[hue], history["seed"]]).transform("all")
  history = history.assign(**{measure: history[measure].where(is_finite)})
  figure, [axes] = _panels(1)
  for condition in conditions:
    table = _seed_table(history[history[hue] == condition], "step", measure)
    _draw_mean(axes, table.interpolate(method="index", limit_area="inside"), condition, colours[condition], marker="")
  _set_log_scale(axes)
  _dress(axes, LABELS.get(measure), measure, "training step")
  _legends(figure, {c: colours[c] for c in conditions}, _seed_counts(history, hue, [measure]), {}, title)
  return figure


_METADATA: dict[str, dict[str, Any]] = {"png": {}, "svg": {"Date": None}}


def save(figure: Figure, path_without_suffix: str | os.PathLike[str]) -> None:
  """Writes the figure as .png (150 dots per inch) and .svg (text as text), each atomically.

  The same figure gives the same bytes: no date, ids in the SVG that depend on the content alone, and a layout that is
  settled here once and stays (each further round would move things a little).
  """
  base = Path(path_without_suffix)
  figure.draw_without_rendering()
  figure.set_layout_engine("none")
  with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "loopjax"}):
    for kind, metadata in _METADATA.items():
      write = functools.partial(figure.savefig, format=kind, dpi=DPI, metadata=metadata)
      files.write_atomically(base.with_name(f"{base.name}.{kind}"), write)


# Frames.


def _check_columns(frame: pd.DataFrame, columns: Sequence[str]) -> None:
  for column in columns:
    require(column in frame.columns, "column", column, f"one of {sorted(map(str, frame.columns))}")
  require(len(frame) > 0, "frame", "no rows", "a frame of one row or more")


def _check_unique(frame: pd.DataFrame, columns: Sequence[str]) -> None:
  if frame.duplicated(list(columns)).any():
    names = ", ".join(columns)
    raise ValueError(f"several rows of one {names}: keep those of one setting, or name the setting in the condition")


def _check_conditions(name: str, other: pd.DataFrame | None, hue: str, frame: pd.DataFrame) -> None:
  """Conditions misspelt in theory or published points would leave the figure unnoticed."""
  if other is not None:
    require(
      {hue, "temperature"} <= set(other.columns), f"{name}.columns", list(other.columns), f"with {hue}, temperature"
    )
    unknown = sorted(set(other[hue]) - set(frame[hue]))
    require(not unknown, f"{name}.{hue}", unknown, f"among those of the frame: {list(frame[hue].unique())}")


def _conditions(frame: pd.DataFrame, hue: str, conditions: Sequence[str] | None) -> list[str]:
  there = list(frame[hue].unique())
  conditions = there if conditions is None else list(conditions)
  require(len(conditions) > 0 and set(conditions) <= set(there), "conditions", conditions, f"one or more of {there}")
  return conditions


def _seed_table(rows: pd.DataFrame, x: str, measure: str) -> pd.DataFrame:
  """The measure as [X, S], `x` ascending in the index, seeds in columns; NaN where a seed lacks a row."""
  _check_unique(rows, [x, "seed"])
  return rows.pivot(index=x, columns="seed", values=measure).astype(float)


class _Counts(NamedTuple):
  """Per condition: the seeds with any number to show (where students differ in p too: at the worst p), all seeds."""

  counted: dict[Any, int]
  total: dict[Any, int]


def _seed_counts(frame: pd.DataFrame, hue: str, measures: Sequence[str], within: Sequence[str] = ()) -> _Counts:
  """Counts the students, which `hue`, the columns `within` and the seed tell apart."""
  is_known = frame[list(measures)].notna().any(axis=1)
  students = is_known.groupby([frame[name] for name in (hue, *within, "seed")]).any()
  cells = students.groupby(level=[hue, *within])
  counted, total = (x.groupby(level=hue).min().to_dict() for x in (cells.sum(), cells.size()))
  return _Counts(counted, total)


def _name(condition: Any, counts: _Counts) -> str:
  """The legend's name of a condition: where seeds are excluded, it says how many counted."""
  counted, total = counts.counted[condition], counts.total[condition]
  return f"{condition}" if counted == total else f"{condition} ({counted} of {total} seeds)"


# Artists.


def _draw_mean(axes: Axes, table: pd.DataFrame, label: str, colour: Any, marker: str = ".") -> None:
  """The line through the means over seeds and, where two seeds or more count, the band."""
  x = table.index.to_numpy(float)
  interval = statistics.mean_interval(table.to_numpy(), axis=1)
  axes.plot(x, interval.mean, color=colour, **_STUDENT, marker=marker, label=label)
  is_bounded = np.isfinite(interval.low)
  if is_bounded.any():
    low, high = (np.where(is_bounded, end, np.nan) for end in (interval.low, interval.high))
    axes.fill_between(x, low, high, color=colour, **_BAND, label=f"{label}, {BAND}")


def _draw_theory(axes: Axes, rows: pd.DataFrame | None, measure: str, condition: str, colour: Any) -> list[str]:
  """Draws the theoretical learners of one condition and gives their names."""
  if rows is None or measure not in rows.columns or rows.empty:
    return []
  _check_columns(rows, ["learner"])
  _check_unique(rows, ["learner", "temperature"])
  learners = list(rows["learner"].unique())
  for learner in learners:
    require(learner in LEARNERS, "learner", learner, f"one of {list(LEARNERS)}")
    curve = rows[rows["learner"] == learner].sort_values("temperature")
    _draw_curve(axes, curve["temperature"], curve[measure], colour, LEARNERS[learner], f"{condition}, {learner}")
  return learners


def _draw_curve(axes: Axes, x: Any, y: Any, colour: Any, dashes: Any, label: str) -> None:
  """A thin broken line, which shows on a student's broad, paler line of the same colour."""
  axes.plot(np.asarray(x, float), np.asarray(y, float), color=colour, **_CURVE, linestyle=dashes, label=label)


def _draw_published(axes: Axes, rows: pd.DataFrame | None, measure: str, condition: str, colour: Any) -> bool:
  """Draws the published points of one condition; whether there are any."""
  if rows is None or measure not in rows.columns or rows[measure].notna().sum() == 0:
    return False
  x, y = rows["temperature"].to_numpy(float), rows[measure].to_numpy(float)
  axes.plot(x, y, **_MARKER, markeredgecolor=colour, zorder=4, label=f"{condition}, published")
  return True


def _draw_proposition(axes: Axes, first: pd.DataFrame, measure: str, colours: Mapping[int, Any]) -> None:
  """One measure at visit 1 against p, and what the Proposition predicts of it (0 where it leaves nothing over)."""
  predict = _PREDICTIONS.get(measure, lambda p, n: np.zeros_like(p))
  p = np.linspace(first["p"].min(), first["p"].max(), 201)
  for n, colour in colours.items():
    _draw_mean(axes, _seed_table(first[first["n"] == n], "p", measure), f"n = {n}", colour)
    if measure in _DEPENDS_ON_N:
      _draw_curve(axes, p, predict(p, n), colour, LEARNERS["exact teacher"], f"n = {n}, Proposition 1")
  if measure not in _DEPENDS_ON_N:
    _draw_curve(axes, p, predict(p, 1), PREDICTION, LEARNERS["exact teacher"], "Proposition 1")
  if measure in _LOG_SCALE:
    _set_log_scale(axes)
  _dress(axes, LABELS.get(measure), measure, P_LABEL)


def _draw_visits(axes: Axes, frame: pd.DataFrame, cycle_prob: float, colours: Mapping[int, Any]) -> None:
  """The cycle probability by visit to r, at the p nearest to `cycle_prob`."""
  there = frame["p"].unique()
  p = there[np.argmin(np.abs(there - cycle_prob))]
  rows = frame[frame["p"] == p]
  for n, colour in colours.items():
    _draw_mean(axes, _seed_table(rows[rows["n"] == n], "visit", "cycle_probability"), f"n = {n}", colour)
  ends = [frame["visit"].min(), frame["visit"].max()]
  _draw_curve(axes, ends, [p, p], PREDICTION, LEARNERS["exact teacher"], "Proposition 1")
  axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
  label = LABELS["cycle_probability"]
  _dress(axes, label._replace(title=f"Cycle by visit, p = {p:g}", least_span=0.1), "", "visit to r")


_NO_SEED = "0.8"
_MEASURED: dict[str, Any] = dict(
  marker="o", markersize=2.5, markerfacecolor="white", markeredgecolor="black", markeredgewidth=0.5, linestyle="none"
)
_RIM = [patheffects.Stroke(linewidth=3.2, foreground="white"), patheffects.Normal()]
_LINE: dict[str, Any] = dict(color="black", linewidth=1.4, path_effects=_RIM)


def _draw_phases(axes: Axes, rows: pd.DataFrame) -> Any:
  """One phase diagram; rows of equal height, since n is whole. Gives the coloured mesh."""
  share = rows.groupby(["n", "p"])["cycle_is_argmax"].mean().unstack("p")
  p, n = share.columns.to_numpy(float), share.index.to_numpy()
  middles = (p[1:] + p[:-1]) / 2
  half = np.diff(p)[[0, -1]] / 2 if len(p) > 1 else np.full(2, 0.05)
  edges = np.concatenate([p[:1] - half[0], middles, p[-1:] + half[1]])
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


# Figures, axes, legends. Font sizes are given one by one: a default would be read when drawn, by whoever draws.

_STUDENT: dict[str, Any] = dict(linewidth=2.0, alpha=0.6, markersize=4, markeredgewidth=0, solid_capstyle="butt")
_BAND: dict[str, Any] = dict(alpha=0.18, linewidth=0)
_CURVE: dict[str, Any] = dict(linewidth=1.0, zorder=3)
_MARKER: dict[str, Any] = dict(marker="D", markersize=4, markerfacecolor="white", markeredgewidth=1, linestyle="none")


def _figure(size: tuple[float, float]) -> Figure:
  figure = Figure(figsize=size, dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.07, h_pad=0.06))
  FigureCanvasAgg(figure)
  return figure


def _panels(num_panels: int) -> tuple[Figure, list[Axes]]:
  """A figure of at most three panels in a row, two in a row where there are four."""
  require(num_panels >= 1, "measures", [], "one measure or more")
  num_columns = 2 if num_panels == 4 else min(num_panels, 3)
  num_rows = -(-num_panels // num_columns)
  figure = _figure((WIDTHS[num_columns - 1], PANEL_HEIGHT * num_rows))
  grid = figure.subplots(num_rows, num_columns, squeeze=False).flatten()
  for axes in grid[num_panels:]:
    axes.remove()
  return figure, list(grid[:num_panels])


def _ordered_colours(numbers: Sequence[int]) -> dict[int, Any]:
  """Colours that darken with n, light enough to dark enough on white."""
  shades = np.linspace(0.85, 0.0, len(numbers)) if len(numbers) > 1 else [0.4]
  return {int(n): colormaps["viridis"](shade) for n, shade in zip(numbers, shades, strict=True)}


def _dress(axes: Axes, label: Label | None, measure: str, x_label: str) -> None:
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


def _set_log_scale(axes: Axes) -> None:
  """A log scale with plain numbers at 1, 2 and 5 of each decade."""
  axes.set_yscale("log")
  axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
  axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
  axes.yaxis.set_minor_locator(ticker.NullLocator())


def _mean_style(counted: Sequence[int]) -> dict[str, Any]:
  """The legend's entry for students, which says how many seeds there are per condition."""
  line = Line2D([], [], color="0.35", **_STUDENT, marker=".")
  if max(counted) < 2:
    return {"student, one seed": line}
  seeds = f"{max(counted)}" if min(counted) == max(counted) else f"{min(counted)}-{max(counted)}"
  return {f"student mean, {seeds} seeds, {BAND}": (Patch(color="0.35", **_BAND), line)}


def _line_style(dashes: Any) -> Line2D:
  return Line2D([], [], color="0.35", **_CURVE, linestyle=dashes)


def _marker_style(colour: str) -> Line2D:
  return Line2D([], [], markeredgecolor=colour, **_MARKER)


def _legends(
  figure: Figure,
  colours: Mapping[Any, Any],
  counts: _Counts,
  styles: Mapping[str, Any],
  title: str | None,
  prefix: str = "",
) -> None:
  """Above the panels the figure's title and what the colours mean; below them, what lines and markers mean."""
  names = [prefix + _name(condition, counts) for condition in colours]
  lines = [Line2D([], [], color=colour, linewidth=2) for colour in colours.values()]
  _legend(figure, lines, names, _ABOVE, title)
  styles = _mean_style([counts.counted[condition] for condition in colours]) | dict(styles)
  _legend(figure, list(styles.values()), list(styles), _BELOW)


_ABOVE: Final = "outside upper center"
_BELOW: Final = "outside lower center"


def _legend(
  figure: Figure,
  handles: Sequence[Any],
  labels: Sequence[str],
  loc: Literal["outside upper center", "outside lower center"],
  title: str | None = None,
) -> None:
  """A legend above or below all panels, in as many columns as fit; the figure grows by its height."""
  each = 0.055 * max(map(len, labels)) + 0.45  # inches of a column
  columns = max(1, min(len(labels), int(figure.get_figwidth() / each)))
  num_lines = -(-len(labels) // columns) + (title is not None)
  figure.set_figheight(figure.get_figheight() + 0.1 + 0.15 * num_lines)
  figure.legend(
    handles, labels, loc=loc, ncols=columns, title=title, frameon=False, fontsize=SMALL,
    title_fontproperties={"size": TITLE + 0.5, "weight": "bold"}, handlelength=2.6, columnspacing=1.5,
    borderpad=0.2, borderaxespad=0.2,
  )  # fmt: skip
