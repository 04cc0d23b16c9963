"""Training one student: state, objective, optimiser, one step, a chunk of steps. Pure; knows nothing of seeds.

An `Objective` is what a remedy or a curriculum supplies: how to sample a training row, and the loss of a batch. It is
built from a frozen config, whose name and fields are part of a run's identity. Data are a function of (data key, step,
example), so resuming needs no iterator and splitting a batch over devices does not change it.

Rows of training data are pytrees that the objective alone reads: nothing here knows the task.

Shapes: B rows of a batch, V vocabulary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from loopjax.runtime.config import check_fields, require

_AFTER = 2**31 - 1  # folded into a step's key for what comes after its update
_NO_STEP = 2**31 - 1  # folded into a student's key, where 0, 1, ... are its steps


@dataclasses.dataclass(frozen=True)
class Training:
  """How a student is trained.

  Attributes:
    num_steps: optimiser steps.
    rows_per_step: B, graphs in a batch.
    streams_per_row: R, streams of walks on each graph.
    stream_length: L, positions of a stream; 0 stands for the longest walk's.
    packed: whether a stream holds walk after walk; else one walk and padding.
    learning_rate: the peak, reached after `warmup_steps`; a cosine then takes it to zero at `num_steps`.
    warmup_steps: steps of linear warm-up.
    weight_decay: AdamW's, on matrices alone.
    clip_norm: gradients are clipped to this global norm.
  """

  num_steps: int = 2_000
  rows_per_step: int = 64
  streams_per_row: int = 1
  stream_length: int = 0
  packed: bool = True
  learning_rate: float = 3e-3
  warmup_steps: int = 100
  weight_decay: float = 0.01
  clip_norm: float = 1.0

  def __post_init__(self) -> None:
    check_fields(self, "training")
    for name in ("num_steps", "rows_per_step", "streams_per_row"):
      require(getattr(self, name) >= 1, f"training.{name}", getattr(self, name), "at least 1")
    for name in ("stream_length", "warmup_steps", "weight_decay"):
      require(getattr(self, name) >= 0, f"training.{name}", getattr(self, name), "at least 0")
    for name in ("learning_rate", "clip_norm"):
      require(getattr(self, name) > 0, f"training.{name}", getattr(self, name), "above 0")


class TrainState(NamedTuple):
  """One student in training; mapped over seeds every leaf has a leading axis S.

  Attributes:
    step: int32, the steps taken.
    params: parameters, float32.
    opt_state: the optimiser's.
    key: typed key from which all data follow.
    task: what the task traces.
    extra: what the objective carries: strengths of a remedy, a curriculum's state; any pytree of arrays.
  """

  step: jax.Array
  params: Any
  opt_state: Any
  key: jax.Array
  task: Any
  extra: Any


class Metrics(NamedTuple):
  """One step's scalars: mean loss in nats per trained position, gradient norm before clipping, trained positions."""

  loss: jax.Array
  gradient_norm: jax.Array
  trained_positions: jax.Array


class Objective(NamedTuple):
  """What is trained for.

  Attributes:
    sample: (key, task state, extra) -> one training row.
    loss: (params, batch of rows, key, extra) -> (summed loss, summed weight, new extra). The mean is their ratio; of
      several terms, each with a mean of its own, tuples: what is trained for is the sum of the ratios. The first weight
      is the number of trained positions, in expectation where they are weighted. Where devices split a batch, what
      goes into the new extra must not depend on the batch, of which each sees a part.
    after_update: (new params, extra, key) -> extra, after each update; for what looks at the updated student, such as
      one that walks on its own in training. None: nothing is done.
    begin: (params to begin with, extra) -> extra, once before the first step; for what compares the student with the
      one that it was, such as a reference. None: `extra` is what the config gives.
    extend: (params to begin with, key) -> params, once before that; for what is trained beside the student, such as
      further heads. It adds entries to the dict of parameters; the student itself does not look at them. None: the
      student alone is trained.
  """

  sample: Callable[[jax.Array, Any, Any], Any]
  loss: Callable[[Any, Any, jax.Array, Any], tuple[Any, Any, Any]]
  after_update: Callable[[Any, Any, jax.Array], Any] | None = None
  begin: Callable[[Any, Any], Any] | None = None
  extend: Callable[[Any, jax.Array], Any] | None = None


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """-log q(target) in nats: logits [..., V], targets [...] -> [...]."""
  one_hot = jax.nn.one_hot(targets, logits.shape[-1])  # a gather's gradient would be a scatter, which is slow
  return jax.nn.logsumexp(logits, axis=-1) - jnp.sum(logits * one_hot, axis=-1)


def make_optimizer(training: Training) -> optax.GradientTransformation:
  """AdamW after clipping, with warm-up and cosine."""
  schedule = optax.warmup_cosine_decay_schedule(
    0.0, training.learning_rate, training.warmup_steps, max(training.num_steps, training.warmup_steps + 1)
  )

  def decayed(params: Any) -> Any:
    # By name: the scales of norms are matrices too once layers are stacked.
    return jax.tree_util.tree_map_with_path(lambda path, _: "scale" not in jax.tree_util.keystr(path), params)

  adamw = optax.adamw(schedule, b2=0.98, weight_decay=training.weight_decay, mask=decayed)
  return optax.chain(optax.clip_by_global_norm(training.clip_norm), adamw)


def evaluation_key(state: TrainState, seed: int | jax.Array) -> jax.Array:
  """A key of this student's own for draws after training, apart from those of its steps.

  It follows from the student's seed alone: who else was trained beside it, and in which row, makes no difference. The
  same seed under two tasks is asked on the same graphs.
  """
  return jax.random.fold_in(jax.random.fold_in(state.key, _NO_STEP), seed)


def _sample_batch(objective: Objective, state: TrainState, key: jax.Array, rows: int, data_axis: str | None) -> Any:
  """This device's share of the step's batch: example i comes from fold_in(key, i), whatever device draws it."""
  first: int | jax.Array = 0
  if data_axis is not None:
    num_devices = jax.lax.axis_size(data_axis)
    require(rows % num_devices == 0, "training.rows_per_step", rows, f"a multiple of {num_devices} data devices")
    rows //= num_devices
    first = jax.lax.axis_index(data_axis) * rows
  keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(rows))
  return jax.vmap(lambda k: objective.sample(k, state.task, state.extra))(keys)


def train_step(
  objective: Objective, training: Training, state: TrainState, *, data_axis: str | None = None
) -> tuple[TrainState, Metrics]:
  """One optimiser step; with `data_axis` the batch is split over that mesh axis and gradients are summed over it."""
  batch_key, loss_key = jax.random.split(jax.random.fold_in(state.key, state.step))
  batch = _sample_batch(objective, state, batch_key, training.rows_per_step, data_axis)

  def mean_loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
    totals, weights, extra = objective.loss(params, batch, loss_key, state.extra)
    if data_axis is not None:
      weights = jax.lax.psum(weights, data_axis)
    means = jax.tree.map(lambda total, weight: total / jnp.maximum(weight, 1.0), totals, weights)
    return jnp.sum(jnp.stack(jax.tree.leaves(means))), (jax.tree.leaves(weights)[0], extra)

  (loss, (trained_positions, extra)), gradients = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
  if data_axis is not None:
    loss, gradients = jax.lax.psum((loss, gradients), data_axis)
  updates, opt_state = make_optimizer(training).update(gradients, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  if objective.after_update is not None:
    extra = objective.after_update(params, extra, jax.random.fold_in(loss_key, _AFTER))
  metrics = Metrics(loss, optax.tree.norm(gradients), trained_positions)
  return TrainState(state.step + 1, params, opt_state, state.key, state.task, extra), metrics


def run_chunk(
  objective: Objective, training: Training, state: TrainState, num_steps: jax.Array, *, data_axis: str | None = None
) -> tuple[TrainState, Metrics]:
  """`num_steps` (traced, so that one program serves every length) steps, and the mean of their metrics."""

  def step(_: jax.Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
    state, sums = carry
    state, metrics = train_step(objective, training, state, data_axis=data_axis)
    return state, jax.tree.map(jnp.add, sums, metrics)

  zeros = Metrics(*(jnp.float32(0.0) for _ in Metrics._fields))
  state, sums = jax.lax.fori_loop(0, num_steps, step, (state, zeros))
  return state, jax.tree.map(lambda total: total / num_steps, sums)
