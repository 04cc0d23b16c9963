"""The peers' samplers: the same walks as the teacher's, so that what they are timed on is the same work."""

from __future__ import annotations

import random

import numpy as np
from absl.testing import absltest, parameterized

from experiments.benchmarks.peers import numpy_sampler
from loopjax.star_graph import theory
from loopjax.star_graph.graph import StarGraph

TASK = StarGraph(num_chains=4, chain_length=3, spare_labels=2, max_steps=40, explore_prob=0.5)


def check_example(test, edges, goal, walk):
  """An example's edges form the star graph, its goal is a leaf, its moves are edges or returns to the first node."""
  children: dict[int, list[int]] = {}
  for parent, child in edges:
    children.setdefault(parent, []).append(child)
  test.assertLen(edges, TASK.num_edges)
  root = walk[1]
  test.assertEqual(children[walk[0]], [root])
  test.assertLen(children[root], TASK.num_chains)
  test.assertNotIn(goal, children)
  for before, after in zip(walk[:-1], walk[1:], strict=True):
    test.assertTrue(after == walk[0] or after in children[before])
  test.assertEqual(walk.index(goal) if goal in walk else TASK.max_steps, len(walk) - (goal in walk))


class SamplerTest(parameterized.TestCase):
  def examples(self, kind, count):
    """Examples as (edges, goal, walk)."""
    if kind == "plain":
      rng = random.Random(0)
      return [numpy_sampler.sample_plainly(TASK, rng) for _ in range(count)]
    tokens, targets = numpy_sampler.sample_batch(TASK, np.random.default_rng(0), count)
    first = TASK.num_edges
    return [
      (list(map(tuple, t[:first].tolist())), int(t[first, 0]), [int(t[first + 1, 0]), *(w[w >= 0].tolist())])
      for t, w in zip(tokens, targets, strict=True)
    ]

  @parameterized.parameters("plain", "batch")
  def test_examples_are_walks_on_a_star_graph_and_as_long_as_the_exact_teachers(self, kind):
    examples = self.examples(kind, 4_000)
    for edges, goal, walk in examples[:100]:
      check_example(self, edges, goal, walk)
    lengths = np.array([len(walk) for _, _, walk in examples])
    reached = np.array([goal in walk for _, goal, walk in examples])
    exact = theory.teacher_statistics(TASK)
    for name, found, expected in (
      ("length", lengths, exact.response_length), ("reached", reached, exact.reached)
    ):  # fmt: skip
      self.assertLess(abs(found.mean() - expected), 4 * found.std() / len(found) ** 0.5, name)


if __name__ == "__main__":
  absltest.main()
