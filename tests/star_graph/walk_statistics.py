"""What the tests of loopjax.star_graph.theory share: walk statistics by enumeration, and comparisons of them."""

from __future__ import annotations

import dataclasses

import numpy as np
from absl.testing import parameterized

from loopjax.star_graph import theory
from loopjax.star_graph.graph import StarGraph
from tests.star_graph import brute_force

# Standard errors allowed; with fixed seeds a test that passes keeps passing.
TOLERANCE = 4


def make_task(num_chains, chain_length, reset_prob, max_steps=24, **settings):
  return StarGraph(num_chains, chain_length, max_steps=max_steps, reset_prob=reset_prob, **settings)


def mean_statistics(task, weighted_measures):
  """WalkStatistics of pairs (measures, weight), by the definitions."""
  measures = np.array([m[:6] for m, _ in weighted_measures], float)
  weights = np.array([w for _, w in weighted_measures])
  weights = weights / weights.sum()
  success, returns, length = measures[:, 0], measures[:, 1], measures[:, 2]
  reached = weights @ success
  given = [(weights * success) @ x / reached if reached > 0 else np.nan for x in (length, returns)]
  return theory.WalkStatistics(*(weights @ measures), *given)


def enumerated_statistics(task, policy):
  """The exact statistics by listing every walk and injected loop, for each goal. Probabilities must sum to 1."""
  pairs = []
  for goal_chain in range(task.num_chains):
    walks = list(brute_force.enumerate_walks(task, goal_chain, policy))
    np.testing.assert_allclose(sum(probability for _, probability in walks), 1, atol=1e-12)
    walks = [(walk, (1 - task.injected_share) * probability) for walk, probability in walks]
    loops = brute_force.injected_loops(task, goal_chain)
    walks += [(loop, task.injected_share / len(loops)) for loop in loops]
    pairs += [(brute_force.measure_walk(task, walk, goal_chain), probability) for walk, probability in walks]
  return mean_statistics(task, pairs)


class WalkStatisticsTestCase(parameterized.TestCase):
  def assert_same_statistics(self, got, want, rtol=1e-12):
    for field in dataclasses.fields(theory.WalkStatistics):
      a, b = getattr(got, field.name), getattr(want, field.name)
      np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol, err_msg=field.name)

  def assert_within_errors(self, got, want, error, label):
    """|got - want| <= TOLERANCE standard errors; a standard error of 0 asks for equality up to rounding."""
    self.assertLessEqual(abs(got - want), TOLERANCE * error + 1e-9, f"{label}: {got} against {want} +- {error}")

  def assert_sampled(self, sampled, exact, skip=()):
    for field in dataclasses.fields(theory.WalkStatistics):
      if field.name not in skip:
        mean, error = getattr(sampled.mean, field.name), getattr(sampled.standard_error, field.name)
        self.assert_within_errors(mean, getattr(exact, field.name), error, field.name)
