"""Packed rows of teacher walks and logits for the tests of remedies.

They are made in plain Python, since the sampler takes long to compile. A walk is a list of places; a place is (row,
stream, position in the stream). What a remedy computes is computed again from these, visit by visit.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from loopjax.runtime import devices
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import MaximumLikelihood
from tests.compiling import ROUND_ALIKE
from tests.star_graph import brute_force

# A goal that is a child too (chain_length = 1) is told before the walk, and not entered by that.
SHORT = StarGraph(3, 1, max_steps=10, reset_prob=0.3, explore_prob=1.0, spare_labels=2)
LONG = StarGraph(2, 2, max_steps=12, reset_prob=0.3, explore_prob=1.0, spare_labels=1, goal_hidden=True)


def jit(function: Callable[..., Any], **settings: Any) -> Any:
  """`jax.jit` that compiles quickly: a third of the time of a test."""
  return jax.jit(function, compiler_options=devices.compiler_options(brief=True), **settings)


def gradient(task: StarGraph, model: Any, training: Any, config: Any, params: Any, batch: Any) -> tuple[Any, Any]:
  """The mean loss of an objective on a batch, and its gradient."""
  objective, extra = config.build(task, model, training), config.init(jax.random.key(0), task, training)
  extra = objective.begin(params, extra) if objective.begin else extra

  def mean(params: Any) -> Any:
    totals, weights, _ = objective.loss(params, batch, jax.random.key(0), extra)
    return sum(jax.tree.leaves(jax.tree.map(lambda total, weight: total / jnp.maximum(weight, 1), totals, weights)))

  return jax.jit(jax.value_and_grad(mean), compiler_options=ROUND_ALIKE)(params)


def assert_maximum_likelihood(
  task: StarGraph, model: Any, training: Any, config: Any, params: Any, rows: encoding.Row, batch: Any
) -> None:
  """`config` has on `batch` the loss and the gradient of maximum likelihood on `rows`, bit for bit."""
  expected = gradient(task, model, training, MaximumLikelihood(), params, rows)
  jax.tree.map(np.testing.assert_array_equal, gradient(task, model, training, config, params, batch), expected)


@functools.cache
def packed_batch(task: StarGraph, rows: int = 4, streams: int = 2, length: int = 40) -> encoding.Row:
  """Rows of packed teacher walks, NumPy fields; weights grow with the place in the walk, and the prompt is empty."""
  rng = random.Random(0)
  shape = (rows, streams, length)
  fields = {name: np.zeros(shape, np.int32) for name in ("positions", "segments", "targets", "nodes")}
  inputs, weights = np.zeros((*shape, 2), np.int32), np.zeros(shape, np.float32)
  labels = np.array([rng.sample(range(task.vocabulary_size), task.num_nodes) for _ in range(rows)], np.int32)
  for row, stream in np.ndindex(shape[:2]):
    for place, entry in zip(range(length), _entries(task, rng), strict=False):
      walk, position, node, target, is_goal = entry
      here = row, stream, place
      fields["positions"][here], fields["segments"][here], fields["nodes"][here] = position + 1, walk, node
      fields["targets"][here] = labels[row, target]
      inputs[here] = labels[row, node], encoding.goal_id(task) if is_goal else encoding.null_id(task)
      weights[here] = 0.0 if is_goal else 1 + position / 8
  return encoding.Row(prompt=np.zeros((rows, 0, 2), np.int32), inputs=inputs, weights=weights, labels=labels, **fields)


def _entries(task: StarGraph, rng: random.Random) -> Iterator[tuple[int, int, int, int, bool]]:
  """Walk after walk without end: number of the walk, position in it, node, target, whether it is the goal told."""
  number = 0
  while True:
    goal_chain = rng.randrange(task.num_chains)
    walk = brute_force.sample_walk(task, goal_chain, rng)
    if not task.goal_hidden:
      yield number, -1, brute_force.goal_of(task, goal_chain), walk[0], True
    for position, (node, target) in enumerate(zip(walk, walk[1:], strict=False)):
      yield number, position, node, target, False
    number += 1


def random_logits(task: StarGraph, batch: encoding.Row, seed: int = 0) -> np.ndarray:
  """[B, R, L, V], float32."""
  shape = (*batch.nodes.shape, task.vocabulary_size)
  return np.asarray(2 * np.random.default_rng(seed).normal(size=shape), np.float32)


def walks_of(batch: encoding.Row) -> Iterator[list[tuple[int, int, int]]]:
  """Every walk of a batch as its places in order, without the goal that is told."""
  for row, stream in np.ndindex(batch.nodes.shape[:2]):
    for number in np.unique(batch.segments[row, stream]):
      here = (batch.segments[row, stream] == number) & (batch.weights[row, stream] > 0)
      yield [(row, stream, int(place)) for place in np.flatnonzero(here)]


def softmax(logits: np.ndarray) -> np.ndarray:
  """Of one position's logits [V], float64."""
  exponentials = np.exp(np.asarray(logits, np.float64) - np.max(logits))
  return exponentials / np.sum(exponentials)


def by_hand(task: StarGraph, walk: list[int]) -> encoding.Row:
  """One row with one walk, in which node i has the label i, and every position counts 1."""
  nodes, targets = (np.array(part, np.int32)[None, None] for part in (walk[:-1], walk[1:]))
  return encoding.Row(
    prompt=np.zeros((1, 0, 2), np.int32),
    inputs=np.stack([nodes, np.full_like(nodes, encoding.null_id(task))], axis=-1),
    positions=np.arange(len(walk) - 1, dtype=np.int32)[None, None], segments=np.zeros_like(nodes), targets=targets,
    weights=np.ones(nodes.shape, np.float32), nodes=nodes, labels=np.arange(task.num_nodes, dtype=np.int32)[None],
  )  # fmt: skip
