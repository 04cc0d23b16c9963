"""The pieces of a figure: what a page shows one below the other where the screen is too narrow for the whole.

A piece is a panel, a column of panels that share their horizontal axis, or one entry of a legend. Where the panels of a
row share their vertical axis, its labels stand at the first of them alone; the others' pieces get a copy of them.
In the SVG file a piece is a `<symbol>` that shows elements of the figure again, so it adds a few hundred bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.transforms import Bbox

from loopjax.plotting.inline import PREFIX

FITS = 250.0  # units: a narrower figure needs no pieces; on 340 pixels its text of 7 units is 9.5 pixels high
_PAD = (2.0, 1.0)  # units beside and above a piece: browsers measure texts a little differently


class Window(NamedTuple):
  """A part of the figure, in units of the SVG (1/72 inch), downwards.

  Attributes:
    element: the id of what shows in it.
    box: what shows of it.
    shift: how far to the right of its place it is shown.
  """

  element: str
  box: Bbox
  shift: float = 0.0


class Piece(NamedTuple):
  """Windows, and the box of what they show and some air."""

  box: Bbox
  windows: Sequence[Window]


def find(figure: Figure) -> list[Piece]:
  """The pieces of a figure whose layout is settled, in reading order; none if it is narrow as it is.

  Gives the panels, legends and texts of the figure the ids that they will have in the SVG file.
  """
  if figure.get_figwidth() * 72 <= FITS:
    return []
  named: dict[str, Sequence[Artist]] = {"panel": figure.axes, "legend": figure.legends, "text": figure.texts}
  for kind, artists in named.items():
    for number, artist in enumerate(artists, start=1):
      artist.set_gid(f"{kind}_{number}")
  bars = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
  panels = _panels(figure, [axes for axes in figure.axes if axes not in bars])
  panels += [_piece([_whole(figure, axes)]) for axes in bars]
  texts = [_window(figure, text, text.get_window_extent()) for text in figure.texts if text.get_text()]
  texts += [window for legend in figure.legends for window in _entries(figure, legend)]
  top = min((piece.box.y0 for piece in panels), default=0.0)
  above = [_piece([window]) for window in texts if window.box.y0 < top]
  return [*above, *panels, *(_piece([window]) for window in texts if window.box.y0 >= top)]


def _piece(windows: Sequence[Window]) -> Piece:
  return Piece(Bbox.union([_place(window) for window in windows]), windows)


def _place(window: Window) -> Bbox:
  return window.box.translated(window.shift, 0)


def _panels(figure: Figure, panels: Sequence[Axes]) -> list[Piece]:
  """Each stack's piece. All reach equally far to either side of their axes, which so stand exactly below each other."""
  stacks = _stacks(panels)
  pieces = [_piece(_stack_windows(figure, stack, panels)) for stack in stacks]
  axes = [_window(figure, stack[0], stack[0].bbox).box for stack in stacks]
  left = max((box.x0 - piece.box.x0 for box, piece in zip(axes, pieces, strict=True)), default=0.0)
  right = max((piece.box.x1 - box.x1 for box, piece in zip(axes, pieces, strict=True)), default=0.0)
  return [
    piece._replace(box=Bbox.from_extents(box.x0 - left, piece.box.y0, box.x1 + right, piece.box.y1))
    for box, piece in zip(axes, pieces, strict=True)
  ]


def _stacks(panels: Sequence[Axes]) -> list[list[Axes]]:
  """Panels that stand below each other and share their horizontal axis belong together; all others are alone."""
  stacks: list[list[Axes]] = []
  for axes in panels:
    for stack in stacks:
      is_below = np.isclose(axes.get_position().x0, stack[0].get_position().x0)
      if is_below and axes.get_shared_x_axes().joined(axes, stack[0]):
        stack.append(axes)
        break
    else:
      stacks.append([axes])
  return stacks


def _stack_windows(figure: Figure, stack: Sequence[Axes], panels: Sequence[Axes]) -> list[Window]:
  """The panels, behind the labels of their vertical axes where these stand at another panel of the row."""
  labels = [_borrowed_labels(figure, axes, panels) for axes in stack if axes.yaxis.get_tightbbox() is None]
  return [*(window for window in labels if window), *(_whole(figure, axes) for axes in stack)]


def _whole(figure: Figure, axes: Axes) -> Window:
  """All that is drawn of a panel, its labels with it."""
  return _window(figure, axes, axes.get_tightbbox() or axes.bbox)


def _borrowed_labels(figure: Figure, axes: Axes, panels: Sequence[Axes]) -> Window | None:
  place = axes.get_position()
  for other in panels:
    extent = other.yaxis.get_tightbbox()
    is_beside = np.isclose(other.get_position().y0, place.y0) and axes.get_shared_y_axes().joined(axes, other)
    if is_beside and extent is not None:
      shift = 72 * figure.get_figwidth() * (place.x0 - other.get_position().x0)
      return _window(figure, other, extent)._replace(shift=shift)
  return None


def _entries(figure: Figure, legend: Legend) -> list[Window]:
  """The title of a legend, and each text with the handle on its left."""
  title = legend.get_title()
  windows = [_window(figure, legend, title.get_window_extent())] if title.get_text() else []
  for text in legend.get_texts():
    extent = text.get_window_extent()
    handle = (legend.handlelength + legend.handletextpad) * float(text.get_fontsize()) * figure.dpi / 72
    windows.append(_window(figure, legend, Bbox.from_extents(extent.x0 - handle, extent.y0, extent.x1, extent.y1)))
  return windows


def _window(figure: Figure, artist: Artist, extent: Bbox) -> Window:
  """What `extent` shows: from pixels, upwards, to units of the SVG, downwards, with a little air."""
  scale, height = 72 / figure.dpi, 72 * figure.get_figheight()
  x, y = scale * np.array([extent.x0, extent.x1]), height - scale * np.array([extent.y1, extent.y0])
  box = Bbox.from_extents(x[0] - _PAD[0], y[0] - _PAD[1], x[1] + _PAD[0], y[1] + _PAD[1])
  return Window(str(artist.get_gid()), box)


def symbols(pieces: Sequence[Piece]) -> str:
  """The pieces as elements of the SVG file."""
  return "".join(_symbol(f"{PREFIX}{number}", piece) for number, piece in enumerate(pieces, start=1))


def _symbol(name: str, piece: Piece) -> str:
  shown = "".join(
    '<svg x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" '.format(*_place(window).bounds)
    + f'viewBox="{_numbers(window.box)}"><use xlink:href="#{window.element}"/></svg>'
    for window in piece.windows
  )
  return f'<symbol id="{name}" viewBox="{_numbers(piece.box)}">{shown}</symbol>\n'


def _numbers(box: Bbox) -> str:
  return " ".join(f"{value:.1f}" for value in box.bounds)
