"""The teacher: its next-node probabilities given the walk so far, and the sampler of its walks.

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
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from loopjax.star_graph import ROOT, START, StarGraph

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


class Stream(NamedTuple):
  """A stream of teacher walks on one graph, end to end: what a student is trained on. All [L].

  Every walk begins with its goal (position -1, unless the task hides goals), then s (position 0).

  Attributes:
    node: the node at this position; `PADDING` after the last walk.
    target: the next node of the same walk, what the student must predict.
    position: the index of `node` in its walk; -1 at the goal.
    walk: which walk of the stream this is, from 0.
    goal_chain: the goal of that walk.
    weight: 1.0 where `target` counts, 0.0 at goals and in the padding.
    injected: bool, whether that walk is an injected loop.
  """

  node: jax.Array
  target: jax.Array
  position: jax.Array
  walk: jax.Array
  goal_chain: jax.Array
  weight: jax.Array
  injected: jax.Array


class _Walk(NamedTuple):
  """What is drawn when a walk begins; all [K].

  Attributes:
    goal_chain: its goal.
    injected: bool, whether it is an injected loop.
    loop_child: the chain that the loop enters; -1 for none. Without meaning for a walk of the teacher, like the next.
    loop_depth: how many of the chain's nodes the loop enters.
  """

  goal_chain: jax.Array
  injected: jax.Array
  loop_child: jax.Array
  loop_depth: jax.Array


class _Excursion(NamedTuple):
  """One way from s and back: s, r, and the nodes of one chain until the reset, the goal or the cut. All scalars.

  Attributes:
    offset: the position in the stream of its first entry, which is s, or the goal token before the first s of a walk.
    position: the index of its s in the walk.
    child: the chain entered; -1 for none. As yet that of the loop, should the walk be one, if this has only begun.
    depth: how many of the chain's nodes are entered; likewise.
    walk: which walk of the stream this is, from 0.
    goal_chain: the goal of that walk.
    injected: whether that walk is an injected loop.
  """

  offset: jax.Array
  position: jax.Array
  child: jax.Array
  depth: jax.Array
  walk: jax.Array
  goal_chain: jax.Array
  injected: jax.Array


def _draw(probabilities: jax.Array, uniform: jax.Array) -> jax.Array:
  """An index drawn from `probabilities` [N] by inverting its cumulative sum at `uniform` in [0, 1)."""
  cumulative = jnp.cumsum(probabilities)
  return jnp.sum(cumulative <= uniform * cumulative[-1]).astype(jnp.int32)


def _first_position(task: StarGraph) -> int:
  return 0 if task.goal_hidden else -1


def _num_excursions(task: StarGraph, length: int) -> int:
  """An upper bound for a stream: all take two positions or more, but for those that the cut leaves at s."""
  return (length + length // (task.max_steps - 1)) // 2 + 1


def _draw_walks(
  task: StarGraph, probabilities: TeacherProbabilities, for_goal: jax.Array, for_share: jax.Array, for_loop: jax.Array
) -> _Walk:
  """What walks begin with, from uniform numbers in [0, 1), [K] each."""

  def below(number: int, uniform: jax.Array) -> jax.Array:
    return (number * uniform).astype(jnp.int32)

  n, l = task.num_chains, task.chain_length
  goal_chain = below(n, for_goal)
  if task.injected_kind == "root":
    loop_child, loop_depth = jnp.full_like(goal_chain, -1), jnp.zeros_like(goal_chain)
  elif task.injected_kind == "child":
    loop_child, loop_depth = (goal_chain + 1 + below(n - 1, for_loop)) % n, jnp.full_like(goal_chain, l)
  else:  # a chain node, counted from the one after the goal
    last = ((goal_chain + 1) * l + below(n * l - 1, for_loop)) % (n * l)
    loop_child, loop_depth = last // l, last % l + 1
  return _Walk(goal_chain, for_share < probabilities.injected_share, loop_child, loop_depth)


def _draw_moves(
  task: StarGraph, probabilities: TeacherProbabilities, begun: _Excursion, visited: jax.Array,
  at_root: jax.Array, in_chain: jax.Array,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
  """The chain that the excursion enters, -1 for none, and how many of its nodes: the teacher's draw, or the loop's."""
  children = child_probabilities(task, probabilities, begun.goal_chain, visited)
  child = _draw(jnp.append(probabilities.reset_prob, children), at_root) - 1
  reaches = (1 - probabilities.reset_prob) ** np.arange(1, task.chain_length)  # after 1, 2, ... further moves
  depth = jnp.where(child < 0, 0, 1 + jnp.sum(in_chain < reaches))
  return jnp.where(begun.injected, begun.child, child), jnp.where(begun.injected, begun.depth, depth)


def _make_excursion(
  task: StarGraph,
  probabilities: TeacherProbabilities,
  state: tuple[_Excursion, jax.Array],
  draws: tuple[jax.Array, jax.Array, _Walk],
) -> tuple[tuple[_Excursion, jax.Array], _Excursion]:
  """Completes the excursion that `state` has begun, given the visited children [C], and begins the next."""
  begun, visited = state
  at_root, in_chain, next_walk = draws
  child, depth = _draw_moves(task, probabilities, begun, visited, at_root, in_chain)
  reaches_goal = (child == begun.goal_chain) & (depth == task.chain_length)
  end = begun.position + 2 + depth - reaches_goal  # of the excursion; the goal is predicted, never read
  is_over = reaches_goal | (end >= task.max_steps - 1)
  end = jnp.minimum(end, task.max_steps - 1)
  following = _Excursion(
    offset=begun.offset + end - jnp.where(begun.position == 0, _first_position(task), begun.position),
    position=jnp.where(is_over, 0, end),
    child=jnp.where(is_over, next_walk.loop_child, begun.child),
    depth=jnp.where(is_over, next_walk.loop_depth, begun.depth),
    walk=begun.walk + is_over,
    goal_chain=jnp.where(is_over, next_walk.goal_chain, begun.goal_chain),
    injected=jnp.where(is_over, next_walk.injected, begun.injected),
  )
  visited = ~is_over & (visited | (jnp.arange(task.num_chains) == child))
  return (following, visited), begun._replace(child=child, depth=depth)


def _entries(task: StarGraph, excursions: _Excursion, length: int) -> Stream:
  """The positions of a stream, each read off the excursion (fields [K], in their order) that it lies in."""
  entry = jnp.arange(length)
  begins = jnp.zeros(length, jnp.int32).at[excursions.offset].set(1, mode="drop")
  mine = _Excursion(*jnp.stack(excursions, axis=-1)[jnp.cumsum(begins) - 1].T)
  step = entry - mine.offset + jnp.where(mine.position == 0, _first_position(task), 0)  # from s; -1 at the goal token
  is_goal_token = step < 0

  def node(step: jax.Array) -> jax.Array:
    return jnp.where(step < 2, step, step + mine.child * task.chain_length)

  returns = step + 1 >= 2 + mine.depth
  return Stream(
    node=jnp.where(is_goal_token, task.goal_node(mine.goal_chain), node(step)),
    target=jnp.where(returns, START, node(step + 1)),
    position=mine.position + step,
    walk=mine.walk,
    goal_chain=mine.goal_chain,
    weight=jnp.float32(~is_goal_token),
    injected=mine.injected.astype(bool),
  )


def sample_stream(task: StarGraph, probabilities: TeacherProbabilities, key: jax.Array, *, length: int) -> Stream:
  """Independent walks on one graph, each with a goal of its own, end to end until `length` positions are full.

  A walk is the teacher's, or with `injected_share` a loop of the kind that `task` names, which takes its whole length.
  The last walk is cut by the end of the stream. What follows one another is excursions from s, since margins depend on
  the children visited before; within an excursion the nodes follow in closed form.
  """
  at_root, in_chain, *for_walks = jax.random.uniform(key, (5, _num_excursions(task, length) + 1))
  walks = _draw_walks(task, probabilities, *for_walks)
  goal_chain, injected, child, depth = (field[0] for field in walks)
  zero = jnp.int32(0)
  first = _Excursion(zero, zero, child, depth, zero, goal_chain, injected)
  next_walks = jax.tree.map(lambda field: field[1:], walks)
  draws = (at_root[1:], in_chain[1:], next_walks)
  make = functools.partial(_make_excursion, task, probabilities)
  _, excursions = jax.lax.scan(make, (first, jnp.zeros(task.num_chains, bool)), draws)
  return _entries(task, excursions, length)


def first_walk_only(stream: Stream) -> Stream:
  """The same stream with all but its first walk turned into padding: one walk a row."""
  keep = stream.walk == 0
  return stream._replace(
    node=jnp.where(keep, stream.node, PADDING),
    target=jnp.where(keep, stream.target, PADDING),
    weight=jnp.where(keep, stream.weight, 0.0),
  )


def stream_length(task: StarGraph) -> int:
  """The positions that the longest walk takes in a stream: its goal, and every node but the last."""
  return task.max_steps - 1 - _first_position(task)


def sample_walk(task: StarGraph, probabilities: TeacherProbabilities, key: jax.Array) -> tuple[jax.Array, jax.Array]:
  """One teacher walk: nodes [W], W = max_steps, `PADDING` after the end; and its goal's chain, scalar."""
  stream = first_walk_only(sample_stream(task, probabilities, key, length=stream_length(task)))
  targets = stream.target[-_first_position(task) :]
  return jnp.concatenate([jnp.array([START]), targets]), stream.goal_chain[0]
