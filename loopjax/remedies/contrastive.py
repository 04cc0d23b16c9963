"""SimCTG's contrastive loss: the hidden states of a walk shall point in different directions (arXiv 2202.06417).

h_i is what the head reads at position i: the residual stream after all layers, normed. Two positions i < j of one walk
cost max(0, margin - 1 + cos(h_i, h_j)). The mean over all such pairs, times `contrastive_weight`, is added to the cross
entropy.

It is meant to repair what the paper calls anisotropy: states of all positions that are nearly alike, so that the same
label comes again and again. It is the training half of contrastive search, which also works alone.

What to know before use:

- A walk returns to s and r, and a student without memory should be in the same state there each time. The loss counts
  such pairs too, as the paper does, and so also asks the student to tell visits apart.
- Pairs lie in one walk. A pair is weighted as its later position is: it is shown exactly when that one is.
- The mean is over the pairs of all walks, so long walks count with the square of their length.

Shapes: B rows, R streams, L stream positions, D model width.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from loopjax.models.transformer import Output, Transformer, segment_mask
from loopjax.remedies.parts import mean_over_positions, on_teacher_rows
from loopjax.runtime.config import check_fields, require
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import register
from loopjax.training.step import Objective, Training, cross_entropy

_SMALLEST_SQUARE = 1e-12  # of a hidden state: the cosine with a zero vector is 0, and has a gradient


class ContrastiveState(NamedTuple):
  """What the objective carries, traced, so that one program serves a grid: the fields of `Contrastive`."""

  contrastive_weight: jax.Array
  margin: jax.Array


@register
@dataclasses.dataclass(frozen=True)
class Contrastive:
  """Maximum likelihood on teacher walks plus the weighted contrastive loss of hidden states.

  Attributes:
    contrastive_weight: of the mean over pairs beside the cross entropy; 0 is maximum likelihood, the paper has 1.
    margin: the paper's rho. A pair costs something where its cosine is above 1 - margin.
  """

  contrastive_weight: float = 1.0
  margin: float = 0.5

  def __post_init__(self) -> None:
    check_fields(self, "objective")
    require(self.contrastive_weight >= 0, "objective.contrastive_weight", self.contrastive_weight, "at least 0")
    require(0 <= self.margin <= 2, "objective.margin", self.margin, "in [0, 2], as cosines are in [-1, 1]")

  def build(self, task: StarGraph, model: Transformer, training: Training) -> Objective:
    return contrastive(task, model, training)

  def init(self, key: jax.Array, task: StarGraph, training: Training) -> ContrastiveState:
    del key, task, training
    return ContrastiveState(jnp.float32(self.contrastive_weight), jnp.float32(self.margin))


def penalty(batch: encoding.Row, hidden: jax.Array, margin: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The summed loss of the pairs of a batch, and their summed weight.

  Args:
    batch: fields [B, ...].
    hidden: [B, R, L, D].
    margin: scalar.
  """
  size = jnp.maximum(jnp.sum(jnp.square(hidden), axis=-1, keepdims=True), _SMALLEST_SQUARE)
  directions = hidden * jax.lax.rsqrt(size)
  cosines = jnp.einsum("brid,brjd->brij", directions, directions)
  counts = batch.weights > 0
  is_later = ~jnp.eye(counts.shape[-1], dtype=bool)[None, None] & segment_mask(batch.segments)
  is_pair = is_later & counts[..., :, None] & counts[..., None, :]
  weights = jnp.where(is_pair, batch.weights[..., :, None], 0.0)
  return jnp.sum(weights * jnp.maximum(0.0, margin - 1 + cosines)), jnp.sum(weights)


@functools.cache  # the same objective again is the same program again
def contrastive(task: StarGraph, model: Transformer, training: Training) -> Objective:
  """The objective of `Contrastive`; carries a `ContrastiveState`."""

  def terms(
    batch: encoding.Row, output: Output, extra: ContrastiveState
  ) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    nats, num_positions = mean_over_positions(cross_entropy(output.logits, batch.targets), batch)
    total, num_pairs = penalty(batch, output.hidden, extra.margin)
    return (nats, extra.contrastive_weight * total), (num_positions, num_pairs)

  return on_teacher_rows(task, model, training, terms)
