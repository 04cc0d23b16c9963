"""Seeds in place of temperature: temperatures of equal entropy, claims on frames by hand, all of it with networks."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized

from experiments import seed_conditioning
from experiments.seed_conditioning import PLAIN, SEEDED, SeedConditioning, claims, matched_name
from loopjax import claims as verdicts
from loopjax.models.transformer import Transformer
from loopjax.runtime import devices
from loopjax.star_graph import null_worlds
from loopjax.star_graph.graph import StarGraph
from loopjax.training.step import Training

TASK = StarGraph(num_chains=3, chain_length=1, max_steps=8, explore_prob=0.5)
TINY = SeedConditioning(
  risk_aversion=TASK, fixed_graph=dataclasses.replace(TASK, explore_prob=0.4),  # of one size: programs are shared
  model=Transformer(num_layers=1, num_heads=1, width=4), training=Training(num_steps=1, rows_per_step=2),
  temperatures=(0.0,), sweep=(0.0, 0.5, 1.0), num_seeds=6, num_graphs=4,
)  # fmt: skip


def by_hand(length: float) -> pd.DataFrame:
  """Seeded students with walks of this length, where plain ones of the same entropy have 10."""
  parts = []
  for base in TINY.tasks():
    conditions = {PLAIN: 10.0, **dict.fromkeys(SEEDED, length), **{matched_name(kind): 10.0 for kind in SEEDED}}
    for condition, value in conditions.items():
      rows = {"base": base, "condition": condition, "seed": range(6), "temperature": 0.0, "capped_length": value}
      parts.append(pd.DataFrame(rows))
  return pd.concat(parts, ignore_index=True)


class MatchedTest(absltest.TestCase):
  def test_measures_are_read_at_the_entropy_of_the_seeded_student(self):
    """Its entropy lies halfway between two temperatures, on the coldest of two equal ones, and beyond the largest."""
    sweep = {
      "temperature": [0.0, 0.5, 0.6, 1.0], "root_entropy": [0.0, 0.4, 0.4, 1.0],
      "capped_length": [20.0, 10.0, 11.0, 16.0],
    }  # fmt: skip
    plain = pd.concat([pd.DataFrame(sweep).assign(base="a", seed=seed) for seed in (7, 8, 9)])
    seeded = pd.DataFrame({"seed": [7, 8, 9] * 2, "temperature": [0.0] * 3 + [1.0] * 3})
    seeded["root_entropy"] = [0.2, 0.4, 2.0, 9.0, 9.0, 9.0]
    found = seed_conditioning._matched(plain.sample(frac=1, random_state=0), seeded).set_index("seed").loc[[7, 8, 9]]
    np.testing.assert_allclose(found["temperature"], [0.25, 0.5, np.nan])
    np.testing.assert_allclose(found["root_entropy"], [0.2, 0.4, np.nan])
    np.testing.assert_allclose(found["capped_length"], [15.0, 10.0, np.nan])
    self.assertEqual(set(found["base"]), {"a"})


class MeasureTest(absltest.TestCase):
  def test_networks(self):
    """Untrained networks have all rows; told a seed they walk otherwise, and their first choices have more entropy."""
    obtain = null_worlds.Pretender("untrained", devices.device_mesh())
    tables = seed_conditioning.measure(TINY, obtain)
    frame = tables["seed_conditioning"]
    self.assertLen(frame, 2 * 6 * (3 + 2 + 2))
    self.assertFalse(frame.duplicated(["base", "condition", "temperature", "seed"]).any())
    own = frame[frame["condition"].isin([PLAIN, *SEEDED])]
    self.assertTrue(own[["excess_length", "root_entropy"]].notna().all().all())
    greedy = frame[frame["temperature"] == 0].groupby("condition")["root_entropy"]
    self.assertEqual(greedy.max()[PLAIN], 0.0)
    self.assertGreater(greedy.max()["a seed a walk"], 0.1)
    per_kind = frame[frame["temperature"] == 0].set_index(["base", "seed", "condition"])["root_entropy"].unstack()
    np.testing.assert_array_equal(per_kind["a seed a walk"], per_kind["a seed a return"])  # seeds are the same at first
    wanted = per_kind["a seed a walk"]
    matched = frame[frame["condition"] == matched_name("a seed a walk")].set_index(["base", "seed"])["root_entropy"]
    largest = frame[frame["condition"] == PLAIN].groupby(["base", "seed"])["root_entropy"].max()
    np.testing.assert_allclose(matched, wanted.where(wanted <= largest)[matched.index], atol=1e-5)
    folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
    text = seed_conditioning.show(TINY, tables, folder)
    self.assertIn(matched_name("a seed a return"), text)
    self.assertGreater((folder / "seed_conditioning.png").stat().st_size, 2_000)


class ClaimsTest(parameterized.TestCase):
  @parameterized.parameters((8.0, "holds"), (10.0, "undecided"), (12.0, "fails"))
  def test_lengths_at_the_same_entropy(self, length, verdict):
    table = verdicts.evaluate(claims(TINY), by_hand(length), "standard", check_fitness=False)
    self.assertEqual(table["verdict"].tolist(), [verdict] * 4)
    np.testing.assert_allclose(table["value"], length / 10)

  def test_the_config_is_checked(self):
    for change, said in (
      ({"temperatures": (0.5,)}, "^temperatures="), ({"sweep": (0.1, 1.0)}, "^sweep="), ({"sweep": (0.0,)}, "^sweep="),
      ({"sweep": (0.0, 1.0, 0.5)}, "^sweep="), ({"num_graphs": 0}, "^num_graphs="),
    ):  # fmt: skip
      with self.assertRaisesRegex(ValueError, said):
        dataclasses.replace(TINY, **change)


if __name__ == "__main__":
  absltest.main()
