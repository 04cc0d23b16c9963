"""Figures: tidy frames in, matplotlib figures out. No global state: no pyplot, no rcParams that outlive a call.

One colour per condition, from a palette that colour-blind readers tell apart. A solid line is the mean over seeds of
students and its band the 95% t-interval; seeds that are NaN (diverged, left out of the results) do not count, and the
legend says how many did. Broken lines are exact theory, and the legend names which; hollow diamonds are published.

Shapes: S seeds, X places on the horizontal axis.
"""

from __future__ import annotations

from loopjax.plotting.confidence import confidence_by_repetition, confidence_quantiles
from loopjax.plotting.factors import Column, factor_chart
from loopjax.plotting.labels import LABELS, Label
from loopjax.plotting.pairs import correlation_by_lag, pairs_by_step, persistence_by_visit
from loopjax.plotting.phases import phase_diagram
from loopjax.plotting.proposition import proposition_panels
from loopjax.plotting.saving import save
from loopjax.plotting.style import LEARNERS, PALETTE, palette
from loopjax.plotting.temperature import against_temperature, temperature_grid
from loopjax.plotting.training import training_curves

__all__ = [
  "LABELS", "LEARNERS", "PALETTE", "Column", "Label", "against_temperature", "confidence_by_repetition",
  "confidence_quantiles", "correlation_by_lag", "factor_chart", "pairs_by_step", "palette", "persistence_by_visit",
  "phase_diagram", "proposition_panels", "save", "temperature_grid", "training_curves",
]  # fmt: skip
