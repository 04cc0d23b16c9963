"""Growing chains: parameters of one size for all, steps and streams shared out, students handed from stage to stage."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import tempfile
from unittest import mock

import jax
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.models.transformer import Transformer
from loopjax.remedies import growing_chains
from loopjax.runtime import devices, seeds
from loopjax.star_graph import sharing, students
from loopjax.star_graph.graph import StarGraph
from loopjax.training.step import Training
from tests.models.students import shapes_of

TASK = StarGraph(2, 3, max_steps=10, explore_prob=0.5, spare_labels=1)
MODEL = Transformer(num_layers=1, num_heads=1, width=4, positions="none")
TRAINING = Training(num_steps=5, rows_per_step=2, warmup_steps=0)


class SizesTest(parameterized.TestCase):
  @parameterized.parameters("none", "rotary")
  def test_parameters_are_of_one_size(self, positions):
    model = Transformer(num_layers=1, num_heads=1, width=4, positions=positions)
    short, long = growing_chains.with_chains(TASK, 1), growing_chains.with_chains(TASK, 3)
    self.assertEqual((short.spare_labels, short.vocabulary_size), (5, TASK.vocabulary_size))
    self.assertEqual(long, TASK)
    self.assertEqual(shapes_of(model, short), shapes_of(model, TASK))

  def test_steps_are_shared_out_and_streams_have_one_length(self):
    stages = growing_chains.stages_of(TRAINING, 3, 10)
    self.assertEqual([stage.num_steps for stage in stages], [1, 1, 3])
    self.assertEqual({stage.stream_length for stage in stages}, {10})

  @parameterized.parameters(([],), ([1, 2],), ([2, 1, 3],), ([0, 3],), ([1, 3, 4],))
  def test_lengths_that_are_refused(self, lengths):
    with self.assertRaisesRegex(ValueError, r"^chain_lengths=.* do not fall, the last one the task's 3$"):
      train(lengths)

  def test_what_else_is_refused(self):
    with self.assertRaisesRegex(ValueError, r"^model\.positions='learned' "):
      train([1, 3], dataclasses.replace(MODEL, positions="learned"))
    with self.assertRaisesRegex(ValueError, r"^task\.graph_fixed=True "):
      train([1, 3], task=dataclasses.replace(TASK, graph_fixed=True))
    with self.assertRaisesRegex(ValueError, r"^training\.num_steps=5 .* at least 6"):
      train([1, 1, 2, 2, 3, 3])


def train(lengths, model=MODEL, obtain=None, task=TASK):
  request = sharing.Request("grown", [task], model, TRAINING, (4, 7))
  with mock.patch.object(seeds, "map_seeds", functools.partial(seeds.map_seeds, brief=True)):  # compiles quickly
    return growing_chains.train_with_growing_chains(request, lengths, obtain)


class TrainTest(absltest.TestCase):
  def test_each_stage_begins_with_the_students_of_the_one_before(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    trainer, asked = sharing.Trainer(folder, devices.device_mesh()), []

    def obtain(request, *, params=None, extra=None):
      asked.append((request, params))
      return trainer(request, params=params, extra=extra)

    short, long = train([1, 3], obtain=obtain)
    (first, fresh), (second, handed_on) = asked
    self.assertEqual([request.tasks[0].chain_length for request in (first, second)], [1, 3])
    self.assertEqual([list(request.seed_numbers) for request in (first, second)], [[4 + 2**20, 7 + 2**20], [4, 7]])
    self.assertEqual([one.training.num_steps for one in (short, long)], [2, 3])
    self.assertIsNone(fresh)
    self.assertIs(handed_on, short.state.params)
    self.assertTrue(long.is_finite.all())
    self.assertEqual((long.tasks, long.seed_numbers), ([TASK], [4, 7]))
    loaded = students.load_students(folder / "checkpoints/grown/stage_1", devices.device_mesh())
    jax.tree.map(np.testing.assert_array_equal, loaded.state.params, long.state.params)


if __name__ == "__main__":
  absltest.main()
