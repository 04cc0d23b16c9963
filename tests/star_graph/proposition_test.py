"""Tests of loopjax.star_graph.theory.proposition: against a numerical maximum of the likelihood, and closed forms."""

from __future__ import annotations

import numpy as np
from absl.testing import absltest, parameterized
from scipy import optimize

from loopjax.star_graph import theory


class PropositionOneTest(parameterized.TestCase):
  @parameterized.product(cycle_prob=(0.1, 0.3, 0.55), num_children=(1, 2, 5))
  def test_maximises_the_likelihood(self, cycle_prob, num_children):
    """A student that cannot tell the children apart gives one distribution, whichever child is right."""

    def negative_log_likelihood(logits):
      log_q = logits - np.log(np.sum(np.exp(logits)))
      return -cycle_prob * log_q[0] - (1 - cycle_prob) * np.mean(log_q[1:])

    start = np.random.default_rng(0).normal(size=1 + num_children)
    logits = optimize.minimize(negative_log_likelihood, start, options={"gtol": 1e-8}).x
    student = np.exp(logits) / np.sum(np.exp(logits))
    solution = theory.proposition_one(cycle_prob, num_children)
    np.testing.assert_allclose(student, [solution.cycle] + [solution.child] * num_children, atol=1e-5)

  @parameterized.parameters(1, 2, 3, 5, 10, 47)
  def test_phases_meet_at_the_threshold(self, num_children):
    threshold = theory.proposition_threshold(num_children)
    on_line = theory.proposition_one(threshold, num_children)
    np.testing.assert_allclose(on_line.cycle, on_line.child, rtol=1e-12)
    phases = theory.argmax_phase(threshold + np.array([-1e-6, 0, 1e-6]), num_children)
    self.assertSequenceEqual(list(phases), ["child", "tie", "cycle"])

  def test_temperature(self):
    cold, hot = (theory.proposition_one(0.4, 3, temperature=t) for t in (0.5, 1e6))
    np.testing.assert_allclose([cold.cycle, cold.child], np.array([0.4**2, 0.2**2]) / (0.4**2 + 3 * 0.2**2))
    np.testing.assert_allclose([hot.cycle, hot.child], 0.25, atol=1e-5)
    for p, want in ((0.26, (1, 0)), (0.24, (0, 1 / 3)), (0.25, (0.25, 0.25)), (0, (0, 1 / 3)), (1, (1, 0))):
      near_zero = theory.proposition_one(p, 3, temperature=1e-4)
      np.testing.assert_allclose(theory.proposition_one(p, 3, temperature=0.0), want, rtol=1e-12, err_msg=str(p))
      np.testing.assert_allclose(near_zero, want, atol=1e-9, err_msg=str(p))

  def test_broadcasts(self):
    p, n = np.linspace(0, 1, 7)[:, None], np.arange(1, 5)
    solution = theory.proposition_one(p, n, temperature=0.7)
    self.assertEqual(solution.cycle.shape, (7, 4))
    np.testing.assert_allclose(solution.cycle + n * solution.child, 1)
    self.assertEqual(solution.child[3, 2], theory.proposition_one(p[3, 0], n[2], temperature=0.7).child)

  @parameterized.parameters(
    dict(cycle_prob=1.5, num_children=2),
    dict(cycle_prob=-0.1, num_children=2),
    dict(cycle_prob=float("nan"), num_children=2),
    dict(cycle_prob=0.5, num_children=0),
    dict(cycle_prob=0.5, num_children=2.5),
    dict(cycle_prob=0.5, num_children=2, temperature=-1.0),
    dict(cycle_prob=0.5, num_children=2, temperature=float("inf")),
    dict(cycle_prob=0.5, num_children=2, temperature=float("nan")),
  )
  def test_bad_arguments(self, **arguments):
    with self.assertRaisesRegex(ValueError, "is not allowed"):
      theory.proposition_one(**arguments)


if __name__ == "__main__":
  absltest.main()
