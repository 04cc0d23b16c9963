"""Legends: above the panels what colours mean, below them what lines and markers mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from loopjax.plotting.frames import Counts
from loopjax.plotting.style import BAND, BAND_FILL, CURVE, MARKER, SMALL, STUDENT, TITLE

ABOVE: Final = "outside upper center"
BELOW: Final = "outside lower center"


def name_with_seeds(condition: Any, counts: Counts) -> str:
  """The legend's name of a condition: where seeds are excluded, it says how many counted."""
  counted, total = counts.counted[condition], counts.total[condition]
  return f"{condition}" if counted == total else f"{condition} ({counted} of {total} seeds)"


def mean_style(counted: Sequence[int]) -> dict[str, Any]:
  """The legend's entry for students, which says how many seeds there are per condition."""
  line = Line2D([], [], color="0.35", **STUDENT, marker=".")
  if max(counted) < 2:
    return {"student, one seed": line}
  seeds = f"{max(counted)}" if min(counted) == max(counted) else f"{min(counted)}-{max(counted)}"
  return {f"student mean, {seeds} seeds, {BAND}": (Patch(color="0.35", **BAND_FILL), line)}


def line_style(dashes: Any) -> Line2D:
  """The legend's line for curves with these dashes."""
  return Line2D([], [], color="0.35", **CURVE, linestyle=dashes)


def marker_style(colour: str) -> Line2D:
  """The legend's marker for published points."""
  return Line2D([], [], markeredgecolor=colour, **MARKER)


def add_legends(
  figure: Figure,
  colours: Mapping[Any, Any],
  counts: Counts,
  styles: Mapping[str, Any],
  title: str | None,
  prefix: str = "",
) -> None:
  """Above the panels the figure's title and what the colours mean; below them, what lines and markers mean."""
  names = [prefix + name_with_seeds(condition, counts) for condition in colours]
  lines = [Line2D([], [], color=colour, linewidth=2) for colour in colours.values()]
  add_legend(figure, lines, names, ABOVE, title)
  styles = mean_style([counts.counted[condition] for condition in colours]) | dict(styles)
  add_legend(figure, list(styles.values()), list(styles), BELOW)


def add_legend(
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
