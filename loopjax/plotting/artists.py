"""What is drawn into a panel: means over seeds with their bands, and curves of theory.

Shapes: S seeds, X places on the horizontal axis.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from loopjax import statistics
from loopjax.plotting.style import BAND, BAND_FILL, CURVE, STUDENT


def draw_mean(axes: Axes, table: pd.DataFrame, label: str, colour: Any, marker: str = ".") -> None:
  """The line through the means over seeds and, where two seeds or more count, the band."""
  x = table.index.to_numpy(float)
  interval = statistics.mean_interval(table.to_numpy(), axis=1)
  axes.plot(x, interval.mean, color=colour, **STUDENT, marker=marker, label=label)
  is_bounded = np.isfinite(interval.low)
  if is_bounded.any():
    low, high = (np.where(is_bounded, end, np.nan) for end in (interval.low, interval.high))
    axes.fill_between(x, low, high, color=colour, **BAND_FILL, label=f"{label}, {BAND}")


def draw_curve(axes: Axes, x: Any, y: Any, colour: Any, dashes: Any, label: str) -> None:
  """A thin broken line, which shows on a student's broad, paler line of the same colour."""
  axes.plot(np.asarray(x, float), np.asarray(y, float), color=colour, **CURVE, linestyle=dashes, label=label)
