"""From a graph and walks on it to what the student reads: token pairs, positions, segments, targets, weights.

A row is a prompt, the edges of one graph, and R streams of walks on that graph. A stream sees the prompt and itself,
not the other streams, and each walk of a stream sees the prompt and itself alone: positions start anew with every walk.
A walk begins with its goal (left out where the task hides it), then s. To the student this is a prompt that ends in its
goal, followed by one walk; several walks, with goals of their own, share the edges.

A token is a pair of ids, the second null where unused; the student adds the two embeddings. `edge` encoding spends one
position on an edge, (parent, child); `flat` two, (parent, null) and (child, null). A goal is (label, goal marker).

Shapes: P prompt positions, R streams of a row, L positions of a stream, N nodes, V vocabulary.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from loopjax.star_graph.graph import Graph, StarGraph, sample_graph
from loopjax.star_graph.streams import Stream, first_walk_only, sample_stream, stream_length
from loopjax.star_graph.teacher import PADDING, TeacherProbabilities

_HASH = 1_000_003  # base of the number that stands for a graph


class Row(NamedTuple):
  """One training row; a batch of them has a leading axis B.

  Attributes:
    prompt: [P, 2] token pairs of the edges.
    inputs: [R, L, 2] token pairs of the streams.
    positions: [R, L] of each input, counted from the beginning of the prompt.
    segments: [R, L], which walk of its stream an input belongs to.
    targets: [R, L] labels of the next nodes.
    weights: [R, L], 1.0 where the target counts.
    nodes: [R, L], the input as a node; `PADDING` where there is none.
    labels: [N], of the graph's nodes; the student does not see them but through the prompt.
    draws: [R, L], uint32: random bits, those at the first input of a walk being the walk's. Of students that read them;
      else None.
  """

  prompt: jax.Array
  inputs: jax.Array
  positions: jax.Array
  segments: jax.Array
  targets: jax.Array
  weights: jax.Array
  nodes: jax.Array
  labels: jax.Array
  draws: jax.Array | None = None


def graph_keys(ids: jax.Array) -> jax.Array:
  """A typed key for each graph, [G]: pseudo-random, from its number and from ids [G, N] that say which graph it is.

  So a student that needs randomness of its own when it walks has the same in every reading of the same walks.
  """
  powers = jnp.cumprod(jnp.full(ids.shape[-1], _HASH, jnp.uint32))[None]
  hashes = jnp.sum(ids.astype(jnp.uint32) * powers, axis=-1, dtype=jnp.uint32)

  def of_graph(number: jax.Array, hashed: jax.Array) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(0), hashed), number)

  return jax.vmap(of_graph)(jnp.arange(len(ids)), hashes)


def null_id(task: StarGraph) -> int:
  """The second id of a token that has only one."""
  return task.vocabulary_size


def goal_id(task: StarGraph) -> int:
  """The second id that marks a goal."""
  return task.vocabulary_size + 1


def num_ids(task: StarGraph) -> int:
  """How many ids the second member of a token pair can take (the first: V)."""
  return task.vocabulary_size + 2


def prompt_length(task: StarGraph) -> int:
  """P, the positions of the edges."""
  return task.num_edges * (2 if task.encoding == "flat" else 1)


def max_positions(task: StarGraph) -> int:
  """The positions of a prompt and the longest walk on it."""
  return prompt_length(task) + stream_length(task)


def encode_prompt(task: StarGraph, graph: Graph) -> jax.Array:
  """The edges in the order of the prompt, [P, 2]."""
  child = graph.edge_order + 1
  parent = jnp.asarray(task.parents())[child]
  edges = jnp.stack([graph.labels[parent], graph.labels[child]], axis=-1)
  if task.encoding == "edge":
    return edges
  flat = edges.reshape(-1)
  return jnp.stack([flat, jnp.full_like(flat, null_id(task))], axis=-1)


def node_tokens(task: StarGraph, graph: Graph, nodes: jax.Array) -> jax.Array:
  """The token pairs [..., 2] of `nodes` [...] of a walk; padding gets an arbitrary label."""
  first = graph.labels[jnp.maximum(nodes, 0)]
  return jnp.stack([first, jnp.full_like(first, null_id(task))], axis=-1)


def goal_token(task: StarGraph, graph: Graph, goal_chain: jax.Array) -> jax.Array:
  """The token pairs [..., 2] of the goals of `goal_chain` [...]."""
  first = graph.labels[task.goal_node(goal_chain)]
  return jnp.stack([first, jnp.full_like(first, goal_id(task))], axis=-1)


def nodes_of_labels(task: StarGraph, graph: Graph, labels: jax.Array) -> jax.Array:
  """The nodes [...] that `labels` [...] name on this graph; N for a label that is not on it."""
  node_of = jnp.full(task.vocabulary_size, task.num_nodes, jnp.int32)
  return node_of.at[graph.labels].set(jnp.arange(task.num_nodes, dtype=jnp.int32))[labels]


def node_probabilities(graph: Graph, label_probabilities: jax.Array) -> jax.Array:
  """Probabilities over labels [..., V] as probabilities over nodes [..., N]; labels off the graph are left out."""
  return jnp.take(label_probabilities, graph.labels, axis=-1)


def encode_streams(task: StarGraph, graph: Graph, streams: Stream) -> Row:
  """The row of one graph and its streams (fields [R, L])."""
  is_goal = (streams.position < 0)[..., None]
  goals = goal_token(task, graph, streams.goal_chain)
  first = -1 if not task.goal_hidden else 0
  return Row(
    prompt=encode_prompt(task, graph),
    inputs=jnp.where(is_goal, goals, node_tokens(task, graph, streams.node)),
    positions=prompt_length(task) + streams.position - first,
    segments=streams.walk,
    targets=graph.labels[jnp.maximum(streams.target, 0)],
    weights=streams.weight,
    nodes=streams.node,
    labels=graph.labels,
  )


def stream_of_walk(task: StarGraph, walk: jax.Array, goal_chain: jax.Array) -> Stream:
  """A walk [W] with its goal as a stream of one walk [L], to read it teacher-forced; L = W - 1, or W with the goal."""
  position = jnp.arange(stream_length(task)) + (0 if task.goal_hidden else -1)
  node = walk[jnp.maximum(position, 0)]
  target = walk[position + 1]
  counts = (position >= 0) & (node != PADDING) & (target != PADDING)
  return Stream(
    node=jnp.where(position < 0, task.goal_node(goal_chain), node),
    target=target,
    position=position,
    walk=jnp.zeros_like(position),
    goal_chain=jnp.broadcast_to(goal_chain, position.shape),
    weight=counts.astype(jnp.float32),
    injected=jnp.zeros(position.shape, bool),
  )


def encode_walks(task: StarGraph, graphs: Graph, goal_chain: jax.Array, walks: jax.Array) -> Row:
  """Rows of graphs (fields [G, ...]) with walks [G, R, W] to goals [G, R], a stream each, to be read teacher-forced."""

  def of_graph(graph: Graph, goals: jax.Array, walks: jax.Array) -> Row:
    streams = jax.vmap(lambda walk, goal: stream_of_walk(task, walk, goal))(walks, goals)
    return encode_streams(task, graph, streams)

  return jax.vmap(of_graph)(graphs, goal_chain, walks)


@functools.partial(jax.jit, static_argnames=("task", "num_streams", "length", "packed"))
def sample_row(
  task: StarGraph, probabilities: TeacherProbabilities, key: jax.Array, *, num_streams: int, length: int, packed: bool
) -> Row:
  """One training row: a fresh graph and `num_streams` streams of teacher walks on it.

  Args:
    task: the task.
    probabilities: the teacher's probabilities, traced.
    key: typed key, scalar.
    num_streams: R.
    length: L, at least `streams.stream_length(task)`, so that the longest walk fits.
    packed: whether a stream holds walk after walk; else one walk and padding.
  """
  graph_key, stream_key = jax.random.split(key)
  graph = sample_graph(task, graph_key)
  keys = jax.random.split(stream_key, num_streams)
  streams = jax.vmap(lambda k: sample_stream(task, probabilities, k, length=length))(keys)
  if not packed:
    streams = jax.vmap(first_walk_only)(streams)
  return encode_streams(task, graph, streams)
