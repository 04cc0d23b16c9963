"""Seed-conditioning: a random seed is told to the student, in training and when it walks (arXiv 2504.15266).

A seed is one of the model's spare ids, drawn uniformly, that says nothing about graph or goal. It is told with s: the
token (s, null id) becomes (s, seed). In training a share of the walks has seeds. When students walk, wrap their model:
`students._replace(model=SeedConditioned(students.model))`. `with_seeds` gives a model as many seeds as there are
labels.

Seeds are ids of their own, and no labels. A pair of labels is an edge of the prompt: a seed that were a label would
tell the student of an edge from s that is not there.

It is meant to repair what temperature repairs, in another place. The randomness comes in with the prompt, before
anything is decided, and the student may then walk at temperature 0. With `once="walk"` one seed serves all visits to s
of a walk. With `once="return"` every visit to s has a seed of its own. Errors may repeat because nothing differs from
visit to visit. Then a seed at every return breaks the loop, and a seed a walk does not.

What to know before use:

- Compare with the temperature that has the same entropy. A seed is randomness too.
- There are as many seeds as spare ids, no more. Walks of one graph may share theirs.
- When a student walks, its seeds follow from graph and column alone. So the same evaluation has the same seeds, and
  columns that differ in a processor have different ones.
- At share 1 a student has never read a walk without a seed. Evaluate it wrapped.

Shapes: G graphs, R streams or columns, L stream positions, W nodes of a walk, N nodes.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from loopjax.models.transformer import Transformer
from loopjax.runtime.config import check_fields, require
from loopjax.star_graph import encoding, student_functions
from loopjax.star_graph.graph import START, StarGraph
from loopjax.star_graph.objective import TaskState, register, teacher_forcing
from loopjax.star_graph.student_functions import Problems, SecondIds, Student
from loopjax.training.step import Objective, Training

_OF_SEEDS = 2**31 - 5  # folded into a row's key, far from what splitting it gives to graph and walks
_KINDS = ("walk", "return")


@register
@dataclasses.dataclass(frozen=True)
class SeededWalks:
  """Maximum likelihood on teacher walks that are told seeds.

  Attributes:
    share: of the walks, that have seeds; 0 is maximum likelihood.
    once: a seed is drawn once a `walk`, or once a `return`: at every s anew.
  """

  share: float = 1.0
  once: str = "walk"

  def __post_init__(self) -> None:
    check_fields(self, "objective")
    require(0 <= self.share <= 1, "objective.share", self.share, "in [0, 1]")
    require(self.once in _KINDS, "objective.once", self.once, f"one of {_KINDS}")

  def build(self, task: StarGraph, model: Transformer, training: Training) -> Objective:
    return seeded_walks(task, model, training, self.once)

  def init(self, key: jax.Array, task: StarGraph, training: Training) -> jax.Array:
    del key, task, training
    return jnp.float32(self.share)


def with_seeds(model: Transformer, task: StarGraph) -> Transformer:
  """The model with as many spare ids as the task has labels."""
  return dataclasses.replace(model, spare_ids=task.vocabulary_size)


def _seeds(task: StarGraph, model: Transformer, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Uniform among the model's spare ids."""
  return encoding.num_ids(task) + jax.random.randint(key, shape, 0, model.spare_ids)


def tell_seeds(
  task: StarGraph, model: Transformer, row: encoding.Row, key: jax.Array, share: jax.Array, once: str
) -> encoding.Row:
  """The row in which every s of a walk, with probability `share` a walk, has a seed."""
  choice_key, seed_key = jax.random.split(key)
  shape = row.segments.shape
  own_walk = functools.partial(jnp.take_along_axis, indices=row.segments, axis=-1)  # numbers of walks are below L
  is_told = own_walk(jax.random.uniform(choice_key, shape) < share)
  drawn = _seeds(task, model, seed_key, shape)
  seeds = own_walk(drawn) if once == "walk" else drawn
  second = jnp.where(is_told & (row.nodes == START), seeds, row.inputs[..., 1])
  return row._replace(inputs=row.inputs.at[..., 1].set(second))


@functools.cache  # the same objective again is the same program again
def seeded_walks(task: StarGraph, model: Transformer, training: Training, once: str) -> Objective:
  """The objective of `SeededWalks`; carries the share.

  Raises:
    ValueError: the model has no spare ids.
  """
  _check_spare_ids(model)
  plain = teacher_forcing(task, model, training)

  def sample(key: jax.Array, state: TaskState, share: jax.Array) -> encoding.Row:
    return tell_seeds(task, model, plain.sample(key, state, ()), jax.random.fold_in(key, _OF_SEEDS), share, once)

  def loss(params: Any, batch: encoding.Row, key: jax.Array, share: jax.Array) -> tuple[Any, Any, jax.Array]:
    total, weight, _ = plain.loss(params, batch, key, ())
    return total, weight, share

  return Objective(sample, loss)


@dataclasses.dataclass(frozen=True)
class SeedConditioned:
  """A student that is told seeds when it walks, in place of its model.

  Attributes:
    model: its architecture.
    once: as in `SeededWalks`; it need not be that of training.
  """

  model: Transformer
  once: str = "walk"

  def __post_init__(self) -> None:
    require(self.once in _KINDS, "once", self.once, f"one of {_KINDS}")
    _check_spare_ids(self.model)


def _check_spare_ids(model: Transformer) -> None:
  require(model.spare_ids >= 1, "model.spare_ids", model.spare_ids, "at least 1: each is a seed (`with_seeds`)")


@student_functions.walking_model.register
def _walking_model(objective: SeededWalks, model: Transformer) -> SeedConditioned:
  return SeedConditioned(model, objective.once)


@dataclasses.dataclass(frozen=True)
class EverySeed:
  """A student that is told seed j in column j, at every s, in place of its model: as many columns as it has seeds.

  Attributes:
    model: its architecture.
  """

  model: Transformer


@student_functions.functions_of.register
def _seeded(model: SeedConditioned, task: StarGraph) -> Student:
  return _told(model.model, task, lambda problems: seeds_of(task, model.model, problems, model.once))


@student_functions.functions_of.register
def _every_seed(model: EverySeed, task: StarGraph) -> Student:
  def seeds(problems: Problems) -> jax.Array:
    shape = *problems.goal_chain.shape, task.max_steps
    require(shape[1] <= model.model.spare_ids, "columns", shape[1], f"at most {model.model.spare_ids}, one a seed")
    return jnp.broadcast_to(encoding.num_ids(task) + jnp.arange(shape[1])[:, None], shape)

  return _told(model.model, task, seeds)


def _told(model: Transformer, task: StarGraph, seeds: Callable[[Problems], jax.Array]) -> Student:
  """The functions of a network that is told `seeds` [G, R, W] wherever it stands at s."""

  def begin(problems: Problems) -> tuple[jax.Array, jax.Array]:
    return problems.graphs.labels[:, START], seeds(problems)

  def of(told: tuple[jax.Array, jax.Array], labels: jax.Array, index: jax.Array) -> jax.Array:
    start, ids = told
    return jnp.where(labels == start[:, None], ids[..., index], encoding.null_id(task))

  return student_functions.network(model, task, SecondIds(begin, of))


def seeds_of(task: StarGraph, model: Transformer, problems: Problems, once: str) -> jax.Array:
  """The seed of every node of a walk, should it be s, [G, R, W]: pseudo-random, from graph and column."""
  shape = problems.goal_chain.shape[1], task.max_steps
  keys = encoding.graph_keys(problems.graphs.labels)
  seeds = jax.vmap(lambda key: _seeds(task, model, key, shape))(keys)
  return seeds if once == "return" else jnp.broadcast_to(seeds[..., :1], seeds.shape)
