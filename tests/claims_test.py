import math
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized
from scipy import special, stats

from loopjax import claim_measures, claims, statistics
from loopjax.statistics import MedianInterval

nan, inf = math.nan, math.inf


def fixed(*values):
  """The measure of seeds 0, 1, ... with these values."""
  return lambda frame: pd.Series(values, dtype=float)


def six(low, high):
  """Of six seeds whose interval is [low, high], with the median halfway."""
  return fixed(*np.linspace(low, high, 6))


def not_run(frame):
  raise claim_measures.NotRun("no such temperature")


def make_claim(**changes):
  fields = {
    "name": "greedy loops",
    "description": "Greedy decoding returns to the start.",
    "source": "arXiv 2512.12895, section 3",
    "condition": "G(5, 3), T = 0",
    "measure": six(1.0, 2.0),
    "bound": 0.5,
    "direction": "above",
    "presets": ("laptop", "paper"),
    "family": "risk aversion",
  }
  return claims.Claim(**{**fields, **changes})


def make_frame():
  """Loops of 3 seeds at two temperatures; the third seed diverged at T = 1."""
  rows = [(0, 0.0, 30.0), (1, 0.0, 31.0), (2, 0.0, 35.0), (0, 1.0, 3.0), (1, 1.0, 2.0), (2, 1.0, nan)]
  return pd.DataFrame(rows, columns=["seed", "temperature", "loops"])


def judged(**changes):
  """The row of one claim."""
  return claims.evaluate([make_claim(**changes)], make_frame(), "paper").iloc[0]


class JudgeTest(parameterized.TestCase):
  @parameterized.parameters(
    (1.0, 2.0, 3.0, "below", "holds"),
    (1.0, 2.0, 3.0, "above", "fails"),
    (1.0, 2.0, 0.5, "below", "fails"),
    (1.0, 2.0, 0.5, "above", "holds"),
    (1.0, 2.0, 1.5, "above", "undecided"),
    (1.0, 2.0, 1.5, "below", "undecided"),
    (1.0, 2.0, 2.0, "below", "undecided"),  # touches the bound: not wholly on one side
    (1.0, 2.0, 1.0, "above", "undecided"),
    (1.0, 1.0, 1.0, "above", "undecided"),
    (-inf, inf, 0.0, "below", "undecided"),
    (-inf, 1.0, 2.0, "below", "holds"),
    (nan, nan, 0.0, "below", "undecided"),
  )
  def test_verdicts(self, low, high, bound, direction, expected):
    self.assertEqual(claims.judge(MedianInterval(0.0, low, high, 6), bound, direction), expected)

  def test_other_directions_are_refused(self):
    with self.assertRaisesRegex(ValueError, "direction='over'"):
      claims.judge(MedianInterval(0.0, 0.0, 1.0, 6), 0.5, "over")


def lognormal(rng, shape):
  return rng.lognormal(size=shape) + rng.normal(0, 0.2, shape)


def bimodal(rng, shape):
  mode = np.where(rng.random(shape) < 0.55, 0, 4)
  return mode + rng.normal(0, 0.3, shape) + rng.normal(0, 0.1, shape)


def shares(extreme, probability):
  """Of 128 walks; a seed is at the extreme with this probability, else anywhere between."""
  return lambda rng, shape: (
    rng.binomial(128, np.where(rng.random(shape) < probability, extreme, rng.beta(2, 2, shape))) / 128
  )


class FalseVerdictsTest(parameterized.TestCase):
  """Values of seeds with noise of evaluation, and the exact median over seeds without it."""

  @parameterized.product(
    law=(
      (lambda rng, shape: rng.normal(size=shape) + rng.normal(0, 0.5, shape), 0.0),
      (lognormal, 1.0),
      (bimodal, 0.3 * special.ndtri(0.5 / 0.55)),
      (shares(0, 0.6), 0.0),
      (shares(1, 0.6), 1.0),
      (shares(0, 0.4), stats.beta(2, 2).ppf(1 / 6)),
    ),
    num_seeds=(6, 16),
  )
  def test_false_verdicts_at_the_median_are_rare(self, law, num_seeds):
    sample, median = law
    replications = 10_000
    interval = statistics.median_interval(sample(np.random.default_rng(num_seeds), (num_seeds, replications)))
    verdicts = [claims.judge(MedianInterval(*one), median, "above") for one in zip(*interval, strict=True)]
    # Four standard deviations of a binomial share at 2.5%: a right method exceeds it once in 32,000 times.
    allowed = 0.025 + 4 * math.sqrt(0.025 * 0.975 / replications)
    self.assertLess(verdicts.count("holds") / replications, allowed)
    self.assertLess(verdicts.count("fails") / replications, allowed)

  @parameterized.parameters((6, 0), (16, 3))
  def test_true_verdicts_are_found_as_often_as_coins_say(self, num_seeds, most):
    # At one standard deviation from the bound: all of 6 seeds beyond it (35%), or all but 3 of 16 (76%).
    interval = statistics.median_interval(np.random.default_rng(0).normal(1.0, 1.0, size=(num_seeds, 10_000)))
    expected = stats.binom.cdf(most, num_seeds, special.ndtr(-1))
    self.assertAlmostEqual(np.mean(interval.low > 0), expected, delta=0.02)  # four standard deviations

  def test_four_seeds_that_agree_decide_nothing(self):
    self.assertEqual(judged(measure=fixed(1, 1, 1, 1), bound=0.95)["verdict"], "undecided")
    self.assertEqual(judged(measure=fixed(1, 1, 1, 1, 1, 1), bound=0.95)["verdict"], "holds")


class ClaimTest(parameterized.TestCase):
  @parameterized.parameters(
    ("name", ""), ("name", "  "), ("description", None), ("source", ""), ("condition", ""), ("family", ""),
    ("measure", "loops"), ("bound", nan), ("bound", "1"), ("bound", True), ("direction", "over"), ("presets", ()),
    ("presets", "laptop"), ("presets", (1,)), ("published", inf), ("published", "0.9"), ("null", nan),
    ("predicted", "1"), ("must_not_hold", "untrained"), ("must_not_hold", ("untrained", "")),
    ("fitness", ("broken",)), ("fitness", claims.Fitness("broken", fixed(0.0), 0.05)),
  )  # fmt: skip
  def test_bad_fields_are_named(self, field, value):
    with self.assertRaisesRegex(ValueError, rf"^claim\.{field}="):
      make_claim(**{field: value})

  @parameterized.parameters(("name", ""), ("measure", None), ("at_most", nan))
  def test_bad_fields_of_fitness_are_named(self, field, value):
    with self.assertRaisesRegex(ValueError, rf"^fitness\.{field}="):
      claims.Fitness(**{"name": "broken", "measure": fixed(0.0), "at_most": 0.05, field: value})

  @parameterized.parameters(
    ("above", 1.0, 3.0, ""), ("above", 1.0, 2.0, "predicted"), ("above", 1.0, 1.5, "predicted"),
    ("above", 2.0, 3.0, "null"), ("above", 2.5, 3.0, "null"), ("below", 3.0, 1.0, ""), ("below", 3.0, 2.0, "predicted"),
    ("below", 1.0, 0.5, "null"), ("below", 1.0, 3.0, "predicted"), ("above", None, 1.0, "predicted"),
    ("above", None, 2.5, ""), ("above", 2.0, None, ""), ("above", 2.5, None, "null"), ("below", 2.0, None, ""),
    ("below", 1.5, None, "null"), ("above", None, None, ""),
  )  # fmt: skip
  def test_the_bound_lies_between_null_and_prediction(self, direction, null, predicted, wrong):
    given = {"bound": 2.0, "direction": direction, "null": null, "predicted": predicted}
    if wrong:
      with self.assertRaisesRegex(ValueError, rf"^claim\.{wrong}=.* the bound 2$"):
        make_claim(**given)
    else:
      make_claim(**given)
    make_claim(**given, is_published_statement=True)  # its bound is what its authors said

  def test_claims_are_frozen(self):
    with self.assertRaises(AttributeError):
      make_claim().bound = 2.0

  def test_halfway(self):
    self.assertEqual(claims.halfway(1.0, 4.0), 2.5)
    make_claim(bound=claims.halfway(1.0, 4.0), null=1.0, predicted=4.0)


class EvaluateTest(parameterized.TestCase):
  def test_table(self):
    table = claims.evaluate(
      [
        make_claim(name="a", published=0.9, null=0.1, predicted=1.8, must_not_hold=("untrained",)),
        make_claim(name="b", measure=fixed(*[0.0] * 7), direction="below", bound=1),
        make_claim(name="c", presets=("paper",), measure=lambda frame: self.fail("measured though not of this preset")),
        make_claim(name="d", measure=not_run, published=3),
        make_claim(name="e", bound=3.0),
        make_claim(name="f", bound=1.3),
        make_claim(name="g", measure=fixed(1, 2, 3, nan, 5, 6, 7)),
      ],
      make_frame(),
      "laptop",
    )
    self.assertEqual(list(table.columns), claims.COLUMNS)
    self.assertContainsSubset(claims.NUMBERS, claims.COLUMNS)
    self.assertEqual(list(table["claim"]), list("abcdefg"))
    self.assertEqual(
      list(table["verdict"]), ["holds", "holds", "not run", "not run", "fails", "undecided", "undecided"]
    )
    for column, expected in {
      "value": [1.5, 0, nan, nan, 1.5, 1.5, 4], "low": [1, 0, nan, nan, 1, 1, -inf],
      "high": [2, 0, nan, nan, 2, 2, inf], "null": [0.1, *[nan] * 6], "predicted": [1.8, *[nan] * 6],
      "published": [0.9, nan, nan, 3, nan, nan, nan], "num_seeds": [6, 7, 0, 0, 6, 6, 6],
      "seeds_undefined": [0, 0, 0, 0, 0, 0, 1], "seeds_beyond": [6, 7, 0, 0, 0, 4, 6],
      "p_value": [2 / 64, 2 / 128, nan, nan, 2 / 64, 44 / 64, 16 / 128],
    }.items():  # fmt: skip
      np.testing.assert_allclose(table[column], expected, err_msg=column)

  @parameterized.parameters(("above", 3), ("below", 1))
  def test_a_seed_at_the_bound_is_not_beyond_it(self, direction, expected):
    self.assertEqual(judged(measure=fixed(1, 2, 2, 3, 4, 5), bound=2.0, direction=direction)["seeds_beyond"], expected)

  def test_names_are_unique(self):
    with self.assertRaisesRegex(ValueError, r"claim\.name=\['a'\]"):
      claims.evaluate([make_claim(name="a"), make_claim(name="b"), make_claim(name="a")], make_frame(), "laptop")

  @parameterized.parameters(
    (lambda frame: frame["no such column"], KeyError),
    (lambda frame: pd.Series([1.0, 2.0], index=[3, 3]), ValueError),  # one seed twice would count as two
    (lambda frame: np.ones(6), ValueError),
  )
  def test_an_error_in_a_measure_is_not_hidden(self, measure, error):
    for changes in ({"measure": measure}, {"fitness": (claims.Fitness("broken", measure, 0.05),)}):
      with self.assertRaises(error) as caught:
        claims.evaluate([make_claim(name="bad one", **changes)], make_frame(), "laptop")
      self.assertIn("bad one", caught.exception.__notes__[0])

  def test_infinite_values_are_refused(self):
    with self.assertRaisesRegex(ValueError, "infinity"):
      judged(measure=fixed(1.0, inf))

  def test_no_claims_give_the_columns(self):
    table = claims.evaluate([], make_frame(), "laptop")
    self.assertEmpty(table)
    self.assertEqual(list(table.columns), claims.COLUMNS)

  def test_csv_round_trip(self):
    path = Path(self.enterContext(tempfile.TemporaryDirectory())) / "results" / "claims.csv"
    unfit = (claims.Fitness("broken", fixed(0.5), 0.1),)
    registered = [
      make_claim(name="a"), make_claim(name="b", measure=not_run), make_claim(name="c", measure=fixed(1.0)),
      make_claim(name="d", fitness=unfit),
    ]  # fmt: skip
    table = claims.evaluate(registered, make_frame(), "laptop")
    claims.write_csv(table, path)
    self.assertEqual([p.name for p in path.parent.iterdir()], ["claims.csv"])
    read = pd.read_csv(path).fillna({"unfit_because": ""})
    self.assertEqual(list(read["verdict"]), ["holds", "not run", "undecided", "unfit"])
    np.testing.assert_array_equal(read["low"], [1, nan, -inf, 1])
    pd.testing.assert_frame_equal(read, table, check_dtype=False)
    pd.testing.assert_frame_equal(claims.adjust_families(read), table, check_dtype=False)


class FitnessTest(parameterized.TestCase):
  def row(self, *fitness, **options):
    claim = make_claim(fitness=tuple(claims.Fitness(*one) for one in fitness))
    return claims.evaluate([claim], make_frame(), "laptop", **options).iloc[0]

  @parameterized.parameters(
    (fixed(0, 0, 0.05, 0, 0, 0), "holds", ""),
    (fixed(0, 0, 0.051, 0, 0.31, 0), "unfit", "broken up to 0.31, at most 0.05 is fit"),
    (fixed(0, 0, nan, 0, 0.31, 0), "unfit", "broken not known for 1 of 6 seeds"),
    (fixed(0, 0, 0, 0, 0), "unfit", "broken not known for 1 of 6 seeds"),
    (not_run, "unfit", "broken not known for 6 of 6 seeds"),
    (fixed(0, 0, 0, 0, 0, 0, 0.2), "unfit", "broken up to 0.2, at most 0.05 is fit"),  # a seed without a measure
  )
  def test_one_unfit_seed_of_the_condition_is_enough(self, measure, verdict, because):
    row = self.row(("broken", measure, 0.05))
    self.assertEqual((row["verdict"], row["holm_verdict"], row["unfit_because"]), (verdict, verdict, because))

  def test_the_first_that_fails_is_named(self):
    checks = [("broken", fixed(*[0.0] * 6), 0.05), ("excess loss", fixed(*[3.0] * 6), 0.1), ("cut", not_run, 1.0)]
    self.assertEqual(self.row(*checks)["unfit_because"], "excess loss up to 3, at most 0.1 is fit")

  def test_what_was_measured_stays_and_nothing_is_decided(self):
    row = self.row(("broken", not_run, 0.05))
    self.assertEqual((row["value"], row["low"], row["high"], row["seeds_beyond"]), (1.5, 1.0, 2.0, 6))
    self.assertTrue(math.isnan(row["p_value"]) and math.isnan(row["holm_p"]))
    self.assertEqual(row["family_size"], 0)

  def test_worlds_without_training_are_not_checked(self):
    self.assertEqual(self.row(("broken", not_run, 0.05), check_fitness=False)["verdict"], "holds")

  def test_what_was_not_run_is_not_unfit(self):
    claim = make_claim(measure=not_run, fitness=(claims.Fitness("broken", not_run, 0.05),))
    self.assertEqual(claims.evaluate([claim], make_frame(), "laptop")["verdict"][0], "not run")


class FamiliesTest(absltest.TestCase):
  def table(self):
    unfit = (claims.Fitness("broken", not_run, 0.05),)
    seven = fixed(1, 2, 3, 4, 5, 6, 7)
    first = [
      make_claim(name="a"), make_claim(name="b", measure=seven, bound=10.0, direction="above"),
      make_claim(name="c", family="other"), make_claim(name="d", measure=not_run), make_claim(name="e", fitness=unfit),
    ]  # fmt: skip
    second = [make_claim(name="f", bound=1.5)]
    return [claims.evaluate(registered, make_frame(), "paper") for registered in (first, second)]

  def test_adjusted_over_the_joined_table(self):
    table = claims.adjust_families(pd.concat(self.table(), ignore_index=True))
    self.assertEqual(list(table.columns), claims.COLUMNS)
    np.testing.assert_array_equal(table["family_size"], [3, 3, 1, 3, 3, 3])
    # p of a, b and f: 2/64, 2/128, 1; by Holm 2 x 2/64, 3 x 2/128, 1.
    np.testing.assert_allclose(table["holm_p"], [4 / 64, 6 / 128, 2 / 64, nan, nan, 1])
    self.assertEqual(list(table["verdict"]), ["holds", "fails", "holds", "not run", "unfit", "undecided"])
    self.assertEqual(list(table["holm_verdict"]), ["undecided", "fails", "holds", "not run", "unfit", "undecided"])

  def test_again_changes_nothing_and_order_does_not_matter(self):
    joined = pd.concat(self.table(), ignore_index=True)
    once = claims.adjust_families(joined)
    pd.testing.assert_frame_equal(claims.adjust_families(once), once)
    backwards = claims.adjust_families(joined.iloc[::-1])
    pd.testing.assert_frame_equal(backwards.iloc[::-1], once)

  def test_alone_a_verdict_is_its_own(self):
    self.assertEqual(list(self.table()[0]["family_size"]), [2, 2, 1, 2, 2])
    row = judged()
    self.assertEqual((row["verdict"], row["holm_verdict"]), ("holds", "holds"))
    self.assertEqual(row["holm_p"], row["p_value"])


class MeasuresTest(parameterized.TestCase):
  cold, warm = {"temperature": 0.0}, {"temperature": 1.0}

  def test_seed_values(self):
    series = claim_measures.seed_values(make_frame(), "loops", self.warm)
    np.testing.assert_array_equal(series.index, [0, 1, 2])
    np.testing.assert_array_equal(series, [3, 2, nan])
    pd.testing.assert_series_equal(claim_measures.value_measure("loops", self.warm)(make_frame()), series)

  def test_a_condition_that_is_not_there_was_not_run(self):
    other = {"temperature": 0.5}
    for measure in (
      claim_measures.value_measure("loops", other), claim_measures.worst_measure("loops", other, "min"),
      claim_measures.ratio_measure("loops", self.cold, other), claim_measures.ratio_measure("loops", other, self.cold),
      claim_measures.difference_measure("loops", self.cold, other),
    ):  # fmt: skip
      with self.assertRaisesRegex(claim_measures.NotRun, "temperature"):
        measure(make_frame())

  @parameterized.parameters(("lops", {}), ("loops", {"temprature": 0.0}))
  def test_misspelt_columns_are_errors(self, column, where):
    for measure in (claim_measures.value_measure(column, where), claim_measures.worst_measure(column, where, "max")):
      with self.assertRaisesRegex(ValueError, "column='(lops|temprature)'"):
        measure(make_frame())

  def test_an_open_setting_is_an_error(self):
    with self.assertRaisesRegex(ValueError, "several rows of one seed"):
      claim_measures.seed_values(make_frame(), "loops", {})

  def test_ratios_and_differences_go_by_seed_not_by_row(self):
    frame = make_frame()
    ratio, difference = (
      f("loops", self.cold, self.warm) for f in (claim_measures.ratio_measure, claim_measures.difference_measure)
    )
    for given in (frame, frame.iloc[[4, 2, 0, 5, 1, 3]], frame.iloc[:5], frame.iloc[[0, 1, 3, 4, 5]]):
      # Seed 2 has a NaN, or no row at all, under one of the conditions: it counts, without a value.
      np.testing.assert_array_equal(ratio(given).sort_index(), [10, 15.5, nan])
      np.testing.assert_array_equal(difference(given).sort_index(), [27, 29, nan])
      self.assertEqual(list(ratio(given).sort_index().index), [0, 1, 2])

  def test_zero_denominators_have_no_value(self):
    frame = make_frame().replace({"loops": {3.0: 0.0, 30.0: 0.0, 2.0: -0.0}})
    np.testing.assert_array_equal(claim_measures.ratio_measure("loops", self.cold, self.warm)(frame), [nan, nan, nan])
    np.testing.assert_array_equal(claim_measures.ratio_measure("loops", self.warm, self.cold)(frame), [nan, 0, nan])

  def test_worst_cells(self):
    frame = make_frame().dropna()
    frame.loc[5] = (2, 1.0, 50.0)
    np.testing.assert_array_equal(claim_measures.worst_measure("loops", {}, "min")(frame), [3, 2, 35])
    np.testing.assert_array_equal(claim_measures.worst_measure("loops", {}, "max")(frame), [30, 31, 50])
    np.testing.assert_array_equal(claim_measures.worst_measure("loops", self.cold, "max")(frame), [30, 31, 35])
    with self.assertRaisesRegex(ValueError, "worst='mean'"):
      claim_measures.worst_measure("loops", {}, "mean")

  @parameterized.parameters(False, True)
  def test_a_diverged_cell_may_be_the_worst(self, is_missing):
    # Six seeds, each 0.97 at T = 0; at T = 1 three of them diverged.
    rows = [(seed, 0.0, 0.97) for seed in range(6)] + [(seed, 1.0, nan if seed < 3 else 0.99) for seed in range(6)]
    frame = pd.DataFrame(rows, columns=["seed", "temperature", "reached"])
    frame = frame.dropna() if is_missing else frame
    worst = claim_measures.worst_measure("reached", {}, "min")
    np.testing.assert_array_equal(worst(frame), [nan, nan, nan, 0.97, 0.97, 0.97])
    row = claims.evaluate([make_claim(measure=worst, bound=0.95)], frame, "paper").iloc[0]
    self.assertEqual((row["verdict"], row["seeds_beyond"], row["seeds_undefined"]), ("undecided", 3, 3))

  def test_threefold_cut_end_to_end(self):
    rng = np.random.default_rng(0)
    cold = rng.normal(30, 1, 16)
    warm = (cold + rng.normal(size=16)) / 5
    rows = [(s, t, x) for t, loops in ((0.0, cold), (1.0, warm)) for s, x in enumerate(loops)]
    frame = pd.DataFrame(rows, columns=["seed", "temperature", "loops"])
    measure = claim_measures.ratio_measure("loops", self.cold, self.warm)
    bounds = {3.0: "holds", 5.0: "undecided", 6.0: "fails"}
    registered = [make_claim(name=str(bound), measure=measure, bound=bound) for bound in bounds]
    self.assertEqual(list(claims.evaluate(registered, frame, "paper")["verdict"]), list(bounds.values()))


if __name__ == "__main__":
  absltest.main()
