"""De-looped distillation: the student learns from walks whose loops are erased.

The loop erasure of a walk (G. F. Lawler, Duke Math. J. 47 (1980) 655-693) takes out every loop as soon as it is closed.
What is left visits no node twice. It is found from the end: the walk leaves its first node for the last time at some
place. The next node there is the second one. The walk leaves that one for the last time, and so on.

A share of the training rows holds erased walks of the teacher: of those that have reached their goals.

It is meant to repair loops at their source: a student that has never seen a return to s has nothing to imitate there.

What to know before use:

- **It changes the target.** The erased walk of a success is the direct way to the goal. So with share 1 the new teacher
  never explores and never resets: at r it has 1 for the goal's child. From there the divergence to the old teacher is
  -log of what the old one gives to the goal's child. The other way round it is infinite. Say so beside the loops.
- A student of erased walks has not seen what follows a wrong child. Once there, it is off its data.
- Erased walks are short: at equal rows there are more walks, and fewer late positions.

Shapes: R streams, L stream positions, W nodes of a walk, K walks in a stream.
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
from loopjax.star_graph.graph import StarGraph, sample_graph
from loopjax.star_graph.objective import TaskState, register, row_length, teacher_forcing
from loopjax.star_graph.streams import Stream, sample_walk, stream_length
from loopjax.star_graph.teacher import PADDING
from loopjax.training.step import Objective, Training

_OF_ERASURE = 2**31 - 3  # folded into a row's key, far from what splitting it gives to graph and walks


@register
@dataclasses.dataclass(frozen=True)
class LoopErased:
  """Maximum likelihood on teacher walks, some of them successful and with their loops erased.

  Attributes:
    share: of the rows, that hold erased walks; 0 is maximum likelihood, row by row.
  """

  share: float = 1.0

  def __post_init__(self) -> None:
    check_fields(self, "objective")
    require(0 <= self.share <= 1, "objective.share", self.share, "in [0, 1]")

  def build(self, task: StarGraph, model: Transformer, training: Training) -> Objective:
    return loop_erased(task, model, training)

  def init(self, key: jax.Array, task: StarGraph, training: Training) -> jax.Array:
    del key, task, training
    return jnp.float32(self.share)


def erase_loops(walk: jax.Array) -> jax.Array:
  """The loop erasure of a walk [W], `PADDING` after its end, as it may be after the walk's.

  Example: s r a s r b s r b c becomes s r b c.
  """
  size = walk.shape[0]
  place = jnp.arange(size)
  length = jnp.sum(walk != PADDING)
  is_same = (walk[:, None] == walk[None]) & (place < length)[None]
  last = jnp.max(jnp.where(is_same, place[None], -1), axis=1)  # when the node at each place is left for the last time

  def step(here: jax.Array, _: Any) -> tuple[jax.Array, jax.Array]:
    inside = jnp.minimum(here, size - 1)
    node = jnp.where(here < length, walk[inside], PADDING)
    return jnp.where(here < length, last[inside] + 1, size), node

  return jax.lax.scan(step, jnp.int32(0), length=size)[1]


def erased_task(task: StarGraph) -> StarGraph:
  """The task whose cut leaves room for an erased walk, which has no more than l + 2 nodes."""
  return dataclasses.replace(task, max_steps=task.chain_length + 2)


def walks_per_stream(task: StarGraph, length: int) -> int:
  """As many walks as fit into a stream of `length` positions whatever their lengths, each in a place of its own."""
  return length // stream_length(task)


def side_by_side(walks: Stream, length: int) -> Stream:
  """Streams of one walk each, [K, l], one after the other in a stream [L]; what is left over counts nowhere."""
  count, size = walks.node.shape
  numbered = walks._replace(walk=walks.walk + jnp.arange(count)[:, None])
  rest = length - count * size  # one more walk
  end = jax.tree.map(lambda field: jnp.zeros(rest, field.dtype), walks)._replace(walk=jnp.full(rest, count))
  return jax.tree.map(lambda field, tail: jnp.concatenate([field.reshape(-1), tail]), numbered, end)


def erased_stream(task: StarGraph, training: Training, key: jax.Array, state: TaskState) -> Stream:
  """A stream of erased walks, [L]."""
  short, length = erased_task(task), row_length(task, training)

  def one(key: jax.Array) -> Stream:
    walk, goal_chain = sample_walk(task, state.probabilities, key)
    reached = jnp.any(walk == task.goal_node(goal_chain))
    stream = encoding.stream_of_walk(short, erase_loops(walk)[: short.max_steps], goal_chain)
    return stream._replace(weight=jnp.where(reached, stream.weight, 0.0))

  return side_by_side(jax.vmap(one)(jax.random.split(key, walks_per_stream(short, length))), length)


def erased_row(task: StarGraph, training: Training, key: jax.Array, state: TaskState) -> encoding.Row:
  """A fresh graph with streams of erased walks."""
  graph_key, stream_key = jax.random.split(key)
  keys = jax.random.split(stream_key, training.streams_per_row)
  streams = jax.vmap(lambda key: erased_stream(task, training, key, state))(keys)
  return encoding.encode_streams(task, sample_graph(task, graph_key), streams)


@functools.cache  # the same objective again is the same program again
def loop_erased(task: StarGraph, model: Transformer, training: Training) -> Objective:
  """The objective of `LoopErased`; carries the share."""
  raw = teacher_forcing(task, model, training)

  def sample(key: jax.Array, state: TaskState, share: jax.Array) -> encoding.Row:
    choice_key, own_key = jax.random.split(jax.random.fold_in(key, _OF_ERASURE))
    is_erased = jax.random.uniform(choice_key) < share
    both = erased_row(task, training, own_key, state), raw.sample(key, state, ())
    return jax.tree.map(lambda erased, other: jnp.where(is_erased, erased, other), *both)

  def loss(params: Any, batch: encoding.Row, key: jax.Array, share: jax.Array) -> tuple[Any, Any, jax.Array]:
    total, weight, _ = raw.loss(params, batch, key, ())
    return total, weight, share

  return Objective(sample, loss)
