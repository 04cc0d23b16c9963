"""The loss against the training step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from loopjax.plotting.artists import draw_mean
from loopjax.plotting.frames import check_columns, choose_conditions, seed_counts, seed_table
from loopjax.plotting.labels import LABELS
from loopjax.plotting.legends import add_legends
from loopjax.plotting.panels import dress, new_panels, set_log_scale
from loopjax.plotting.style import palette


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
  check_columns(history, [hue, "seed", "step", measure])
  conditions = choose_conditions(history, hue, conditions)
  colours = palette(conditions) if colours is None else colours
  is_finite = np.isfinite(history[measure]).groupby([history[hue], history["seed"]]).transform("all")
  history = history.assign(**{measure: history[measure].where(is_finite)})
  figure, [axes] = new_panels(1)
  for condition in conditions:
    table = seed_table(history[history[hue] == condition], "step", measure)
    draw_mean(axes, table.interpolate(method="index", limit_area="inside"), condition, colours[condition], marker="")
  set_log_scale(axes)
  dress(axes, LABELS.get(measure), measure, "training step")
  add_legends(figure, {c: colours[c] for c in conditions}, seed_counts(history, hue, [measure]), {}, title)
  return figure
