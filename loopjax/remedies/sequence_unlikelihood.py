"""Sequence-level unlikelihood: what the student's own greedy walk repeats shall be unlikely (arXiv 1908.04319).

In every step the student walks greedily, once a row. A move of that walk is *repeated* where it belongs to a piece of
`ngram` nodes that stands earlier in the walk as well, overlaps included. With q the probability of the move that was
taken, the loss is

    mean cross entropy on teacher rows + sequence_weight * mean over moves of (-log(1 - q) where repeated, else 0).

The second mean is over all moves of the walks, so it fades as repetitions become rare.

It is meant to repair loops where they show: in the student's own walks, not in those of the teacher. `unlikelihood` is
the same idea on the teacher's walks.

What to know before use:

- Begin with trained students (`params` of `train_students`), as the paper does. A fresh student's walks break at once
  and repeat nothing.
- A walk that returns to s twice by the same way repeats itself, also where the teacher would. So the remedy pushes
  against some right moves. Report the distance to the teacher beside the loops.
- The authors' code leaves out the last piece of a walk. Here it counts.
- The authors draw each step from one of both losses. Here every step has both.
- It costs one greedy walk and one more reading for every row of a step.

Shapes: B rows, W nodes of a walk, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from loopjax.models.transformer import Transformer
from loopjax.remedies import own_walks
from loopjax.remedies.own_walks import Problem
from loopjax.remedies.parts import log_complement, pick
from loopjax.runtime.config import check_fields, require
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import TaskState, register, teacher_forcing
from loopjax.star_graph.teacher import PADDING
from loopjax.training.step import Objective, Training

_OF_PROBLEMS = 2**31 - 8  # folded into a row's key, far from what splitting it gives to graph and walks


@register
@dataclasses.dataclass(frozen=True)
class SequenceUnlikelihood:
  """Maximum likelihood on teacher walks plus weighted unlikelihood of what own greedy walks repeat.

  Attributes:
    sequence_weight: of the mean over moves beside the cross entropy; 0 is maximum likelihood.
    ngram: the nodes of a piece that must not come back.
  """

  sequence_weight: float = 1.0
  ngram: int = 4

  def __post_init__(self) -> None:
    check_fields(self, "objective")
    require(self.sequence_weight >= 0, "objective.sequence_weight", self.sequence_weight, "at least 0")
    require(self.ngram >= 1, "objective.ngram", self.ngram, "at least 1")

  def build(self, task: StarGraph, model: Transformer, training: Training) -> Objective:
    return sequence_unlikelihood(task, model, training, self.ngram)

  def init(self, key: jax.Array, task: StarGraph, training: Training) -> jax.Array:
    del key, task, training
    return jnp.float32(self.sequence_weight)


def repeated(walk: jax.Array, ngram: int) -> jax.Array:
  """Which nodes of a walk [W] lie in a piece of `ngram` nodes that stands earlier as well, [W] bool.

  Example, pieces of 4: s r c s r c s r has the pieces s r c s and r c s r twice; r c s r ends at the last node. So the
  last five nodes are repeated.
  """
  size = walk.shape[0]
  if size < ngram:
    return jnp.zeros(size, bool)
  starts = jnp.arange(size - ngram + 1)
  pieces = walk[starts[:, None] + jnp.arange(ngram)[None]]
  same = jnp.all(pieces[:, None] == pieces[None], axis=-1) & (starts[None] < starts[:, None])
  comes_back = jnp.any(same, axis=-1) & ~jnp.any(pieces == PADDING, axis=-1)
  spread = jnp.zeros((ngram, size), bool)
  for offset in range(ngram):
    spread = spread.at[offset, offset : offset + starts.shape[0]].set(comes_back)
  return jnp.any(spread, axis=0)


def repetition_loss(logits: jax.Array, labels: jax.Array, walks: jax.Array, ngram: int) -> tuple[jax.Array, jax.Array]:
  """The summed loss of the moves of walks, and the number of moves.

  Args:
    logits: [B, W - 1, V], what the student says at each node.
    labels: [B, W - 1], of the nodes after the first.
    walks: nodes [B, W].
    ngram: the nodes of a piece.
  """
  is_repeated = jax.vmap(lambda walk: repeated(walk, ngram))(walks)[:, 1:]
  nats = jnp.where(is_repeated, -pick(log_complement(logits), labels), 0.0)
  return jnp.sum(nats), jnp.sum(walks[:, 1:] != PADDING).astype(jnp.float32)


@functools.cache  # the same objective again is the same program again
def sequence_unlikelihood(task: StarGraph, model: Transformer, training: Training, ngram: int) -> Objective:
  """The objective of `SequenceUnlikelihood`; carries the weight."""
  plain = teacher_forcing(task, model, training)

  def sample(key: jax.Array, state: TaskState, sequence_weight: jax.Array) -> tuple[encoding.Row, Problem]:
    del sequence_weight
    own_key = jax.random.fold_in(key, _OF_PROBLEMS)
    return plain.sample(key, state, ()), own_walks.sample_problem(task, own_key, state)

  def loss(params: Any, batch: Any, key: jax.Array, sequence_weight: jax.Array) -> tuple[Any, Any, jax.Array]:
    row, problems = batch
    nats, weight, _ = plain.loss(params, row, key, ())
    walks = own_walks.greedy_walks(task, model, params, problems)
    labels = jnp.take_along_axis(problems.graph.labels, jnp.clip(walks[:, 1:], 0, task.num_nodes - 1), axis=1)
    logits = own_walks.read(task, model, params, problems, walks)
    total, count = repetition_loss(logits, labels, walks, ngram)
    return (nats, sequence_weight * total), (weight, count), sequence_weight

  return Objective(sample, loss)
