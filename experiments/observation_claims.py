"""What is asserted of the six observations: written down, with bounds, before any result was seen.

Bounds of effects lie halfway between two exact values of the theory. They are that of the exact teacher, and that of
the memoryless learner of Proposition 1. A greedy exact teacher has no locked cycle; a greedy memoryless learner has
nothing else wherever going back to s is its likeliest move. Where theory has no value for an effect, as for sizes, the
statement is about its sign, and the bound is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from experiments.fit import fit_for
from experiments.observation_conditions import (
  AFTER_RL,
  BASE,
  EASY,
  HARDNESS,
  LIGHT_RL,
  NO_RESETS,
  RESETS,
  SIZE,
  TAUGHT,
  TEACHERS,
  TEMPERATURE,
  Observations,
  depth_name,
)
from loopjax.claim_measures import Measure, difference_measure, value_measure
from loopjax.claims import Claim, halfway
from loopjax.star_graph import null_worlds, theory
from loopjax.star_graph.graph import StarGraph

LOCKED = "locked_cycle_share"
LITTLE = 0.1  # of all nodes: what reinforcement learning may change, to have changed little
_NO_LOOPS = ("untrained", *null_worlds.TEACHERS)
_NO_EFFECT = (*_NO_LOOPS, "memoryless")


def claims(config: Observations) -> list[Claim]:
  """The claims of the observations that are made, where the config has their conditions."""
  of = {
    TEMPERATURE: _temperature, SIZE: _size, TEACHERS: _teachers, HARDNESS: _hardness, RESETS: _resets,
    LIGHT_RL: _light_rl,
  }  # fmt: skip
  return [Claim(**settings) for name in config.shown() for settings in of[name](config)]


def at(condition: str, temperature: float = 0.0) -> dict[str, Any]:
  """The rows of a condition at a temperature."""
  return {"condition": condition, "temperature": temperature}


def combined(measures: Sequence[Measure], how: str) -> Measure:
  """The `min`, `max` or `mean` of several measures, seed by seed; a seed that lacks one has no value."""
  return lambda frame: pd.concat([one(frame) for one in measures], axis=1).agg(how, axis=1, skipna=False)


def mean_difference(config: Observations, column: str, more: str, less: str) -> Measure:
  """`column` of one condition minus that of another, the mean over all temperatures."""
  return combined([difference_measure(column, at(more, t), at(less, t)) for t in config.temperatures], "mean")


def greedy_locked(task: StarGraph) -> float:
  """The memoryless learner's share of nodes in locked cycles at T = 0: all where the cycle is its likeliest move."""
  is_cycle = str(theory.argmax_phase(task.reset_prob, task.num_chains)) == "cycle"
  return 1.0 if is_cycle else 0.0  # where it is a child, ties are broken afresh at every visit


def _cut(learner: Any, task: StarGraph, temperature: float = 0.0) -> float:
  return 1.0 - float(learner(task, temperature=temperature).reached)


def _effect(null: float, predicted: float) -> dict[str, Any]:
  """Of a claim of an effect: both values, and the bound halfway between them."""
  direction = "above" if predicted > null else "below"
  return dict(null=null, predicted=predicted, bound=halfway(null, predicted), direction=direction)


def _published(name: str, **settings: Any) -> dict[str, Any]:
  """A statement of the paper."""
  return dict(
    name=f"observation_{name}", source="arXiv 2512.12895", presets=("quick", "standard"), family="observations",
    **settings,
  )  # fmt: skip


def _fit(*rows: Mapping[str, Any]) -> tuple[Any, ...]:
  return fit_for("memoryless", *rows)


def _temperature(config: Observations) -> list[dict[str, Any]]:
  sizes, task = config.shown()[TEMPERATURE], config.task
  teacher, memoryless = (
    _cut(learner, task) - _cut(learner, task, 1.0)
    for learner in (theory.teacher_statistics, theory.memoryless_statistics)
  )

  def smallest(column: str) -> Measure:
    return combined([difference_measure(column, at(size), at(size, 1.0)) for size in sizes], "min")

  common: dict[str, Any] = dict(
    must_not_hold=_NO_LOOPS, fitness=_fit(*(at(size, t) for size in sizes for t in (0.0, 1.0)))
  )
  where = "at T = 0 minus that at T = 1, the size with the smallest difference of each seed"
  return [
    _published(
      "temperature_locked", description="Students of every size loop more when greedy than at T = 1.",
      condition=f"share of nodes in locked cycles {where}", measure=smallest(LOCKED), bound=0.0, null=0.0,
      direction="above", is_published_statement=True, **common,
    ),
    _published(
      "temperature_cut", description="Greedy, students of every size loop until the cut; at T = 1 fewer walks do.",
      condition=f"share of walks that are cut {where}", measure=smallest("cut"), **_effect(teacher, memoryless),
      **common,
    ),
  ]  # fmt: skip


def _size(config: Observations) -> list[dict[str, Any]]:
  names = list(config.models())
  wide = names[len(config.depths) :]
  pairs = {"deeper": (names[len(config.depths) - 1], BASE)} if config.depths else {}
  pairs |= {"wider": (wide[-1], wide[0])} if len(wide) > 1 else {}
  return [
    _published(
      f"size_{name}", description=f"Students loop less where they are {name}, at equal steps.",
      condition=f"{large} minus {small}: share of nodes in locked cycles, mean over temperatures",
      measure=mean_difference(config, LOCKED, large, small), bound=0.0, null=0.0, direction="below",
      is_published_statement=True, must_not_hold=_NO_EFFECT,
      fitness=_fit({"condition": large}, {"condition": small}),
    )
    for name, (large, small) in pairs.items()
  ]  # fmt: skip


def _teachers(config: Observations) -> list[dict[str, Any]]:
  teacher = depth_name(config.depths[-1])
  return [_published(
    "student_loops_more_than_its_teacher",
    description="A small student loops more than the large student whose walks it has learnt from.",
    condition=f"{TAUGHT} minus {teacher}: share of nodes in locked cycles, mean over temperatures",
    measure=mean_difference(config, LOCKED, TAUGHT, teacher), bound=0.0, null=0.0, direction="above",
    is_published_statement=True, must_not_hold=_NO_EFFECT,
    fitness=_fit({"condition": TAUGHT}, {"condition": teacher}),
  )]  # fmt: skip


def _hardness(config: Observations) -> list[dict[str, Any]]:
  tasks, memoryless = config.tasks(), theory.memoryless_statistics
  long = f"chain length {config.chain_lengths[-1]}" if config.chain_lengths else BASE
  found = [_published(
    "hardness_chains_longer", description="Greedy students loop where the goal is far, and not where it is near.",
    condition=f"{long} minus {EASY}, T = 0: share of nodes in locked cycles",
    measure=difference_measure(LOCKED, at(long), at(EASY)), **_effect(0.0, greedy_locked(tasks[long])),
    must_not_hold=_NO_EFFECT, fitness=(*_fit(at(long)), *fit_for("teacher", at(EASY))),
  )]  # fmt: skip
  if len(config.num_chains) < 2:
    return found
  few, many = (f"{config.num_chains[i]} chains" for i in (0, -1))
  return [*found, _published(
    "hardness_more_chains", description="Greedy students loop until the cut more often where there are more chains.",
    condition=f"{many} minus {few}, T = 0: share of walks that are cut",
    measure=difference_measure("cut", at(many), at(few)),
    **_effect(0.0, _cut(memoryless, tasks[many]) - _cut(memoryless, tasks[few])),
    must_not_hold=_NO_LOOPS, fitness=_fit(at(many), at(few)),
  )]  # fmt: skip


def _resets(config: Observations) -> list[dict[str, Any]]:
  tasks, memoryless = config.tasks(), theory.memoryless_statistics
  with_resets, without = memoryless(config.task, temperature=0.0), memoryless(tasks[NO_RESETS], temperature=0.0)
  common: dict[str, Any] = dict(must_not_hold=_NO_LOOPS, fitness=_fit(at(BASE), at(NO_RESETS)))
  return [
    _published(
      "resets_root_loops", description="Greedy students lie in s-r-s loops where the teacher resets, else not.",
      condition=f"{BASE} minus {NO_RESETS}, T = 0: share of nodes in s-r-s loops",
      measure=difference_measure("root_loop_share", at(BASE), at(NO_RESETS)),
      **_effect(0.0, with_resets.root_loop_share - without.root_loop_share), **common,
    ),
    _published(
      "resets_none_no_loops", description="Greedy students of a teacher without resets hardly loop until the cut.",
      condition=f"{NO_RESETS} minus {BASE}, T = 0: share of walks that are cut",
      measure=difference_measure("cut", at(NO_RESETS), at(BASE)),
      **_effect(0.0, with_resets.reached - without.reached), **common,
    ),
  ]  # fmt: skip


def _light_rl(config: Observations) -> list[dict[str, Any]]:
  broken = fit_for("memoryless", {"condition": AFTER_RL})[:1]  # its target is not the teacher's law: no loss is asked
  common: dict[str, Any] = dict(must_not_hold=_NO_LOOPS, fitness=(*_fit({"condition": BASE}), *broken))
  return [
    _published(
      "light_rl_loops_stay", description="After light reinforcement learning greedy students still loop.",
      condition=f"{AFTER_RL}, T = 0: share of nodes in locked cycles", measure=value_measure(LOCKED, at(AFTER_RL)),
      **_effect(0.0, greedy_locked(config.task)), **common,
    ),
    _published(
      "light_rl_changes_little",
      description="Light reinforcement learning changes little, in the mean over temperatures, in students that loop.",
      condition=f"{AFTER_RL} and {BASE}: share of nodes in locked cycles, size of the change, mean over temperatures",
      measure=_change_where_there_are_loops(config), bound=LITTLE, null=1.0, predicted=0.0, direction="below",
      is_published_statement=True, **common,
    ),
  ]  # fmt: skip


def _size_of(measure: Measure) -> Measure:
  return lambda frame: measure(frame).abs()


def _change_where_there_are_loops(config: Observations) -> Measure:
  """The mean size of the change; a seed has no value where its student does not loop before: nothing could change."""
  changes = [_size_of(difference_measure(LOCKED, at(AFTER_RL, t), at(BASE, t))) for t in config.temperatures]
  size = combined(changes, "mean")
  loops = halfway(0.0, greedy_locked(config.task))
  return lambda frame: size(frame).where(value_measure(LOCKED, at(BASE))(frame) > loops)
