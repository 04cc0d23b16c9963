"""Label smoothing: a share of each target is spread evenly over all labels (arXiv 1512.00567).

With V labels, the target's probability in the loss is 1 - smoothing + smoothing / V, and every other label's is
smoothing / V. The loss is the cross entropy with these probabilities.

It is meant to repair over-confidence: a student that is less sure locks into a cycle less firmly at a temperature above
0. At temperature 0 the ranking alone counts, and smoothing does not change which label leads in the teacher's law.

What to know before use:

- Also labels that are no legal move get a share. The student makes more invalid moves at temperatures near 1.
- The loss of a perfect student is no longer the teacher's entropy. Compare losses at smoothing 0 alone.

Shapes: B rows, R streams, L stream positions, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from loopjax.models.transformer import Output, Transformer
from loopjax.remedies.parts import mean_over_positions, on_teacher_rows
from loopjax.runtime.config import check_fields, require
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import register
from loopjax.training.step import Objective, Training


@register
@dataclasses.dataclass(frozen=True)
class LabelSmoothing:
  """Maximum likelihood on teacher walks with smoothed targets.

  Attributes:
    smoothing: the share of a target that is spread over all labels, its own included; 0 is maximum likelihood.
  """

  smoothing: float = 0.1

  def __post_init__(self) -> None:
    check_fields(self, "objective")
    require(0 <= self.smoothing <= 1, "objective.smoothing", self.smoothing, "in [0, 1]")

  def build(self, task: StarGraph, model: Transformer, training: Training) -> Objective:
    return label_smoothing(task, model, training)

  def init(self, key: jax.Array, task: StarGraph, training: Training) -> jax.Array:
    del key, task, training
    return jnp.float32(self.smoothing)


def smoothed_cross_entropy(logits: jax.Array, targets: jax.Array, smoothing: jax.Array) -> jax.Array:
  """In nats: logits [..., V], targets [...] -> [...]."""
  one_hot = jax.nn.one_hot(targets, logits.shape[-1])
  smoothed = optax.losses.smooth_labels(one_hot, smoothing)
  # The operations of `cross_entropy`, so that smoothing 0 is maximum likelihood bit for bit.
  return jax.nn.logsumexp(logits, axis=-1) - jnp.sum(logits * smoothed, axis=-1)


@functools.cache  # the same objective again is the same program again
def label_smoothing(task: StarGraph, model: Transformer, training: Training) -> Objective:
  """The objective of `LabelSmoothing`; carries the share."""

  def terms(batch: encoding.Row, output: Output, smoothing: Any) -> tuple[jax.Array, jax.Array]:
    return mean_over_positions(smoothed_cross_entropy(output.logits, batch.targets, smoothing), batch)

  return on_teacher_rows(task, model, training, terms)
