"""DITTO: a student that reads a repetition shall not become surer of it from copy to copy (arXiv 2206.02369).

A share of the training rows are no teacher walks. They repeat one piece of a teacher walk until the cut: the piece from
s to the first return to s. So they are the loops of the toy, s-r-s-r-... and s-r-c-s-r-c-... . Let q be the student's
probability of a label in one copy, and b that of the same label one copy earlier, which is held fixed. The label costs

    - log(1 - |q - decay * b|).

So q is drawn to decay * b: over the copies, the probability of going on with the loop shall decay geometrically. The
mean of this, times `repetition_weight`, is added to the mean cross entropy on the other rows, which are the teacher's.

It is meant to repair self-reinforcement: language models believe in a sentence more with every copy of it.

What to know before use:

- The first copy costs nothing, nor does the s that begins the second: there is no earlier probability to compare with.
- The share is drawn row by row. The paper draws it step by step; the expected gradient is the same.
- Repeated rows teach nothing about the graph. Compare at equal numbers of teacher positions as well.
- A teacher walk without a return has no such piece. Its row then counts nowhere.

Shapes: B rows, R streams, L stream positions, W nodes of a walk.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from loopjax.models import transformer
from loopjax.models.transformer import Transformer
from loopjax.remedies.parts import log_complement, pick
from loopjax.runtime.config import check_fields, require
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import START, StarGraph, sample_graph
from loopjax.star_graph.objective import TaskState, register, row_length, sample_row, walk_positions
from loopjax.star_graph.streams import sample_walk
from loopjax.training.step import Objective, Training, cross_entropy

_OF_REPETITIONS = 2**31 - 2  # folded into a row's key, far from what splitting it gives to graph and walks
_SMALLEST = 1e-20  # of 1 - |q - decay b|, as in the authors' code


class DittoState(NamedTuple):
  """What the objective carries, traced, so that one program serves a grid: the fields of `Ditto`."""

  share: jax.Array
  decay: jax.Array
  repetition_weight: jax.Array


class DittoRow(NamedTuple):
  """A training row, of the teacher or of repetitions.

  Attributes:
    row: its weights are those of the likelihood: 0 in repetitions.
    earlier: [R, L], where in the stream the same label was predicted one copy before; 0 where it was not.
    repeats: [R, L], 1.0 where it was.
  """

  row: encoding.Row
  earlier: jax.Array
  repeats: jax.Array


@register
@dataclasses.dataclass(frozen=True)
class Ditto:
  """Maximum likelihood on teacher walks, and on repetitions a probability that decays from copy to copy.

  Attributes:
    share: of the rows, that are repetitions; 0 is maximum likelihood, row by row. The paper has 0.5.
    decay: what a probability shall be multiplied by from copy to copy, the paper's lambda.
    repetition_weight: of the mean over repetitions beside the mean cross entropy.
  """

  share: float = 0.5
  decay: float = 0.5
  repetition_weight: float = 1.0

  def __post_init__(self) -> None:
    check_fields(self, "objective")
    for name in ("share", "decay"):
      require(0 <= getattr(self, name) <= 1, f"objective.{name}", getattr(self, name), "in [0, 1]")
    require(self.repetition_weight >= 0, "objective.repetition_weight", self.repetition_weight, "at least 0")

  def build(self, task: StarGraph, model: Transformer, training: Training) -> Objective:
    return ditto(task, model, training)

  def init(self, key: jax.Array, task: StarGraph, training: Training) -> DittoState:
    del key, task, training
    return DittoState(*(jnp.float32(getattr(self, name)) for name in DittoState._fields))


def repeat_first_excursion(walk: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The walk [W] up to its first return to s, again and again, [W], and the period; itself and 0 without a return."""
  place = jnp.arange(walk.shape[0])
  returns = (walk == START) & (place > 0)
  period = jnp.where(jnp.any(returns), jnp.argmax(returns), 0)
  return walk[place % jnp.where(period > 0, period, walk.shape[0])], period


def repeated_row(task: StarGraph, training: Training, key: jax.Array, state: TaskState) -> DittoRow:
  """A fresh graph, and on each stream the repetition of a piece of a teacher walk of its own."""
  graph_key, walk_key = jax.random.split(key)

  def stream(key: jax.Array) -> tuple[Any, jax.Array]:
    walk, goal_chain = sample_walk(task, state.probabilities, key)
    walk, period = repeat_first_excursion(walk)
    return encoding.stream_of_walk(task, walk, goal_chain), period

  streams, period = jax.vmap(stream)(jax.random.split(walk_key, training.streams_per_row))
  missing = row_length(task, training) - streams.node.shape[-1]
  # What is added is a walk of its own, number 1, that counts nowhere.
  ends = streams._replace(walk=streams.walk + 1, weight=jnp.zeros_like(streams.weight))
  streams = jax.tree.map(
    lambda a, b: jnp.concatenate([a, jnp.repeat(b[:, -1:], missing, axis=1)], axis=1), streams, ends
  )
  row = encoding.encode_streams(task, sample_graph(task, graph_key), streams)
  position, period = walk_positions(task, row), period[:, None]
  repeats = (streams.weight > 0) & (period > 0) & (position >= period)
  earlier = jnp.maximum(jnp.arange(position.shape[-1])[None] - period, 0)
  return DittoRow(row._replace(weights=jnp.zeros_like(row.weights)), earlier, repeats.astype(jnp.float32))


def repetition_loss(logits: jax.Array, batch: DittoRow, decay: jax.Array) -> jax.Array:
  """-log(1 - |q - decay b|) of the targets, [B, R, L]; arbitrary where nothing repeats. `logits`: [B, R, L, V]."""
  q = jnp.exp(-cross_entropy(logits, batch.row.targets))
  complement = jnp.exp(pick(log_complement(logits), batch.row.targets))
  wanted = decay * jax.lax.stop_gradient(jnp.take_along_axis(q, batch.earlier, axis=-1))
  inside = jnp.where(q >= wanted, complement + wanted, 1 - wanted + q)  # 1 - |q - wanted|, also where q rounds to 1
  return -jnp.log(jnp.maximum(inside, _SMALLEST))


@functools.cache  # the same objective again is the same program again
def ditto(task: StarGraph, model: Transformer, training: Training) -> Objective:
  """The objective of `Ditto`; carries a `DittoState`."""

  def sample(key: jax.Array, state: TaskState, extra: DittoState) -> DittoRow:
    row = sample_row(task, training, key, state)
    teacher = DittoRow(row, jnp.zeros_like(row.targets), jnp.zeros_like(row.weights))
    choice_key, own_key = jax.random.split(jax.random.fold_in(key, _OF_REPETITIONS))
    repeated = repeated_row(task, training, own_key, state)
    is_repeated = jax.random.uniform(choice_key) < extra.share
    return jax.tree.map(lambda a, b: jnp.where(is_repeated, a, b), repeated, teacher)

  def loss(params: Any, batch: DittoRow, key: jax.Array, extra: DittoState) -> tuple[Any, Any, DittoState]:
    del key
    logits = transformer.apply(model, task, params, batch.row).logits
    nats = jnp.sum(cross_entropy(logits, batch.row.targets) * batch.row.weights)
    repetition = jnp.sum(repetition_loss(logits, batch, extra.decay) * batch.repeats)
    weights = jnp.sum(batch.row.weights), jnp.sum(batch.repeats)
    return (nats, extra.repetition_weight * repetition), weights, extra

  return Objective(sample, loss)
