"""`experiments.null_worlds`: claims of the quick preset in worlds of known truth, a few replications of them."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import tqdm
from absl.testing import absltest, parameterized

from experiments import fixed_graph, null_worlds, proposition_one, registry

REPLICATIONS = 2


@functools.cache
def shares(world: str, name: str) -> pd.Series:
  """The share of replications in which each claim of the experiment holds, by the claim's name."""
  experiment = registry.EXPERIMENTS[name]
  config = experiment.at("quick")
  registered = [claim for claim in experiment.claims(config) if "quick" in claim.presets]
  bar = tqdm.tqdm(disable=True)
  cells = null_worlds.run_cells(experiment, registered, config, world, REPLICATIONS, bar)
  return cells.set_index("claim")["share_holds"]


class WorldsTest(parameterized.TestCase):
  @parameterized.parameters(
    ("untrained", False, False), ("exact teacher", False, False), ("independent errors", False, False),
    ("standing preference", True, False), ("remembered errors", None, True),
  )  # fmt: skip
  def test_correlated_errors(self, world, persists, beyond_the_prompt):
    """A standing preference is the prompt's; only errors that a walk remembers go beyond it."""
    held = shares(world, "temporal_errors")
    if persists is not None:
      self.assertEqual(held["temporal_errors_persistence_over_chance"], persists)
      self.assertEqual(held["temporal_errors_error_correlation"], persists)
    self.assertEqual(held["temporal_errors_beyond_the_prompt_T0"], beyond_the_prompt)
    self.assertEqual(held["temporal_errors_beyond_the_prompt_T1"], beyond_the_prompt)

  @parameterized.parameters(("memoryless", True), ("independent errors", False))
  def test_risk_aversion(self, world, is_averse):
    held = shares(world, "risk_aversion")
    hard = held[[name for name in held.index if name.startswith("hard")]]
    self.assertLen(hard, 6)
    np.testing.assert_array_equal(hard, is_averse)

  def test_a_claim_holds_in_a_replication_by_the_seeds_of_that_alone(self):
    frame = pd.DataFrame({"seed": np.arange(12), "value": [1e3] * 6 + [1e3] * 5 + [-1e3]})
    for claim in fixed_graph.claims(fixed_graph.PRESETS["quick"]):
      plain = dataclasses.replace(claim, measure=lambda rows: rows.set_index("seed")["value"])
      held = null_worlds.holds(plain, frame, np.arange(12).reshape(2, 6))
      np.testing.assert_array_equal(held, [True, False])  # with 6 seeds all must be on one side


class RunTest(absltest.TestCase):
  def test_cells_are_judged_by_a_binomial_test_over_all_of_them(self):
    cells = pd.DataFrame({
      "claim": ["a", "b", "c", "d"], "world": "exact teacher", "must_not_hold": [True, True, True, False],
      "replications": 2_000, "share_holds": [0.025, 0.034, 0.05, 1.0],
    })  # fmt: skip
    judged = null_worlds.judge_cells(cells)
    # Of 2,000 replications 68 have p = 0.008, and 100 have p = 2e-10; Holm multiplies the second smallest by 2.
    self.assertEqual(judged["is_wrong"].tolist(), [False, True, True, False])
    self.assertEqual(null_worlds.judge_cells(cells[1:2].assign(replications=200))["is_wrong"].tolist(), [False])

  def test_a_run_that_was_stopped_goes_on_and_another_is_refused(self):
    path = Path(self.enterContext(tempfile.TemporaryDirectory())) / "worlds.csv"
    two = {module.NAME: module.EXPERIMENT for module in (proposition_one, fixed_graph)}
    together = mock.patch.object(null_worlds.registry, "EXPERIMENTS", two)
    worlds = {name: null_worlds.WORLDS[name] for name in ("exact teacher", "standing preference")}
    with together, mock.patch.object(null_worlds, "WORLDS", worlds):
      whole = null_worlds.run("quick", path, 1, 1)
      self.assertEqual(null_worlds.table(whole).count("*"), int(whole["must_not_hold"].sum()))
      pd.read_csv(path)[:6].to_csv(path, index=False)  # as if killed within the last of four parts
      run_cells = null_worlds.run_cells
      with mock.patch.object(null_worlds, "run_cells", side_effect=run_cells) as again:
        pd.testing.assert_frame_equal(null_worlds.run("quick", path, 1, 1), whole)
      self.assertEqual(again.call_count, 1)
      with self.assertRaisesRegex(ValueError, "worlds.csv"):
        null_worlds.run("quick", path, 2, 1)


if __name__ == "__main__":
  absltest.main()
