"""Injected loops: students that hold the loop posterior are recognised, others are not; tables, claims, config."""

from __future__ import annotations

import dataclasses
from unittest import mock

import numpy as np
from absl.testing import absltest, parameterized

from experiments import exact, injected_loop_claims, injected_loops
from experiments.injected_loop_conditions import InjectedLoops
from loopjax import claims
from loopjax.models.transformer import Transformer
from loopjax.runtime import devices
from loopjax.star_graph import null_worlds
from loopjax.star_graph.graph import StarGraph
from loopjax.training.step import Training

TINY = InjectedLoops(
  task=StarGraph(num_chains=2, chain_length=1, max_steps=16, explore_prob=0.5), shares=(0.0, 0.1),
  model=Transformer(num_layers=1, num_heads=2, width=8),
  training=Training(num_steps=3, rows_per_step=2), num_seeds=6, temperatures=(0.0, 0.2, 0.4),
  num_graphs=32, num_cycles=6, repetitions=(1, 2, 5),
)  # fmt: skip


def students_of(world: str) -> null_worlds.Pretender:
  """Those of a world, of whom all is asked: legal decoding and losses too."""
  obtain = null_worlds.Pretender(world, devices.device_mesh())
  obtain.claims_only = False
  return obtain


class WorldsTest(absltest.TestCase):
  def test_students_that_hold_the_loop_posterior(self):
    with mock.patch.object(injected_loops, "SAMPLED_STREAMS", 2**12):
      tables = injected_loops.measure(TINY, students_of("loop posterior, untraced"))
    frame = tables["injected_loops"]
    self.assertLen(frame, 2 * 6 * 2 * 3)
    self.assertFalse(frame.duplicated(["condition", "seed", "decoding", "temperature"]).any())
    np.testing.assert_array_equal(frame.groupby("condition", sort=False)["seed"].nunique(), [6, 6])
    is_clean = frame["share"] == 0
    np.testing.assert_array_equal(frame["position_share"][is_clean], 0)
    self.assertTrue((frame["position_share"][~is_clean] > frame["share"][~is_clean]).all())  # loops are long walks

    resets = tables["injected_loops_resets"]
    self.assertLen(resets, 2 * 6 * 6)
    np.testing.assert_allclose(resets["reset_probability"], resets["exact_reset_probability"], atol=1e-3)
    self.assertLess(frame["reset_error"].max(), injected_loop_claims.MOST_OFF)
    greedy = frame[(frame["temperature"] == 0.2) & (frame["decoding"] == "free")].groupby("share")["returns"].mean()
    self.assertGreater(greedy[0.1], 1.1 * greedy[0.0])

  def test_a_student_without_the_posterior_has_not_learnt_the_loops(self):
    frame = injected_loops.measure(TINY, students_of("memoryless"))["injected_loops"]
    off = injected_loop_claims.learnt(0.1).measure(frame)
    self.assertLen(off, 6)
    self.assertGreater(off.min(), injected_loop_claims.MOST_OFF)
    self.assertLess(injected_loop_claims.learnt(0.0).measure(frame).max(), 1e-3)  # clean students have none to learn
    registered = [claim for claim in injected_loop_claims.claims(TINY) if claim.name.startswith("injected_returns")]
    verdicts = claims.evaluate(registered, frame, "standard")
    self.assertEqual(set(verdicts["verdict"]), {claims.UNFIT})
    self.assertTrue(verdicts["unfit_because"].str.contains("distance from the loop posterior").all())


class ExactTest(absltest.TestCase):
  def test_reset_probabilities_after_pure_cycles(self):
    task = TINY.tasks()[0.1]
    for cycles in range(5):
      by_teacher = 0.9 * 0.3**cycles
      expected = (0.1 + by_teacher * 0.3) / (0.1 + by_teacher)  # Bayes: looped walks reset for sure
      self.assertAlmostEqual(float(exact.loop_posterior_resets(task, np.array([cycles]))[0]), expected)

  def test_claims_have_names_of_their_own_and_a_null_of_no_effect(self):
    registered = injected_loop_claims.claims(TINY)
    names = [claim.name for claim in registered]
    self.assertLen(set(names), len(names))
    self.assertEqual({claim.null for claim in registered}, {1.0})


class ConfigTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"shares": (0.1, 0.5)}, r"^shares=\(0\.1, 0\.5\) .* 0 first, then others"),
    ({"shares": (0.0, 0.1, 0.1)}, r"^shares=\(0\.0, 0\.1, 0\.1\) .* 0\.1 comes more than once"),
    ({"task": dataclasses.replace(TINY.task, reset_prob=0.0)}, r"^task\.reset_prob=0\.0 .* above 0"),
    ({"task": dataclasses.replace(TINY.task, injected_share=0.1)}, r"^task\.injected_share=0\.1 .* set shares"),
    ({"num_cycles": 8}, r"^num_cycles=8 .* 1 to 7"),
    ({"repetitions": (1, 9)}, r"^repetitions=\(1, 9\) .* within 1 to 8"),
    ({"num_graphs": 0}, r"^num_graphs=0 .* at least 1"),
  )
  def test_errors(self, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      dataclasses.replace(TINY, **changes)


if __name__ == "__main__":
  absltest.main()
