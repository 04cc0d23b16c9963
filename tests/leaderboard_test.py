"""Choosing and judging, on frames whose answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
from absl.testing import absltest

from loopjax import leaderboard

SEEDS = range(16)


def rows(base: str, remedy: str, trial: int, temperature: float, excess: float, *, noise: float = 0.0, **columns):
  """A row per seed; the noise has the same sign pattern for all settings, so it cancels in pairs."""
  noises = np.random.default_rng(0).normal(size=len(SEEDS)) * noise
  return pd.DataFrame({
    "base": base, "remedy": remedy, "trial": trial, "temperature": temperature, "seed": list(SEEDS),
    "excess_length": excess * np.exp(noises), "locked_cycle_share": 0.5, "reached": 0.5,
  } | columns)  # fmt: skip


def plain(**columns) -> pd.DataFrame:
  """One base, best at T = 0.5."""
  return pd.concat(
    [rows("base", "plain", 0, t, x, noise=0.5, **columns) for t, x in ((0.0, 4.0), (0.5, 2.0), (1.0, 3.0))]
  )


class ChooseTest(absltest.TestCase):
  def test_bases_count_alike(self):
    """A ratio of 2 on one base and 1/2 on another cancel, whatever the lengths."""
    frame = pd.concat([
      rows("short", "a", 0, 0.0, 2.0), rows("long", "a", 0, 0.0, 10.0),
      rows("short", "a", 1, 0.0, 1.0), rows("long", "a", 1, 0.0, 19.0),
      rows("short", "b", 0, 1.0, 3.0), rows("long", "b", 0, 1.0, 10.0),
    ])  # fmt: skip
    chosen = leaderboard.choose(frame, ["a", "b"], 2)
    self.assertEqual(chosen[["remedy", "trial"]].values.tolist(), [["a", 1], ["b", 0]])
    self.assertAlmostEqual(chosen["score"][0], np.log(19) / 2)
    self.assertLen(leaderboard.choose(frame, ["b"], 5), 1)

  def test_a_diverged_student_is_last(self):
    bad = rows("base", "a", 0, 0.0, 1.0)
    bad.loc[3, "excess_length"] = np.nan
    chosen = leaderboard.choose(pd.concat([bad, rows("base", "a", 1, 0.0, 9.0)]), ["a"], 1)
    self.assertEqual(chosen["trial"].tolist(), [1])


class JudgeTest(absltest.TestCase):
  def test_pairs_cancel_the_seeds(self):
    """Seeds differ by 50%, and still 10% less is seen, since it is less in every seed."""
    judged = leaderboard.judge(rows("base", "a", 0, 0.0, 1.8, noise=0.5), plain())
    row = judged.iloc[0]
    self.assertEqual(row["best_temperature"], 0.5)
    np.testing.assert_allclose(row[["ratio", "ratio_low", "ratio_high"]].astype(float), 0.9)
    self.assertEqual(row["verdict"], leaderboard.BETTER)
    self.assertAlmostEqual(row["p_value"], 2 * 0.5**16)

  def test_no_difference_is_undecided(self):
    """The same walks again; and shuffled seeds."""
    same = rows("base", "a", 0, 0.0, 2.0, noise=0.5)
    self.assertEqual(leaderboard.judge(same, plain())["verdict"].tolist(), [leaderboard.UNDECIDED])
    shuffled = same.assign(excess_length=np.random.default_rng(1).permutation(same["excess_length"]))
    self.assertEqual(leaderboard.judge(shuffled, plain())["verdict"].tolist(), [leaderboard.UNDECIDED])

  def test_worse(self):
    judged = leaderboard.judge(rows("base", "a", 0, 0.0, 2.2, noise=0.5), plain())
    self.assertEqual(judged["verdict"].tolist(), [leaderboard.WORSE])

  def test_holm_counts_all_rows(self):
    """Twelve of sixteen seeds better: p = 0.077 alone stays undecided; fifteen: p = 0.0005, of 3 rows 0.0016."""
    some = rows("base", "a", 0, 0.0, 1.8, noise=0.5)
    some.loc[:0, "excess_length"] *= 2
    three = pd.concat([some, some.assign(remedy="b"), some.assign(remedy="c")])
    judged = leaderboard.judge(three, plain())
    np.testing.assert_allclose(judged["holm"], 3 * judged["p_value"])
    self.assertAlmostEqual(judged["p_value"][0], 2 * 17 * 0.5**16)

  def test_equal_success(self):
    """Of the temperatures that succeed as often the one with the fewest loops; none does: NaN."""
    frame = plain()
    frame["reached"] = frame["temperature"].map({0.0: 0.2, 0.5: 0.6, 1.0: 0.8})
    frame["locked_cycle_share"] = frame["temperature"].map({0.0: 0.0, 0.5: 0.3, 1.0: 0.4})
    one = leaderboard.judge(rows("base", "a", 0, 0.0, 2.0, reached=0.5, locked_cycle_share=0.1), frame).iloc[0]
    self.assertEqual(one["equal_temperature"], 0.5)
    self.assertAlmostEqual(one["loops_at_equal_success"], -0.2)
    beyond = leaderboard.judge(rows("base", "a", 0, 0.0, 2.0, reached=0.9), frame).iloc[0]
    self.assertTrue(np.isnan(beyond["loops_at_equal_success"]))

  def test_two_rows_of_a_seed_are_refused(self):
    one = rows("base", "a", 0, 0.0, 2.0)
    with self.assertRaisesRegex(ValueError, "several rows of one seed"):
      leaderboard.judge(pd.concat([one, one]), plain())


class ErrorTest(absltest.TestCase):
  def test_pairs_of_seeds_at_any_temperature(self):
    """Half the error of the plain student of the same seed, though seeds differ a hundredfold."""
    own = np.geomspace(0.01, 1.0, len(SEEDS))
    frame = rows("base", "a", 0, 0.7, 2.0, root_kl=own / 2)
    found = leaderboard.error_ratios(frame, plain(root_kl=own)).iloc[0]
    self.assertEqual(found[leaderboard.KEYS].tolist(), ["base", "a", 0, 0.7])
    np.testing.assert_allclose(found[[f"root_kl_ratio{end}" for end in ("", "_low", "_high")]].astype(float), 0.5)

  def test_a_seed_without_an_error_decides_nothing(self):
    """Zero and NaN count as seeds and for neither side: four of sixteen leave the interval open at both ends."""
    own = np.where(np.arange(len(SEEDS)) < 4, [0.0, np.nan] * 8, 0.2)
    found = leaderboard.error_ratios(rows("base", "a", 0, 0.0, 2.0, root_kl=own), plain(root_kl=0.4)).iloc[0]
    self.assertAlmostEqual(found["root_kl_ratio"], 0.5)
    self.assertEqual((found["root_kl_ratio_low"], found["root_kl_ratio_high"]), (0.0, np.inf))

  def test_references_are_plain_students_at_their_best(self):
    (found,) = leaderboard.references(plain()).to_dict("records")
    known = {"base": "base", "remedy": "plain", "trial": 0, "temperature": 0.5, "best_temperature": 0.5, "ratio": 1.0}
    self.assertEqual(found, known | {"root_kl_ratio": 1.0, "verdict": leaderboard.REFERENCE})


if __name__ == "__main__":
  absltest.main()
