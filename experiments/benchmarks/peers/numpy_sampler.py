"""The star-graph task without JAX: the sampler that a PyTorch user would write, once plainly and once vectorised.

Nodes are numbered as in `loopjax.star_graph`. Both cover the teacher without margins. Shapes: B examples, P prompt
positions, W nodes of a walk, T = P + W positions read: the edges, the goal, every node of the walk but the last.
"""

from __future__ import annotations

import functools
import random

import numpy as np

from loopjax.star_graph.graph import StarGraph

IGNORED = -100  # the target that PyTorch's cross entropy leaves out


def sample_plainly(task: StarGraph, rng: random.Random) -> tuple[list[tuple[int, int]], int, list[int]]:
  """One example in plain Python: shuffled edges (parent, child), goal and walk, all as labels."""
  n, length = task.num_chains, task.chain_length
  labels = rng.sample(range(task.vocabulary_size), task.num_nodes)
  parents = {1: 0} | {2 + i * length + j: 1 + i * length + j if j else 1 for i in range(n) for j in range(length)}
  edges = [(labels[parent], labels[child]) for child, parent in parents.items()]
  rng.shuffle(edges)
  goal_chain = rng.randrange(n)
  goal, walk = 1 + length * (goal_chain + 1), [0]
  while walk[-1] != goal and len(walk) < task.max_steps:
    walk.append(_next_node(task, goal_chain, walk[-1], rng))
  return edges, labels[goal], [labels[node] for node in walk]


def _next_node(task: StarGraph, goal_chain: int, node: int, rng: random.Random) -> int:
  if node == 0:
    return 1
  is_leaf = node > 1 and (node - 1) % task.chain_length == 0
  if is_leaf or rng.random() < task.reset_prob:
    return 0
  if node > 1:
    return node + 1
  explores = rng.random() < task.explore_prob
  return 2 + task.chain_length * (rng.randrange(task.num_chains) if explores else goal_chain)


def sample_batch(task: StarGraph, rng: np.random.Generator, batch: int) -> tuple[np.ndarray, np.ndarray]:
  """A padded batch by NumPy over all examples at once.

  Returns:
    Token pairs [B, T, 2] and the targets of the walk's positions [B, W - 1]; `IGNORED` in the padding. T and W are cut
    to the longest walk of the batch.
  """
  vocabulary, length = task.vocabulary_size, task.chain_length
  labels = rng.permuted(np.tile(np.arange(vocabulary), (batch, 1)), axis=1)[:, : task.num_nodes]
  parent = np.arange(task.num_nodes) - 1
  parent[2::length] = 1
  child = 1 + rng.permuted(np.tile(np.arange(task.num_edges), (batch, 1)), axis=1)
  take = functools.partial(np.take_along_axis, labels, axis=1)
  edges = np.stack([take(parent[child]), take(child)], axis=-1)
  goal_chain = rng.integers(0, task.num_chains, batch)
  goal = 1 + length * (goal_chain + 1)
  goal_token = np.stack([take(goal[:, None]), np.full((batch, 1), vocabulary + 1)], axis=-1)
  walk = _walks(task, rng, goal_chain)
  walk_labels = take(np.maximum(walk, 0))
  nodes = np.stack([walk_labels[:, :-1], np.full_like(walk_labels[:, :-1], vocabulary)], axis=-1)
  targets = np.where(walk[:, 1:] >= 0, walk_labels[:, 1:], IGNORED)
  return np.concatenate([edges, goal_token, nodes], axis=1), targets


def _walks(task: StarGraph, rng: np.random.Generator, goal_chain: np.ndarray) -> np.ndarray:
  """Walks [B, W] of nodes, -1 after the end."""
  length, batch = task.chain_length, len(goal_chain)
  goal = 1 + length * (goal_chain + 1)
  walk = [np.zeros(batch, np.int64)]
  while len(walk) < task.max_steps and not np.all(walk[-1] < 0):
    node = walk[-1]
    is_leaf = (node > 1) & ((node - 1) % length == 0)
    resets = is_leaf | (rng.random(batch) < task.reset_prob)
    explores = rng.random(batch) < task.explore_prob
    chain = np.where(explores, rng.integers(0, task.num_chains, batch), goal_chain)
    forward = np.where(node == 1, 2 + length * chain, node + 1)
    moved = np.where(node == 0, 1, np.where(resets, 0, forward))
    walk.append(np.where((node < 0) | (node == goal), -1, moved))
  return np.stack(walk, axis=1)
