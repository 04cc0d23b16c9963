"""The sampler of teacher walks: one after the other in a stream, or alone.

Of the walks sampled, `injected_share` are no teacher's: they repeat one loop until the cut, as a corpus may hold texts
that loop. Probabilities and valid moves are always those of the clean teacher: what injection does is measured by it.

Shapes: G graphs, R walks of a graph, N nodes, C children of the root, W nodes of a walk, L positions of a stream, K
excursions.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from loopjax.star_graph.graph import START, StarGraph
from loopjax.star_graph.teacher import PADDING, TeacherProbabilities, child_probabilities


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


def teacher_walks(
  task: StarGraph, probabilities: TeacherProbabilities, key: jax.Array, goal_chain: jax.Array
) -> jax.Array:
  """Independent teacher walks to the goals `goal_chain` [G, R], nodes [G, R, W]; none are injected loops.

  The teacher treats all chains alike, so a walk to another goal becomes one to this by rotating the chains.
  """
  clean = probabilities._replace(injected_share=jnp.zeros_like(probabilities.injected_share))

  def one(key: jax.Array, goal: jax.Array) -> jax.Array:
    walk, own_goal = sample_walk(task, clean, key)
    first = task.children()[0]
    chain, depth = jnp.divmod(walk - first, task.chain_length)
    rotated = first + (chain + goal - own_goal) % task.num_chains * task.chain_length + depth
    return jnp.where(walk < first, walk, rotated)

  keys = jax.random.split(key, goal_chain.shape)
  return jax.vmap(jax.vmap(one))(keys, goal_chain)
