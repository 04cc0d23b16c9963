"""Hints where a reference student's loss is high: the goal's chain read backwards, for the walks that it cannot decide.

The reference is the student as it was before the first step. At each visit to r of a teacher walk it gives some
probability to the goal's child, among the children. At one of the visits this is least. Let h be -log of it there: the
highest loss of the walk. Then the walk has hints with probability

    share * (1 - exp(-h)),

which is `share` times the probability that the reference takes a wrong child there. The hints are those of
`reversed_chain`: after the goal come its parent, then the parent of that, down to the child. Then the walk begins at s.
To let students say hints of their own before they walk, wrap their model:
`students._replace(model=Hinted(students.model))`, of `remedies.hinted`.

It is meant to repair risk aversion where it is, and to spend hints there alone. `ReversedChain` with the same mean
share spends them on any walk: it is the control.

What to know before use:

- Begin with trained students (`params` of `train_students`). For a fresh reference all walks are as good as equally
  hard.
- The loss is taken among the children. What the teacher draws at random, resets and the like, costs every student, and
  does not tell a hard decision from an easy one.
- Hints stand before s, not inside the walk at the visit to r. There they would need a sign for the student that walks
  on its own, who has no reference to say when. The way from s to r is no decision, so they stand before the first one
  all the same.
- A teacher that explores takes other children as well. Then even a perfect reference has hints in some walks.
- Hints count in the cost of a walk, and rows are longer, as `reversed_chain` says. At share 0 the loss is that of
  maximum likelihood up to rounding.
- It costs one more reading of every row.

Shapes: R streams, L stream positions, C children of the root, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from loopjax.models import transformer
from loopjax.models.transformer import Transformer
from loopjax.remedies import reversed_chain
from loopjax.runtime.config import check_fields, require
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import ROOT, StarGraph
from loopjax.star_graph.objective import TaskState, register, teacher_forcing
from loopjax.training.step import Objective, Training, cross_entropy

_OF_HINTS = 2**31 - 10  # folded into a row's key, far from what splitting it gives to graph and walks


class LossHintsState(NamedTuple):
  """What the objective carries: the share, and the reference's parameters."""

  share: jax.Array
  reference: Any = ()


@register
@dataclasses.dataclass(frozen=True)
class LossHints:
  """Maximum likelihood on teacher walks after hints, and on the hints; hard walks have them more often.

  Attributes:
    share: of the walks, that would have hints where the reference is certain of a wrong child.
  """

  share: float = 1.0

  def __post_init__(self) -> None:
    check_fields(self, "objective")
    require(0 <= self.share <= 1, "objective.share", self.share, "in [0, 1]")

  def build(self, task: StarGraph, model: Transformer, training: Training) -> Objective:
    return loss_hints(task, model, training)

  def init(self, key: jax.Array, task: StarGraph, training: Training) -> LossHintsState:
    del key, task, training
    return LossHintsState(jnp.float32(self.share))


def highest_loss(task: StarGraph, row: encoding.Row, logits: jax.Array) -> jax.Array:
  """The highest loss among the children of each walk of a row, [R, L]: of the walks number 0, 1, ... of a stream.

  Walks that do not get to r have 0. `logits`: [R, L, V], the reference's.
  """

  def largest_of_walk(values: jax.Array) -> jax.Array:
    return jax.vmap(lambda walks, values: jnp.zeros_like(values).at[walks].max(values))(row.segments, values)

  is_goal = row.inputs[..., 1] == encoding.goal_id(task)
  goal_chain = largest_of_walk(jnp.where(is_goal, (row.nodes - 2) // task.chain_length, 0))
  goal_chain = jnp.take_along_axis(goal_chain, row.segments, axis=-1)
  nats = cross_entropy(jnp.take(logits, row.labels[task.children()], axis=-1), goal_chain)
  return largest_of_walk(jnp.where((row.nodes == ROOT) & (row.weights > 0), nats, 0.0))


@functools.cache  # the same objective again is the same program again
def loss_hints(task: StarGraph, model: Transformer, training: Training) -> Objective:
  """The objective of `LossHints`; carries a `LossHintsState`."""
  reversed_chain.check(task, model)
  plain = teacher_forcing(task, model, training)

  def sample(key: jax.Array, state: TaskState, extra: LossHintsState) -> encoding.Row:
    row = plain.sample(key, state, ())
    alone = jax.tree.map(lambda field: field[None], row)
    nats = highest_loss(task, row, transformer.apply(model, task, extra.reference, alone).logits[0])
    chance = -extra.share * jnp.expm1(-nats)
    told = jax.random.uniform(jax.random.fold_in(key, _OF_HINTS), chance.shape) < chance
    return reversed_chain.insert_hints(task, row, told)

  def loss(params: Any, batch: encoding.Row, key: jax.Array, extra: LossHintsState) -> tuple[Any, Any, LossHintsState]:
    total, weight, _ = plain.loss(params, batch, key, ())
    return total, weight, extra

  def begin(params: Any, extra: LossHintsState) -> LossHintsState:
    return extra._replace(reference=jax.tree.map(jnp.copy, params))

  return Objective(sample, loss, begin=begin)
