"""Confidence inside loops (arXiv 2512.12895): does a student grow surer with every repetition? A part of
`experiments.injected_loops`.

Along a rollout the largest next-token probability, at temperature 1, is aligned to the loop's onset;
`analysis.confidence` says what a loop is and why a cohort of loops is followed. Where loops end (T > 0) those that last
are the surer ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from absl import logging

from experiments.fit import FREE, fit_for
from loopjax import plotting, statistics
from loopjax.claim_measures import Measure, NotRun
from loopjax.claims import Claim, Fitness, halfway
from loopjax.star_graph.null_worlds import TEACHERS

LOOPS = ("loop_share", "loop_onset", "loop_period", "share_monotone", "cohort_share_monotone")


def loops_table(walks: pd.DataFrame) -> str:
  """Mean and 95% interval over seeds: how many walks loop, and the share of loops whose confidence never falls."""
  free = walks[walks["decoding"] == FREE]
  return statistics.describe_groups(free, ["condition", "temperature"], LOOPS).to_string()


def table(frame: pd.DataFrame, repetitions: Sequence[int]) -> str:
  """Mean and 95% interval over seeds of the confidence at the repetitions asked for."""
  asked = frame[frame["repetition"].isin(repetitions)]
  columns = ["cohort_confidence", "confidence", "q10", "q50", "q90"]
  return statistics.describe_groups(asked, ["condition", "temperature", "repetition"], columns).to_string()


def save_figures(frame: pd.DataFrame, folder: Path) -> None:
  """Confidence against repetition, and its distribution; none where no walk of any student loops."""
  if frame["q50"].notna().any():
    plotting.save(plotting.confidence_by_repetition(frame), folder / "injected_loops_confidence")
    plotting.save(plotting.confidence_quantiles(frame), folder / "injected_loops_confidence_quantiles")
  else:
    logging.warning("no walk of any student loops: there is no confidence to draw")


def _growth(condition: str) -> Measure:
  """The measure: per seed the greedy cohort's confidence at its last repetition over that at its first."""

  def measure(frame: pd.DataFrame) -> pd.Series:
    rows = frame[(frame["condition"] == condition) & (frame["temperature"] == 0) & frame["repetition"].notna()]
    by_repetition = rows.pivot(index="seed", columns="repetition", values="cohort_confidence")
    known = by_repetition.columns[by_repetition.notna().any()]
    if known.empty:
      raise NotRun(f"no cohort of loops of {condition} at T = 0")
    return by_repetition[known.max()] / by_repetition[1]

  return measure


def growth_claim(share: float, condition: str, resets: np.ndarray, learnt: Fitness) -> Claim:
  """Within a loop an exact learner without memory is as sure at every repetition; one that holds the loop posterior
  grows surer with every cycle.

  Args:
    share: of the training walks that are injected loops.
    condition: its name.
    resets: [2], the exact learner's reset probability before the first and the last repetition.
    learnt: that students have learnt the loops.
  """
  predicted = float((1 + resets[1]) / (1 + resets[0]))
  greedy = {"condition": condition, "decoding": FREE, "temperature": 0.0}
  return Claim(
    name=f"confidence_grows_injected_{share:g}", description="Inside a loop confidence grows with repetition.",
    source="arXiv 2512.12895", family="injected loops",
    condition=f"{condition}, T = 0: last over first repetition of the same loops",
    measure=_growth(condition), null=1.0, predicted=predicted, bound=halfway(1.0, predicted),
    direction="above", presets=("quick", "standard", "paper"),
    must_not_hold=("untrained", *TEACHERS, "memoryless"),
    fitness=(*fit_for("memoryless", greedy), learnt),
  )  # fmt: skip
