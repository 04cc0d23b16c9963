"""The six observations: what is asked for is what is measured; claims in worlds and on frames by hand; the config."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized

from experiments import experiment, observation_conditions, observations
from experiments.observation_claims import claims
from experiments.observation_conditions import AFTER_RL, BASE, EASY, LIGHT_RL, TAUGHT, TEACHERS, Observations
from loopjax import claims as verdicts
from loopjax.models.transformer import Transformer
from loopjax.remedies.policy_gradient import PolicyGradient
from loopjax.runtime import devices, seeds
from loopjax.star_graph import null_worlds, students
from loopjax.star_graph.graph import StarGraph
from loopjax.training.step import Training

TASK = StarGraph(num_chains=3, chain_length=2, max_steps=12, explore_prob=0.5)
TINY = Observations(
  task=TASK, easy=dataclasses.replace(TASK, chain_length=1), chain_lengths=(3,), num_chains=(2, 3),
  model=Transformer(num_layers=1, num_heads=1, width=8, positions="none"), depths=(2,), widths=(4, 8),
  training=Training(num_steps=3, rows_per_step=2, warmup_steps=1), rl=PolicyGradient(group_size=2),
  rl_training=Training(num_steps=2, rows_per_step=2, warmup_steps=1), temperatures=(0.0, 1.0), num_seeds=6,
  num_graphs=32,
)  # fmt: skip
DEEPEST = "2 layers"


@functools.cache
def in_world(world: str) -> pd.DataFrame:
  return observations.measure(TINY, null_worlds.Pretender(world, devices.device_mesh()))["observations"]


def judged(frame: pd.DataFrame) -> pd.Series:
  """The verdict of each claim, by the end of its name."""
  table = verdicts.evaluate(claims(TINY), frame, "standard", check_fitness=False)
  return table.set_index(table["claim"].str.removeprefix("observation_"))["verdict"]


class MeasureTest(absltest.TestCase):
  def test_students_that_begin_with_others(self):
    folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
    config = dataclasses.replace(TINY, which=(TEACHERS, LIGHT_RL), num_seeds=2, num_graphs=4)
    tables, text = experiment.run(observations.EXPERIMENT, config, folder)
    frame = tables["observations"]
    self.assertLen(frame, 5 * 2 * 2)
    self.assertFalse(frame.duplicated(["condition", "seed", "temperature"]).any())
    self.assertTrue((frame["excess_length"] > 0).all())
    self.assertIn(TAUGHT, text)
    for name in config.which:
      self.assertGreater((folder / "figures" / f"observations_{name}.png").stat().st_size, 2_000)
    self.check_what_they_began_with(folder / "checkpoints")

  def check_what_they_began_with(self, folder: Path):
    """Each is taught by the deepest student of its seed; the reference of learning is the base student of its seed."""
    mesh = devices.device_mesh()
    base, deepest, taught, after = (
      students.load_students(folder / f"observations_{name}", mesh)
      for name in ("base", "2_layers", "taught", "light_rl")
    )
    host = lambda tree, count: jax.tree.map(np.asarray, seeds.to_host(tree, count))
    jax.tree.map(np.testing.assert_array_equal, host(taught.state.extra.teacher, 2), host(deepest.state.params, 2))
    reference = host(after.state.extra.reference, 4)
    for rows in (slice(0, 2), slice(2, 4)):
      jax.tree.map(lambda x, y, r=rows: np.testing.assert_array_equal(x[r], y), reference, host(base.state.params, 2))
    np.testing.assert_array_equal(host(after.state.extra.share, 4), [0, 0, 1, 1])

  def test_what_is_measured_is_what_is_asked_for(self):
    frame, asked = in_world("exact teacher"), observations.requests(TINY)
    conditions = [name for request in asked for name in request.conditions["condition"]]
    self.assertLen(set(conditions), len(conditions))
    self.assertLen(frame, len(conditions) * 6 * 2)
    self.assertEqual(list(frame["condition"].unique()), conditions)
    self.assertCountEqual({name for names in TINY.shown().values() for name in names}, conditions)
    names = [request.name for request in asked]
    self.assertLess(names.index("observations_2_layers"), names.index("observations_taught"))
    self.assertLess(names.index("observations_base"), names.index("observations_light_rl"))

  def test_the_students_of_quick_are_those_of_risk_aversion(self):
    quick = observations.PRESETS["quick"]
    theirs = observations.RISK_AVERSION["quick"]
    (base, easy) = observations.requests(quick)
    self.assertEqual((base.tasks, easy.tasks), ((theirs.tasks()["hard"][1],), (theirs.tasks()["easy"][1],)))
    self.assertEqual((base.model, base.training, theirs.hard_steps), (theirs.model, theirs.training, 0))
    self.assertEqual(list(base.seed_numbers), list(seeds.block(theirs.first_seed, theirs.num_seeds)))


class ClaimsTest(parameterized.TestCase):
  def test_in_the_memoryless_world_loops_are_those_of_risk_aversion(self):
    found = judged(in_world("memoryless"))
    held = ["temperature_locked", "temperature_cut", "hardness_more_chains", "resets_root_loops"]
    held += ["resets_none_no_loops", "light_rl_loops_stay", "light_rl_changes_little"]
    self.assertCountEqual(found.index[found == verdicts.HOLDS], held)

  def test_in_the_teachers_world_there_are_none(self):
    found = judged(in_world("exact teacher"))
    self.assertEmpty(found.index[found == verdicts.HOLDS])

  @parameterized.parameters(
    ("size_deeper", "standard", {DEEPEST: 0.4}, {DEEPEST: 0.9}),
    ("size_wider", "standard", {"2 layers, width 8": 0.4}, {"2 layers, width 4": 0.4}),
    ("student_loops_more_than_its_teacher", "standard", {DEEPEST: 0.4}, {TAUGHT: 0.4}),
    ("light_rl_changes_little", "standard", {AFTER_RL: 0.75}, {AFTER_RL: 0.6}),
    ("hardness_chains_longer", "quick", {EASY: 0.1}, {EASY: 0.5}),
  )
  def test_by_hand(self, name, preset, holds, fails):
    """All conditions have a share of 0.8 in locked cycles, but those that are named."""
    (claim,) = (one for one in claims(TINY) if one.name == f"observation_{name}")
    for shares, verdict in ((holds, verdicts.HOLDS), (fails, verdicts.FAILS)):
      rows = in_world("exact teacher")
      frame = rows.assign(locked_cycle_share=rows["condition"].map(lambda one, of=shares: of.get(one, 0.8)))
      found = verdicts.evaluate([claim], frame, preset, check_fitness=False)["verdict"][0]
      self.assertEqual(found, verdict, shares)

  def test_a_seed_that_lacks_a_temperature_has_no_value(self):
    frame = in_world("exact teacher")
    frame = frame[~((frame["seed"] == 3) & (frame["temperature"] == 1.0) & (frame["condition"] == BASE))]
    (claim,) = (one for one in claims(TINY) if one.name == "observation_size_deeper")
    np.testing.assert_array_equal(np.isnan(claim.measure(frame)), [False, False, False, True, False, False])

  def test_bounds_of_the_presets(self):
    for config in observations.PRESETS.values():
      registered = claims(config)
      self.assertLen({claim.name for claim in registered}, len(registered))
    self.assertLen(claims(observations.PRESETS["standard"]), 11)
    self.assertLen(claims(observations.PRESETS["quick"]), 3)
    by_name = {claim.name.removeprefix("observation_"): claim for claim in claims(observations.PRESETS["standard"])}
    self.assertEqual(by_name["hardness_chains_longer"].bound, 0.5)
    self.assertAlmostEqual(by_name["resets_root_loops"].bound, 31 / 32 / 2)
    self.assertAlmostEqual(by_name["resets_none_no_loops"].predicted, 0.1 - 1, delta=1e-3)  # 8 excursions: 0.75^8


class ConfigTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"which": ("size", "seize")}, r"^which=\('size', 'seize'\) .* one or more of "),
    ({"which": ()}, r"^which=\(\) .* one or more of "),
    ({"temperatures": (0.0, 0.5)}, r"^temperatures=\(0\.0, 0\.5\) .* with 0 and 1"),
    ({"depths": (1, 2)}, r"^depths=\(1, 2\) .* rising order, from 2 on"),
    ({"widths": (8, 4)}, r"^widths=\(8, 4\) .* rising order"),
    ({"depths": ()}, r"^depths=\(\) .* one or more where there are widths"),
    ({"depths": (), "widths": ()}, r"^depths=\(\) .* or 'teachers' among"),
    ({"rl": PolicyGradient(share=0.0)}, r"^rl\.share=0\.0 .* above 0"),
    ({"num_graphs": 0}, r"^num_graphs=0 .* at least 1"),
    ({"num_seeds": 0}, r"^num_seeds=0 "),
    ({"chain_lengths": (20,)}, r"^task\.max_steps=12 .* at least 22"),
  )
  def test_errors(self, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      dataclasses.replace(TINY, **changes)

  def test_learning_rates_by_size(self):
    config = observations.PRESETS["standard"]
    rates = {
      name: observation_conditions.sized_training(config, model).learning_rate
      for name, model in config.models().items()
    }
    expected = {"2 layers": 5e-3, "4 layers": 3e-3, "2 layers, width 32": 5e-3, "2 layers, width 128": 2.5e-3}
    self.assertEqual(rates.keys(), expected.keys())
    for name, rate in expected.items():
      self.assertAlmostEqual(rates[name] / rate, 1, delta=0.03)


if __name__ == "__main__":
  absltest.main()
