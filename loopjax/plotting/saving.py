"""Figures as files."""

from __future__ import annotations

import functools
import io
import os
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from loopjax.plotting import pieces
from loopjax.plotting.panels import DPI
from loopjax.runtime import files

_STYLE: dict[Any, Any] = {
  "figure.autolayout": False, "figure.constrained_layout.use": False,  # the user's own: a settled layout has to stay
  "svg.fonttype": "none", "svg.hashsalt": "loopjax",
  "font.sans-serif": ["DejaVu Sans", "Verdana"],  # each text of an SVG repeats the list: a third of its bytes
}  # fmt: skip


def save(figure: Figure, path_without_suffix: str | os.PathLike[str]) -> None:
  """Writes the figure as .png (150 dots per inch) and .svg (text as text), each atomically.

  The same figure gives the same bytes: no date, ids in the SVG that depend on the content alone, and a layout that is
  settled here once and stays (each further round would move things a little). The SVG of a wide figure has its `pieces`
  too, for pages on narrow screens.
  """
  base = Path(path_without_suffix)
  figure.draw_without_rendering()
  with matplotlib.rc_context(_STYLE):
    figure.set_layout_engine(None)  # with "none" each file would be drawn twice
    symbols = pieces.symbols(pieces.find(figure))
    write = functools.partial(figure.savefig, format="png", dpi=DPI, metadata={})
    files.write_atomically(base.with_name(f"{base.name}.png"), write)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", dpi=DPI, metadata={"Date": None})
  head, end, tail = drawn.getvalue().rpartition("</svg>")
  text = f"{head}{symbols}{end}{tail}"
  files.write_atomically(base.with_name(f"{base.name}.svg"), lambda path: path.write_text(text, encoding="utf-8"))
