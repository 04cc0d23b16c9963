import math

import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized
from scipy import stats

from loopjax.statistics import describe_groups, mean_interval, ratio_interval

REPLICATIONS = 20_000
# Four standard deviations of a binomial share at 0.95: a right interval misses it once in 16,000 times.
TOLERANCE = 4 * math.sqrt(0.95 * 0.05 / REPLICATIONS)


def coverage(interval, truth):
  return np.mean((interval.low <= truth) & (truth <= interval.high))


class MeanIntervalTest(parameterized.TestCase):
  def test_hand_computed(self):
    # Mean 3, variance 10 / 4, standard error sqrt(0.5); t(0.975, 4) = 2.7764451.
    interval = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    self.assertAlmostEqual(interval.mean, 3.0)
    self.assertAlmostEqual(interval.low, 3 - 2.7764451 * 0.70710678, places=6)
    self.assertAlmostEqual(interval.high, 3 + 2.7764451 * 0.70710678, places=6)
    self.assertEqual(interval.num_seeds, 5)
    self.assertFalse(interval.zero_variance)

  @parameterized.parameters((2, 0.95), (7, 0.95), (30, 0.8))
  def test_against_scipy(self, num_seeds, confidence):
    values = np.random.default_rng(num_seeds).gamma(2.0, size=num_seeds)
    interval = mean_interval(values, confidence)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(confidence)
    np.testing.assert_allclose([interval.low, interval.high], [low, high], rtol=1e-12)

  @parameterized.parameters(4, 16)
  def test_coverage(self, num_seeds):
    values = np.random.default_rng(num_seeds).normal(3.0, 2.0, size=(num_seeds, REPLICATIONS))
    self.assertAlmostEqual(coverage(mean_interval(values), 3.0), 0.95, delta=TOLERANCE)

  def test_nan_seeds_are_left_out(self):
    values = [1.0, math.nan, 2.0, 4.0, math.nan]
    self.assertEqual(mean_interval(values), mean_interval([1.0, 2.0, 4.0]))
    self.assertEqual(mean_interval(values).num_seeds, 3)

  def test_axes(self):
    values = np.random.default_rng(0).normal(size=(3, 5, 2))
    values[1, 2, 0] = math.nan
    interval = mean_interval(values, axis=1)
    for part in interval:
      self.assertEqual(part.shape, (3, 2))
    for i, j in np.ndindex(3, 2):
      alone = mean_interval(values[i, :, j])
      np.testing.assert_allclose([part[i, j] for part in interval], np.array(alone, float), rtol=1e-12)

  @parameterized.parameters(([2.5],), ([math.nan, 2.5],))
  def test_one_seed_bounds_nothing(self, values):
    self.assertEqual(mean_interval(values), (2.5, -math.inf, math.inf, 1, False))

  @parameterized.parameters(([],), ([math.nan, math.nan],))
  def test_no_seed(self, values):
    interval = mean_interval(values)
    self.assertTrue(math.isnan(interval.mean))
    self.assertEqual(interval[1:], (-math.inf, math.inf, 0, False))

  @parameterized.parameters(0.1, 0.0, -3.0)
  def test_zero_variance_is_a_point_and_flagged(self, value):
    # The mean of three 0.1 in floating point is not 0.1; a bound of 0.1 must still meet it exactly.
    self.assertEqual(mean_interval([value, value, math.nan, value]), (value, value, value, 3, True))

  def test_nearly_zero_variance_is_not_flagged(self):
    self.assertFalse(mean_interval([1.0, 1.0, 1.0 + 1e-12]).zero_variance)

  @parameterized.parameters(0.0, 1.0, 95.0)
  def test_bad_confidence(self, confidence):
    with self.assertRaisesRegex(ValueError, "confidence="):
      mean_interval([1.0, 2.0], confidence)

  def test_infinities_are_refused(self):
    with self.assertRaisesRegex(ValueError, "infinity"):
      mean_interval([1.0, math.inf])


class RatioIntervalTest(parameterized.TestCase):
  def test_hand_computed_pairs(self):
    # x = 2, 4, 6 and y = 1, 2, 1: means 4 and 4/3; variances of the means 4/3 and 1/9, covariance 0;
    # t(0.975, 2) = 4.3026527, t^2 = 18.512821. a = 16/9 - t^2/9 < 0: unbounded. With y = 10, 11, 10:
    # a = 961/9 - t^2/9 = 104.720798, b = 4 * 31/3 = 41.333333, c = 16 - t^2 * 4/3 = -8.683761.
    unbounded = ratio_interval([2.0, 4.0, 6.0], [1.0, 2.0, 1.0], paired=True)
    np.testing.assert_allclose(np.array(unbounded, float), [3.0, -math.inf, math.inf, 3, 0])
    interval = ratio_interval([2.0, 4.0, 6.0], [10.0, 11.0, 10.0], paired=True)
    root = math.sqrt(41.333333**2 + 104.720798 * 8.683761)
    expected = [12 / 31, (41.333333 - root) / 104.720798, (41.333333 + root) / 104.720798, 3, 0]
    np.testing.assert_allclose(np.array(interval, float), expected, rtol=1e-6)

  def test_pairs_against_the_t_test_it_inverts(self):
    rng = np.random.default_rng(1)
    y = rng.normal(10, 1, 8)
    x = 3 * y + rng.normal(0, 2, 8)
    interval = ratio_interval(x, y, paired=True)
    for end in (interval.low, interval.high):  # at either end the test of mean(x - r y) = 0 has p = 0.05
      self.assertAlmostEqual(stats.ttest_1samp(x - end * y, 0).pvalue, 0.05, places=10)
    self.assertLess(interval.low, interval.mean)
    self.assertLess(interval.mean, interval.high)
    self.assertAlmostEqual(interval.mean, x.mean() / y.mean())

  def test_constant_denominator_is_the_interval_of_the_mean(self):
    x = np.array([1.0, 2.0, 4.0, 3.5])
    ratio, mean = ratio_interval(x, np.full(4, 2.0), paired=True), mean_interval(x / 2)
    np.testing.assert_allclose(np.array(ratio, float), np.array(mean, float), rtol=1e-12)

  @parameterized.parameters(4, 16)
  def test_coverage_paired(self, num_seeds):
    rng = np.random.default_rng(num_seeds)
    y = rng.normal(5.0, 1.0, size=(num_seeds, REPLICATIONS))
    x = 2 * y + 5.0 + rng.normal(size=y.shape)  # correlated; the ratio of the means is 3
    self.assertAlmostEqual(coverage(ratio_interval(x, y, paired=True), 3.0), 0.95, delta=TOLERANCE)

  @parameterized.parameters((8, 8, 1.0), (6, 16, 3.0), (16, 6, 3.0))
  def test_coverage_unpaired(self, num_x, num_y, scale):
    rng = np.random.default_rng(num_x)
    x = rng.normal(30.0, scale, size=(num_x, REPLICATIONS))
    y = rng.normal(10.0, 1.0, size=(num_y, REPLICATIONS))
    # Satterthwaite's degrees of freedom are an approximation: half a percent is granted to it.
    interval = ratio_interval(x, y, paired=False)
    self.assertAlmostEqual(coverage(interval, 3.0), 0.95, delta=TOLERANCE + 0.005)
    self.assertEqual(interval.num_seeds[0], min(num_x, num_y))

  def test_a_denominator_that_may_be_zero_bounds_nothing_and_never_undercovers(self):
    rng = np.random.default_rng(5)
    x, y = rng.normal(1.0, 1.0, size=(4, REPLICATIONS)), rng.normal(0.5, 1.0, size=(4, REPLICATIONS))
    interval = ratio_interval(x, y, paired=True)
    self.assertGreater(np.mean(np.isinf(interval.low)), 0.5)
    np.testing.assert_array_equal(np.isinf(interval.low), np.isinf(interval.high))
    self.assertGreater(coverage(interval, 2.0), 0.95)

  def test_covariance_narrows_the_interval(self):
    rng = np.random.default_rng(2)
    y = rng.normal(10, 2, 12)
    x = 3 * y + rng.normal(0, 0.1, 12)
    paired, unpaired = ratio_interval(x, y, paired=True), ratio_interval(x, y, paired=False)
    self.assertLess(10 * (paired.high - paired.low), unpaired.high - unpaired.low)

  def test_pairs_with_a_nan_in_either_are_left_out(self):
    nan = math.nan
    interval = ratio_interval([3.0, nan, 5.0, 9.0, 7.0], [1.0, 2.0, 2.0, nan, 2.5], paired=True)
    expected = ratio_interval([3.0, 5.0, 7.0], [1.0, 2.0, 2.5], paired=True)
    self.assertEqual(interval, expected)
    self.assertEqual(interval.num_seeds, 3)

  def test_groups_leave_out_nan_each_for_itself(self):
    nan = math.nan
    interval = ratio_interval([3.0, nan, 5.0, 9.0], [1.0, 1.1, 1.2, nan, 1.3, 1.1], paired=False)
    expected = ratio_interval([3.0, 5.0, 9.0], [1.0, 1.1, 1.2, 1.3, 1.1], paired=False)
    self.assertEqual(interval, expected)
    self.assertEqual(interval.num_seeds, 3)
    self.assertTrue(math.isfinite(interval.low))

  def test_negative_means(self):
    rng = np.random.default_rng(3)
    x, y = rng.normal(6, 1, 9), rng.normal(3, 0.2, 9)
    low, high = ratio_interval(x, y, paired=True)[1:3]
    np.testing.assert_allclose(ratio_interval(x, -y, paired=True)[1:3], [-high, -low], rtol=1e-12)
    np.testing.assert_allclose(ratio_interval(-x, -y, paired=True)[1:3], [low, high], rtol=1e-12)

  @parameterized.parameters(
    ([0.0, 0.0, 0.0], [1.0, 2.0, 4.0], True, 0.0),  # no loops left at T = 1
    ([0.3, 0.6, 0.9], [0.1, 0.2, 0.3], True, 3.0),
    ([6.0, 6.0], [2.0, 2.0, 2.0], False, 3.0),
  )
  def test_zero_variance_is_a_point_and_flagged(self, x, y, paired, expected):
    interval = ratio_interval(x, y, paired=paired)
    self.assertTrue(interval.zero_variance)
    np.testing.assert_allclose(interval[:3], [expected] * 3, rtol=1e-14)

  @parameterized.parameters(
    ([1.0, 2.0], [0.0, 0.0], True), ([0.0, 0.0], [0.0, 0.0], True), ([1.0], [2.0], True), ([1.0, 2.0], [2.0], False)
  )
  def test_what_cannot_be_told_bounds_nothing(self, x, y, paired):
    interval = ratio_interval(x, y, paired=paired)
    self.assertEqual((interval.low, interval.high, interval.zero_variance), (-math.inf, math.inf, False))

  def test_axes(self):
    rng = np.random.default_rng(4)
    x, y = rng.normal(3, 1, size=(2, 6)), rng.normal(9, 1, size=(2, 6))
    for paired in (True, False):
      interval = ratio_interval(x, y, paired=paired, axis=1)
      for i in range(2):
        alone = ratio_interval(x[i], y[i], paired=paired)
        np.testing.assert_allclose([part[i] for part in interval], np.array(alone, float), rtol=1e-12)

  def test_pairs_of_different_shapes_are_refused(self):
    with self.assertRaisesRegex(ValueError, "one shape"):
      ratio_interval([1.0, 2.0], [1.0, 2.0, 3.0], paired=True)


class DescribeTest(absltest.TestCase):
  def test_groups_in_the_order_of_the_frame_also_those_without_a_name(self):
    frame = pd.DataFrame(
      {"condition": ["b", "b", "a", "a"], "T": [0.0, 0.0, np.nan, np.nan], "x": [1.0, 3.0, 5.0, 5.0]}
    )
    described = describe_groups(frame, ["condition", "T"], ["x"], ".1f")
    self.assertEqual(list(described.index.get_level_values("condition")), ["b", "a"])
    self.assertEqual(list(described["x"]), ["2.0 [-10.7, 14.7]", "5.0 [5.0, 5.0]"])  # t(1 degree, 0.975) = 12.706


if __name__ == "__main__":
  absltest.main()
