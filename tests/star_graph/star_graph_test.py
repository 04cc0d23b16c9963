"""The star graph: validation, numbering against a graph built edge by edge, and the sampler's distribution."""

from __future__ import annotations

import dataclasses
import functools

import hypothesis
import jax
import numpy as np
import scipy.stats
from absl.testing import absltest, parameterized
from hypothesis import strategies as st

from loopjax.star_graph.graph import ROOT, START, Graph, StarGraph, sample_goal, sample_graph

SMALLEST_P = 1e-3  # keys are fixed: a test passes always or never


def brute_force_parents(n: int, l: int) -> dict[int, int]:
  """The parent of each node but s, the graph built edge by edge, nodes numbered as they appear."""
  parent = {ROOT: START}
  for _ in range(n):
    before = ROOT
    for _ in range(l):
      node = len(parent) + 1
      parent[node] = before
      before = node
  return parent


def graph_of(n: int, l: int, spare_labels: int = 0) -> StarGraph:
  return StarGraph(num_chains=n, chain_length=l, spare_labels=spare_labels, max_steps=l + 2)


def sample_graphs(task: StarGraph, count: int) -> Graph:
  keys = jax.random.split(jax.random.key(0), count)
  return jax.jit(jax.vmap(lambda key: sample_graph(task, key)))(keys)


@functools.cache
def many_graphs() -> tuple[StarGraph, Graph]:
  task = graph_of(2, 2, spare_labels=2)
  return task, jax.tree.map(np.asarray, sample_graphs(task, 4000))


def uniformity(outcomes: np.ndarray, size: int) -> float:
  """The p value of the chi-square test that `outcomes` are uniform over range(size)."""
  return float(scipy.stats.chisquare(np.bincount(outcomes, minlength=size)).pvalue)


class FixedGraphTest(absltest.TestCase):
  def test_every_example_has_one_graph_which_is_a_graph(self):
    task = dataclasses.replace(graph_of(3, 2, spare_labels=3), graph_fixed=True)
    graphs = jax.tree.map(np.asarray, sample_graphs(task, 20))
    for field in graphs:
      np.testing.assert_array_equal(field, field[:1].repeat(20, axis=0))
    self.assertLen(set(graphs.labels[0]), task.num_nodes)
    self.assertBetween(graphs.labels[0].max(), 0, task.vocabulary_size - 1)
    self.assertEqual(sorted(graphs.edge_order[0]), list(range(task.num_edges)))


class ValidationTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"num_chains": 0}, r"^task\.num_chains=0 .* at least 1$"),
    ({"num_chains": -2}, r"^task\.num_chains=-2 .* at least 1$"),
    ({"chain_length": 0}, r"^task\.chain_length=0 .* at least 1$"),
    ({"spare_labels": -1}, r"^task\.spare_labels=-1 .* at least 0$"),
    ({"max_steps": 4}, r"^task\.max_steps=4 .* at least 5, the way to the goal$"),
    ({"reset_prob": 1.0}, r"^task\.reset_prob=1\.0 .* in \[0, 1\)$"),
    ({"reset_prob": -0.1}, r"^task\.reset_prob=-0\.1 .* in \[0, 1\)$"),
    ({"reset_prob": float("nan")}, r"^task\.reset_prob=nan .* finite, and at most 1e\+06 in size$"),
    ({"visited_margin": 1e39}, r"^task\.visited_margin=1e\+39 .* finite, and at most 1e\+06 in size$"),
    ({"num_chains": 2**31}, r"^task\.num_chains=2147483648 .* an int32, from -2\^31 to 2\^31 - 1$"),
    ({"num_chains": 2.0}, r"^task\.num_chains=2\.0 .* an int$"),
    ({"num_chains": 2**13}, r"^task\.num_chains=8192 .* such that there are at most 16384 labels, not 24578$"),
    ({"explore_prob": 1.5}, r"^task\.explore_prob=1\.5 .* in \[0, 1\]$"),
    ({"explore_prob": -0.5}, r"^task\.explore_prob=-0\.5 .* in \[0, 1\]$"),
    ({"visited_margin": -1.0}, r"^task\.visited_margin=-1\.0 .* at least 0$"),
    ({"goal_margin": 0.9}, r"^task\.goal_margin=0\.9 .* in \[0, 1 - 1/n\] = \[0, 0\.8\]$"),
    ({"goal_margin": -0.1}, r"^task\.goal_margin=-0\.1 .* in \[0, "),
    ({"goal_margin": 0.1, "visited_margin": 0.2}, r"^task\.goal_margin=0\.1 .* 0 where task\.visited_margin=0\.2 "),
    ({"injected_share": 1.5}, r"^task\.injected_share=1\.5 .* in \[0, 1\]$"),
    ({"injected_share": -0.1}, r"^task\.injected_share=-0\.1 .* in \[0, 1\]$"),
    ({"injected_kind": "loop"}, r"^task\.injected_kind='loop' .* one of \('root', 'child', 'cycle'\)$"),
    ({"injected_kind": "child", "num_chains": 1}, r"^task\.injected_kind='child' .* 'root' where "),
    ({"injected_kind": "cycle", "num_chains": 1, "chain_length": 1}, r"^task\.injected_kind='cycle' .* 'root' where "),
    ({"encoding": "edges"}, r"^task\.encoding='edges' .* 'edge' or 'flat'$"),
  )
  def test_bad_values(self, fields, message):
    with self.assertRaisesRegex(ValueError, message) as caught:
      StarGraph(**fields)
    self.assertIn("is not allowed: must be ", str(caught.exception))
    self.assertNotIn("\n", str(caught.exception))

  @parameterized.parameters(
    {"spare_labels": 3},
    {"max_steps": 5},
    {"reset_prob": 0.0, "explore_prob": 1.0},
    {"goal_margin": 0.8},
    {"num_chains": 1, "chain_length": 1, "max_steps": 3},
    {"injected_share": 1.0, "injected_kind": "cycle", "num_chains": 1, "chain_length": 2},
  )
  def test_values_at_the_bounds(self, **fields):
    StarGraph(**fields)

  def test_teacher_that_prefers_the_reset(self):
    StarGraph(num_chains=5, reset_prob=0.3, explore_prob=0.5).check_prefers_forward()  # 0.7 * 0.6 = 0.42
    StarGraph(num_chains=5, reset_prob=0.49).check_prefers_forward()
    with self.assertRaisesRegex(ValueError, r"^task\.reset_prob=0\.5 .* below 0\.5, "):
      StarGraph(num_chains=5, reset_prob=0.5).check_prefers_forward()
    with self.assertRaisesRegex(ValueError, r"^task\.reset_prob=0\.3 .* below 0\.14, "):
      StarGraph(num_chains=5, reset_prob=0.3, explore_prob=1.0).check_prefers_forward()


class NumberingTest(absltest.TestCase):
  @hypothesis.given(n=st.integers(1, 8), l=st.integers(1, 8))
  def test_against_a_graph_built_edge_by_edge(self, n, l):
    task = graph_of(n, l)
    parent = brute_force_parents(n, l)
    self.assertEqual((task.num_nodes, task.num_edges), (len(parent) + 1, len(parent)))
    np.testing.assert_array_equal(task.parents(), [-1] + [parent[node] for node in range(1, task.num_nodes)])
    children = [node for node, before in parent.items() if before == ROOT]
    np.testing.assert_array_equal(task.children(), children)
    leaves = sorted(set(parent) - set(parent.values()))
    np.testing.assert_array_equal(task.goal_node(np.arange(n)), leaves)


class SamplerTest(parameterized.TestCase):
  @hypothesis.settings(max_examples=5)  # each size is compiled, which takes a second or two
  @hypothesis.given(n=st.integers(1, 6), l=st.integers(1, 6), spare_labels=st.integers(0, 20))
  def test_labels_are_distinct_and_edges_a_permutation(self, n, l, spare_labels):
    task = graph_of(n, l, spare_labels)
    graph = sample_graphs(task, 4)
    for labels, edge_order in zip(graph.labels, graph.edge_order, strict=True):
      self.assertLen(set(labels.tolist()), task.num_nodes)
      self.assertBetween(int(labels.min()), 0, int(labels.max()))
      self.assertLess(int(labels.max()), task.vocabulary_size)
      self.assertEqual(sorted(edge_order.tolist()), list(range(task.num_edges)))

  def test_labels_and_edges_are_uniform(self):
    task, graph = many_graphs()
    for node in range(task.num_nodes):
      self.assertGreater(uniformity(graph.labels[:, node], task.vocabulary_size), SMALLEST_P)
    for place in range(task.num_edges):
      self.assertGreater(uniformity(graph.edge_order[:, place], task.num_edges), SMALLEST_P)

  def test_pairs_are_uniform(self):
    task, graph = many_graphs()
    for values, size in ((graph.labels, task.vocabulary_size), (graph.edge_order, task.num_edges)):
      first, second = values[:, 0], values[:, 1]
      ordered_pair = first * (size - 1) + second - (second > first)
      self.assertGreater(uniformity(ordered_pair, size * (size - 1)), SMALLEST_P)

  def test_labels_do_not_depend_on_the_order_of_edges(self):
    task, graph = many_graphs()
    table = np.zeros((task.vocabulary_size, task.num_edges))
    np.add.at(table, (graph.labels[:, 0], graph.edge_order[:, 0]), 1)
    self.assertGreater(scipy.stats.chi2_contingency(table).pvalue, SMALLEST_P)

  def test_goals_are_uniform(self):
    task = graph_of(5, 2)
    keys = jax.random.split(jax.random.key(1), 2000)
    goals = jax.jit(jax.vmap(lambda key: sample_goal(task, key)))(keys)
    self.assertGreater(uniformity(np.asarray(goals), 5), SMALLEST_P)


if __name__ == "__main__":
  absltest.main()
