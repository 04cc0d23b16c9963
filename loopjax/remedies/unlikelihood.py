"""Token-level unlikelihood: labels that the walk has shown already shall be unlikely (arXiv 1908.04319).

At position t of a walk, C_t are the labels that the walk has shown so far, each once, without the target. The loss is

    - log q(target) - unlikelihood_weight * sum over c in C_t of log(1 - q(c)).

It is meant to repair loops directly: what was said becomes unlikely, whatever the student has learnt about the graph.

What to know before use:

- The teacher itself goes back to s and r. So the remedy also pushes against right moves, and its optimum is not the
  teacher's law. Report the distance to the teacher beside the loops.
- C_t belongs to one walk. The other walks of a packed stream, and the goal that is told before the walk, are not in it.
- The paper cuts 1 - q at 1e-5, where the gradient then vanishes. Here log(1 - q) is exact, so a certain student is
  pushed too.

Shapes: B rows, R streams, L stream positions, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from loopjax.models.transformer import Output, Transformer
from loopjax.remedies.parts import labels_so_far, log_complement, mean_over_positions, on_teacher_rows
from loopjax.runtime.config import check_fields, require
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import register
from loopjax.training.step import Objective, Training, cross_entropy


@register
@dataclasses.dataclass(frozen=True)
class Unlikelihood:
  """Maximum likelihood on teacher walks plus weighted unlikelihood of the labels that the walk has shown.

  Attributes:
    unlikelihood_weight: of the unlikelihood beside the cross entropy, the paper's alpha; 0 is maximum likelihood.
  """

  unlikelihood_weight: float = 1.0

  def __post_init__(self) -> None:
    check_fields(self, "objective")
    require(self.unlikelihood_weight >= 0, "objective.unlikelihood_weight", self.unlikelihood_weight, "at least 0")

  def build(self, task: StarGraph, model: Transformer, training: Training) -> Objective:
    return unlikelihood(task, model, training)

  def init(self, key: jax.Array, task: StarGraph, training: Training) -> jax.Array:
    del key, task, training
    return jnp.float32(self.unlikelihood_weight)


def penalty(task: StarGraph, batch: encoding.Row, logits: jax.Array) -> jax.Array:
  """-sum of log(1 - q(c)) over the labels c that the walk has shown but for the target, [B, R, L]."""
  is_target = jax.nn.one_hot(batch.targets, task.vocabulary_size, dtype=bool)
  candidates = labels_so_far(task, batch) & ~is_target
  return -jnp.sum(jnp.where(candidates, log_complement(logits), 0.0), axis=-1)


@functools.cache  # the same objective again is the same program again
def unlikelihood(task: StarGraph, model: Transformer, training: Training) -> Objective:
  """The objective of `Unlikelihood`; carries the weight."""

  def terms(batch: encoding.Row, output: Output, unlikelihood_weight: Any) -> tuple[jax.Array, jax.Array]:
    likelihood = cross_entropy(output.logits, batch.targets)
    return mean_over_positions(likelihood + unlikelihood_weight * penalty(task, batch, output.logits), batch)

  return on_teacher_rows(task, model, training, terms)
