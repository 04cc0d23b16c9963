"""One measure of students against another: a dot per student, a colour and a mark per condition.

Shapes: S seeds.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from loopjax.plotting.frames import check_columns, check_unique, seed_counts
from loopjax.plotting.labels import LABELS
from loopjax.plotting.legends import ABOVE, add_legend, name_with_seeds
from loopjax.plotting.panels import dress, new_panels
from loopjax.plotting.style import MARKERS, palette
from loopjax.runtime.config import require


def student_dots(frame: pd.DataFrame, x: str, y: str) -> Figure:
  """A panel in which every student is a dot.

  Args:
    frame: a row per condition and seed, with columns `x` and `y`, measures of `LABELS`.
    x: the measure on the horizontal axis.
    y: that on the vertical one.

  Raises:
    ValueError: a column is missing; a student is there twice; there are more conditions than marks; a measure has no
      label.
  """
  check_columns(frame, ["condition", "seed", x, y])
  check_unique(frame, ["condition", "seed"])
  for measure in (x, y):
    require(measure in LABELS, "measure", measure, f"one of {list(LABELS)}")
  names = list(frame["condition"].unique())
  figure, (axes,) = new_panels(1)
  counts = seed_counts(frame, "condition", [x, y])
  for (name, color), marker in zip(palette(names).items(), MARKERS, strict=False):
    rows = frame[frame["condition"] == name]
    label = name_with_seeds(name, counts)
    axes.plot(rows[x], rows[y], marker, color=color, markersize=4, alpha=0.75, markeredgewidth=0, label=label)
  dress(axes, LABELS[y], y, LABELS[x].unit)
  add_legend(figure, *axes.get_legend_handles_labels(), ABOVE)
  return figure
