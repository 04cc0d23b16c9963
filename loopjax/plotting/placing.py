"""Texts beside points, without overlaps: each takes the nearest free place, with a thin line to its point.

A place is free where it covers no other text, no marker and no stretch of a curve, and lies in its panel. A text that
finds none within reach is left out, unless it is needed: then it reaches farther, and at last takes the place that
covers least.

The library adjustText (1.4) was tried on the figure of remedies. It left texts on each other and on markers where
several points nearly coincide, so texts are placed here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from loopjax.plotting.style import SMALL

_DIRECTIONS = [(np.cos(angle), np.sin(angle)) for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False)]
_REACH = {True: (6.5, 9, 12, 16, 20, 25, 31, 38, 46, 56), False: (7, 9)}  # points, of needed texts and of others
_LINE_FROM = 8.0  # points: a text that is nearer needs no line
_MARKER, _AIR = 2.6, 0.6  # points: half of a marker's side, and what is left free around a text


class Text(NamedTuple):
  """A text that belongs to a point [x, y], in data units; `is_needed`: it is never left out."""

  text: str
  point: tuple[float, float]
  colour: str
  is_needed: bool
  weight: str = "normal"


def place(figure: Figure, texts: Mapping[Axes, Sequence[Text]]) -> None:
  """Writes the texts of all panels; the layout must not change afterwards, and is not changed by them."""
  figure.draw_without_rendering()
  for axes, ours in texts.items():
    _place_in(axes, ours, figure.dpi / 72)


def _place_in(axes: Axes, texts: Sequence[Text], scale: float) -> None:
  """`scale`: pixels a point."""
  taken = np.reshape(list(_obstacles(axes, scale)), (-1, 4))
  for text in texts:
    at = axes.transData.transform(text.point)
    size = np.array(_size(text)) * scale
    found = _nearest_free(at, size, taken, axes.bbox, text.is_needed, scale)
    if found is not None:
      taken = np.vstack([taken, _box(found, size)])
      _write(axes, text, (found - at) / scale)


def _obstacles(axes: Axes, scale: float) -> Iterable[np.ndarray]:
  """A small box at every marker, and along every line."""
  for line in axes.get_lines():
    points = axes.transData.transform(np.column_stack(line.get_data()).astype(float))
    points = points[np.isfinite(points).all(axis=1)]
    if line.get_marker() not in ("None", None, ""):
      yield from (_box(point, np.full(2, 2 * _MARKER * scale)) for point in points)
    if line.get_linestyle() != "None":
      for a, b in itertools.pairwise(points):
        steps = max(int(np.hypot(*(b - a)) / (2 * scale)), 1)
        yield from (_box(a + (b - a) * i / steps, np.full(2, 0.8 * scale)) for i in range(steps + 1))


def _size(text: Text) -> tuple[float, float]:
  """Width and height in points, of digits and capitals."""
  return (0.7 if text.weight == "bold" else 0.62) * SMALL * len(text.text) + 2 * _AIR, 0.95 * SMALL + 2 * _AIR


def _nearest_free(
  at: np.ndarray, size: np.ndarray, taken: np.ndarray, inside: Bbox, is_needed: bool, scale: float
) -> np.ndarray | None:
  """The middle of the place, in pixels; `taken` are boxes [N, 4]."""
  least, best = np.inf, None
  for distance, direction in itertools.product(_REACH[is_needed], _DIRECTIONS):
    middle = at + np.array(direction) * (distance * scale + np.array([size[0] / 2 - 3 * scale, 0]).clip(0))
    box = _box(middle, size)
    if np.any(box[:2] < inside.min) or np.any(box[2:] > inside.max):
      continue
    covered = _covered(box, taken)
    if covered == 0:
      return middle
    if is_needed and covered < least:
      least, best = covered, middle
  return best


def _box(middle: np.ndarray, size: np.ndarray) -> np.ndarray:
  """Its lower left and upper right corner, [4]."""
  return np.concatenate([middle - size / 2, middle + size / 2])


def _covered(box: np.ndarray, others: np.ndarray) -> float:
  """The area that a box [4] shares with others [N, 4], which may lie on each other."""
  sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
  return float(np.sum(np.prod(np.maximum(sides, 0), axis=1)))


def _write(axes: Axes, text: Text, offset: np.ndarray) -> None:
  is_far = np.hypot(*offset) > _LINE_FROM + 4 * (len(text.text) - 1)
  line: dict[str, Any] = dict(arrowstyle="-", color=text.colour, linewidth=0.4, shrinkA=0, shrinkB=1.5)
  made = axes.annotate(
    text.text, text.point, xytext=(float(offset[0]), float(offset[1])), textcoords="offset points",
    ha="center", va="center_baseline", fontsize=SMALL, color=text.colour, weight=text.weight, zorder=5,
    arrowprops=line if is_far else None,
  )  # fmt: skip
  made.set_in_layout(False)
