"""The graph network: edges as the prompt lists them, what automorphisms leave alike, how far a mark is seen, ties."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.models.graph_network import GraphNetwork, adjacency, random_features
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import Graph, StarGraph, sample_graph
from tests.remedies import cases
from tests.star_graph import brute_force

CHAINS, LENGTH = 4, 3
TASK = StarGraph(CHAINS, LENGTH, spare_labels=2)
GOAL_CHAIN, WIDTH = 1, 8
SAME, APART = 1e-5, 1e-2  # sums run over labels, so like nodes agree up to rounding


@functools.cache
def edges(permuted: bool = False) -> np.ndarray:
  """[1, V, V] of a graph in which every node is its own label, or of that graph with its labels permuted."""
  labels = permutation() if permuted else np.arange(TASK.num_nodes)
  graph = Graph(jnp.asarray(labels), jnp.arange(TASK.num_edges))
  return np.asarray(cases.jit(lambda: adjacency(TASK, encoding.encode_prompt(TASK, graph)[None]))())


def permutation() -> np.ndarray:
  """The label of every node, [N]."""
  return np.random.default_rng(1).permutation(TASK.vocabulary_size)[: TASK.num_nodes]


def mark_of(label: int | None) -> np.ndarray:
  mark = np.zeros((1, 1, TASK.vocabulary_size), np.float32)
  if label is not None:
    mark[..., label] = 1.0
  return mark


@functools.cache
def parameters(num_rounds: int, num_features: int = 0):
  """Fresh ones."""
  marks, none = jnp.asarray(mark_of(None)), jnp.zeros((1, 1, TASK.vocabulary_size, num_features))
  return cases.jit(GraphNetwork(num_rounds, WIDTH, jnp.float32).init)(jax.random.key(2), edges(), marks, none)


@functools.cache
def network(num_rounds: int, num_features: int = 0):
  """(edges, marks, features) -> embeddings [1, N, V, D]."""
  params = parameters(num_rounds, num_features)
  return cases.jit(functools.partial(GraphNetwork(num_rounds, WIDTH, jnp.float32).apply, params))


def embeddings(num_rounds: int, marked: int | None) -> np.ndarray:
  """[V, D]."""
  none = np.zeros((1, 1, TASK.vocabulary_size, 0), np.float32)
  return np.asarray(network(num_rounds)(edges(), mark_of(marked), none))[0, 0]


def by_chain(nodes: np.ndarray) -> np.ndarray:
  """Of embeddings [V, D] those of the chains' nodes, [C, l, D]."""
  return nodes[2 : 2 + CHAINS * LENGTH].reshape(CHAINS, LENGTH, -1)


class AdjacencyTest(parameterized.TestCase):
  @parameterized.parameters("edge", "flat")
  def test_plain_python(self, form):
    task = StarGraph(CHAINS, LENGTH, spare_labels=2, encoding=form)

    def both(key):
      graphs = jax.vmap(functools.partial(sample_graph, task))(jax.random.split(key, 3))
      return graphs.labels, adjacency(task, jax.vmap(functools.partial(encoding.encode_prompt, task))(graphs))

    labels, found = map(np.asarray, cases.jit(both)(jax.random.key(0)))
    expected = np.zeros_like(found)
    for row, of_row in enumerate(labels):
      for node in range(1, task.num_nodes):
        expected[row, of_row[task.parents()[node]], of_row[node]] = 1.0
    np.testing.assert_array_equal(found, expected)


class SymmetryTest(parameterized.TestCase):
  def test_without_a_mark_all_chains_are_alike(self):
    chains = by_chain(embeddings(LENGTH, None))
    np.testing.assert_allclose(chains, np.broadcast_to(chains[:1], chains.shape), atol=SAME)
    self.assertGreater(np.abs(chains[0, 0] - chains[0, -1]).max(), APART)  # depths are not

  def test_with_the_mark_all_wrong_chains_are_alike_and_the_goals_is_not(self):
    goal = brute_force.goal_of(TASK, GOAL_CHAIN)
    chains = by_chain(embeddings(LENGTH, goal))
    wrong = np.delete(chains, GOAL_CHAIN, axis=0)
    np.testing.assert_allclose(wrong, np.broadcast_to(wrong[:1], wrong.shape), atol=SAME)
    for depth in range(LENGTH):
      self.assertGreater(np.abs(chains[GOAL_CHAIN, depth] - wrong[0, depth]).max(), APART)

  @parameterized.parameters(*range(CHAINS))
  def test_another_goal_permutes_chains(self, chain):
    """The chain of the goal changes places with another one, and so do the embeddings."""
    before = by_chain(embeddings(LENGTH, brute_force.goal_of(TASK, GOAL_CHAIN)))
    after = by_chain(embeddings(LENGTH, brute_force.goal_of(TASK, chain)))
    order = np.arange(CHAINS)
    order[[GOAL_CHAIN, chain]] = order[[chain, GOAL_CHAIN]]
    np.testing.assert_allclose(after, before[order], atol=SAME)

  def test_labels_are_names_alone(self):
    """Permuted labels permute the embeddings."""
    goal, labels = brute_force.goal_of(TASK, GOAL_CHAIN), permutation()
    none = np.zeros((1, 1, TASK.vocabulary_size, 0), np.float32)
    renamed = np.asarray(network(LENGTH)(edges(permuted=True), mark_of(labels[goal]), none))[0, 0]
    np.testing.assert_allclose(renamed[labels], embeddings(LENGTH, goal)[: TASK.num_nodes], atol=SAME)


class LocalityTest(parameterized.TestCase):
  """Child and goal are l - 1 edges apart."""

  @parameterized.parameters(*range(LENGTH + 2))
  def test_the_goals_child_is_told_apart_from_l_minus_1_rounds_on(self, num_rounds):
    goal = brute_force.goal_of(TASK, GOAL_CHAIN)
    children = by_chain(embeddings(num_rounds, goal))[:, 0]
    difference = np.abs(children[GOAL_CHAIN] - children[GOAL_CHAIN - 1]).max()
    if num_rounds >= LENGTH - 1:
      self.assertGreater(difference, APART)
    else:
      self.assertLess(difference, SAME)

  @parameterized.parameters(*range(LENGTH + 2))
  def test_a_mark_reaches_as_far_as_there_are_rounds_and_no_further(self, num_rounds):
    """The gradient of a node's embedding to the mark of another is zero where they are more edges apart."""
    direction = np.random.default_rng(0).normal(size=WIDTH).astype(np.float32)
    params, none = parameters(num_rounds), jnp.zeros((1, 1, TASK.vocabulary_size, 0))
    module = GraphNetwork(num_rounds, WIDTH, jnp.float32)
    said = lambda marks: module.apply(params, edges(), marks, none)[0, 0] @ direction
    marks = jnp.asarray(mark_of(brute_force.goal_of(TASK, GOAL_CHAIN)))
    reached = np.asarray(cases.jit(jax.jacrev(said))(marks))[:, 0, 0] != 0
    np.testing.assert_array_equal(reached, distances() <= num_rounds)


def distances() -> np.ndarray:
  """The edges between labels, [V, V], by plain search; infinite where there is no way."""
  near = edges()[0] + edges()[0].T
  found = np.where(np.eye(len(near)) > 0, 0, np.inf)
  for _ in range(TASK.num_nodes):
    through = np.min(np.where(near[:, :, None] > 0, found[None], np.inf), axis=1) + 1
    found = np.minimum(found, through)
  return found


class RandomFeaturesTest(absltest.TestCase):
  def features(self, *draws: int) -> np.ndarray:
    numbers = jnp.asarray([draws], jnp.uint32)
    return np.asarray(cases.jit(lambda draws: random_features(draws, TASK.vocabulary_size, 4))(numbers))

  def test_they_are_standard_normal_and_follow_from_the_draw(self):
    features = self.features(*range(200))
    np.testing.assert_array_equal(features[:, 7], self.features(7)[:, 0])
    self.assertAlmostEqual(features.mean(), 0, delta=0.05)
    self.assertAlmostEqual(features.std(), 1, delta=0.05)
    self.assertEqual(len(np.unique(features[0, :, 0, 0])), 200)

  def test_they_break_the_tie_of_wrong_chains(self):
    marks = np.repeat(mark_of(brute_force.goal_of(TASK, GOAL_CHAIN)), 2, axis=1)
    nodes = np.asarray(network(LENGTH, 4)(edges(), marks, self.features(3, 4)))[0]
    for walk in nodes:
      wrong = np.delete(by_chain(walk)[:, 0], GOAL_CHAIN, axis=0)
      self.assertGreater(np.abs(wrong[1:] - wrong[:-1]).max(-1).min(), APART)
    self.assertGreater(np.abs(nodes[0] - nodes[1]).max(), APART)  # and differ from walk to walk
    without = np.asarray(network(LENGTH, 4)(edges(), marks, np.zeros_like(self.features(3, 4))))[0]
    wrong = np.delete(by_chain(without[0])[:, 0], GOAL_CHAIN, axis=0)
    np.testing.assert_allclose(wrong, np.broadcast_to(wrong[:1], wrong.shape), atol=SAME)


if __name__ == "__main__":
  absltest.main()
