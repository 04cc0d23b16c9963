"""Figures as files."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from loopjax.plotting.panels import DPI
from loopjax.runtime import files

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
