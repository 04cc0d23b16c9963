"""What is measured of a student follows from its seed alone, whatever block of seeds it ran in."""

from __future__ import annotations

import jax
import numpy as np
import pandas as pd
from absl.testing import absltest

from loopjax import repetition, runner, seeds, training
from loopjax.star_graph import StarGraph
from loopjax.training import Training
from loopjax.transformer import Transformer

TASK = StarGraph(num_chains=2, chain_length=1, max_steps=6, reset_prob=0.0, explore_prob=1.0)
MODEL = Transformer(num_layers=1, num_heads=2, width=8)


def setUpModule():
  jax.config.update("jax_disable_most_optimizations", True)  # compiling takes most of the time


def tearDownModule():
  jax.config.update("jax_disable_most_optimizations", False)


def measures(seed_numbers: range) -> pd.DataFrame:
  """Of fresh students: rollouts and teacher's walks on graphs of their own."""
  mesh = seeds.device_mesh()
  state = runner.initial_states([TASK], MODEL, Training(), seed_numbers, mesh)
  frames = repetition.evaluate_repetition(
    TASK, MODEL, state, np.ones(len(seed_numbers), bool), mesh,
    temperatures=(1.0,), num_graphs=4, walks_per_graph=2, num_lags=1, seed=0,
  )  # fmt: skip
  return frames.summary.assign(row=np.array(seed_numbers)[frames.summary["row"]])


class BlockTest(absltest.TestCase):
  def test_a_seed_has_the_measures_alone_that_it_has_among_others(self):
    whole, alone = measures(seeds.block(5, 3)), measures(seeds.block(7, 1))
    expected = whole[whole["row"] == 7].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, expected, rtol=1e-5)
    for walks in (repetition.ROLLOUTS, repetition.TEACHER):
      rows = whole[whole["walks"] == walks].drop(columns=["row", "walks", "temperature"])
      self.assertLen(rows.drop_duplicates(), 3)  # each has graphs and draws of its own

  def test_the_key_depends_on_student_and_question_and_is_no_step_s(self):
    students = [training.TrainState(None, None, None, jax.random.key(seed), None) for seed in range(3)]
    keys = [training.evaluation_key(student, seed) for student in students for seed in range(3)]
    keys += [jax.random.fold_in(student.key, step) for student in students for step in range(100)]
    self.assertLen(np.unique([jax.random.key_data(key) for key in keys], axis=0), len(keys))


if __name__ == "__main__":
  absltest.main()
