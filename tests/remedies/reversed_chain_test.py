"""Reversed targets: hints in plain Python, walk by walk; students say theirs before they walk, and come back."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.models import transformer
from loopjax.models.transformer import Transformer
from loopjax.remedies import reversed_chain
from loopjax.remedies.hinted import Hinted
from loopjax.remedies.reversed_chain import ReversedChain
from loopjax.star_graph import encoding, student_functions, teacher
from loopjax.star_graph.encoding import Row
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import MaximumLikelihood, task_state
from loopjax.star_graph.rollouts import sample_problems
from loopjax.star_graph.streams import teacher_walks
from loopjax.training.step import Training
from tests.models.students import random_params
from tests.remedies import cases, groups_test
from tests.star_graph import brute_force

TASK = StarGraph(2, 3, max_steps=12, reset_prob=0.3, explore_prob=0.5, spare_labels=1)
MODEL = Transformer(num_layers=1, num_heads=2, width=16)
TRAINING = Training(streams_per_row=2, stream_length=30)
KEY = jax.random.key(0)


def plain_row() -> Row:
  """The packed rows of `cases` as one row of eight streams on one graph."""
  batch = cases.packed_batch(TASK, 1, 8, 30)
  return jax.tree.map(lambda field: field[0], batch._replace(positions=batch.positions + encoding.prompt_length(TASK)))


@functools.cache
def hinted_row(share: float) -> tuple[Row, np.ndarray]:
  told = np.random.default_rng(0).uniform(size=(8, 30)) < share
  found = cases.jit(functools.partial(reversed_chain.insert_hints, TASK))(plain_row(), told)
  return jax.tree.map(np.asarray, found), told


def plain_stream(row: Row, stream: int, told: np.ndarray):
  """(input pair, position, walk, target label, weight) of each entry, with hints after the goals of walks told."""
  first, goal_id = encoding.prompt_length(TASK), encoding.goal_id(TASK)
  for place in range(row.nodes.shape[1]):
    walk, node = int(row.segments[stream, place]), int(row.nodes[stream, place])
    pair, target = tuple(row.inputs[stream, place].tolist()), int(row.targets[stream, place])
    position, weight = int(row.positions[stream, place]), float(row.weights[stream, place])
    if not told[stream, walk]:
      yield pair, position, walk, target, weight
    elif pair[1] != goal_id:
      yield pair, position + 2, walk, target, weight
    else:
      parents = [int(row.labels[node - back]) for back in (1, 2)]
      yield pair, first, walk, parents[0], 1.0
      yield (parents[0], goal_id), first + 1, walk, parents[1], 1.0
      yield (parents[1], goal_id), first + 2, walk, target, 0.0


class RowTest(parameterized.TestCase):
  @parameterized.parameters(0.0, 0.5, 1.0)
  def test_plain_python(self, share):
    row, (found, told) = plain_row(), hinted_row(share)
    for stream in range(8):
      expected = list(plain_stream(row, stream, told[stream : stream + 1].repeat(8, 0)))
      size = len(expected)
      self.assertLessEqual(size, found.nodes.shape[1])
      pairs, positions, walks, targets, weights = map(np.array, zip(*expected, strict=True))
      np.testing.assert_array_equal(found.inputs[stream, :size], pairs)
      np.testing.assert_array_equal(found.positions[stream, :size], positions)
      np.testing.assert_array_equal(found.segments[stream, :size], walks)
      np.testing.assert_array_equal(found.weights[stream, :size], weights.astype(np.float32))
      counts = weights > 0
      np.testing.assert_array_equal(found.targets[stream, :size][counts], targets[counts])
      self.assertTrue((found.weights[stream, size:] == 0).all())
      self.assertTrue((found.segments[stream, size:] == walks[-1] + 1).all())
      named = [0 if node < 0 else row.labels[node] for node in found.nodes[stream, :size]]
      np.testing.assert_array_equal(named, pairs[:, 0])

  def test_by_hand(self):
    """Chain 1 is 5, 6, 7. After its goal 7 come 6 and 5, each the target of the one before; then s."""
    self.assertEqual(brute_force.goal_of(TASK, 1), 7)
    row = cases.by_hand(TASK, [7, 0, 1, 5, 6, 7])
    row = jax.tree.map(lambda field: field[0], row)
    goal = np.zeros_like(row.nodes) + encoding.null_id(TASK)
    goal[0, 0] = encoding.goal_id(TASK)
    weights = np.array([[0, 1, 1, 1, 1]], np.float32)
    row = row._replace(inputs=np.stack([row.inputs[..., 0], goal], axis=-1), weights=weights)
    found = cases.jit(functools.partial(reversed_chain.insert_hints, TASK))(row, np.ones((1, 5), bool))
    self.assertEqual(found.nodes[0, :7].tolist(), [7, 6, 5, 0, 1, 5, 6])
    self.assertEqual(found.targets[0, [0, 1, 3, 4, 5, 6]].tolist(), [6, 5, 1, 5, 6, 7])
    self.assertEqual(found.weights[0, :7].tolist(), [1, 1, 0, 1, 1, 1, 1])
    self.assertEqual(found.positions[0, :7].tolist(), [*range(7)])


class ObjectiveTest(absltest.TestCase):
  def test_without_hints_the_loss_is_that_of_maximum_likelihood_up_to_rounding(self):
    params, state = random_params(MODEL, TASK), task_state(TASK, TRAINING)
    losses = []
    for config in (ReversedChain(0.0), MaximumLikelihood()):
      built, extra = config.build(teacher.sizes_of(TASK), MODEL, TRAINING), config.init(KEY, TASK, TRAINING)
      make = lambda key, built=built, extra=extra: jax.tree.map(lambda x: x[None], built.sample(key, state, extra))
      losses.append(cases.jit(lambda key, b=built, e=extra, make=make: b.loss(params, make(key), key, e)[:2])(KEY))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)

  def test_a_group_comes_back(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    task = dataclasses.replace(groups_test.TASK, chain_length=2)
    group = groups_test.train([ReversedChain(0.0), ReversedChain(1.0)], folder, task)
    self.assertTrue(group.is_finite.all())
    groups_test.assert_comes_back(group, folder)

  def test_validation(self):
    with self.assertRaisesRegex(ValueError, r"^objective\.share=1\.5 .* in \[0, 1\]$"):
      ReversedChain(1.5)
    for task, model, message in (
      (dataclasses.replace(TASK, chain_length=1), MODEL, r"^task\.chain_length=1 .* at least 2"),
      (dataclasses.replace(TASK, goal_hidden=True), MODEL, r"^task\.goal_hidden=True "),
      (TASK, dataclasses.replace(MODEL, positions="learned"), r"^model\.positions='learned' "),
    ):
      with self.assertRaisesRegex(ValueError, message):
        ReversedChain().build(task, model, TRAINING)
      with self.assertRaisesRegex(ValueError, message):
        student_functions.functions_of(Hinted(model), task)


class StudentTest(absltest.TestCase):
  def test_walks_after_the_hints_that_the_student_says(self):
    """The cached way, hint by hint, against a full reading of the row with those very hints."""
    student, params = student_functions.functions_of(Hinted(MODEL), TASK), random_params(MODEL, TASK)
    probabilities = teacher.teacher_probabilities(TASK)

    def setting(key):
      problem_key, walk_key = jax.random.split(key)
      problems = sample_problems(TASK, problem_key, 3, 2)
      walks = teacher_walks(TASK, probabilities, walk_key, problems.goal_chain)
      return problems, walks, student.read(params, probabilities, problems, walks)

    problems, walks, said = cases.jit(setting)(KEY)
    rows = cases.jit(functools.partial(encoding.encode_walks, TASK))(*problems, walks)
    told = jnp.ones(rows.nodes.shape, bool)
    rows = cases.jit(jax.vmap(functools.partial(reversed_chain.insert_hints, TASK)))(rows, told)
    full = cases.jit(lambda rows: transformer.apply(MODEL, TASK, params, rows).logits)
    for place in (1, 2):  # the goal stands at 0; what the student says there is the hint at 1, and so on
      hint = jnp.argmax(full(rows)[:, :, place - 1], axis=-1)
      rows = rows._replace(inputs=rows.inputs.at[:, :, place, 0].set(hint))
    expected = np.asarray(full(rows))[:, :, 3 : 3 + walks.shape[-1] - 1]
    asked = np.asarray(walks[..., 1:]) >= 0
    self.assertGreater(asked.sum(), 20)
    np.testing.assert_allclose(np.asarray(said)[asked], expected[asked], rtol=1e-4, atol=1e-4)


if __name__ == "__main__":
  absltest.main()
