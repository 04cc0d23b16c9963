import itertools
import math

import hypothesis
import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized
from hypothesis import strategies
from scipy import stats

from loopjax import statistics
from loopjax.ratios import ratio_interval
from loopjax.statistics import describe_groups, holm, mean_interval, median_interval, sign_test

REPLICATIONS = 20_000
# Four standard deviations of a binomial share at 0.95: a right interval misses it once in 16,000 times.
TOLERANCE = 4 * math.sqrt(0.95 * 0.05 / REPLICATIONS)


def coverage(interval, truth):
  return np.mean((interval.low <= truth) & (truth <= interval.high))


class MedianIntervalTest(parameterized.TestCase):
  # P(Bin(6, 1/2) < 1) = 1.6%; P(Bin(8, 1/2) < 2) = 3.5%, P(Bin(9, 1/2) < 2) = 2.0%; P(Bin(16, 1/2) < 4) = 1.1%.
  @parameterized.parameters((6, 1), (8, 1), (9, 2), (16, 4))
  def test_ends_are_order_statistics(self, num_seeds, rank):
    values = np.random.default_rng(num_seeds).permutation(num_seeds) + 1.0
    expected = ((num_seeds + 1) / 2, rank, num_seeds + 1 - rank, num_seeds)
    self.assertEqual(median_interval(values), expected)

  @parameterized.product(num_seeds=(1, 5, 6, 7, 16, 25, 40, 100), confidence=(0.8, 0.95))
  def test_narrowest_pair_against_the_counted_coins(self, num_seeds, confidence):
    def missed(rank):  # the median lies under the rank-th smallest where fewer than so many of the seeds are under it
      return sum(math.comb(num_seeds, k) for k in range(rank)) / 2**num_seeds

    interval = median_interval(np.arange(1.0, num_seeds + 1), confidence)
    rank = 0 if math.isinf(interval.low) else int(interval.low)
    self.assertLessEqual(missed(rank), (1 - confidence) / 2)
    self.assertGreater(missed(rank + 1), (1 - confidence) / 2)
    self.assertEqual(interval.high, math.inf if rank == 0 else num_seeds + 1 - rank)

  @parameterized.parameters(0, 1, 4, 5)
  def test_fewer_than_six_seeds_bound_nothing_even_where_all_agree(self, num_seeds):
    interval = median_interval(np.ones(num_seeds))
    self.assertEqual(interval[1:], (-math.inf, math.inf, num_seeds))
    np.testing.assert_equal(interval.median, 1.0 if num_seeds else math.nan)

  def test_nan_seeds_count_against_either_end(self):
    nan = math.nan
    self.assertEqual(median_interval([1.0, 2.0, 3.0, nan, 4.0, 5.0]), (3.0, -math.inf, math.inf, 5))
    values = [*np.arange(1.0, 15.0), nan, nan]  # of 16 the 4th: the NaN are two of those before
    self.assertEqual(median_interval(values), (7.5, 2.0, 13.0, 14))
    self.assertEqual(median_interval([nan] * 16)[1:], (-math.inf, math.inf, 0))

  def test_axes(self):
    values = np.random.default_rng(0).normal(size=(3, 9, 2))
    values[1, 2, 0] = math.nan
    values[2, :, 1] = math.nan
    interval = median_interval(values, axis=1)
    for i, j in np.ndindex(3, 2):
      np.testing.assert_array_equal([part[i, j] for part in interval], np.array(median_interval(values[i, :, j])))

  def test_bad_input(self):
    with self.assertRaisesRegex(ValueError, "confidence="):
      median_interval([1.0, 2.0], 1.0)
    with self.assertRaisesRegex(ValueError, "infinity"):
      median_interval([1.0, math.inf])


class SignTestTest(parameterized.TestCase):
  @parameterized.parameters(
    ([1, 1, 1, 1, 1, 1], 0, 2 / 64, "above"),
    ([1, 1, 1, 1, 1, 0], 0, 14 / 64, "above"),  # one at the bound: as if it were below
    ([1, 1, 1, 1, 1, math.nan], 0, 14 / 64, "above"),
    ([1, 1, 1, 1], 0, 2 / 16, "above"),
    ([1, 1, 2], 3, 2 / 8, "below"),
    ([1, 2, 4, 5], 3, 1, None),
    ([3, 3, 3, 5], 3, 1, "above"),
    ([math.nan], 0, 1, None),
    ([], 0, 1, None),
  )
  def test_hand_computed(self, values, bound, p_value, direction):
    got = sign_test(values, bound)
    self.assertAlmostEqual(got.p_value, p_value, places=15)
    self.assertEqual(got.direction, direction)

  @hypothesis.given(
    strategies.lists(strategies.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0, math.nan]), max_size=24),
    strategies.sampled_from([-0.5, 0.0, 0.75, 1.0]),
  )
  def test_it_decides_where_the_interval_of_the_median_does(self, values, bound):
    interval, test = median_interval(values), sign_test(values, bound)
    self.assertEqual(interval.low > bound, test.p_value < 0.05 and test.direction == "above")
    self.assertEqual(interval.high < bound, test.p_value < 0.05 and test.direction == "below")

  @hypothesis.given(strategies.lists(strategies.floats(-2, 2).filter(bool), min_size=1, max_size=30))
  def test_against_scipy_without_ties(self, values):
    expected = stats.binomtest(sum(value > 0 for value in values), len(values)).pvalue
    self.assertAlmostEqual(sign_test(values, 0.0).p_value, expected, places=12)


class HolmTest(absltest.TestCase):
  def test_hand_computed(self):
    adjusted = holm([0.01, math.nan, 0.04, 0.03])  # 3 x 0.01; 2 x 0.03; 0.04 may not be below the smaller one's
    np.testing.assert_allclose(adjusted, [0.03, math.nan, 0.06, 0.06])
    self.assertEqual(holm([]).shape, (0,))

  @hypothesis.given(strategies.lists(strategies.floats(0, 1), min_size=1, max_size=6))
  def test_against_the_closed_test_it_shortens(self, p_values):
    # A claim is rejected at a level where Bonferroni rejects every set of claims that it is in.
    indices = range(len(p_values))
    sets = [s for size in indices for s in itertools.combinations(indices, size + 1)]
    expected = [max(min(1, len(s) * min(p_values[j] for j in s)) for s in sets if i in s) for i in indices]
    np.testing.assert_allclose(holm(p_values), expected, rtol=1e-14)


class MeanIntervalTest(parameterized.TestCase):
  def test_hand_computed(self):
    # Mean 3, variance 10 / 4, standard error sqrt(0.5); t(0.975, 4) = 2.7764451.
    interval = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    self.assertAlmostEqual(interval.mean, 3.0)
    self.assertAlmostEqual(interval.low, 3 - 2.7764451 * 0.70710678, places=6)
    self.assertAlmostEqual(interval.high, 3 + 2.7764451 * 0.70710678, places=6)
    self.assertEqual(interval.num_seeds, 5)

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
    self.assertEqual(mean_interval(values), (2.5, -math.inf, math.inf, 1))

  @parameterized.parameters(([],), ([math.nan, math.nan],))
  def test_no_seed(self, values):
    interval = mean_interval(values)
    self.assertTrue(math.isnan(interval.mean))
    self.assertEqual(interval[1:], (-math.inf, math.inf, 0))

  @parameterized.parameters(0.1, 0.0, -3.0)
  def test_equal_seeds_give_a_point(self, value):
    interval = mean_interval([value, value, math.nan, value])
    np.testing.assert_allclose(interval, (value, value, value, 3), rtol=1e-14)

  def test_the_range_of_a_bounded_quantity_cuts_the_interval(self):
    # Mean 2/3, standard error 1/3; t(0.975, 2) = 4.3026527: from -0.77 to 2.1.
    values = [0.0, 1.0, 1.0]
    self.assertEqual(mean_interval(values, limits=(0.0, 1.0))[1:3], (0.0, 1.0))
    self.assertEqual(mean_interval(values, limits=(-math.inf, 1.0))[1:3], (mean_interval(values).low, 1.0))
    self.assertEqual(mean_interval([0.5], limits=(0.0, 1.0))[1:3], (0.0, 1.0))
    inside = [0.5, 0.51, 0.52]
    self.assertEqual(mean_interval(inside, limits=(0.0, 1.0)), mean_interval(inside))

  def test_cutting_at_the_range_loses_no_coverage(self):
    values = np.random.default_rng(3).beta(8.0, 1.0, size=(6, REPLICATIONS))  # mean 8 / 9
    cut = mean_interval(values, limits=(0.0, 1.0))
    self.assertLess(cut.high.max(), 1 + 1e-12)
    self.assertGreater(mean_interval(values).high.max(), 1.1)
    self.assertEqual(coverage(cut, 8 / 9), coverage(mean_interval(values), 8 / 9))

  def test_values_outside_the_range_are_refused_but_for_rounding(self):
    with self.assertRaisesRegex(ValueError, r"^values=\[1.5\] .* in \[0, 1\]$"):
      mean_interval([0.5, 1.5, 0.2], limits=(0.0, 1.0))
    self.assertEqual(mean_interval([1.000001, 1.000001, 1.0], limits=(0.0, 1.0)).high, 1.0)

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
    np.testing.assert_allclose(np.array(unbounded, float), [3.0, -math.inf, math.inf, 3])
    interval = ratio_interval([2.0, 4.0, 6.0], [10.0, 11.0, 10.0], paired=True)
    root = math.sqrt(41.333333**2 + 104.720798 * 8.683761)
    expected = [12 / 31, (41.333333 - root) / 104.720798, (41.333333 + root) / 104.720798, 3]
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
    ([0.0, 0.0, 0.0], [3.0, 3.1, 3.2], True, 0.0),  # no loops left at T = 1
    ([0.9, 0.93, 0.96], [0.3, 0.31, 0.32], True, 3.0),
    ([6.0, 6.0], [2.0, 2.0, 2.0], False, 3.0),
  )
  def test_proportional_seeds_give_a_point(self, x, y, paired, expected):
    interval = ratio_interval(x, y, paired=paired)
    np.testing.assert_allclose(interval[:3], [expected] * 3, rtol=1e-7)  # the square root of rounding

  @parameterized.parameters(
    ([0.0, 0.0, 0.0], [1.0, 2.0, 4.0], True),  # all ratios agree, but the mean below may be 0
    ([1.0, 2.0], [0.0, 0.0], True),
    ([0.0, 0.0], [0.0, 0.0], True),
    ([1.0], [2.0], True),
    ([1.0, 2.0], [2.0], False),
  )
  def test_what_cannot_be_told_bounds_nothing(self, x, y, paired):
    interval = ratio_interval(x, y, paired=paired)
    self.assertEqual((interval.low, interval.high), (-math.inf, math.inf))

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
    frame = pd.DataFrame({
      "condition": ["b"] * 3 + ["a"] * 3, "T": [0.0] * 3 + [np.nan] * 3, "x": [1.0, 2.0, 3.0, 5.0, 5.0, 5.0],
    })  # fmt: skip
    described = describe_groups(frame, ["condition", "T"], ["x"], ".1f")
    self.assertEqual(list(described.index.get_level_values("condition")), ["b", "a"])
    self.assertEqual(list(described["x"]), ["2.0 [-0.5, 4.5]", "5.0 [5.0, 5.0]"])  # t(2 degrees, 0.975) = 4.303

  def test_fewer_than_three_seeds_are_shown_themselves(self):
    frame = pd.DataFrame({"condition": list("aabbb"), "x": [1.0, 3.0, math.nan, 4.0, math.nan]})
    frame = pd.concat([frame, pd.DataFrame({"condition": ["c"], "x": [math.nan]})])
    self.assertEqual(list(describe_groups(frame, ["condition"], ["x"])["x"]), ["1, 3", "4", "nan"])

  def test_the_range_of_a_column_is_known_by_its_name_or_given(self):
    columns = ["reached", "correlation", "returns", "copying"]
    frame = pd.DataFrame({"condition": "a", **dict.fromkeys(columns, [0.0, 1.0, 1.0])})
    (row,) = describe_groups(frame, ["condition"], columns, ".1f").to_dict("records")
    expected = {
      "reached": "[0.0, 1.0]",
      "correlation": "[-0.8, 1.0]",
      "returns": "[0.0, 2.1]",
      "copying": "[-0.8, 2.1]",
    }
    self.assertEqual(row, {column: f"0.7 {interval}" for column, interval in expected.items()})
    other = describe_groups(frame, ["condition"], ["copying"], ".1f", limits={"copying": (-0.5, 2.0)})
    self.assertEqual(list(other["copying"]), ["0.7 [-0.5, 2.0]"])

  def test_ranges_are_ranges(self):
    for column, (low, high) in statistics.LIMITS.items():
      self.assertLess(low, high, column)


if __name__ == "__main__":
  absltest.main()
