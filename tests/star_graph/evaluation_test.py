"""What is measured of a student follows from its seed alone, whatever block of seeds it ran in; and its frames."""

from __future__ import annotations

from unittest import mock

import jax
import numpy as np
import pandas as pd
from absl.testing import absltest

from loopjax.generation.settings import at_temperatures
from loopjax.models.transformer import Transformer
from loopjax.runtime import devices, seeds
from loopjax.star_graph import evaluation, fitness, null_worlds, rollouts, teacher
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.rollouts import LegalMoves
from loopjax.star_graph.students import Students
from loopjax.star_graph.walks import WalkMeasures
from loopjax.training.step import Training, TrainState, evaluation_key

TASK = StarGraph(num_chains=2, chain_length=1, max_steps=6, reset_prob=0.0, explore_prob=1.0)
MODEL = Transformer(num_layers=1, num_heads=2, width=8)
MEASURES = list(WalkMeasures._fields)


def measures(seed_numbers: range) -> list[pd.DataFrame]:
  """Of fresh students: legal walks, walks as they are, and losses along the teacher's walks, on graphs of their own."""
  mesh = devices.device_mesh()
  students = null_worlds.untrained_students(MODEL, [TASK], Training(), seed_numbers, mesh)
  legal, asked = LegalMoves(teacher.sizes_of(TASK)), dict(num_graphs=16, seed=0)
  kinds = at_temperatures((0.0, 1.0), legal), at_temperatures((0.0, 1.0))
  frames = [evaluation.evaluate_students(students, generation=generation, **asked) for generation in kinds]
  frames.append(fitness.evaluate_losses(students, num_graphs=16, seed=0))
  return [frame.assign(row=np.array(seed_numbers)[frame["row"]]) for frame in frames]


class BlockTest(absltest.TestCase):
  def test_a_seed_has_the_measures_alone_that_it_has_among_others(self):
    whole, alone = measures(seeds.block(5, 3)), measures(seeds.block(7, 1))
    for of_all, of_one in zip(whole, alone, strict=True):
      expected = of_all[of_all["row"] == 7].reset_index(drop=True)
      pd.testing.assert_frame_equal(of_one, expected, rtol=1e-5)
    legal, free, losses = whole
    of_rows = legal[legal["temperature"] == 1].drop(columns=["row", "temperature"])
    self.assertLen(of_rows.drop_duplicates(), 3)  # each has graphs and draws of its own
    self.assertLen(losses.drop(columns=["row"]).drop_duplicates(), 3)
    for frame in (legal, free):
      np.testing.assert_allclose(frame["reached"] + frame["broken"] + frame["cut"], 1, rtol=1e-6)
    np.testing.assert_array_equal(legal["broken"], 0)
    self.assertGreater(free["broken"].mean(), 0.5)

  def test_one_program_serves_the_students_of_all_objectives(self):
    plain = null_worlds.untrained_students(MODEL, [TASK], Training(), range(5, 8), devices.device_mesh())
    remedied = plain._replace(state=plain.state._replace(opt_state=plain.state.params, extra=plain.state.step))

    def evaluate(students: Students) -> None:
      evaluation.roll_out(students, generation=at_temperatures((0.0, 1.0)), num_graphs=16, seed=0)
      fitness.evaluate_losses(students, num_graphs=16, seed=0)

    evaluate(plain)
    for module, traced in ((rollouts, "begin"), (rollouts, "advance"), (fitness, "mean_loss")):
      self.enterContext(mock.patch.object(module, traced, side_effect=AssertionError("another program")))
    evaluate(remedied)

  def test_the_key_depends_on_student_and_question_and_is_no_step_s(self):
    students = [TrainState(None, None, None, jax.random.key(seed), None, None) for seed in range(3)]
    keys = [evaluation_key(student, seed) for student in students for seed in range(3)]
    keys += [jax.random.fold_in(student.key, step) for student in students for step in range(100)]
    self.assertLen(np.unique([jax.random.key_data(key) for key in keys], axis=0), len(keys))


class FrameTest(absltest.TestCase):
  def test_a_row_per_student_and_temperature_and_nan_where_it_is_not_finite(self):
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    table = WalkMeasures(*(100 * i + values for i in range(len(MEASURES))))
    frame = evaluation.measures_frame(table, at_temperatures((0.0, 0.7)), np.array([True, False, True]))
    self.assertEqual(frame.columns.tolist(), ["row", "temperature", *MEASURES])
    self.assertEqual(frame["row"].tolist(), [0, 0, 1, 1, 2, 2])
    self.assertEqual(frame["temperature"].tolist(), [0.0, 0.7] * 3)
    for i, name in enumerate(MEASURES):
      np.testing.assert_array_equal(frame[name], 100 * i + np.array([0, 1, np.nan, np.nan, 4, 5]))


if __name__ == "__main__":
  absltest.main()
