"""Margin regularisation in the loss: at r the student shall keep unvisited children ahead of visited ones.

At a visit to r, q is the student's distribution over the children. A visited child i costs the hinge
max(0, margin - (log of the mean q_j over unvisited j - log q_i)); its mean over visits to r and visited children, times
`margin_weight`, is added to the cross entropy. Only visits count at which some child is visited and some is not. The
other form of the remedy is in the teacher (`StarGraph.visited_margin`): there the walks change, here they do not.

Shapes: B rows, R streams, L stream positions, N nodes, V vocabulary, C children.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from loopjax.models import transformer
from loopjax.models.transformer import Output, Transformer
from loopjax.remedies.parts import mean_over_positions, on_teacher_rows
from loopjax.runtime.config import check_fields, require
from loopjax.star_graph import encoding, teacher
from loopjax.star_graph.graph import ROOT, StarGraph
from loopjax.star_graph.objective import register
from loopjax.training.step import Objective, Training, cross_entropy


class MarginLossState(NamedTuple):
  """What the objective carries, traced, so that one program serves a grid: the fields of `MarginLoss`."""

  margin_weight: jax.Array
  margin: jax.Array


@register
@dataclasses.dataclass(frozen=True)
class MarginLoss:
  """Maximum likelihood on teacher walks plus the weighted mean hinge.

  Attributes:
    margin_weight: of the mean hinge beside the cross entropy; 0 is maximum likelihood.
    margin: in nats.
  """

  margin_weight: float = 0.3
  margin: float = 0.5

  def __post_init__(self) -> None:
    check_fields(self, "objective")
    for name in ("margin_weight", "margin"):
      require(getattr(self, name) >= 0, f"objective.{name}", getattr(self, name), "at least 0")

  def build(self, task: StarGraph, model: Transformer, training: Training) -> Objective:
    return margin_loss(task, model, training)

  def init(self, key: jax.Array, task: StarGraph, training: Training) -> MarginLossState:
    del key, task, training
    return MarginLossState(jnp.float32(self.margin_weight), jnp.float32(self.margin))


def visited_before(task: StarGraph, batch: encoding.Row) -> jax.Array:
  """For each position of packed walks, the children that its own walk has entered so far, [B, R, L, C] bool."""
  is_node = (batch.weights > 0)[..., None]  # a goal told before the walk is not entered
  entered = teacher.entered(task, batch.nodes) & is_node
  own_walk = transformer.segment_mask(batch.segments)
  return jnp.einsum("brij,brjc->bric", own_walk.astype(jnp.float32), entered.astype(jnp.float32)) > 0


def hinges(log_q: jax.Array, visited: jax.Array, margin: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The hinge of every visited child, and which of them count, both [..., C]; hinges that do not count are arbitrary.

  Args:
    log_q: [..., C], log-probabilities of the children up to a constant.
    visited: [..., C] bool.
    margin: in nats, scalar.
  """
  all_visited = jnp.all(visited, axis=-1, keepdims=True)
  compared = ~visited | all_visited  # never empty: the gradient of an empty mean would be NaN even where masked
  log_sum = jax.nn.logsumexp(log_q, axis=-1, b=compared, keepdims=True)
  log_mean = log_sum - jnp.log(jnp.sum(compared, axis=-1, keepdims=True))
  return jnp.maximum(0.0, margin - (log_mean - log_q)), visited & ~all_visited


def penalty(task: StarGraph, batch: encoding.Row, logits: jax.Array, margin: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The summed hinges of a batch, and the summed weight of the pairs (visit to r, visited child) that they come from.

  Args:
    task: the task.
    batch: fields [B, ...].
    logits: [B, R, L, V].
    margin: in nats, scalar.
  """
  # As a product: the gradient of a gather is a scatter, slow on every platform at these sizes.
  is_child = jax.nn.one_hot(batch.labels[:, task.children()], task.vocabulary_size)
  log_q = jnp.einsum("brlv,bcv->brlc", logits, is_child)  # up to the softmax's constant, which the margin cancels
  each, counts = hinges(log_q, visited_before(task, batch), margin)
  weights = counts * jnp.where(batch.nodes == ROOT, batch.weights, 0.0)[..., None]
  return jnp.sum(weights * each), jnp.sum(weights)


@functools.cache  # the same objective again is the same program again
def margin_loss(task: StarGraph, model: Transformer, training: Training) -> Objective:
  """The objective of `MarginLoss`; carries a `MarginLossState`."""

  def terms(
    batch: encoding.Row, output: Output, extra: MarginLossState
  ) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    nats, num_positions = mean_over_positions(cross_entropy(output.logits, batch.targets), batch)
    hinge, num_pairs = penalty(task, batch, output.logits, extra.margin)
    return (nats, extra.margin_weight * hinge), (num_positions, num_pairs)

  return on_teacher_rows(task, model, training, terms)
