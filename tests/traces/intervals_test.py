import math

import numpy as np
from absl.testing import absltest, parameterized

from loopjax.traces import intervals


class ShareTest(parameterized.TestCase):
  def test_hand_computed(self):
    # 4 problems of 2 responses, hits 2, 1, 0, 0: residuals 1.25, 0.25, -0.75, -0.75 about 3/8; variance
    # 4/3 (1.5625 + 0.0625 + 2 0.5625) / 64 = 0.0572917; effective number 0.234375 / 0.0572917 = 4.0909.
    found = intervals.share(np.array([1, 1, 1, 0, 0, 0, 0, 0]), np.repeat(np.arange(4), 2))
    t, num = 3.182446, 4.090909
    middle = (3 / 8 + t**2 / (2 * num)) / (1 + t**2 / num)
    half = t / (1 + t**2 / num) * math.sqrt(0.234375 / num + t**2 / (4 * num**2))
    self.assertEqual((found.share, found.num, found.num_problems), (3 / 8, 8, 4))
    np.testing.assert_allclose([found.low, found.high], [middle - half, middle + half], rtol=1e-5)

  def test_none_of_the_responses_or_all_leave_room(self):
    none = intervals.share(np.zeros(200), np.repeat(np.arange(10), 20))
    every = intervals.share(np.ones(200), np.repeat(np.arange(10), 20))
    self.assertEqual((none.low, every.high), (0, 1))
    self.assertBetween(none.high, 0.2, 0.5)  # ten problems tell, not two hundred responses
    self.assertAlmostEqual(every.low, 1 - none.high)

  def test_what_does_not_count(self):
    found = intervals.share(np.array([1, np.nan, 0, np.nan]), np.array([5, 6, 7, 8]))
    self.assertEqual((found.share, found.num, found.num_problems), (0.5, 2, 2))
    self.assertTrue(math.isnan(found.low) and math.isnan(found.high))  # below LEAST problems
    self.assertEqual(intervals.share(np.array([np.nan]), np.array([0])).num, 0)

  @parameterized.parameters((30, 20, 0.1), (100, 4, 0.05), (12, 20, 0.3))
  def test_coverage_with_problems_that_differ(self, num_problems, samples, mean):
    rng = np.random.default_rng(0)
    problems, covered = np.repeat(np.arange(num_problems), samples), []
    for _ in range(1000):
      own = rng.beta(0.5 * mean, 0.5 * (1 - mean), num_problems)  # most problems nearly always or nearly never loop
      found = intervals.share(rng.random(len(problems)) < own[problems], problems)
      covered.append(found.low <= mean <= found.high)
    self.assertBetween(np.mean(covered), 0.92, 0.995)


if __name__ == "__main__":
  absltest.main()
