"""Tests of `theory.persistence`: against full enumeration, Monte Carlo in plain Python, and closed forms."""

from __future__ import annotations

import itertools
import random

import numpy as np
from absl.testing import absltest, parameterized

from loopjax.star_graph import theory
from tests.star_graph import brute_force
from tests.star_graph.brute_force import R, S
from tests.star_graph.walk_statistics import TOLERANCE, make_task

SETTINGS = (
  dict(explore_prob=1.0),
  dict(explore_prob=1.0, visited_margin=0.2),
  dict(explore_prob=1.0, visited_margin=3.0),
  dict(explore_prob=0.9, visited_margin=0.6),  # an unvisited child may pass the goal's, once that is visited
  dict(explore_prob=0.5),
  dict(explore_prob=0.8, goal_margin=0.2),
)


def top_children(task, goal_chain, walk):
  """The children to which the teacher gives most after `walk`."""
  distribution = brute_force.teacher_distribution(task, goal_chain, walk)
  children = {kid: distribution[kid] for kid in brute_force.children_of_root(task)}
  return {kid for kid, p in children.items() if p > max(children.values()) - 1e-12}


def visits_of(walk):
  """The node indices at which a walk stands at r and a node follows."""
  return [i for i in range(len(walk) - 1) if walk[i] == R]


def first_tops(task, goal_chain, walk, visit, temperature):
  """The children one of which is the top one at a pair's first visit: at T = 0 the one that the walk enters."""
  if temperature == 0 and walk[visit + 1] != S:
    return {walk[visit + 1]}
  return top_children(task, goal_chain, walk[: visit + 1])


def enumerated_pairs(task, temperature):
  """The expected pairs and agreeing pairs of the visits v = 1.., by listing every walk, two [K]."""
  counts = np.zeros((2, (task.max_steps - 3) // 2))
  for goal_chain in range(task.num_chains):
    for walk, probability in brute_force.enumerate_walks(task, goal_chain, brute_force.teacher_at(temperature)):
      for v, (visit, following) in enumerate(itertools.pairwise(visits_of(walk))):
        first = first_tops(task, goal_chain, walk, visit, temperature)
        second = top_children(task, goal_chain, walk[: following + 1])
        agreement = len(first & second) / len(first) / len(second)
        counts[:, v] += probability / task.num_chains * np.array([1, agreement])
  return counts


class PersistenceTest(parameterized.TestCase):
  @parameterized.product(
    sizes=((1, 2, 11), (2, 2, 12), (3, 1, 11)), settings=SETTINGS, temperature=(0.0, 0.5, 1.0), reset_prob=(0.2, 0.0)
  )
  def test_equals_enumeration(self, sizes, settings, temperature, reset_prob):
    n, chain_length, max_steps = sizes
    if n == 1 and "goal_margin" in settings:
      settings = dict(explore_prob=0.8)  # one child leaves no room for a margin
    task = make_task(n, chain_length, reset_prob, max_steps, **settings)
    want_pairs, want_agreeing = enumerated_pairs(task, temperature)
    persistence, pairs = theory.teacher_persistence_by_visit(task, temperature=temperature)
    np.testing.assert_allclose(pairs, want_pairs, rtol=1e-11, atol=1e-15)
    np.testing.assert_array_equal(np.isnan(persistence), pairs == 0)
    np.testing.assert_allclose(np.nan_to_num(persistence) * pairs, want_agreeing, rtol=1e-11, atol=1e-15)
    pooled = theory.teacher_persistence(task, temperature=temperature)
    if pairs.sum() > 0:
      np.testing.assert_allclose(pooled, want_agreeing.sum() / want_pairs.sum(), rtol=1e-11, atol=1e-15)
    else:
      self.assertTrue(np.isnan(pooled))

  @parameterized.product(settings=SETTINGS[:4], temperature=(0.0, 0.6))
  def test_within_errors_of_monte_carlo(self, settings, temperature):
    """Tops are drawn, not averaged over, one for each visit: they are those of walks at T = 0 too."""
    task, rng = make_task(4, 2, 0.1, 32, **settings), random.Random(8)
    counts = []
    for _ in range(500):
      goal_chain = rng.randrange(task.num_chains)
      walk = brute_force.sample_walk(task, goal_chain, rng, brute_force.teacher_at(temperature))
      drawn = [rng.choice(sorted(first_tops(task, goal_chain, walk, i, temperature))) for i in visits_of(walk)]
      counts.append((max(len(drawn) - 1, 0), sum(a == b for a, b in itertools.pairwise(drawn))))
    pairs, agreeing = np.array(counts, float).T
    if pairs.sum() == 0:  # greedy and told the goal's child
      self.assertTrue(np.isnan(theory.teacher_persistence(task, temperature=temperature)))
      return
    sampled = agreeing.sum() / pairs.sum()
    error = (agreeing - sampled * pairs).std(ddof=1) / pairs.mean() / np.sqrt(len(pairs))
    got = theory.teacher_persistence(task, temperature=temperature)
    self.assertLessEqual(abs(sampled - got), TOLERANCE * error + 1e-9)

  @parameterized.product(temperature=(0.0, 0.3, 1.0, 2.0), reset_prob=(0.0, 0.1, 0.3))
  def test_one_in_n_where_nothing_tells_children_apart(self, temperature, reset_prob):
    task = make_task(5, 3, reset_prob, 64, explore_prob=1.0)
    persistence, pairs = theory.teacher_persistence_by_visit(task, temperature=temperature)
    self.assertLen(pairs, 30)
    np.testing.assert_allclose(persistence[pairs > 0], 1 / 5, rtol=1e-12)
    np.testing.assert_allclose(theory.teacher_persistence(task, temperature=temperature), 1 / 5, rtol=1e-12)

  def test_greedy_walks_under_a_margin_never_repeat(self):
    """n = 5, m = 0.1: a child once entered is not the top one again before the goal is found."""
    task = make_task(5, 3, 0.0, 64, explore_prob=1.0, visited_margin=0.1)
    self.assertEqual(theory.teacher_persistence(task, temperature=0.0), 0)
    _, pairs = theory.teacher_persistence_by_visit(task, temperature=0.0)
    np.testing.assert_allclose(pairs[:5], [4 / 5, 3 / 5, 2 / 5, 1 / 5, 0], atol=1e-12)

  def test_saturated_margin_at_the_first_pair(self):
    """The first top child is not the one entered with (n - 1)/n, and then it is the next one with 1/(n - 1)."""
    for n in (2, 4, 7):
      task = make_task(n, 2, 0.0, 40, explore_prob=1.0, visited_margin=float(n))
      persistence, _ = theory.teacher_persistence_by_visit(task, temperature=1.0)
      np.testing.assert_allclose(persistence[0], 1 / n, rtol=1e-12)

  def test_a_known_goal_is_always_the_top(self):
    for settings in (dict(explore_prob=0.5), dict(explore_prob=1.0, goal_margin=0.05)):
      task = make_task(5, 3, 0.3, 64, **settings)
      np.testing.assert_allclose(theory.teacher_persistence(task, temperature=1.0), 1, rtol=1e-12)

  def test_no_pairs(self):
    task = make_task(1, 1, 0.3, 3)
    self.assertTrue(np.isnan(theory.teacher_persistence(task, temperature=1.0)))
    self.assertEqual([x.shape for x in theory.teacher_persistence_by_visit(task, temperature=1.0)], [(0,), (0,)])

  def test_bad_arguments(self):
    for function in (theory.teacher_persistence, theory.teacher_persistence_by_visit):
      with self.assertRaisesRegex(ValueError, "^temperature"):
        function(make_task(2, 2, 0.3), temperature=-1.0)
      with self.assertRaisesRegex(ValueError, "^task.injected_share"):
        function(make_task(2, 2, 0.3, injected_share=0.1), temperature=1.0)


if __name__ == "__main__":
  absltest.main()
