"""The comparison of remedies, end to end at a tiny size, and its catalogue."""

from __future__ import annotations

import dataclasses
import tempfile

import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized

from experiments import remedies, remedy_units
from experiments.remedies import BASES, Remedies
from experiments.remedy_catalogue import DECODING, TRAINING, TRIALS
from experiments.remedy_units import PLAIN
from loopjax import leaderboard
from loopjax.analysis.looping import evaluate_looping
from loopjax.generation.processors import all_processors
from loopjax.generation.settings import at_temperatures
from loopjax.models.transformer import Transformer
from loopjax.remedies.hinted import Hinted
from loopjax.runtime import devices
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.null_worlds import Pretender
from loopjax.star_graph.sharing import Trainer
from loopjax.training.step import Training

TASK = StarGraph(num_chains=3, chain_length=2, max_steps=12, explore_prob=0.5)
TINY = Remedies(
  risk_aversion=TASK, fixed_graph=dataclasses.replace(TASK, graph_fixed=True), injected_loops=TASK, screened=BASES[:1],
  bases=BASES[:1], only=("DRY", "label smoothing"),
  model=Transformer(num_layers=1, num_heads=2, width=16), training=Training(num_steps=4, rows_per_step=4),
  temperatures=(0.0, 1.0), sweep=(0.0, 0.5), num_best=1, screening_seeds=2, num_seeds=2, num_graphs=4,
)  # fmt: skip


class CatalogueTest(parameterized.TestCase):
  @parameterized.named_parameters((name, remedy) for name, remedy in DECODING.items())
  def test_decoding_trials_are_allowed_and_differ(self, remedy):
    self.assertLen(set(remedy.strengths), TRIALS)
    self.assertNotIn(remedy.processor.neutral, remedy.strengths)
    generation = remedy.generation(remedy.strengths, (0.0, 1.0))  # raises where a strength is not allowed
    self.assertEqual(generation.num_columns, 2 * TRIALS)

  @parameterized.named_parameters((name, remedy) for name, remedy in TRAINING.items())
  def test_training_trials_are_one_program(self, remedy):
    self.assertLen(set(remedy.settings()), len(remedy.settings()))
    built = {id(one.build(TASK, remedy.model(TINY.model, TASK), TINY.training)) for one in remedy.objectives}
    self.assertLen(built, 1)

  def test_every_remedy_has_as_many_trials(self):
    """But for the control, which has nothing to choose."""
    counts = {name: len(remedy.settings()) for name, remedy in TRAINING.items()}
    self.assertEqual(counts.pop("training restarted"), 1)
    self.assertEqual(set(counts.values()), {TRIALS})

  def test_every_processor_of_logits_is_there(self):
    """But for the temperature, which is the reference."""
    there = {remedy.processor.name for remedy in DECODING.values()}
    message = "enter it in DECODING in experiments/remedy_catalogue.py, with three strengths"
    self.assertEqual(there, set(all_processors()) - {"temperature"}, message)


class ComparisonTest(absltest.TestCase):
  def test_from_screening_to_leaderboard(self):
    with tempfile.TemporaryDirectory() as folder:
      tables = remedies.measure(TINY, Trainer(folder, devices.device_mesh()))
      again = remedies.measure(TINY, Trainer(folder, devices.device_mesh()))  # all units are read
    for name, frame in tables.items():
      pd.testing.assert_frame_equal(frame, again[name])
    screening, board = tables["remedies_screening"], tables["remedies_leaderboard"]
    rows = screening.groupby("remedy").size()
    self.assertEqual(rows[PLAIN], 2 * 2)
    for remedy, temperatures in ((PLAIN, TINY.sweep), ("DRY", TINY.temperatures)):
      self.assertEqual(set(screening.loc[screening["remedy"] == remedy, "temperature"]), set(temperatures))
    self.assertEqual(set(rows.drop(PLAIN)), {TRIALS * 2 * 2})
    self.assertEqual(set(screening["seed"]), {1_000, 1_001})
    self.assertEqual(set(tables["remedies"]["seed"]), {2_000, 2_001})
    self.assertEqual(set(board["kind"]), {"decoding", "training", leaderboard.REFERENCE})
    self.assertEqual(set(board["verdict"]), {leaderboard.UNDECIDED, leaderboard.REFERENCE})  # two seeds decide nothing
    plain = screening[screening["remedy"] == PLAIN].query("temperature == 0")
    smoothed = screening[screening["remedy"] == "label smoothing"]
    self.assertAlmostEqual(plain["trained_positions"].iloc[0], smoothed["trained_positions"].iloc[0], places=2)

  def test_without_a_screening_the_defaults_are_compared(self):
    config = dataclasses.replace(TINY, screened=(), bases=BASES[:1], only=("DRY",))
    obtain = Pretender("memoryless", devices.device_mesh())
    (frame,) = remedies.measure(config, obtain).values()
    self.assertEqual(set(frame["remedy"]), {PLAIN, "DRY"})
    greedy = frame[(frame["temperature"] == 0) & (frame["trial"] == 0)].groupby("remedy")["locked_cycle_share"].mean()
    self.assertEqual(greedy[PLAIN], 1.0)  # the memoryless learner repeats s-r-s for ever
    self.assertLess(greedy["DRY"], 1.0)

  def test_units_of_other_settings_have_other_identities(self):
    one = remedies._unit(TINY, BASES[0], "DRY", [0], is_screening=True)
    other = remedies._unit(TINY, BASES[0], "DRY", [0, 1], is_screening=True)
    self.assertNotEqual(one, other)
    self.assertEqual(remedy_units.settings_of("DRY", (0,)), ("dry = 0.8",))


class CostsTest(absltest.TestCase):
  def test_positions_are_those_of_each_student(self):
    """Chunks of 3 and 1 steps; the second student has half of the positions."""
    history = pd.DataFrame({
      "row": [0, 1, 0, 1], "step": [3, 3, 4, 4], "trained_positions": [10.0, 5.0, 20.0, 10.0],
    })  # fmt: skip
    students = Pretender("untrained", devices.device_mesh())(remedy_units.plain_request(_of("DRY")))
    self.assertEqual(remedy_units.trained_positions(students._replace(history=history)).tolist(), [50.0, 25.0])
    self.assertEqual(remedy_units.trained_positions(students).tolist(), [0.0, 0.0])

  def test_hints_count_in_the_length(self):
    """On chains of length 2 there is one hint a walk."""
    unit, obtain = _of("reversed chain"), Pretender("untrained", devices.device_mesh())
    walking = obtain(remedy_units.plain_request(unit))._replace(model=Hinted(TINY.model))
    generation = at_temperatures(unit.temperatures)
    bare = evaluate_looping(walking, generation=generation, num_graphs=unit.num_graphs, seed=0)
    counted = remedy_units.measure_unit(unit, obtain)
    for column in ("capped_length", "response_length"):
      np.testing.assert_allclose(counted[column], bare[column] + 1)
    np.testing.assert_allclose(counted["forward_passes"], bare["response_length"] + 1)


def _of(remedy: str) -> remedy_units.Unit:
  return remedies._unit(TINY, BASES[0], remedy, [0], is_screening=True)


class ErrorsTest(parameterized.TestCase):
  def test_without_a_screening_seeds_are_free(self):
    """As worlds of known truth ask for them, thousands at once."""
    self.assertEqual(dataclasses.replace(remedies.PRESETS["quick"], num_seeds=12_000).num_seeds, 12_000)

  @parameterized.parameters(
    (dict(bases=("no base",)), "bases="),
    (dict(bases=()), "bases="),
    (dict(only=("no remedy",)), "only="),
    (dict(num_best=0), "num_best=0"),
    (dict(first_seed=1_001), "screening_first_seed=1000"),
    (dict(sweep=()), "sweep="),
  )
  def test_bad_settings(self, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      dataclasses.replace(TINY, **changes)


if __name__ == "__main__":
  absltest.main()
