"""Every experiment, entered once: what `reproduce`, sweeps, worlds of known truth and the report go through."""

from __future__ import annotations

from experiments import (
  correlation_map,
  exploration_curriculum,
  fixed_graph,
  injected_loops,
  margin_readings,
  observations,
  proposition_one,
  remedies,
  risk_aversion,
  seed_conditioning,
  temporal_errors,
)
from experiments.experiment import Experiment

_IN_ORDER = (
  risk_aversion, proposition_one, temporal_errors, fixed_graph, injected_loops, exploration_curriculum, margin_readings,
  correlation_map, remedies, observations, seed_conditioning,
)  # fmt: skip
EXPERIMENTS: dict[str, Experiment] = {module.NAME: module.EXPERIMENT for module in _IN_ORDER}


def claiming(preset: str) -> dict[str, Experiment]:
  """Those that claim something at a preset: what `reproduce` runs."""
  return {
    name: experiment
    for name, experiment in EXPERIMENTS.items()
    if preset in experiment.presets and experiment.claims(experiment.presets[preset])
  }
