"""Curricula: the tasks of the stages, when each is on, and rows that are those of the stage's own task."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.models.transformer import Transformer
from loopjax.remedies import curriculum
from loopjax.remedies.curriculum import STAGES, Curriculum
from loopjax.star_graph import objective, teacher
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import task_state
from loopjax.training.step import Training
from tests.models.students import random_params, sample_packed
from tests.remedies import cases

TASK = StarGraph(num_chains=2, chain_length=1, max_steps=8, explore_prob=0.8, reset_prob=0.4)
MODEL, TRAINING = Transformer(num_layers=1, num_heads=1, width=4), Training(streams_per_row=20, stream_length=20)
KEY = jax.random.key(0)


@functools.cache
def samplers():
  """Rows by the objective and by maximum likelihood: one program each, for every step and every task."""
  sizes = teacher.sizes_of(TASK)
  built = Curriculum().build(sizes, MODEL, TRAINING)
  plain = cases.jit(lambda key, state: objective.sample_row(sizes, TRAINING, key, state))
  return cases.jit(built.sample), plain


class StagesTest(parameterized.TestCase):
  def test_by_hand(self):
    """From 0 to 0.8 in eight stages: 0, 0.1, ... 0.7; what is not named stays."""
    stages = Curriculum(40, explore_prob=0.0).stages(TASK)
    np.testing.assert_allclose([stage.explore_prob for stage in stages], np.arange(8) / 10)
    self.assertEqual({stage.reset_prob for stage in stages}, {0.4})
    stages = Curriculum(40, explore_prob=-1, reset_prob=0.0, visited_margin=0.8).stages(TASK)
    np.testing.assert_allclose([stage.reset_prob for stage in stages], np.arange(8) / 20)
    np.testing.assert_allclose([stage.visited_margin for stage in stages], 0.8 - np.arange(8) / 10)
    self.assertEqual({stage.explore_prob for stage in stages}, {0.8})

  @parameterized.parameters(16, 20, 3)
  def test_which_stage_is_on(self, num_steps):
    config = Curriculum(num_steps, explore_prob=0.0)
    extra, final = config.init(KEY, TASK, TRAINING), task_state(TASK, TRAINING)
    for step in range(num_steps + 3):
      found = curriculum.current(extra._replace(step=jnp.int32(step)), final).probabilities.explore_prob
      expected = 0.8 if step >= num_steps else (step * STAGES // num_steps) / 10
      np.testing.assert_allclose(found, expected, rtol=1e-6)

  def test_rows_and_their_weights_are_those_of_the_stages_task(self):
    sample, plain = samplers()
    config, state = Curriculum(16, explore_prob=0.0, reset_prob=0.1), task_state(TASK, TRAINING)
    extra, stages = config.init(KEY, TASK, TRAINING), config.stages(TASK)
    rows = []
    for step, task in ((0, stages[0]), (3, stages[1]), (15, stages[7]), (16, TASK), (99, TASK)):
      found = sample(KEY, state, extra._replace(step=jnp.int32(step)))
      expected = plain(KEY, task_state(task, TRAINING))
      jax.tree.map(np.testing.assert_array_equal, found, expected)
      rows.append(found)
    self.assertFalse(np.array_equal(rows[0].nodes, rows[-1].nodes))
    self.assertFalse(np.array_equal(np.unique(rows[0].weights), np.unique(rows[-1].weights)))

  def test_every_loss_is_a_step(self):
    built = Curriculum().build(teacher.sizes_of(TASK), MODEL, TRAINING)
    batch = sample_packed(TASK, 2, 1, 20)
    extra = Curriculum(16).init(KEY, TASK, TRAINING)
    _, _, after = cases.jit(built.loss)(random_params(MODEL, TASK), batch, KEY, extra)
    self.assertEqual((int(extra.step), int(after.step)), (0, 1))

  def test_validation(self):
    with self.assertRaisesRegex(ValueError, r"^objective\.num_steps=-1 .* at least 0$"):
      Curriculum(-1)
    with self.assertRaisesRegex(ValueError, r"^objective\.reset_prob=-0\.5 .* or -1 for the task's$"):
      Curriculum(reset_prob=-0.5)
    with self.assertRaisesRegex(ValueError, r"^task\.reset_prob=1\.0 "):
      Curriculum(reset_prob=1.0).stages(TASK)


if __name__ == "__main__":
  absltest.main()
