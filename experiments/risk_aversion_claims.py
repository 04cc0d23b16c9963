"""What is asserted of risk aversion: written down, with bounds, before any result was seen."""

from __future__ import annotations

from typing import Any

from experiments.fit import FREE, fit_for
from experiments.risk_aversion_conditions import RiskAversion, condition_name
from loopjax.claim_measures import ratio_measure, value_measure, worst_measure
from loopjax.claims import Claim, halfway
from loopjax.star_graph import theory
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.null_worlds import TEACHERS

_NOT_RISK_AVERSE = ("untrained", *TEACHERS)
_PAPER, _EVERY = "arXiv 2512.12895", ("quick", "standard", "paper")


def claims(config: RiskAversion) -> list[Claim]:
  """What is asserted of this experiment, at its graphs and cut.

  The bound of an effect lies halfway between what it is without the mechanism and what the memoryless learner has.
  """
  explored = condition_name("hard", True)
  greedy = {"condition": explored, "decoding": FREE, "temperature": 0.0}
  teacher_walks = theory.teacher_statistics(config.hard, temperature=0.0)
  memoryless = theory.memoryless_statistics(config.hard, temperature=0.0)
  common: dict[str, Any] = dict(
    source=_PAPER, direction="above", presets=_EVERY, family="risk aversion", must_not_hold=_NOT_RISK_AVERSE,
    fitness=fit_for("memoryless", greedy),
  )  # fmt: skip
  null, predicted = 1 - teacher_walks.reached, 1 - memoryless.reached
  registered = [
    Claim(
      name="hard_greedy_cut", description="Hard, with exploration: greedy walks do not find the goal until the cut.",
      condition=f"{explored}, T = 0: share of walks that are cut", measure=value_measure("cut", greedy),
      null=null, predicted=predicted, bound=halfway(null, predicted), **common,
    ),
    Claim(
      name="hard_greedy_root_loops", description="Hard, with exploration: greedy walks lie in s-r-s loops.",
      condition=f"{explored}, T = 0: share of nodes in s-r-s loops", measure=value_measure("root_loop_share", greedy),
      null=teacher_walks.root_loop_share, predicted=memoryless.root_loop_share,
      bound=halfway(teacher_walks.root_loop_share, memoryless.root_loop_share), **common,
    ),
  ]  # fmt: skip
  for exploration in (False, True):
    registered += _claims_of(config, exploration)
  return registered


def _claims_of(config: RiskAversion, exploration: bool) -> list[Claim]:
  """The claims made with exploration and without."""
  easy, hard = condition_name("easy", exploration), condition_name("hard", exploration)
  suffix = "with_exploration" if exploration else "without_exploration"
  cold, warm = ({"condition": hard, "decoding": FREE, "temperature": t} for t in (0.0, 1.0))
  of_easy = {"condition": easy, "decoding": FREE}
  task, easy_task = (config.tasks()[hardness][exploration] for hardness in ("hard", "easy"))
  ratio = _memoryless(task, 0.0).returns / _memoryless(task, 1.0).returns
  length = _memoryless(task, 1.0).response_length / theory.teacher_statistics(task).response_length
  worst = min(theory.teacher_statistics(easy_task, temperature=t).reached for t in config.temperatures)
  lost = min(_memoryless(easy_task, t).reached for t in config.temperatures)
  common: dict[str, Any] = dict(source=_PAPER, direction="above", family="risk aversion")
  smeared: dict[str, Any] = dict(
    must_not_hold=_NOT_RISK_AVERSE, fitness=fit_for("memoryless", cold, warm), presets=_EVERY
  )
  return [
    Claim(
      name=f"easy_reached_{suffix}", description="Easy: students find the goal at every temperature.",
      condition=f"{easy}, share of walks that reach the goal at the worst T of each seed",
      measure=worst_measure("reached", of_easy, "min"), null=lost, predicted=worst, bound=0.95 * worst,
      presets=_EVERY, must_not_hold=("untrained", "memoryless"), fitness=fit_for("teacher", of_easy), published=0.98,
      **common,
    ),
    Claim(
      name=f"hard_returns_cold_over_warm_{suffix}", description="Hard: temperature cuts returns to s.",
      condition=f"{hard}, returns at T = 0 over those at T = 1", measure=ratio_measure("returns", cold, warm),
      null=1.0, predicted=ratio, bound=halfway(1.0, ratio), published=63.8 / 9.2 if exploration else 33 / 6.0,
      **smeared, **common,
    ),
    Claim(
      name=f"hard_warm_length_over_teacher_{suffix}",
      description="Hard: temperature is no substitute for learning; walks stay longer than the teacher's.",
      condition=f"{hard}, T = 1, length over the exact teacher's", measure=value_measure("length_ratio", warm),
      null=1.0, predicted=length, bound=halfway(1.0, length), **smeared, **common,
    ),
  ]  # fmt: skip


def _memoryless(task: StarGraph, temperature: float) -> theory.WalkStatistics:
  return theory.memoryless_statistics(task, temperature=temperature)
