"""Confidence penalty: the entropy of the student's distribution is taken off the loss (arXiv 1701.06548).

The loss at a position is - log q(target) - entropy_weight * H(q), where H is the entropy over all labels.

It is meant to repair over-confidence, as label smoothing does: a student that is less sure locks into a cycle less
firmly at a temperature above 0. The optimum is flatter than the teacher's law, and keeps the order of its labels.

What to know before use:

- At temperature 0 the order alone counts, so the remedy cannot help there but through what the student learns.
- Labels that the teacher never says get a share too. The student makes more invalid moves at temperatures near 1.
- The weight should stay below 1. Above it, the uniform distribution has a lower loss than certainty of the right label.

Shapes: B rows, R streams, L stream positions, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from loopjax.models.transformer import Output, Transformer
from loopjax.remedies.parts import mean_over_positions, on_teacher_rows
from loopjax.runtime.config import check_fields, require
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import register
from loopjax.training.step import Objective, Training, cross_entropy


@register
@dataclasses.dataclass(frozen=True)
class ConfidencePenalty:
  """Maximum likelihood on teacher walks minus the weighted entropy.

  Attributes:
    entropy_weight: of the entropy beside the cross entropy, the paper's beta; 0 is maximum likelihood.
  """

  entropy_weight: float = 0.1

  def __post_init__(self) -> None:
    check_fields(self, "objective")
    require(self.entropy_weight >= 0, "objective.entropy_weight", self.entropy_weight, "at least 0")

  def build(self, task: StarGraph, model: Transformer, training: Training) -> Objective:
    return confidence_penalty(task, model, training)

  def init(self, key: jax.Array, task: StarGraph, training: Training) -> jax.Array:
    del key, task, training
    return jnp.float32(self.entropy_weight)


def entropy(logits: jax.Array) -> jax.Array:
  """Of softmax(logits [..., V]), in nats, [...]."""
  log_q = jax.nn.log_softmax(logits)
  return -jnp.sum(jnp.exp(log_q) * log_q, axis=-1)


@functools.cache  # the same objective again is the same program again
def confidence_penalty(task: StarGraph, model: Transformer, training: Training) -> Objective:
  """The objective of `ConfidencePenalty`; carries the weight."""

  def terms(batch: encoding.Row, output: Output, entropy_weight: Any) -> tuple[jax.Array, jax.Array]:
    likelihood = cross_entropy(output.logits, batch.targets)
    return mean_over_positions(likelihood - entropy_weight * entropy(output.logits), batch)

  return on_teacher_rows(task, model, training, terms)
