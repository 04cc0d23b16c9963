"""Reversed targets: before it walks, the student reads the goal's chain backwards (arXiv 2403.06963).

After the goal c[i,l] of a walk come *hints*: c[i,l-1], then c[i,l-2], and so on down to the child c[i,1]. Each is the
parent of the one before. Then the walk begins at s. A hint is the token (label, goal id), a kind that no move has. In
training a share of the walks has hints, and the student learns to say them. To let students say hints of their own
before they walk, wrap their model: `students._replace(model=Hinted(students.model))`, of `remedies.hinted`.

It is meant to repair risk aversion at its source. At r the right child is hard to know, because it takes the whole
chain to find it. Backwards every step is one edge. Once the child is among the hints, the decision at r is a copy.

What to know before use:

- Hints are tokens that the student says. They count in the cost of a walk: l - 1 more, whatever its length. They do not
  count among the nodes of the walk, so the cut stays where it is.
- At share 1 a student has never walked without hints. Evaluate it wrapped.
- Rows are longer by the hints that may come. At share 0 they are those of maximum likelihood with padding after them.
  The loss is then the same up to rounding, not bit for bit.

Shapes: R streams, L stream positions, M positions with hints.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from loopjax.models.transformer import Transformer
from loopjax.runtime.config import check_fields, require
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import TaskState, register, row_length, teacher_forcing
from loopjax.star_graph.teacher import PADDING
from loopjax.training.step import Objective, Training

_OF_HINTS = 2**31 - 6  # folded into a row's key, far from what splitting it gives to graph and walks


@register
@dataclasses.dataclass(frozen=True)
class ReversedChain:
  """Maximum likelihood on teacher walks after hints, and on the hints.

  Attributes:
    share: of the walks, that have hints.
  """

  share: float = 1.0

  def __post_init__(self) -> None:
    check_fields(self, "objective")
    require(0 <= self.share <= 1, "objective.share", self.share, "in [0, 1]")

  def build(self, task: StarGraph, model: Transformer, training: Training) -> Objective:
    return reversed_chain(task, model, training)

  def init(self, key: jax.Array, task: StarGraph, training: Training) -> jax.Array:
    del key, task, training
    return jnp.float32(self.share)


def check(task: StarGraph, model: Transformer) -> int:
  """How many hints a walk has; raises `ValueError` where there can be none."""
  require(task.chain_length >= 2, "task.chain_length", task.chain_length, "at least 2: else the goal is the child")
  require(not task.goal_hidden, "task.goal_hidden", task.goal_hidden, "false: hints begin with the goal")
  require(model.positions != "learned", "model.positions", model.positions, "rotary or none: hints need more positions")
  return task.chain_length - 1


def hinted_length(task: StarGraph, length: int) -> int:
  """M, into which a stream of `length` positions fits with hints in every walk; the shortest has l + 2 positions."""
  return length + (task.chain_length - 1) * (length // (task.chain_length + 2) + 1)


def insert_hints(task: StarGraph, row: encoding.Row, told: jax.Array) -> encoding.Row:
  """The row [R, M] with hints in walks; `told` [R, L] bool, whether the walks number 0, 1, ... have them."""
  hints, length = task.chain_length - 1, row.nodes.shape[-1]
  is_node = (row.inputs[..., 1] != encoding.goal_id(task)).astype(jnp.int32)
  before = jnp.cumsum(told, axis=-1) - told  # of the walks before
  walk = functools.partial(jnp.take_along_axis, indices=row.segments, axis=-1)  # numbers of walks are below L
  moved = jnp.arange(length)[None] + hints * (walk(before) + walk(told.astype(jnp.int32)) * is_node)
  place = jnp.arange(hinted_length(task, length))[None]
  first_at = jax.vmap(lambda to: jnp.zeros(place.shape[-1], jnp.int32).at[to].set(1))(moved)
  source = jnp.cumsum(first_at, axis=-1) - 1  # the entry that stands here, or the last one before
  ahead = place - jnp.take_along_axis(moved, source, axis=-1)  # 0: the entry itself; else so many places after it
  return _filled(task, row, source, ahead, walk(told))


def _filled(task: StarGraph, row: encoding.Row, source: jax.Array, ahead: jax.Array, told: jax.Array) -> encoding.Row:
  """What stands at each place [R, M]: `ahead` places after the entry `source` of the row; `told` [R, L] of entries."""
  hints, goal_id = task.chain_length - 1, encoding.goal_id(task)
  entry: encoding.Row = jax.tree.map(
    lambda field: _gather(field, source), row._replace(prompt=row.inputs, labels=row.nodes)
  )
  after_goal = (entry.inputs[..., 1] == goal_id) & _gather(told, source)
  is_hint = after_goal & (ahead > 0) & (ahead <= hints)
  is_padding = ~is_hint & (ahead > 0)
  node = jnp.where(is_hint, entry.nodes - ahead, entry.nodes)
  inputs = jnp.stack([row.labels[node], jnp.full_like(node, goal_id)], axis=-1)
  says_hint = after_goal & (ahead < hints)
  return entry._replace(
    prompt=row.prompt,
    labels=row.labels,
    inputs=jnp.where(is_hint[..., None], inputs, entry.inputs),
    positions=entry.positions + jnp.where(entry.inputs[..., 1] == goal_id, ahead, hints * _gather(told, source)),
    segments=entry.segments + is_padding,  # a walk of its own, that counts nowhere
    targets=jnp.where(says_hint, row.labels[jnp.maximum(node - 1, 0)], entry.targets),
    weights=jnp.where(says_hint, 1.0, jnp.where(ahead > 0, 0.0, entry.weights)),
    nodes=jnp.where(is_padding, PADDING, node),
  )


def _gather(field: jax.Array, source: jax.Array) -> jax.Array:
  """Of a field [R, L, ...] the entries `source` [R, M]."""
  return jax.vmap(lambda one, index: one[index])(field, source)


@functools.cache  # the same objective again is the same program again
def reversed_chain(task: StarGraph, model: Transformer, training: Training) -> Objective:
  """The objective of `ReversedChain`; carries the share."""
  check(task, model)
  plain = teacher_forcing(task, model, training)

  def sample(key: jax.Array, state: TaskState, share: jax.Array) -> encoding.Row:
    shape = (training.streams_per_row, row_length(task, training))
    told = jax.random.uniform(jax.random.fold_in(key, _OF_HINTS), shape) < share
    return insert_hints(task, plain.sample(key, state, ()), told)

  def loss(params: Any, batch: encoding.Row, key: jax.Array, share: jax.Array) -> tuple[Any, Any, jax.Array]:
    total, weight, _ = plain.loss(params, batch, key, ())
    return total, weight, share

  return Objective(sample, loss)
