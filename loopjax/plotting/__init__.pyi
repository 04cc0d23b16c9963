from .confidence import confidence_by_repetition, confidence_quantiles
from .dots import student_dots
from .entropy import against_entropy
from .factors import Column, factor_chart
from .labels import LABELS, Label
from .pairs import correlation_by_lag, pairs_by_step, persistence_by_visit
from .phases import phase_diagram
from .proposition import proposition_panels
from .remedies import remedy_plane
from .resets import resets_by_cycles
from .saving import save
from .style import LEARNERS, PALETTE, palette
from .temperature import against_temperature, temperature_grid
from .training import training_curves

__all__ = [
  "LABELS", "LEARNERS", "PALETTE", "Column", "Label", "against_entropy", "against_temperature",
  "confidence_by_repetition", "confidence_quantiles", "correlation_by_lag", "factor_chart", "pairs_by_step", "palette",
  "persistence_by_visit", "phase_diagram", "proposition_panels", "remedy_plane", "resets_by_cycles", "save",
  "student_dots", "temperature_grid", "training_curves",
]  # fmt: skip
