"""What several remedies share: the teacher's rows with another loss, the labels that a walk has shown, log(1 - q).

Shapes: B rows, R streams, L stream positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from loopjax.models import transformer
from loopjax.models.transformer import Output, Transformer
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import TaskState, sample_row
from loopjax.training.step import Objective, Training

Terms = Callable[[encoding.Row, Output, Any], tuple[Any, Any]]
"""(batch, what the student says of it, extra) -> (totals, weights), both as `Objective.loss` has them."""


def on_teacher_rows(task: StarGraph, model: Transformer, training: Training, terms: Terms) -> Objective:
  """The objective whose rows are those of maximum likelihood, and whose loss is `terms`; `extra` stays as it is."""

  def sample(key: jax.Array, state: TaskState, extra: Any) -> encoding.Row:
    del extra
    return sample_row(task, training, key, state)

  def loss(params: Any, batch: encoding.Row, key: jax.Array, extra: Any) -> tuple[Any, Any, Any]:
    del key
    totals, weights = terms(batch, transformer.apply(model, task, params, batch), extra)
    return totals, weights, extra

  return Objective(sample, loss)


def mean_over_positions(nats: jax.Array, batch: encoding.Row) -> tuple[jax.Array, jax.Array]:
  """Total and weight of a loss at every position, [B, R, L]."""
  return jnp.sum(nats * batch.weights), jnp.sum(batch.weights)


def labels_so_far(task: StarGraph, batch: encoding.Row) -> jax.Array:
  """For each position, the labels that its own walk has shown up to what it reads, [B, R, L, V] bool.

  A goal that is told before the walk is not shown by that.
  """
  is_node = (batch.weights > 0)[..., None]
  shown = jax.nn.one_hot(batch.inputs[..., 0], task.vocabulary_size) * is_node
  own_walk = transformer.segment_mask(batch.segments).astype(jnp.float32)
  return jnp.einsum("brij,brjv->briv", own_walk, shown) > 0


def log_complement(logits: jax.Array) -> jax.Array:
  """log(1 - q) of every token, [..., V], exact and with finite gradients also where q rounds to 1.

  At most one token has q above one half, the likeliest. Its 1 - q is summed up from the others' probabilities.
  """
  is_top = jnp.argmax(logits, axis=-1, keepdims=True) == jnp.arange(logits.shape[-1]).reshape(
    (1,) * (logits.ndim - 1) + (-1,)
  )
  log_sum = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
  log_of_others = jax.nn.logsumexp(jnp.where(is_top, -jnp.inf, logits), axis=-1, keepdims=True)
  q = jnp.where(is_top, 0.0, jnp.exp(logits - log_sum))  # masked before the logarithm: its gradient at 1 is infinite
  return jnp.where(is_top, log_of_others - log_sum, jnp.log1p(-q))


def pick(values: jax.Array, labels: jax.Array) -> jax.Array:
  """Of values [..., V] those of the labels [...]; a product, since a gather's gradient would be a scatter: slow."""
  return jnp.sum(values * jax.nn.one_hot(labels, values.shape[-1]), axis=-1)
