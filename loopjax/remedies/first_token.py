"""First token of a loop: where the student's own walk enters a loop, other labels shall win (arXiv 2510.15061).

In every step the student walks greedily, once a row. Where a walk ends in a locked cycle, take the cycle's second round
and in it the first place at which the student saw an alternative: another label with at least `min_p` times the
probability of the label that it took. The label taken is *rejected*, the alternatives are *chosen*. With logits l, a
chosen label c costs, where w is held fixed,

    w * softplus(margin - (l_c - l_rejected)),    w = clip((margin - (l_c - l_rejected)) / margin, 0, 1).

A *tether* holds the other logits to those of a reference, the student as it was before the first step: `tether` times
their mean squared change, plus `own_tether` times that of the rejected and chosen ones, as far as it is above 1. The
mean over the pairs, times `pair_weight`, is added to the cross entropy on teacher rows.

It is meant to repair greedy loops at the one place that makes them, and to leave the rest of the student alone. It is
final-token preference optimisation (FTPO), which antidoom by Liquid AI applies to loops of real models.

What to know before use:

- Begin with trained students (`params` of `train_students`). A fresh student's reference means nothing.
- A place without an alternative gives no pair, such as a leaf, where s is the one legal move.
- Chosen labels are the student's own. Nobody asks whether they are right.
- The authors divide by the sum of w. Here the mean is over pairs, so that the pull fades as the margin is reached.
- It costs one greedy walk and two more readings for every row of a step.

Shapes: B rows, W nodes of a walk, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from loopjax.generation.cycles import tail_cycle
from loopjax.models import transformer
from loopjax.models.transformer import Transformer
from loopjax.remedies import own_walks
from loopjax.remedies.own_walks import Problem
from loopjax.remedies.parts import pick
from loopjax.runtime.config import check_fields, require
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import TaskState, register, sample_row
from loopjax.training.step import Objective, Training, cross_entropy

_OF_PROBLEMS = 2**31 - 4  # folded into a row's key, far from what splitting it gives to graph and walks
_FREE_CHANGE = 1.0  # of the logits of a pair, which costs nothing


class FirstTokenState(NamedTuple):
  """What the objective carries: the fields of `FirstToken`, and the reference's parameters."""

  pair_weight: jax.Array
  margin: jax.Array
  min_p: jax.Array
  tether: jax.Array
  own_tether: jax.Array
  reference: Any = ()


class Pairs(NamedTuple):
  """For each walk, where it enters a loop; all [B, ...].

  Attributes:
    exists: whether there is such a place; else the others are arbitrary.
    place: the node at which the label was taken.
    rejected: [V] bool, the label taken.
    chosen: [V] bool, the alternatives.
  """

  exists: jax.Array
  place: jax.Array
  rejected: jax.Array
  chosen: jax.Array


@register
@dataclasses.dataclass(frozen=True)
class FirstToken:
  """Maximum likelihood on teacher walks plus preferences where own greedy walks enter a loop.

  Attributes:
    pair_weight: of the mean over pairs beside the cross entropy; 0 is maximum likelihood.
    margin: in logits, how far a chosen label shall be ahead.
    min_p: the least probability of an alternative, as a share of that of the label taken.
    tether: of the mean squared change of the other logits.
    own_tether: of that of the logits of a pair, as far as they change by more than 1.
  """

  pair_weight: float = 1.0
  margin: float = 2.0
  min_p: float = 0.1
  tether: float = 0.4
  own_tether: float = 0.05

  def __post_init__(self) -> None:
    check_fields(self, "objective")
    for name in ("pair_weight", "tether", "own_tether"):
      require(getattr(self, name) >= 0, f"objective.{name}", getattr(self, name), "at least 0")
    require(self.margin > 0, "objective.margin", self.margin, "above 0")
    require(0 < self.min_p <= 1, "objective.min_p", self.min_p, "in (0, 1]")

  def build(self, task: StarGraph, model: Transformer, training: Training) -> Objective:
    return first_token(task, model, training)

  def init(self, key: jax.Array, task: StarGraph, training: Training) -> FirstTokenState:
    del key, task, training
    return FirstTokenState(*(jnp.float32(getattr(self, field.name)) for field in dataclasses.fields(self)))


def find_pairs(walks: jax.Array, next_labels: jax.Array, logits: jax.Array, min_p: jax.Array) -> Pairs:
  """Where walks enter their loops.

  Args:
    walks: nodes [B, W].
    next_labels: [B, W - 1], of the nodes after the first.
    logits: [B, W - 1, V], what the student said at each node.
    min_p: scalar.
  """
  start, _, period = (part[:, None] for part in jax.vmap(tail_cycle)(walks))
  q = jax.nn.softmax(logits)
  taken = jax.nn.one_hot(next_labels, logits.shape[-1], dtype=bool)
  alternatives = (q >= min_p * pick(q, next_labels)[..., None]) & ~taken
  after = jnp.arange(1, walks.shape[-1])[None]  # the place of the node that is predicted
  in_second_round = (after >= start + period) & (after < start + 2 * period)
  enters = in_second_round & jnp.any(alternatives, axis=-1)
  place = jnp.argmax(enters, axis=-1)
  return Pairs(jnp.any(enters, axis=-1), place, _at(taken, place), _at(alternatives, place))


def _at(values: jax.Array, place: jax.Array) -> jax.Array:
  """Of values [B, W - 1, V] those at places [B], [B, V]."""
  return jnp.take_along_axis(values, place[:, None, None], axis=1)[:, 0]


def preference(logits: jax.Array, pairs: Pairs, margin: jax.Array) -> jax.Array:
  """The mean cost of the chosen labels of each pair, [B]; `logits` [B, V]."""
  ahead = logits - jnp.sum(jnp.where(pairs.rejected, logits, 0.0), axis=-1, keepdims=True)
  weights = jax.lax.stop_gradient(jnp.clip((margin - ahead) / margin, 0.0, 1.0))
  return _mean(weights * jax.nn.softplus(margin - ahead), pairs.chosen)


def tethering(logits: jax.Array, reference: jax.Array, pairs: Pairs, state: FirstTokenState) -> jax.Array:
  """What the change from the reference's logits costs, [B]; both logits [B, V]."""
  change, own = logits - reference, pairs.rejected | pairs.chosen
  excess = jnp.maximum(jnp.abs(change) - _FREE_CHANGE, 0.0)
  return state.tether * _mean(jnp.square(change), ~own) + state.own_tether * _mean(jnp.square(excess), own)


def _mean(values: jax.Array, where: jax.Array) -> jax.Array:
  """Of values [B, V] over the labels at which `where` holds, 0 where there are none."""
  return jnp.sum(jnp.where(where, values, 0.0), axis=-1) / jnp.maximum(jnp.sum(where, axis=-1), 1)


@functools.cache  # the same objective again is the same program again
def first_token(task: StarGraph, model: Transformer, training: Training) -> Objective:
  """The objective of `FirstToken`; carries a `FirstTokenState`."""

  def sample(key: jax.Array, state: TaskState, extra: FirstTokenState) -> tuple[encoding.Row, Problem]:
    del extra
    own_key = jax.random.fold_in(key, _OF_PROBLEMS)
    return sample_row(task, training, key, state), own_walks.sample_problem(task, own_key, state)

  def pair_losses(params: Any, problems: Problem, extra: FirstTokenState) -> tuple[jax.Array, jax.Array]:
    walks = own_walks.greedy_walks(task, model, params, problems)
    next_labels = jnp.take_along_axis(problems.graph.labels, jnp.clip(walks[:, 1:], 0, task.num_nodes - 1), axis=1)
    logits = own_walks.read(task, model, params, problems, walks)
    reference = own_walks.read(task, model, extra.reference, problems, walks)
    pairs = find_pairs(walks, next_labels, jax.lax.stop_gradient(logits), extra.min_p)
    here = _at(logits, pairs.place)
    each = preference(here, pairs, extra.margin) + tethering(here, _at(reference, pairs.place), pairs, extra)
    return jnp.sum(pairs.exists * each), jnp.sum(pairs.exists)

  def loss(params: Any, batch: Any, key: jax.Array, extra: FirstTokenState) -> tuple[Any, Any, FirstTokenState]:
    del key
    row, problems = batch
    nats = jnp.sum(cross_entropy(transformer.apply(model, task, params, row).logits, row.targets) * row.weights)
    total, num_pairs = pair_losses(params, problems, extra)
    return (nats, extra.pair_weight * total), (jnp.sum(row.weights), num_pairs), extra

  def begin(params: Any, extra: FirstTokenState) -> FirstTokenState:
    return extra._replace(reference=jax.tree.map(jnp.copy, params))

  return Objective(sample, loss, begin=begin)
