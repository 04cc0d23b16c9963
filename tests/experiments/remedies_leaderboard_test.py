"""The leaderboard of a comparison whose numbers are known: its rows, and that the report can show it."""

from __future__ import annotations

import math

import pandas as pd
from absl.testing import absltest

from experiments import remedies
from experiments.remedy_units import PLAIN
from loopjax.report import leaderboard, remedy_sentences

BASES, SEEDS = ("risk aversion", "one fixed graph"), range(16)


def rows(remedy: str, trial: int, temperature: float, excess: float, root_kl: float = 0.2, **columns) -> pd.DataFrame:
  measures = {name: 0.5 for name in remedies.SHOWN if not name.startswith(("teacher", "train_"))}
  measures |= {"excess_length": excess, "capped_length": 10 * excess, "root_kl": root_kl, "setting": f"trial {trial}"}
  keys = {"remedy": remedy, "trial": trial, "temperature": temperature}
  index = pd.MultiIndex.from_product([BASES, SEEDS], names=["base", "seed"]).to_frame(index=False)
  return index.assign(**keys, **measures, **columns)


def comparison() -> tuple[pd.DataFrame, pd.DataFrame]:
  """Plain students at two temperatures, a decoding remedy whose default is worse than its choice, one of training."""
  damage = {"teacher_divergence": 0.3, "teacher_capped_length": 8.0}
  frame = [rows(PLAIN, 0, 0.0, 4.0), rows(PLAIN, 0, 0.5, 2.0), rows("unlikelihood", 0, 0.5, 1.6, 0.1)]
  frame += [rows("DRY", 0, t, 2.5, **damage) for t in (0.0, 0.5)] + [rows("DRY", 2, 0.0, 1.0, **damage)]
  best = pd.DataFrame({"remedy": ["DRY", "unlikelihood"], "trial": [2, 0], "temperature": [0.0, 0.5], "score": 0.0})
  return pd.concat(frame, ignore_index=True), best


class LeaderboardTest(absltest.TestCase):
  def test_its_rows(self):
    board = remedies.judged(*comparison())
    here = board[board["base"] == BASES[0]].set_index(["remedy", "trial"])
    self.assertLen(board, 2 * len(here))
    columns = ["temperature", "kind", "verdict", "ratio", "is_chosen", "is_default"]
    known = {
      ("DRY", 2): [0.0, "decoding", "better", 0.5, True, False],
      ("DRY", 0): [0.0, "decoding", "worse", 1.25, False, True],
      ("unlikelihood", 0): [0.5, "training", "better", 0.8, True, True],
      (PLAIN, 0): [0.5, "reference", "reference", 1.0, False, False],
    }
    self.assertEqual({key: here.loc[key, columns].tolist() for key in here.index}, known)
    self.assertAlmostEqual(here.loc[("unlikelihood", 0), "root_kl_ratio"], 0.5)
    self.assertAlmostEqual(here.loc[("DRY", 2), "teacher_excess_length"], 0.8)
    self.assertTrue(math.isnan(here.loc[("unlikelihood", 0), "teacher_excess_length"]))

  def test_the_report_shows_it(self):
    board = leaderboard.check(remedies.judged(*comparison()))
    text = " ".join(remedy_sentences.of_base(board[board["base"] == BASES[1]]))
    for sentence in (
      "Unlikelihood repairs the error",
      "DRY only hides the error",
      "DRY is not better at its default setting.",
    ):
      self.assertIn(sentence, text)

  def test_training_alone(self):
    """No remedy has touched the teacher then, and its columns are not in the frame."""
    frame, best = comparison()
    is_decoded = frame["remedy"] == "DRY"
    frame = frame[~is_decoded].drop(columns=["teacher_divergence", "teacher_capped_length"])
    board = leaderboard.check(remedies.judged(frame, best[best["remedy"] != "DRY"]))
    self.assertTrue(board["teacher_divergence"].isna().all())


if __name__ == "__main__":
  absltest.main()
