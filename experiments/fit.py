"""Which students are fit to be asked for a claim: bounds that were registered before any claim was looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from loopjax.claim_measures import Measure, worst_measure
from loopjax.claims import Fitness

MOST_BROKEN = 0.1  # of the walks at every temperature that the claim reads
MOST_ABOVE = 0.02  # nats per position, on fresh walks of the clean teacher
FREE, LEGAL = "free", "legal"  # column decoding: as the student will, or with invalid moves masked


def fit_for(learner: str, *conditions: Mapping[str, Any], most_above: float = MOST_ABOVE) -> tuple[Fitness, ...]:
  """That walks under `conditions` (rows of the frame) seldom break, and that students know what `learner` knows.

  Args:
    learner: `teacher` or `memoryless`, the exact learner that the claim's mechanism predicts.
    conditions: column -> value, of the rows that the claim reads.
    most_above: the largest loss above the learner's, in nats per position.
  """
  checks = []
  for where in conditions:
    name = ", ".join(str(value) for value in where.values())
    checks += [
      Fitness(name=f"broken walks ({name})", measure=_worst("broken", where), at_most=MOST_BROKEN),
      Fitness(
        name=f"loss above the {learner}'s ({name})", measure=_worst(f"loss_above_{learner}", where), at_most=most_above
      ),
    ]
  return tuple(checks)


def _worst(column: str, where: Mapping[str, Any]) -> Measure:
  return worst_measure(column, where, "max")


def with_losses(frame: pd.DataFrame, losses: pd.DataFrame) -> pd.DataFrame:
  """The frame with each student's losses (`fitness.evaluate_losses`) in all of its rows."""
  return frame.merge(losses, on="row", validate="many_to_one")
