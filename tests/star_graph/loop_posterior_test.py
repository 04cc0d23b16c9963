"""Tests of `theory.loop_posterior`: against Bayes by enumeration, Monte Carlo in plain Python, closed forms."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
from absl.testing import absltest, parameterized

from loopjax.star_graph import theory
from tests.star_graph import brute_force
from tests.star_graph.walk_statistics import WalkStatisticsTestCase, enumerated_statistics, make_task

CLEAN = {True: brute_force.teacher_distribution, False: brute_force.memoryless_distribution}


class LoopPosteriorTest(parameterized.TestCase):
  @parameterized.parameters(dict(explore_prob=0.5), dict(explore_prob=1.0, visited_margin=0.2), dict(goal_margin=0.1))
  def test_is_bayes_of_the_walks_likelihoods(self, **settings):
    for share in (0.0, 1e-3, 0.3, 1.0):
      task = make_task(3, 2, 0.3, injected_share=share, **settings)
      want = [brute_force.loop_posterior(task, [0, 1] * (k + 1), share) for k in range(9)]
      np.testing.assert_allclose(theory.loop_posterior(task, np.arange(9)), want, rtol=1e-12)

  def test_one_per_thousand_passes_one_half_after_six_cycles(self):
    posterior = theory.loop_posterior(make_task(5, 3, 0.3, injected_share=1e-3), [[0, 5], [6, 10**6]])
    self.assertEqual(posterior.shape, (2, 2))
    np.testing.assert_allclose(posterior[0, 0], 1e-3)
    self.assertLess(posterior[0, 1], 0.5)
    self.assertGreater(posterior[1, 0], 0.5)
    self.assertEqual(posterior[1, 1], 1)  # 0.3 ** 10**6 is 0
    self.assertEqual(theory.loop_posterior(make_task(5, 3, 0.3), 10**6), 0)

  def test_bad_arguments(self):
    task = make_task(3, 2, 0.3, injected_share=0.1)
    for cycles in (-1, [0, 0.5], float("nan")):
      with self.assertRaisesRegex(ValueError, "^num_cycles=.* whole, at least 0$"):
        theory.loop_posterior(task, cycles)
    child = dataclasses.replace(task, injected_kind="child")
    for call in (lambda: theory.loop_posterior(child, 0), lambda: theory.loop_posterior_statistics(child, traced=True)):
      with self.assertRaisesRegex(ValueError, "^task.injected_kind='child' .* 'root' for the loop posterior$"):
        call()
    with self.assertRaisesRegex(ValueError, "^temperature"):
      theory.loop_posterior_statistics(task, temperature=-1, traced=True)


class LoopPosteriorStatisticsTest(WalkStatisticsTestCase):
  @parameterized.product(
    sizes=((1, 2, 9), (2, 2, 10), (3, 1, 9)),
    settings=(dict(), dict(explore_prob=0.6), dict(explore_prob=0.9, visited_margin=0.3)),
    temperature=(1.0, 0.5, 0.0),
    share=(0.02, 0.4),
    traced=(True, False),
  )
  def test_equals_enumeration(self, sizes, settings, temperature, share, traced):
    n, chain_length, max_steps = sizes
    clean = make_task(n, chain_length, 0.25, max_steps, **settings)
    task = dataclasses.replace(clean, injected_share=share)
    want = enumerated_statistics(clean, brute_force.loop_posterior_at(temperature, share, CLEAN[traced]))
    got = theory.loop_posterior_statistics(task, temperature=temperature, traced=traced)
    self.assert_same_statistics(got, want)

  @parameterized.product(traced=(True, False), temperature=(0.4, 1.0))
  def test_within_errors_of_monte_carlo(self, traced, temperature):
    """At a cut that lets the posterior rise to 1."""
    share, rng = 0.03, random.Random(4)
    task = make_task(4, 2, 0.3, 40, explore_prob=0.5)
    policy = brute_force.loop_posterior_at(temperature, share, CLEAN[traced])
    measures = []
    for _ in range(600):
      goal_chain = rng.randrange(task.num_chains)
      walk = brute_force.sample_walk(task, goal_chain, rng, policy)
      measures.append(brute_force.measure_walk(task, walk, goal_chain)[:6])
    poisoned = dataclasses.replace(task, injected_share=share)
    exact = dataclasses.astuple(theory.loop_posterior_statistics(poisoned, temperature=temperature, traced=traced))
    for i, sample in enumerate(np.array(measures, float).T):
      name = dataclasses.fields(theory.WalkStatistics)[i].name
      self.assert_within_errors(sample.mean(), exact[i], sample.std(ddof=1) / np.sqrt(len(sample)), name)

  @parameterized.product(temperature=(0.0, 0.3, 1.0, 2.0), reset_prob=(0.3, 0.0))
  def test_clean_without_injection_or_without_resets(self, temperature, reset_prob):
    clean = make_task(3, 2, reset_prob, 30, explore_prob=0.5, visited_margin=0.1)
    task = dataclasses.replace(clean, injected_share=0.0 if reset_prob > 0 else 0.1)
    for traced, statistics in ((True, theory.teacher_statistics), (False, theory.memoryless_statistics)):
      got = theory.loop_posterior_statistics(task, temperature=temperature, traced=traced)
      self.assert_same_statistics(got, statistics(clean, temperature=temperature))

  @parameterized.parameters(
    (0.2, (34, 52, 57), (0.66, 0.23, 0.11)),
    (0.4, (13, 18, 25), (0.95, 0.85, 0.72)),
  )
  def test_near_the_first_simulation(self, temperature, returns, reached):
    """The figures of the simulation that led to this learner: untraced, G(5,3), e = 0.5, cut 128; two digits."""
    for share, want_returns, want_reached in zip((0, 1e-3, 1e-2), returns, reached, strict=True):
      task = make_task(5, 3, 0.3, 128, explore_prob=0.5, injected_share=share)
      statistics = theory.loop_posterior_statistics(task, temperature=temperature, traced=False)
      np.testing.assert_allclose(statistics.returns, want_returns, atol=1)
      np.testing.assert_allclose(statistics.reached, want_reached, atol=0.02)

  @parameterized.parameters(0.3, 0.1)
  def test_no_room_at_zero_temperature(self, reset_prob):
    """With resets of 0.3 the clean learner is at the cut already; with 0.1 it enters a child at once."""
    clean = make_task(5, 3, reset_prob, 128, explore_prob=0.5)
    task = dataclasses.replace(clean, injected_share=0.01)
    got = theory.loop_posterior_statistics(task, temperature=0.0, traced=False)
    self.assert_same_statistics(got, theory.memoryless_statistics(clean, temperature=0.0))
    self.assertEqual(got.returns == 63, reset_prob == 0.3)


if __name__ == "__main__":
  absltest.main()
