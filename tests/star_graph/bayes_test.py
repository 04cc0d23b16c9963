"""Tests of loopjax.star_graph.theory.bayes: its Monte Carlo against full enumeration, theory and closed forms."""

from __future__ import annotations

import dataclasses

import numpy as np
from absl.testing import absltest, parameterized

from loopjax.star_graph import theory
from tests.star_graph import brute_force
from tests.star_graph.walk_statistics import WalkStatisticsTestCase, enumerated_statistics, make_task


class BayesTest(WalkStatisticsTestCase):
  @parameterized.product(
    sizes=((2, 2, 12), (3, 1, 11), (3, 2, 11)),
    settings=(
      dict(),
      dict(explore_prob=0.5),
      dict(explore_prob=1.0),
      dict(explore_prob=0.7, visited_margin=0.2),
      dict(explore_prob=0.5, visited_margin=3.0),
      dict(explore_prob=0.8, goal_margin=0.2),
    ),
    temperature=(1.0, 0.5, 0.0),
  )
  def test_within_errors_of_enumeration(self, sizes, settings, temperature):
    """Brute force computes the posterior from the whole walk at every step."""
    task = make_task(*sizes[:2], 0.25, sizes[2], **settings)
    exact = enumerated_statistics(task, brute_force.bayes_at(temperature))
    self.assert_sampled(theory.bayes_statistics(task, temperature=temperature, num_walks=20_000, seed=3), exact)

  @parameterized.parameters(dict(explore_prob=0.5), dict(explore_prob=1.0, temperature=0.7), dict(temperature=2.0))
  def test_one_chain_is_the_teacher(self, temperature=1.0, **settings):
    task = make_task(1, 3, 0.35, 20, **settings)
    sampled = theory.bayes_statistics(task, temperature=temperature, num_walks=20_000, seed=1)
    self.assert_sampled(sampled, theory.teacher_statistics(task, temperature=temperature))

  def test_without_knowledge_it_is_the_teacher(self):
    """e = 1 without a goal margin: the teacher does not use g, so there is nothing to infer, but at leaves."""
    task = make_task(4, 2, 0.3, 40, explore_prob=1.0, visited_margin=0.1)
    sampled = theory.bayes_statistics(task, num_walks=20_000, seed=2)
    self.assert_sampled(sampled, theory.teacher_statistics(task))

  @parameterized.parameters(0.0, 1.0, 3.0)
  def test_search_without_exploration(self, temperature):
    """e = 0, no reset: each child is believed in until its leaf; one after the other, none twice."""
    n, chain_length = 5, 2
    task = make_task(n, chain_length, 0.0, n * (chain_length + 2))
    sampled = theory.bayes_statistics(task, temperature=temperature, num_walks=20_000, seed=4)
    want = theory.WalkStatistics(
      reached=1,
      returns=(n - 1) / 2,
      response_length=(chain_length + 2) * (n + 1) / 2,
      root_loop_share=0,
      distinct_children=(n + 1) / 2,
      revisits=0,
      successful_length=(chain_length + 2) * (n + 1) / 2,
      successful_returns=(n - 1) / 2,
    )
    self.assert_sampled(sampled, want)
    self.assertEqual(sampled.standard_error.reached, 0)

  def test_keeps_to_the_first_child_until_its_leaf(self):
    """e = 0: the first child entered is the goal's, for all it knows; only its leaf tells otherwise."""
    task = make_task(4, 3, 0.3, 60)
    walks = theory.sample_bayes_walks(task, num_walks=500, seed=5)
    switches = 0
    for walk in walks:
      current = None
      for node in walk[walk > 1]:
        chain, depth = divmod(int(node) - 2, task.chain_length)
        if current is not None:
          self.assertEqual(chain, current)
        switches += depth == task.chain_length - 1
        current = None if depth == task.chain_length - 1 else chain
    self.assertGreater(switches, 500)

  def test_walks_are_walks(self):
    """Every move is an edge or a reset, and a walk ends at the goal or at the cut."""
    task = make_task(3, 2, 0.3, 16, explore_prob=0.5)
    walks = theory.sample_bayes_walks(task, num_walks=300, seed=6)
    for row in walks:
      walk = [int(node) for node in row if node >= 0]
      self.assertSequenceEqual(walk + [-1] * (len(row) - len(walk)), row.tolist())
      for i in range(1, len(walk)):
        self.assertIn(walk[i], brute_force.teacher_distribution(task, 0, walk[:i]))
      goal = brute_force.goal_of(task, 0)
      self.assertNotIn(goal, walk[:-1])
      self.assertTrue(walk[-1] == goal or len(walk) == task.max_steps)

  def test_standard_errors_are_those_of_repeated_sampling(self):
    task = make_task(3, 2, 0.3, 16, explore_prob=0.5)
    runs = [theory.bayes_statistics(task, num_walks=400, seed=seed) for seed in range(200)]
    for field in dataclasses.fields(theory.WalkStatistics):
      spread = np.std([getattr(run.mean, field.name) for run in runs])
      stated = np.mean([getattr(run.standard_error, field.name) for run in runs])
      np.testing.assert_allclose(stated, spread, rtol=0.2, err_msg=field.name)  # 5% is one error of the spread itself

  def test_seed_decides(self):
    task = make_task(3, 2, 0.3, 16, explore_prob=0.5)
    first, again, other = (theory.sample_bayes_walks(task, num_walks=50, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    self.assertTrue((first != other).any())

  def test_bad_arguments(self):
    task = make_task(2, 2, 0.3)
    for arguments in (dict(num_walks=1), dict(temperature=-1.0), dict(temperature=float("nan"))):
      with self.assertRaisesRegex(ValueError, "is not allowed"):
        theory.bayes_statistics(task, **arguments)


if __name__ == "__main__":
  absltest.main()
