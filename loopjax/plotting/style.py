"""Colours, lines and font sizes that all figures share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps

from loopjax.runtime.config import require

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
LEARNERS = {
  "exact teacher": (0, (4, 2)),
  "memoryless learner": (0, (5, 1.5, 1, 1.5)),
  "Bayes learner": (0, (1, 1.2)),
  "loop posterior": (0, (5, 1.5, 1, 1.5, 1, 1.5)),
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # as many as there are colours
TITLE, TEXT, SMALL = 8.0, 7.5, 7.0  # points; given to each text: a default would be read when drawn, by whoever draws
PREDICTION = "0.25"  # the colour of predictions that all conditions share
BAND = "95% t-interval"

STUDENT: dict[str, Any] = dict(linewidth=2.0, alpha=0.6, markersize=4, markeredgewidth=0, solid_capstyle="butt")
BAND_FILL: dict[str, Any] = dict(alpha=0.18, linewidth=0)
CURVE: dict[str, Any] = dict(linewidth=1.0, zorder=3)
SWEEP: dict[str, Any] = dict(
  color="0.45", linewidth=1.0, marker=".", markersize=4
)  # of plain students, over temperatures
MARKER: dict[str, Any] = dict(marker="D", markersize=4, markerfacecolor="white", markeredgewidth=1, linestyle="none")


def palette(conditions: Sequence[str]) -> dict[str, str]:
  """A colour per condition, in their order; the same conditions in the same order have the same colours anywhere.

  Raises:
    ValueError: more conditions than colours that can be told apart.
  """
  fits = len(conditions) <= len(PALETTE)
  require(fits, "conditions", list(conditions), f"at most {len(PALETTE)}: spread them over several figures")
  return dict(zip(conditions, PALETTE, strict=False))


def ordered_colours(numbers: Sequence[int]) -> dict[int, Any]:
  """Colours that darken with n, light enough to dark enough on white."""
  shades = np.linspace(0.85, 0.0, len(numbers)) if len(numbers) > 1 else [0.4]
  return {int(n): colormaps["viridis"](shade) for n, shade in zip(numbers, shades, strict=True)}
