"""ScaleGrad: labels that a walk has not shown yet are learnt with more force (arXiv 2106.07207).

A label is *novel* at a position if its walk has not shown it so far. The student's probabilities q of novel labels are
multiplied by gamma, and all are divided by their new sum. The loss is -log of what the target then has.

It is meant to repair loops: with gamma below 1 a novel target looks less likely in training than it is, so its logit is
pushed up harder, and a target that the walk has shown is pushed up less. When the student walks, q is used as it is.
At the optimum the odds of novel labels against shown ones are 1 / gamma times the teacher's.

What to know before use:

- The optimum is not the teacher's law. Report the distance to the teacher beside the loops.
- A label that is no legal move is novel too. Its odds against legal moves grow only where those have been shown.
- Walks of a packed stream do not see each other, and the goal that is told before a walk stays novel until entered.

Shapes: B rows, R streams, L stream positions, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from loopjax.models.transformer import Output, Transformer
from loopjax.remedies.parts import labels_so_far, mean_over_positions, on_teacher_rows
from loopjax.runtime.config import check_fields, require
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import register
from loopjax.training.step import Objective, Training, cross_entropy


@register
@dataclasses.dataclass(frozen=True)
class ScaleGrad:
  """Maximum likelihood of probabilities in which novel labels are scaled down.

  Attributes:
    gamma: what the probabilities of novel labels are multiplied by; 1 is maximum likelihood, the paper has 0.2 to 0.8.
  """

  gamma: float = 0.5

  def __post_init__(self) -> None:
    check_fields(self, "objective")
    require(0 < self.gamma <= 1, "objective.gamma", self.gamma, "in (0, 1]")

  def build(self, task: StarGraph, model: Transformer, training: Training) -> Objective:
    return scale_grad(task, model, training)

  def init(self, key: jax.Array, task: StarGraph, training: Training) -> jax.Array:
    del key, task, training
    return jnp.float32(self.gamma)


def scaled(task: StarGraph, batch: encoding.Row, logits: jax.Array, gamma: jax.Array) -> jax.Array:
  """Logits [B, R, L, V] of the probabilities in which novel labels are multiplied by gamma."""
  return logits + jnp.where(labels_so_far(task, batch), 0.0, jnp.log(gamma))


@functools.cache  # the same objective again is the same program again
def scale_grad(task: StarGraph, model: Transformer, training: Training) -> Objective:
  """The objective of `ScaleGrad`; carries gamma."""

  def terms(batch: encoding.Row, output: Output, gamma: Any) -> tuple[jax.Array, jax.Array]:
    return mean_over_positions(cross_entropy(scaled(task, batch, output.logits, gamma), batch.targets), batch)

  return on_teacher_rows(task, model, training, terms)
