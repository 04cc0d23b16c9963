import math
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized

from loopjax import claims, statistics
from loopjax.statistics import Interval


def fixed(low, high, zero_variance=False):
  return lambda frame: Interval((low + high) / 2, low, high, 4, zero_variance)


def make_claim(**changes):
  fields = {
    "name": "greedy loops",
    "description": "Greedy decoding returns to the start.",
    "source": "arXiv 2512.12895, section 3",
    "condition": "G(5, 3), T = 0",
    "measure": fixed(1.0, 2.0),
    "bound": 0.5,
    "direction": "above",
    "presets": ("laptop", "paper"),
  }
  return claims.Claim(**{**fields, **changes})


def make_frame():
  """Loops of 3 seeds at two temperatures; the third seed diverged at T = 1."""
  rows = [(0, 0.0, 30.0), (1, 0.0, 31.0), (2, 0.0, 35.0), (0, 1.0, 3.0), (1, 1.0, 2.0), (2, 1.0, math.nan)]
  return pd.DataFrame(rows, columns=["seed", "temperature", "loops"])


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
    (1.0, 1.0, 1.0, "above", "undecided"),  # zero variance, on the bound
    (1.0, 1.0, 0.9, "above", "holds"),
    (-math.inf, math.inf, 0.0, "below", "undecided"),
    (-math.inf, 1.0, 2.0, "below", "holds"),
    (math.nan, math.nan, 0.0, "below", "undecided"),
  )
  def test_verdicts(self, low, high, bound, direction, expected):
    self.assertEqual(claims.judge(Interval(0.0, low, high, 2, False), bound, direction), expected)

  def test_other_directions_are_refused(self):
    with self.assertRaisesRegex(ValueError, "direction='over'"):
      claims.judge(Interval(0.0, 0.0, 1.0, 2, False), 0.5, "over")


class ClaimTest(parameterized.TestCase):
  @parameterized.parameters(
    ("name", ""), ("name", "  "), ("description", None), ("source", ""), ("condition", ""), ("measure", "loops"),
    ("bound", math.nan), ("bound", "1"), ("bound", True), ("direction", "over"), ("presets", ()),
    ("presets", "laptop"), ("presets", (1,)), ("published", math.inf), ("published", "0.9"),
  )  # fmt: skip
  def test_bad_fields_are_named(self, field, value):
    with self.assertRaisesRegex(ValueError, rf"^claim\.{field}="):
      make_claim(**{field: value})

  def test_claims_are_frozen(self):
    with self.assertRaises(AttributeError):
      make_claim().bound = 2.0


class EvaluateTest(parameterized.TestCase):
  def test_table(self):
    def raises(frame):
      raise claims.NotRun("no such temperature")

    table = claims.evaluate(
      [
        make_claim(name="a", published=0.9),
        make_claim(name="b", measure=fixed(0.0, 0.0, True), direction="below", bound=1),
        make_claim(name="c", presets=("paper",), measure=lambda frame: self.fail("measured though not of this preset")),
        make_claim(name="d", measure=raises, published=3),
        make_claim(name="e", measure=lambda frame: None),
        make_claim(name="f", bound=3.0),
        make_claim(name="g", bound=1.2),
      ],
      make_frame(),
      "laptop",
    )
    self.assertEqual(list(table.columns[:6]), ["claim", "value", "low", "high", "published", "verdict"])
    self.assertEqual(
      list(table.columns[6:]),
      ["bound", "direction", "num_seeds", "zero_variance", "description", "condition", "source"],
    )
    self.assertEqual(list(table["claim"]), list("abcdefg"))
    self.assertEqual(list(table["verdict"]), ["holds", "holds", "not run", "not run", "not run", "fails", "undecided"])
    nan = math.nan
    np.testing.assert_array_equal(table["value"], [1.5, 0, nan, nan, nan, 1.5, 1.5])
    np.testing.assert_array_equal(table["low"], [1, 0, nan, nan, nan, 1, 1])
    np.testing.assert_array_equal(table["high"], [2, 0, nan, nan, nan, 2, 2])
    np.testing.assert_array_equal(table["published"], [0.9, nan, nan, 3, nan, nan, nan])
    np.testing.assert_array_equal(table["num_seeds"], [4, 4, 0, 0, 0, 4, 4])
    np.testing.assert_array_equal(table["zero_variance"], [False, True, False, False, False, False, False])

  def test_names_are_unique(self):
    with self.assertRaisesRegex(ValueError, r"claim\.name=\['a'\]"):
      claims.evaluate([make_claim(name="a"), make_claim(name="b"), make_claim(name="a")], make_frame(), "laptop")

  def test_an_error_in_a_measure_is_not_hidden(self):
    def broken(frame):
      return frame["no such column"]

    with self.assertRaises(KeyError) as caught:
      claims.evaluate([make_claim(name="broken one", measure=broken)], make_frame(), "laptop")
    self.assertIn("broken one", caught.exception.__notes__[0])

  def test_no_claims_give_the_columns(self):
    table = claims.evaluate([], make_frame(), "laptop")
    self.assertEmpty(table)
    self.assertEqual(list(table.columns), claims.COLUMNS)

  def test_csv_round_trip(self):
    path = Path(self.enterContext(tempfile.TemporaryDirectory())) / "results" / "claims.csv"
    one_seed = Interval(1.0, -math.inf, math.inf, 1, False)
    measures = {"a": fixed(1.0, 2.0), "b": lambda frame: None, "c": lambda frame: one_seed}
    table = claims.evaluate([make_claim(name=n, measure=m) for n, m in measures.items()], make_frame(), "laptop")
    claims.write_csv(table, path)
    self.assertEqual([p.name for p in path.parent.iterdir()], ["claims.csv"])
    read = pd.read_csv(path)
    self.assertEqual(list(read["verdict"]), ["holds", "not run", "undecided"])
    np.testing.assert_array_equal(read["low"], [1, math.nan, -math.inf])
    pd.testing.assert_frame_equal(read, table, check_dtype=False)


class MeasuresTest(parameterized.TestCase):
  def test_seed_values(self):
    series = claims.seed_values(make_frame(), "loops", {"temperature": 1.0})
    np.testing.assert_array_equal(series.index, [0, 1, 2])
    np.testing.assert_array_equal(series, [3, 2, math.nan])

  def test_a_condition_that_is_not_there_was_not_run(self):
    with self.assertRaisesRegex(claims.NotRun, "temperature"):
      claims.seed_values(make_frame(), "loops", {"temperature": 0.5})

  @parameterized.parameters(("lops", {}), ("loops", {"temprature": 0.0}))
  def test_misspelt_columns_are_errors(self, column, where):
    with self.assertRaisesRegex(ValueError, "column='(lops|temprature)'"):
      claims.seed_values(make_frame(), column, where)

  def test_an_open_setting_is_an_error(self):
    with self.assertRaisesRegex(ValueError, "several rows of one seed"):
      claims.seed_values(make_frame(), "loops", {})

  def test_mean_measure(self):
    interval = claims.mean_measure("loops", {"temperature": 0.0})(make_frame())
    self.assertEqual(interval, statistics.mean_interval([30.0, 31.0, 35.0]))

  def test_paired_ratio_measure_goes_by_seed_not_by_row(self):
    measure = claims.paired_ratio_measure("loops", {"temperature": 0.0}, {"temperature": 1.0})
    expected = statistics.ratio_interval([30.0, 31.0], [3.0, 2.0], paired=True)
    frame = make_frame()
    shuffled = frame.iloc[[4, 2, 0, 5, 1, 3]]
    without_last = frame.iloc[:5]  # seed 2 has no row at all at T = 1
    for given in (frame, shuffled, without_last):
      np.testing.assert_allclose(np.array(measure(given), float), np.array(expected, float), rtol=1e-12)

  def test_paired_ratio_of_seeds_without_partners_was_not_run(self):
    measure = claims.paired_ratio_measure("loops", {"temperature": 0.0}, {"temperature": 1.0})
    with self.assertRaises(claims.NotRun):
      measure(make_frame().iloc[[0, 4]])

  def test_threefold_cut_end_to_end(self):
    rng = np.random.default_rng(0)
    cold = rng.normal(30, 1, 16)
    warm = (cold + rng.normal(size=16)) / 5
    rows = [(s, t, x) for t, loops in ((0.0, cold), (1.0, warm)) for s, x in enumerate(loops)]
    frame = pd.DataFrame(rows, columns=["seed", "temperature", "loops"])
    measure = claims.paired_ratio_measure("loops", {"temperature": 0.0}, {"temperature": 1.0})
    bounds = {3.0: "holds", 5.0: "undecided", 6.0: "fails"}
    registered = [make_claim(name=str(bound), measure=measure, bound=bound) for bound in bounds]
    self.assertEqual(list(claims.evaluate(registered, frame, "paper")["verdict"]), list(bounds.values()))


if __name__ == "__main__":
  absltest.main()
