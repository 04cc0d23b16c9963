"""De-looped distillation: the student learns from walks that a student drew, in place of the exact teacher's.

The *teacher student* is the student as it was before the first step. With `refresh_every` = K it becomes the current
student every K steps: rounds. At K = 1 a student learns from its own walks of the moment. In every step the teacher
student walks at `temperature`. A share of the training rows hold its walks. Which, says `walks`:

- `raw`: all of them, as they are.
- `successful`: those that reached their goals.
- `erased`: those that reached their goals, with their loops erased (`loop_erased`).

A walk ends before its first invalid move. It is distillation by sequences (arXiv 1606.07947). On own successful walks
it is a round of self-training (STaR, arXiv 2203.14465).

It is meant to repair loops as `loop_erased` does, where no exact teacher is at hand: a student's own successes, without
their detours, are all that it needs.

What to know before use:

- Begin with trained students (`params` of `train_students`). The walks of a fresh student teach nothing.
- **How far the new target is from the teacher.** At share 1:
  - `raw` at temperature 1: the law of the teacher student among valid moves. It is as far from the exact teacher as the
    teacher student is. With rounds nothing holds it there, and errors add up.
  - `successful`: each move has the teacher student's probability, times the chance to reach the goal in time after the
    move, over that before it. Resets become rarer, most of all late in a walk.
  - `erased`: the direct way to the goal, with 1 for the goal's child at r. That is the target of `loop_erased`, whoever
    walked. From there the divergence to the exact teacher is -log of what it gives to the goal's child. The other way
    round it is infinite. What differs from `loop_erased` is which problems are seen: those that the teacher student
    solves. A problem that it never solves is never shown.
- A walk that is not kept counts nowhere. A row of `erased` has as many walks as fit whatever their lengths, the others
  mostly one. So rows have fewer trained positions than the exact teacher's. Compare at equal positions as well.
- It costs one walk of full length for every place of a walk, also in rows that are the exact teacher's in the end.

Shapes: R streams, L stream positions, K walks of a stream, W nodes of a walk.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from loopjax.models import transformer
from loopjax.models.transformer import Transformer
from loopjax.remedies import own_walks
from loopjax.remedies.loop_erased import erase_loops, erased_task, side_by_side, walks_per_stream
from loopjax.runtime.config import COLDEST, check_fields, require
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import StarGraph, sample_goal, sample_graph
from loopjax.star_graph.objective import TaskState, register, row_length, teacher_forcing
from loopjax.star_graph.streams import Stream
from loopjax.training.step import Objective, Training

_OF_DISTILLATION = 2**31 - 7  # folded into a row's key, far from what splitting it gives to graph and walks
_KINDS = ("raw", "successful", "erased")


class DistillationState(NamedTuple):
  """What the objective carries.

  Attributes:
    share: of the rows.
    temperature: at which the teacher student walks.
    refresh_every: after how many steps the teacher student becomes the current one; 0: never.
    step: the steps taken.
    teacher: the teacher student's parameters.
  """

  share: jax.Array
  temperature: jax.Array
  refresh_every: jax.Array
  step: jax.Array
  teacher: Any = ()


@register
@dataclasses.dataclass(frozen=True)
class Distillation:
  """Maximum likelihood on teacher walks, some of them those of a teacher student.

  Attributes:
    share: of the rows, that hold walks of the teacher student; 0 is maximum likelihood, row by row.
    walks: `raw`, `successful` or `erased`.
    refresh_every: after how many steps the teacher student becomes the current one; 0: it stays what it was before the
      first step.
    temperature: at which the teacher student walks, 0 or above.
  """

  share: float = 1.0
  walks: str = "erased"
  refresh_every: int = 0
  temperature: float = 1.0

  def __post_init__(self) -> None:
    check_fields(self, "objective")
    require(0 <= self.share <= 1, "objective.share", self.share, "in [0, 1]")
    require(self.walks in _KINDS, "objective.walks", self.walks, f"one of {_KINDS}")
    require(self.refresh_every >= 0, "objective.refresh_every", self.refresh_every, "at least 0")
    allowed = self.temperature == 0 or self.temperature >= COLDEST
    require(allowed, "objective.temperature", self.temperature, f"0, or at least {COLDEST:g}")

  def build(self, task: StarGraph, model: Transformer, training: Training) -> Objective:
    return distillation(task, model, training, self.walks)

  def init(self, key: jax.Array, task: StarGraph, training: Training) -> DistillationState:
    del key, task, training
    strengths = jnp.float32(self.share), jnp.float32(self.temperature)
    return DistillationState(*strengths, jnp.int32(self.refresh_every), jnp.int32(0))


@register
@dataclasses.dataclass(frozen=True)
class StudentTaught:
  """Maximum likelihood on the walks of a teacher student of another architecture, which stays as it is (raw walks).

  Its parameters are given as `extra` of `train_students`, as `taught_by` has them. By default it is a fresh network,
  which teaches nothing.

  Attributes:
    teacher: the architecture of the teacher student.
    share: of the rows, that hold its walks; 0 is maximum likelihood on teacher walks, row by row.
    temperature: at which it walks, 0 or above.
  """

  teacher: Transformer = Transformer()
  share: float = 1.0
  temperature: float = 1.0

  def __post_init__(self) -> None:
    check_fields(self, "objective")
    Distillation(self.share, "raw", 0, self.temperature)  # checks them

  def build(self, task: StarGraph, model: Transformer, training: Training) -> Objective:
    return distillation(task, model, training, "raw", self.teacher)

  def init(self, key: jax.Array, task: StarGraph, training: Training) -> DistillationState:
    fresh = transformer.init_params(self.teacher, task, key)
    return Distillation(self.share, "raw", 0, self.temperature).init(key, task, training)._replace(teacher=fresh)

  def taught_by(self, teachers: Any, task: StarGraph, training: Training) -> DistillationState:
    """What students carry whose teachers, one each, have the parameters `teachers`, with leading axes [S]."""
    strengths = Distillation(self.share, "raw", 0, self.temperature).init(jax.random.key(0), task, training)
    count = len(jax.tree.leaves(teachers)[0])
    each = jax.tree.map(lambda leaf: jnp.stack([leaf] * count), strengths)
    return each._replace(teacher=jax.tree.map(jnp.copy, teachers))  # training gives its own arrays away


def kept_stream(task: StarGraph, state: TaskState, walk: jax.Array, goal_chain: jax.Array, kind: str) -> Stream:
  """A walk [W] that a student drew, as a stream of one walk; its weights are 0 where it is not kept."""
  walk = own_walks.valid_part(task, state.probabilities, walk)
  reached = jnp.any(walk == task.goal_node(goal_chain))
  if kind == "erased":
    task = erased_task(task)
    walk = erase_loops(walk)[: task.max_steps]
  stream = encoding.stream_of_walk(task, walk, goal_chain)
  is_kept = reached | (kind == "raw")
  return stream._replace(weight=jnp.where(is_kept, stream.weight, 0.0))


def student_row(
  task: StarGraph, model: Transformer, training: Training, kind: str, key: jax.Array, state: TaskState,
  extra: DistillationState,
) -> encoding.Row:  # fmt: skip
  """A fresh graph with streams of walks of the teacher student, each to a goal of its own."""
  graph_key, goal_key, walk_key = jax.random.split(key, 3)
  graph, length = sample_graph(task, graph_key), row_length(task, training)
  count = walks_per_stream(erased_task(task) if kind == "erased" else task, length)
  shape = training.streams_per_row, count
  goals = jax.vmap(functools.partial(sample_goal, task))(jax.random.split(goal_key, shape[0] * shape[1]))
  drawn = own_walks.drawn_walks(
    task, model, extra.teacher, state.probabilities, graph, goals, extra.temperature, walk_key
  )
  kept = jax.vmap(lambda walk, goal: kept_stream(task, state, walk, goal, kind))(drawn.nodes, goals)
  of_streams = jax.tree.map(lambda field: field.reshape(*shape, -1), kept)
  return encoding.encode_streams(task, graph, jax.vmap(lambda walks: side_by_side(walks, length))(of_streams))


@functools.cache  # the same objective again is the same program again
def distillation(
  task: StarGraph, model: Transformer, training: Training, kind: str, teacher: Transformer | None = None
) -> Objective:
  """The objective of `Distillation`, or, given a teacher student of its own architecture, of `StudentTaught`.

  Carries a `DistillationState`.
  """
  plain = teacher_forcing(task, model, training)

  def sample(key: jax.Array, state: TaskState, extra: DistillationState) -> encoding.Row:
    choice_key, own_key = jax.random.split(jax.random.fold_in(key, _OF_DISTILLATION))
    is_students = jax.random.uniform(choice_key) < extra.share
    own = student_row(task, teacher or model, training, kind, own_key, state, extra)
    return jax.tree.map(lambda a, b: jnp.where(is_students, a, b), own, plain.sample(key, state, ()))

  def loss(params: Any, batch: encoding.Row, key: jax.Array, extra: DistillationState) -> tuple[Any, Any, Any]:
    total, weight, _ = plain.loss(params, batch, key, ())
    return total, weight, extra

  def after_update(params: Any, extra: DistillationState, key: jax.Array) -> DistillationState:
    del key
    step, every = extra.step + 1, extra.refresh_every
    is_due = (every > 0) & (step % jnp.maximum(every, 1) == 0)
    current = jax.tree.map(lambda new, old: jnp.where(is_due, new, old), params, extra.teacher)
    return extra._replace(step=step, teacher=current)

  def begin(params: Any, extra: DistillationState) -> DistillationState:
    return extra._replace(teacher=jax.tree.map(jnp.copy, params))

  return Objective(sample, loss, after_update, begin) if teacher is None else Objective(sample, loss)
