"""Curriculum: training begins with another teacher, and its settings move to those of the task.

Over the first `num_steps` steps `explore_prob`, `reset_prob` and `visited_margin` go from the values given here to the
task's, in `STAGES` equal stages. Afterwards the teacher is the task's. What evaluation and theory call the teacher is
always the task's.

It is meant to repair what is too hard to learn at once. A teacher that explores hides where the goal is: a student that
learns with `explore_prob` 0 first finds the goal, and keeps it. A reset probability that grows teaches the way before
the return; one that falls ends with a teacher that returns less.

What to know before use:

- Compare at equal positions, with students from scratch that have the same learning rates. The warm-up and the cosine
  run once, over the curriculum and what follows.
- Every stage weights the positions of its walks exactly (`theory.position_weights`).
- The length of chains is no setting of this curriculum: it is a size, and other sizes are other programs. See
  `growing_chains`.
- A task with a `goal_margin` takes no `visited_margin`.

Shapes: K stages, W nodes of a walk.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from loopjax.models.transformer import Transformer
from loopjax.runtime.config import check_fields, require
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import TaskState, register, task_state, teacher_forcing
from loopjax.training.step import Objective, Training

STAGES = 8
AS_IN_TASK = -1.0
_SETTINGS = ("explore_prob", "reset_prob", "visited_margin")


class CurriculumState(NamedTuple):
  """What the objective carries.

  Attributes:
    stages: what the task passes on in each stage, leaves [K, ...].
    num_steps: over how many steps the stages are spread.
    step: the steps taken.
  """

  stages: TaskState
  num_steps: jax.Array
  step: jax.Array


@register
@dataclasses.dataclass(frozen=True)
class Curriculum:
  """Maximum likelihood on the walks of a teacher that becomes the task's.

  Attributes:
    num_steps: over how many steps; 0 is maximum likelihood on the task's teacher.
    explore_prob: at the beginning; -1: as in the task.
    reset_prob: likewise.
    visited_margin: likewise.
  """

  num_steps: int = 500
  explore_prob: float = 0.0
  reset_prob: float = AS_IN_TASK
  visited_margin: float = AS_IN_TASK

  def __post_init__(self) -> None:
    check_fields(self, "objective")
    require(self.num_steps >= 0, "objective.num_steps", self.num_steps, "at least 0")
    for name in _SETTINGS:
      value, most = getattr(self, name), math.inf if name == "visited_margin" else 1.0
      allowed = value == AS_IN_TASK or 0 <= value <= most
      require(allowed, f"objective.{name}", value, "what a task allows, or -1 for the task's")

  def build(self, task: StarGraph, model: Transformer, training: Training) -> Objective:
    return curriculum(task, model, training)

  def init(self, key: jax.Array, task: StarGraph, training: Training) -> CurriculumState:
    del key
    states = [task_state(one, training) for one in self.stages(task)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    return CurriculumState(stacked, jnp.int32(self.num_steps), jnp.int32(0))

  def stages(self, task: StarGraph) -> list[StarGraph]:
    """The task of each stage; raises `ValueError` where one is not allowed."""
    begin = {name: getattr(self, name) for name in _SETTINGS if getattr(self, name) != AS_IN_TASK}

    def stage(number: int) -> StarGraph:
      share = number / STAGES
      mixed = {name: (1 - share) * value + share * getattr(task, name) for name, value in begin.items()}
      return dataclasses.replace(task, **mixed)

    return [stage(number) for number in range(STAGES)]


def current(extra: CurriculumState, final: TaskState) -> TaskState:
  """What the task passes on at this step; `final` once the curriculum is over."""
  stage = jnp.minimum(extra.step * STAGES // jnp.maximum(extra.num_steps, 1), STAGES - 1)
  runs = extra.step < extra.num_steps
  return jax.tree.map(lambda stages, last: jnp.where(runs, stages[stage], last), extra.stages, final)


@functools.cache  # the same objective again is the same program again
def curriculum(task: StarGraph, model: Transformer, training: Training) -> Objective:
  """The objective of `Curriculum`; carries a `CurriculumState`."""
  plain = teacher_forcing(task, model, training)

  def sample(key: jax.Array, state: TaskState, extra: CurriculumState) -> encoding.Row:
    return plain.sample(key, current(extra, state), ())

  def loss(
    params: Any, batch: encoding.Row, key: jax.Array, extra: CurriculumState
  ) -> tuple[Any, Any, CurriculumState]:
    total, weight, _ = plain.loss(params, batch, key, ())
    return total, weight, extra._replace(step=extra.step + 1)

  return Objective(sample, loss)
