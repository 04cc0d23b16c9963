"""The star graph G(n, l), its node numbering, and the sampler of labelled graphs.

G(n, l) is a start s, a root r and n chains c[i, 1..l]: s - r, r - c[i, 1], c[i, j] - c[i, j + 1]. A *node* is a number
in [0, N) that says where in the graph one is; a *label* is the token, in [0, V), that the student sees in its place.
Labels are drawn afresh for every example, so the graph must be read from the prompt, unless the task fixes one graph.

Nodes: s = 0, r = 1, c[i, j] = 2 + i * l + (j - 1). Hence every node but s has one parent, edge k leads to node k + 1,
and one step along a chain adds 1.

Shapes: N nodes, E = N - 1 edges, C = n children of the root, V vocabulary.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from loopjax.runtime.config import check_fields, require

START = 0
ROOT = 1
MOST_LABELS = 2**14  # drawing them without repetition compares all pairs: a quarter of a gigabyte an example
INJECTED_KINDS = ("root", "child", "cycle")


@dataclasses.dataclass(frozen=True)
class StarGraph:
  """The task: graph, teacher and prompt. Sizes are static; probabilities and margins are passed on as traced values.

  Attributes:
    num_chains: n, the number of children of the root.
    chain_length: l, the nodes of a chain.
    max_steps: the nodes after which the environment cuts a walk; s counts.
    reset_prob: the teacher's probability of going back to s, at the root and at inner chain nodes.
    explore_prob: at the root, the probability that a move to a child is drawn from the exploration distribution.
    visited_margin: margin of the exploration distribution against children already visited.
    goal_margin: margin of the exploration distribution towards the goal's child; excludes `visited_margin`.
    encoding: `edge` (one position per edge) or `flat` (parent and child as two positions).
    injected_share: of the training walks, the share replaced by a deterministic loop that lasts until the cut.
    injected_kind: which loop: `root` (s, r, s, r, ...), `child` (from s to the leaf of one chain and back, again and
      again) or `cycle` (from s to one chain node and back). The leaf or node is drawn once a walk, uniform among all
      but the goal.
    goal_hidden: whether the prompt leaves the goal out.
    spare_labels: V - N, the labels of the vocabulary that an example leaves unused.
    graph_fixed: whether all examples share one graph, its labels and the order of its edges, which a student may then
      learn in its weights; else the graph must be read from the prompt.
    graph_drawing: which drawing of labels and order the fixed graph has; 0 where the graph is not fixed.
  """

  num_chains: int = 5
  chain_length: int = 3
  max_steps: int = 128
  reset_prob: float = 0.3
  explore_prob: float = 0.0
  visited_margin: float = 0.0
  goal_margin: float = 0.0
  injected_share: float = 0.0
  injected_kind: str = "root"
  encoding: str = "edge"
  goal_hidden: bool = False
  spare_labels: int = 0
  graph_fixed: bool = False
  graph_drawing: int = 0

  def __post_init__(self) -> None:
    check_fields(self, "task")
    n = self.num_chains
    require(n >= 1, "task.num_chains", n, "at least 1")
    require(self.chain_length >= 1, "task.chain_length", self.chain_length, "at least 1")
    shortest = self.chain_length + 2
    require(self.max_steps >= shortest, "task.max_steps", self.max_steps, f"at least {shortest}, the way to the goal")
    require(0 <= self.reset_prob < 1, "task.reset_prob", self.reset_prob, "in [0, 1)")
    require(0 <= self.explore_prob <= 1, "task.explore_prob", self.explore_prob, "in [0, 1]")
    require(self.visited_margin >= 0, "task.visited_margin", self.visited_margin, "at least 0")
    require(
      0 <= self.goal_margin <= 1 - 1 / n, "task.goal_margin", self.goal_margin, f"in [0, 1 - 1/n] = [0, {1 - 1 / n:g}]"
    )
    require(
      self.goal_margin == 0 or self.visited_margin == 0,
      "task.goal_margin",
      self.goal_margin,
      f"0 where task.visited_margin={self.visited_margin:g} is set: the margins exclude each other",
    )
    self._check_injection()
    require(self.encoding in ("edge", "flat"), "task.encoding", self.encoding, "'edge' or 'flat'")
    require(self.spare_labels >= 0, "task.spare_labels", self.spare_labels, "at least 0")
    drawing, allowed = self.graph_drawing, "0, or above 0 where task.graph_fixed is set"
    require(drawing == 0 or (self.graph_fixed and drawing > 0), "task.graph_drawing", drawing, allowed)
    labels = self.vocabulary_size
    require(
      labels <= MOST_LABELS, "task.num_chains", n, f"such that there are at most {MOST_LABELS} labels, not {labels}"
    )

  def _check_injection(self) -> None:
    kind = self.injected_kind
    require(0 <= self.injected_share <= 1, "task.injected_share", self.injected_share, "in [0, 1]")
    require(kind in INJECTED_KINDS, "task.injected_kind", kind, f"one of {INJECTED_KINDS}")
    num_loops = {"root": 1, "child": self.num_chains - 1, "cycle": self.num_chains * self.chain_length - 1}[kind]
    require(num_loops > 0, "task.injected_kind", kind, "'root' where the goal is all there is to enter")

  def check_prefers_forward(self) -> None:
    """Raises `ValueError` where the teacher itself prefers the reset to the goal's child: then looping is optimal."""
    e, n = self.explore_prob, self.num_chains
    forward = (1 - self.reset_prob) * (1 - e + e / n)
    require(
      forward > self.reset_prob,
      "task.reset_prob",
      self.reset_prob,
      f"below {forward:.4g}, the teacher's probability of the goal's child: else the teacher prefers the reset",
    )

  @property
  def num_nodes(self) -> int:
    return 2 + self.num_chains * self.chain_length

  @property
  def num_edges(self) -> int:
    return self.num_nodes - 1

  @property
  def vocabulary_size(self) -> int:
    return self.num_nodes + self.spare_labels

  def children(self) -> np.ndarray:
    """The nodes c[i, 1], [C]."""
    return 2 + self.chain_length * np.arange(self.num_chains)

  def parents(self) -> np.ndarray:
    """The parent of every node, [N]; -1 for s."""
    parent = np.arange(self.num_nodes) - 1
    parent[self.children()] = ROOT
    return parent

  def goal_node(self, goal_chain: jax.Array) -> jax.Array:
    """The leaf of the chain `goal_chain`, any shape."""
    return 1 + self.chain_length * (goal_chain + 1)


class Graph(NamedTuple):
  """One labelled graph: `labels` [N] of the nodes; `edge_order` [E], the edges as the prompt lists them."""

  labels: jax.Array
  edge_order: jax.Array


def _permutation(key: jax.Array, size: int) -> jax.Array:
  """A uniform permutation of 0 .. size - 1: the ranks of random numbers, by comparing all pairs.

  For the sizes of these graphs several times faster than the sort behind `jax.random.permutation`.
  """
  numbers, index = jax.random.bits(key, (1, size)), jnp.arange(size)[None]
  is_before = (numbers < numbers.T) | ((numbers == numbers.T) & (index < index.T))
  return jnp.sum(is_before, axis=-1)


def sample_graph(task: StarGraph, key: jax.Array) -> Graph:
  """Labels without repetition and a random order of the edges; always the same where the task fixes the graph."""
  label_key, order_key = jax.random.split(jax.random.key(task.graph_drawing) if task.graph_fixed else key)
  labels = _permutation(label_key, task.vocabulary_size)[: task.num_nodes]
  return Graph(labels=labels, edge_order=_permutation(order_key, task.num_edges))


def sample_goal(task: StarGraph, key: jax.Array) -> jax.Array:
  """The goal's chain, uniform, scalar."""
  return jax.random.randint(key, (), 0, task.num_chains, dtype=jnp.int32)
