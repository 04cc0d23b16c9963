"""Figures of a scan: looping by model and temperature, the (n, k) map, student and teacher, confidence about the onset.

Source: Figures 1, 2 and 15 of "Wait, Wait, Wait... Why Do Reasoning Models Loop?" (arXiv 2512.12895).
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loopjax.plotting import legends, panels, saving
from loopjax.plotting.labels import Label
from loopjax.plotting.style import BAND_FILL, PALETTE, SMALL, TEXT, TITLE

_MOST_MAPS = 6
_LINE = 26  # letters in a line of a name
_MEASURES = {
  "by_recurrence": Label("Looping by recurrence", "share of responses"),
  "by_locked_cycle": Label("Looping by locked cycle", "share of responses"),
}
Rows = Sequence[dict[str, Any]]


def write(folder: Path, found: dict[str, Any]) -> dict[str, str]:
  """Draws what the summary has something for, as `.svg` and `.png`.

  Returns:
    The name of each figure -> what it shows, in the order of the page.
  """
  drawn = {}
  for name, (needs, caption, draw) in _FIGURES.items():
    if found[needs]:
      saving.save(draw(found), folder / name)
      drawn[name] = caption
  return drawn


def _name(row: dict[str, Any]) -> str:
  return row["model"] or "unknown model"


def _short_names(rows: Rows) -> dict[str, str]:
  """Models' names without their owners, where no two become the same."""
  names = list(dict.fromkeys(map(_name, rows)))
  short = [name.rpartition("/")[2] for name in names]
  return dict(zip(names, short if len(set(short)) == len(names) else names, strict=True))


def _at(name: str, row: dict[str, Any]) -> str:
  """A name, and behind it the row's temperature, if it has one."""
  return name if row["temperature"] is None else f"{name}, T = {row['temperature']:g}"


def _legend(figure: Figure, axes: Axes, names: Mapping[str, str]) -> None:
  handles, labels = axes.get_legend_handles_labels()
  legends.add_legend(figure, handles, [names.get(label, label) for label in labels], legends.ABOVE)


def _colours(rows: Rows) -> dict[str, str]:
  """A colour for each model; from the eighth on they come again."""
  return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(dict.fromkeys(map(_name, rows)))}


def _draw_models(found: dict[str, Any]) -> Figure:
  """Shares over temperature; where there is one temperature or none, side by side."""
  rows = found["table"]
  if len({row["temperature"] for row in rows if row["temperature"] is not None}) < 2:
    return _bars(rows)
  figure, axes = panels.new_panels(2)
  for one, (measure, label) in zip(axes, _MEASURES.items(), strict=True):
    _lines(one, rows, measure)
    panels.dress(one, label, measure, "temperature")
  _legend(figure, axes[0], _short_names(rows))
  return figure


def _bars(rows: Rows) -> Figure:
  """A bar for each row, with its name on the left, where long names have room."""
  colours, short = _colours(rows), _short_names(rows)
  names = [textwrap.fill(_at(short[_name(row)], row), _LINE) for row in rows]
  num_lines = max(name.count("\n") + 1 for name in names)
  figure = panels.new_figure((panels.WIDTHS[1], 0.65 + (0.08 + 0.12 * num_lines) * len(rows)))
  axes = figure.subplots(1, 2, sharey=True)
  for one, (measure, label) in zip(axes, _MEASURES.items(), strict=True):
    for place, row in enumerate(rows):
      if (share := row[measure]) is not None:
        one.barh(place, share["share"], color=colours[_name(row)], alpha=0.7)
        if share["low"] is not None:
          one.plot([share["low"], share["high"]], [place, place], color="0.2", linewidth=1)
    one.set_title(label.title, fontsize=TITLE)
    one.set_xlabel(label.unit, fontsize=TEXT)
    one.set_xlim(0, 1)
    one.tick_params(labelsize=SMALL)
    one.spines[["top", "right"]].set_visible(False)
  axes[0].set_yticks(range(len(rows)), names)
  axes[0].set_ylim(len(rows) - 0.5, -0.5)
  return figure


def _lines(axes: Axes, rows: Rows, measure: str) -> None:
  for name, colour in _colours(rows).items():
    own = [row for row in rows if _name(row) == name and row["temperature"] is not None and row[measure]]
    x, share = [row["temperature"] for row in own], [row[measure] for row in own]
    axes.plot(x, [one["share"] for one in share], color=colour, marker="o", markersize=3, label=name)
    for place, one in zip(x, share, strict=True):
      if one["low"] is not None:
        axes.plot([place, place], [one["low"], one["high"]], color=colour, linewidth=1, alpha=0.6)


def _draw_maps(found: dict[str, Any]) -> Figure:
  """The (n, k) map of each group, of those with most responses where there are many."""
  rows = sorted((row for row in found["table"] if row["map"]), key=lambda row: -row["responses"])[:_MOST_MAPS]
  figure, axes = panels.new_panels(max(len(rows), 1))
  short = _short_names(rows)
  highest = max((share for row in rows for line in row["map"] for share in line), default=0) or 1
  for one, row in zip(axes, rows, strict=False):
    image = one.imshow(np.array(row["map"]).T, origin="lower", aspect="auto", vmin=0, vmax=highest, cmap="viridis")
    one.set_title(textwrap.fill(_at(short[_name(row)], row), _LINE), fontsize=TITLE)
    one.set_xticks(range(len(found["map"]["n"])), found["map"]["n"], fontsize=SMALL, rotation=90)
    one.set_yticks(range(len(found["map"]["k"])), found["map"]["k"], fontsize=SMALL)
    one.set_xlabel(f"n, {row['units']}", fontsize=TEXT)
    one.set_ylabel("k, times", fontsize=TEXT)
  if rows:
    as_high_as_a_panel = panels.PANEL_HEIGHT / figure.get_figheight()
    figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02, shrink=as_high_as_a_panel).ax.tick_params(labelsize=SMALL)
  return figure


def _draw_pairs(found: dict[str, Any]) -> Figure:
  """Looping shares of student and teacher, and the ratio of their lengths, over temperature."""
  figure, axes = panels.new_panels(2)
  pairs = found["pair"]
  names = ["?" if one["temperature"] is None else f"{one['temperature']:g}" for one in pairs]
  for shift, (who, colour) in enumerate(zip(("student", "teacher"), PALETTE, strict=False)):
    places = np.arange(len(pairs)) + 0.4 * shift - 0.2
    axes[0].bar(places, [one[f"{who}_looping"] for one in pairs], 0.38, color=colour, alpha=0.7, label=pairs[0][who])
  for place, one in enumerate(pairs):
    ratio = one["length_ratio"]
    axes[1].plot(place, ratio["value"], "o", color=PALETTE[0])
    axes[1].plot([place] * 2, [_known(ratio["low"]), _known(ratio["high"])], color=PALETTE[0], linewidth=1)
  axes[1].axhline(1, color="0.4", linewidth=0.8, linestyle=(0, (4, 2)))
  panels.dress(axes[0], Label("Looping, same problems", "share of responses"), "looping", "temperature")
  panels.dress(axes[1], Label("Length, student over teacher", "ratio of means"), "length_ratio", "temperature")
  for one in axes:
    one.set_xticks(range(len(pairs)), names)
  _legend(figure, axes[0], _short_names([{"model": pairs[0][who]} for who in ("student", "teacher")]))
  return figure


def _known(value: float | None) -> float:
  return math.nan if value is None else value


def _draw_confidence(found: dict[str, Any]) -> Figure:
  """The probability of emitted tokens about the onset of the loop."""
  figure, [axes] = panels.new_panels(1)
  short = _short_names(found["confidence"])
  for row, colour in zip(found["confidence"], itertools.cycle(PALETTE), strict=False):
    lines = {name: [_known(value) for value in row[name]] for name in ("mean", "low", "high")}
    axes.plot(row["position"], lines["mean"], color=colour, label=_at(short[_name(row)], row))
    axes.fill_between(row["position"], lines["low"], lines["high"], color=colour, **BAND_FILL)
  axes.axvline(0, color="0.4", linewidth=0.8, linestyle=(0, (4, 2)))
  panels.dress(axes, Label("Confidence about the onset", "probability of emitted token"), "x", "tokens from onset")
  _legend(figure, axes, {})
  return figure


_FIGURES: dict[str, tuple[str, str, Callable[[dict[str, Any]], Figure]]] = {
  "models": ("table", "Looping shares by model and temperature, 95% intervals clustered by problem.", _draw_models),
  "student_and_teacher": ("pair", "Student against teacher, over the problems that both have.", _draw_pairs),
  "map": ("table", "The (n, k) map: the share of responses in which some n-gram occurs k times or more.", _draw_maps),
  "confidence": (
    "confidence", "The probability of the emitted tokens about the onset of the loop, 95% band over problems.",
    _draw_confidence,
  ),
}  # fmt: skip
