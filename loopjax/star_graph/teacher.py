"""The teacher: its next-node probabilities given the walk so far. `streams` samples its walks.

At s the teacher goes to r. At r it goes back to s with `reset_prob`, else to a child: with `explore_prob` one drawn
from the exploration distribution, else the goal's. At a chain node it goes back to s with `reset_prob`, else forward;
at a leaf that is not the goal, to s. The environment ends the walk at the goal or after `max_steps` nodes.

Of the walks sampled, `injected_share` are no teacher's: they repeat one loop until the cut, as a corpus may hold texts
that loop. Probabilities and valid moves are always those of the clean teacher: what injection does is measured by it.

The walk so far enters through the current node and the set of visited children (a child is visited from the moment it
is entered; visits persist through resets). Analyses ask the same function for p_v that the sampler draws from.

Shapes: N nodes, C children of the root, W nodes of a walk, L positions of a stream.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from loopjax.star_graph.graph import ROOT, START, StarGraph

PADDING = -1  # the node after the end of a walk


class TeacherProbabilities(NamedTuple):
  """The task's probabilities and margins as traced scalars, so that one compiled program serves a grid of them."""

  reset_prob: jax.Array
  explore_prob: jax.Array
  visited_margin: jax.Array
  goal_margin: jax.Array
  injected_share: jax.Array


def teacher_probabilities(task: StarGraph) -> TeacherProbabilities:
  """The probabilities and margins of `task`, as float32 scalars."""
  return TeacherProbabilities(*(jnp.float32(getattr(task, name)) for name in TeacherProbabilities._fields))


def sizes_of(task: StarGraph) -> StarGraph:
  """The task with its traced fields at their defaults: what a compiled program depends on."""
  defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(task)}
  return dataclasses.replace(task, **{name: defaults[name] for name in TeacherProbabilities._fields})


def exploration_distribution(
  task: StarGraph, probabilities: TeacherProbabilities, goal_chain: jax.Array, visited: jax.Array
) -> jax.Array:
  """The distribution over children that exploration draws from, [C], given `visited` [C] bool.

  With `visited_margin` m and k visited children an unvisited child has u = min((1 + m k)/n, 1/(n - k)), a visited one
  what is left, split evenly (k = n: uniform). With `goal_margin` m the goal's child has 1/n + m, the others the rest.
  A child that a margin leaves nothing has exactly 0: 1 minus a sum that rounding keeps from 1 would leave it 1e-8.
  """
  n = task.num_chains
  k = jnp.sum(visited)
  unvisited = jnp.minimum((1 + probabilities.visited_margin * k) / n, 1 / jnp.maximum(n - k, 1))
  # (1 - (n - k) (1 + m k)/n)/k, multiplied out; 0 from (1 + m k)(n - k) = n on, where the unvisited take it all.
  rest = jnp.maximum(1 - probabilities.visited_margin * (n - k), 0) / n
  by_visits = jnp.where(visited, rest, unvisited)

  is_goal = jnp.arange(n) == goal_chain
  goal = 1 / n + probabilities.goal_margin
  by_goal = jnp.where(is_goal, goal, (1 - goal) / max(n - 1, 1))
  return jnp.where(probabilities.goal_margin > 0, by_goal, by_visits)


def child_probabilities(
  task: StarGraph, probabilities: TeacherProbabilities, goal_chain: jax.Array, visited: jax.Array
) -> jax.Array:
  """The teacher's probabilities of the children at the root, [C]; they sum to 1 - reset_prob."""
  explore = exploration_distribution(task, probabilities, goal_chain, visited)
  is_goal = jnp.arange(task.num_chains) == goal_chain
  mixed = probabilities.explore_prob * explore + (1 - probabilities.explore_prob) * is_goal
  return (1 - probabilities.reset_prob) * mixed


def next_node_probabilities(
  task: StarGraph, probabilities: TeacherProbabilities, goal_chain: jax.Array, node: jax.Array, visited: jax.Array
) -> jax.Array:
  """The teacher's distribution over the next node, [N].

  Args:
    task: the task; only its sizes are read.
    probabilities: the teacher's probabilities, traced.
    goal_chain: the goal's chain, scalar.
    node: the current node, scalar. At the goal, where walks end, the answer is that of any leaf.
    visited: [C] bool, the children entered so far.
  """
  nodes = jnp.arange(task.num_nodes)
  is_leaf = (node > ROOT) & ((node - 1) % task.chain_length == 0)
  reset = jnp.where(node == START, 0.0, jnp.where(is_leaf, 1.0, probabilities.reset_prob))
  forward = jnp.where(is_leaf, 0.0, (1 - reset) * (nodes == node + 1))
  to_children = child_probabilities(task, probabilities, goal_chain, visited)
  at_root = jnp.zeros(task.num_nodes).at[task.children()].set(to_children)
  return reset * (nodes == START) + jnp.where(node == ROOT, at_root, forward)


def entered(task: StarGraph, node: jax.Array) -> jax.Array:
  """Which child `node` is, [..., C] bool; none for other nodes."""
  return node[..., None] == task.children().reshape((1,) * node.ndim + (-1,))


def visited_children(task: StarGraph, walk: jax.Array) -> jax.Array:
  """For each position of `walk` [..., W], the children entered up to and including it, [..., W, C] bool."""
  return jnp.cumsum(entered(task, walk), axis=-2) > 0


def is_valid_move(
  task: StarGraph, probabilities: TeacherProbabilities, before: jax.Array, after: jax.Array
) -> jax.Array:
  """Whether the move is parent -> child, or -> s where the teacher may reset; nodes and result of any one shape.

  Injected loops make nothing valid: with reset_prob = 0 the move from r to s is not, however often training shows it.
  A node >= N (a label that is not in the graph) makes a move invalid. Padding does not name a node: see `valid_moves`.
  """
  parent = jnp.asarray(task.parents())
  in_graph = (before < task.num_nodes) & (after < task.num_nodes)
  to_child = parent[jnp.clip(after, 0, task.num_nodes - 1)] == before
  is_leaf = (before > ROOT) & ((before - 1) % task.chain_length == 0)
  may_reset = (before != START) & (is_leaf | (probabilities.reset_prob > 0))
  return in_graph & jnp.where(after == START, may_reset, to_child)


def valid_moves(task: StarGraph, probabilities: TeacherProbabilities, walk: jax.Array) -> jax.Array:
  """Which moves of `walk` [..., W] are valid, [..., W - 1] bool; moves from or to padding count as valid."""
  before, after = walk[..., :-1], walk[..., 1:]
  return (before == PADDING) | (after == PADDING) | is_valid_move(task, probabilities, before, after)
