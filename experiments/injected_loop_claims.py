"""What is asserted of injected loops: written down, with bounds, before any result was seen."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments import confidence, exact
from experiments.fit import FREE, fit_for
from experiments.injected_loop_conditions import InjectedLoops, condition_name
from loopjax.claim_measures import ratio_measure, seed_values
from loopjax.claims import Claim, Fitness, halfway
from loopjax.star_graph import theory
from loopjax.star_graph.null_worlds import TEACHERS

MOST_OFF = 0.1  # of a student's reset probability from the exact learner's, mean over cycles, to have learnt the loops
PUBLISHED_SHARE = 1e-3
WARM = (0.2, 0.4)  # the temperatures at which the published statements are judged


def claims(config: InjectedLoops) -> list[Claim]:
  """What is asserted of this experiment: the published statements with bounds of their own, halfway between no effect
  and the published one; and ours, whether students do what the exact loop-posterior learner does."""
  injected = config.shares[1:]
  at_temperatures = [claim for share in injected for t in WARM for claim in _claims_at(config, share, t)]
  return at_temperatures + [_growth_claim(config, share) for share in injected]


def _growth_claim(config: InjectedLoops, share: float) -> Claim:
  cycles = max(config.repetitions) - 1  # before the last repetition; s at index 0 is given, so each ends with an s
  resets = exact.loop_posterior_resets(config.tasks()[share], np.array([0, cycles]))
  return confidence.growth_claim(share, condition_name(share), resets, learnt(share))


def _claims_at(config: InjectedLoops, share: float, temperature: float) -> list[Claim]:
  poisoned, clean = (_where(condition_name(x), temperature) for x in (share, 0.0))
  learners = [
    theory.loop_posterior_statistics(config.tasks()[x], temperature=temperature, traced=False) for x in (share, 0.0)
  ]
  returns, reached = (getattr(learners[0], name) / getattr(learners[1], name) for name in ("returns", "reached"))
  common: dict[str, Any] = dict(
    family="injected loops", null=1.0,
    must_not_hold=("untrained", *TEACHERS, "memoryless"),
    fitness=(*fit_for("memoryless", poisoned, clean), learnt(share)),
  )  # fmt: skip
  condition, suffix = f"{condition_name(share)}, T = {temperature:g}", f"{share:g}_T{temperature:g}"
  more = ratio_measure("returns", poisoned, clean)
  published: dict[str, Any] = dict(
    source="arXiv 2512.12895", is_published_statement=True, presets=("standard", "paper"), **common
  )
  own = Claim(
    name=f"injected_returns_{suffix}", source="ours",
    presets=("quick", "standard", "paper") if temperature in config.temperatures else ("standard", "paper"),
    description="Injected loops add the returns that the loop posterior explains, or more than half of them.",
    condition=f"{condition}: returns over those of clean students", measure=more, predicted=returns,
    bound=halfway(1.0, returns), direction="above", **common,
  )  # fmt: skip
  if share != PUBLISHED_SHARE:
    return [own]
  return [
    Claim(
      name=f"injected_returns_published_{suffix}", description="Injected loops triple the student's loops.",
      condition=f"{condition}: returns over those of clean students", measure=more, bound=2.0, direction="above",
      predicted=returns, published=3.0, **published,
    ),
    Claim(
      name=f"injected_reached_published_{suffix}", description="Injected loops bring the student's accuracy near 0.",
      condition=f"{condition}: share reached over that of clean students",
      measure=ratio_measure("reached", poisoned, clean), bound=0.5, direction="below", predicted=reached,
      published=0.0, **published,
    ),
    own,
  ]  # fmt: skip


def learnt(share: float) -> Fitness:
  """That students have learnt the injected loops, as far as their reset probability tells."""
  condition = condition_name(share)
  return Fitness(
    name=f"distance from the loop posterior ({condition})", at_most=MOST_OFF,
    measure=lambda frame: seed_values(frame, "reset_error", _where(condition, frame["temperature"].min())),
  )  # fmt: skip


def _where(condition: str, temperature: float) -> dict[str, Any]:
  return {"condition": condition, "decoding": FREE, "temperature": temperature}
