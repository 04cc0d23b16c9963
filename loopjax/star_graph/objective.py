"""What a student of the star graph is trained for, and on: training rows, maximum likelihood, a fresh student's state.

An objective is built from a frozen config, such as `MaximumLikelihood`, whose name and fields are part of a run's
identity.

The end of a stream cuts its last walk, so that packed streams show late positions of walks too seldom. Every position
is therefore weighted by the inverse of its chance to be shown (Horvitz and Thompson, J. Am. Stat. Assoc. 47 (1952)
663-685), which `theory.position_weights` knows exactly.

Shapes: B rows of a batch, R streams, L stream positions, V vocabulary, W nodes of a walk.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from loopjax.models import graph_transformer, transformer
from loopjax.models.transformer import Transformer
from loopjax.runtime.config import require
from loopjax.star_graph import encoding, teacher, theory
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.streams import first_walk_only, sample_stream, stream_length
from loopjax.star_graph.teacher import TeacherProbabilities
from loopjax.training.step import Objective, Training, TrainState, cross_entropy, make_optimizer

_OF_EXTENSION = 2**31 - 2  # folded into a student's key, far from the numbers of its steps


def row_length(task: StarGraph, training: Training) -> int:
  """L, the positions of a stream; raises `ValueError` where the longest walk would not fit into one."""
  longest = stream_length(task)
  length = training.stream_length or longest
  require(length >= longest, "training.stream_length", length, f"at least {longest} positions for the longest walk")
  return length


OBJECTIVES: dict[str, type] = {}
"""The configs whose students can be loaded from a folder, by name."""


def register(kind: type) -> type:
  """Enters a config into `OBJECTIVES`: a decorator."""
  OBJECTIVES[kind.__name__] = kind
  return kind


class TaskState(NamedTuple):
  """What a student's task passes on as traced values, so that one compiled program serves a grid of tasks.

  Attributes:
    probabilities: the teacher's.
    position_weights: [W - 1], of the positions of a walk in the loss, by their place in the walk.
  """

  probabilities: TeacherProbabilities
  position_weights: jax.Array


class ObjectiveConfig(Protocol):
  """A frozen dataclass that names an objective; its class's name and its fields tell one run from another."""

  def build(self, task: StarGraph, model: Transformer, training: Training) -> Objective:
    """The objective. Fields that are not in `extra` are static: they choose another objective, another program."""

  def init(self, key: jax.Array, task: StarGraph, training: Training) -> Any:
    """The initial `TrainState.extra`: a pytree of arrays, traced. `task` has its own probabilities here."""


@register
@dataclasses.dataclass(frozen=True)
class MaximumLikelihood:
  """Maximum likelihood on teacher walks: the cross entropy of the next node, at walk positions alone."""

  def build(self, task: StarGraph, model: Transformer, training: Training) -> Objective:
    return teacher_forcing(task, model, training)

  def init(self, key: jax.Array, task: StarGraph, training: Training) -> tuple[()]:
    del key, task, training
    return ()


def task_state(task: StarGraph, training: Training) -> TaskState:
  """The traced values of `task` for students that are trained in this way."""
  uniform = np.ones(task.max_steps - 1)
  weights = theory.position_weights(task, row_length(task, training)) if training.packed else uniform
  return TaskState(teacher.teacher_probabilities(task), jnp.asarray(weights, jnp.float32))


def sample_row(task: StarGraph, training: Training, key: jax.Array, state: TaskState) -> encoding.Row:
  """One training row: a fresh graph and streams of teacher walks on it, positions weighted as `TaskState` says."""
  row = encoding.sample_row(
    task, state.probabilities, key, num_streams=training.streams_per_row, length=row_length(task, training),
    packed=training.packed,
  )  # fmt: skip
  weights = state.position_weights[jnp.maximum(walk_positions(task, row), 0)]
  return row._replace(weights=row.weights * weights)


def walk_positions(task: StarGraph, row: encoding.Row) -> jax.Array:
  """Where each input stands in its walk, [..., R, L]: s is 0, a goal that is told before it -1."""
  return row.positions - encoding.prompt_length(task) - (stream_length(task) - (task.max_steps - 1))


@functools.cache  # the same objective again is the same program again
def teacher_forcing(task: StarGraph, model: Transformer, training: Training) -> Objective:
  """Maximum likelihood on teacher walks; carries nothing."""
  row_length(task, training)  # raises where the longest walk does not fit

  def sample(key: jax.Array, state: TaskState, extra: tuple[()]) -> encoding.Row:
    del extra
    return graph_transformer.with_draws(model, sample_row(task, training, key, state), key)

  def loss(
    params: Any, batch: encoding.Row, key: jax.Array, extra: tuple[()]
  ) -> tuple[jax.Array, jax.Array, tuple[()]]:
    del key
    logits = transformer.apply(model, task, params, batch).logits
    return jnp.sum(cross_entropy(logits, batch.targets) * batch.weights), jnp.sum(batch.weights), extra

  return Objective(sample, loss)


def fresh_student(task: StarGraph, model: Transformer, key: jax.Array, state: Any, extra: Any) -> TrainState:
  """A fresh student from one typed key.

  What its task traces and what its objective carries, `state` and `extra`, change nothing else. Give () for what is put
  in later.
  """
  params_key, data_key = jax.random.split(key)
  params = transformer.init_params(model, task, params_key)
  opt_state = make_optimizer(Training()).init(params)  # at first the same for every training
  return TrainState(jnp.int32(0), params, opt_state, data_key, state, extra)


def begun(objective: Objective, training: Training, state: TrainState) -> TrainState:
  """One student before its first step, with what its objective trains beside it and takes from it to begin with."""
  if objective.extend is not None:
    params = objective.extend(state.params, jax.random.fold_in(state.key, _OF_EXTENSION))
    state = state._replace(params=params, opt_state=make_optimizer(training).init(params))
  return state if objective.begin is None else state._replace(extra=objective.begin(state.params, state.extra))


def position_histogram(task: StarGraph, config: Training, key: jax.Array, state: TaskState, *, rows: int) -> jax.Array:
  """The share of the trained positions, as they are weighted, by place in the walk, [W - 1], over `rows` rows."""

  def count(key: jax.Array) -> jax.Array:
    row = sample_row(task, config, key, state)
    places = jnp.where(row.weights > 0, walk_positions(task, row), task.max_steps)
    return jnp.zeros(task.max_steps - 1).at[places].add(row.weights, mode="drop")

  counts = jnp.sum(jax.lax.map(count, jax.random.split(key, rows), batch_size=min(rows, 1_024)), axis=0)
  return counts / jnp.sum(counts)


def injected_positions(task: StarGraph, config: Training, key: jax.Array, state: TaskState, *, rows: int) -> jax.Array:
  """The share of the trained positions, as they are weighted, in injected loops, over `rows` rows of a stream each."""
  length = row_length(task, config)

  def count(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    stream = sample_stream(task, state.probabilities, key, length=length)
    stream = stream if config.packed else first_walk_only(stream)
    weights = stream.weight * state.position_weights[jnp.maximum(stream.position, 0)]
    return jnp.sum(weights * stream.injected), jnp.sum(weights)

  injected, trained = jax.lax.map(count, jax.random.split(key, rows), batch_size=1_024)
  return jnp.sum(injected) / jnp.sum(trained)
