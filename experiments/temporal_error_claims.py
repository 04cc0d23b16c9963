"""What is asserted of temporally correlated errors: written down, with bounds, before any result was seen."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import pandas as pd

from experiments import published
from experiments.fit import MOST_ABOVE, fit_for
from experiments.temporal_error_conditions import NAME, TemporalErrors, condition_name
from loopjax.analysis.repetition import ROLLOUTS
from loopjax.claim_measures import Measure, difference_measure, ratio_measure, seed_values, value_measure
from loopjax.claims import Claim, halfway
from loopjax.star_graph import theory

SMALLEST_EFFECT = 0.05  # of rho(1): what its own past must add to a student's errors to count
_PAPER = "arXiv 2512.12895"
_WITHOUT_MEMORY = ("untrained", "exact teacher", "independent errors", "memoryless")


def claims(config: TemporalErrors, name: str = NAME, base: str = "a graph in every prompt") -> list[Claim]:
  """What is asserted of this experiment, at its graph and cut; of margins only where there is one.

  The null is the exact teacher with ties broken afresh, the limit of small independent errors; the prediction is a
  standing preference that is as small. The bound of an effect lies halfway between.
  """
  plain, n = {"condition": condition_name(0), "walks": ROLLOUTS, "temperature": 0.0}, config.task.num_chains
  common: dict[str, Any] = dict(
    family=f"correlated errors, {base}", presets=("quick", "standard", "paper"), direction="above"
  )
  of_paper = common | dict(source=_PAPER, must_not_hold=_WITHOUT_MEMORY, fitness=fit_for("teacher", plain))
  registered = [
    Claim(
      name=f"{name}_persistence_over_chance", null=1.0, predicted=float(n), bound=halfway(1.0, n),
      description="Without a margin the same child stays on top at the next visit.",
      condition=f"{base}, margin 0, T = 0, top-child persistence over its chance",
      measure=value_measure("persistence_ratio", plain),
      published=published.PERSISTENCE / published.INDEPENDENT_PERSISTENCE, **of_paper,
    ),
    Claim(
      name=f"{name}_error_correlation", null=0.0, predicted=1.0, bound=halfway(0.0, 1.0),
      description="Errors at consecutive visits are correlated.",
      condition=f"{base}, margin 0, T = 0, rho(1) on own walks", measure=value_measure("correlation", plain),
      **of_paper,
    ),
    *(
      Claim(
        name=f"{name}_beyond_the_prompt_T{where['temperature']:g}", source="ours", null=0.0, bound=SMALLEST_EFFECT,
        description="Errors repeat within a walk beyond what the prompt drives in every walk on the graph.",
        condition=f"{base}, margin 0, T = {where['temperature']:g}, rho(1) on own walks minus that of null (ii)",
        measure=_beyond_the_prompt(where), fitness=fit_for("teacher", where),
        must_not_hold=(*_WITHOUT_MEMORY, "standing preference"), **common,
      )
      for where in (plain, plain | {"temperature": 1.0})
    ),
  ]  # fmt: skip
  return registered + (_margin_claims(config, name, base) if max(config.visited_margins) > 0 else [])


def _margin_claims(config: TemporalErrors, name: str, base: str) -> list[Claim]:
  """Greedy walks without a margin beside those at the largest margin."""
  largest = max(config.visited_margins)
  plain, margin = ({"condition": condition_name(m), "walks": ROLLOUTS, "temperature": 0.0} for m in (0, largest))
  null, standing = _greedy_worlds(config)
  greedy = published.margin().query("temperature == 0").set_index("margin")
  drop = (null[0] - null[3], standing[0] - standing[3])
  reached, returns = ((null[i] / null[i + 3], standing[i] / standing[i + 3]) for i in (1, 2))
  claim = functools.partial(
    Claim, source=_PAPER, must_not_hold=_WITHOUT_MEMORY, family=f"correlated errors, {base}",
    presets=("quick", "standard", "paper"),
    fitness=(*fit_for("teacher", plain), *fit_for("teacher", margin, most_above=_margin_learnt(config))),
  )  # fmt: skip
  return [
    claim(
      name=f"{name}_persistence_lost_by_margin", direction="above", null=drop[0], predicted=drop[1],
      bound=halfway(*drop), description="A margin in the training walks takes persistence away.",
      condition=f"{base}, T = 0, top-child persistence at margin 0 minus that at {margin['condition']}",
      measure=difference_measure("persistence", plain, margin),
      published=published.PERSISTENCE - published.PERSISTENCE_WITH_MARGIN,
    ),
    claim(
      name=f"{name}_greedy_reached_without_over_with_margin", direction="below", null=reached[0], predicted=reached[1],
      bound=halfway(*reached), description="Without a margin greedy decoding fails.",
      condition=f"{base}, T = 0, share reached at margin 0 over that at {margin['condition']}",
      measure=ratio_measure("reached", plain, margin), published=greedy["reached"][0.0] / greedy["reached"][0.1],
    ),
    claim(
      name=f"{name}_greedy_returns_without_over_with_margin", direction="above", null=returns[0], predicted=returns[1],
      bound=halfway(*returns), description="Without a margin greedy decoding loops.",
      condition=f"{base}, T = 0, returns at margin 0 over those at {margin['condition']}",
      measure=ratio_measure("returns", plain, margin), published=greedy["returns"][0.0] / greedy["returns"][0.1],
    ),
  ]  # fmt: skip


def _greedy_worlds(config: TemporalErrors) -> tuple[list[float], list[float]]:
  """Greedy persistence, share reached and returns at margin 0, then at the largest: null, and standing preference.

  With a margin a preference too small to outweigh it only breaks ties, and both worlds are the same.
  """
  plain, margin = (dataclasses.replace(config.task, visited_margin=m) for m in (0.0, max(config.visited_margins)))
  fresh, with_margin = (theory.teacher_statistics(task, temperature=0.0) for task in (plain, margin))
  frozen = theory.memoryless_statistics(plain, temperature=0.0, ties="frozen")  # uniform, like this teacher
  persistence = [theory.teacher_persistence(task, temperature=0.0) for task in (plain, margin)]
  at_margin = [persistence[1], with_margin.reached, with_margin.returns]
  return (
    [persistence[0], fresh.reached, fresh.returns, *at_margin], [1.0, frozen.reached, frozen.returns, *at_margin]
  )  # fmt: skip


def _margin_learnt(config: TemporalErrors) -> float:
  """Half of what the largest margin is worth in nats: a student that is further off may not have learnt it."""
  task = config.tasks()[config.visited_margins.index(max(config.visited_margins))]
  worth = theory.memoryless_loss(task) - theory.teacher_loss(task)
  return min(MOST_ABOVE, worth / 2)


def _beyond_the_prompt(where: Mapping[str, Any]) -> Measure:
  """The measure: rho(1) of pairs of one walk minus that of null (ii), both on the same visits."""

  def measure(frame: pd.DataFrame) -> pd.Series:
    own, prompt = (seed_values(frame, f"{pairs}_correlation", where) for pairs in ("own_walk_matched", "other_walks"))
    return own - prompt

  return measure
