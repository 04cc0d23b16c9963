"""DITTO: what is repeated, its loss by hand and in plain Python copy by copy, and which way probabilities move."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.models.transformer import Transformer
from loopjax.remedies import ditto
from loopjax.remedies.ditto import Ditto, DittoRow
from loopjax.star_graph import encoding, objective
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import task_state
from loopjax.training.step import Training
from tests.remedies import cases
from tests.star_graph import brute_force

TASK = StarGraph(3, 2, max_steps=12, reset_prob=0.5, explore_prob=1.0, spare_labels=1)
TRAINING = Training(streams_per_row=40, stream_length=15)
MODEL = Transformer(num_layers=1, num_heads=1, width=4)


@functools.cache
def repeated_row() -> DittoRow:
  row = cases.jit(lambda key: ditto.repeated_row(TASK, TRAINING, key, task_state(TASK, TRAINING)))(jax.random.key(0))
  return jax.tree.map(np.asarray, row)


def plain_pairs(walk: list[int]) -> list[tuple[int, int]]:
  """Positions (i, i - period) whose predictions are compared: from the second label of the second copy on."""
  if 0 not in walk[1:]:
    return []
  period = walk.index(0, 1)
  return [(i, i - period) for i in range(period, len(walk) - 1)]


class RowTest(absltest.TestCase):
  def test_an_excursion_is_repeated_until_the_cut(self):
    walk = jnp.array([0, 1, 4, 0, 1, 0, 1, 2, 3])
    nodes, period = ditto.repeat_first_excursion(walk)
    self.assertEqual((nodes.tolist(), period), ([0, 1, 4, 0, 1, 4, 0, 1, 4], 3))
    self.assertEqual(ditto.repeat_first_excursion(jnp.array([0, 1, 2, 3, -1, -1]))[1], 0)  # straight to the goal

  def test_streams_in_plain_python(self):
    batch, kinds = repeated_row(), set()
    np.testing.assert_array_equal(batch.row.weights, 0)
    for stream in range(TRAINING.streams_per_row):
      self.assertEqual(batch.row.inputs[stream, 0, 1], encoding.goal_id(TASK))
      last = batch.row.labels.tolist().index(batch.row.targets[stream, 11])
      walk = [*batch.row.nodes[stream, 1:12].tolist(), last]
      pairs = plain_pairs(walk)
      expected = np.zeros(15)
      expected[[1 + i for i, _ in pairs]] = 1
      np.testing.assert_array_equal(batch.repeats[stream], expected)
      self.assertEqual(batch.earlier[stream, expected > 0].tolist(), [1 + j for _, j in pairs])
      kinds.add(pairs[0][0] if pairs else 0)
      for i, j in pairs:
        self.assertEqual(walk[i], walk[j])
        self.assertEqual(batch.row.targets[stream, 1 + i], batch.row.targets[stream, 1 + j])
        self.assertEqual(batch.row.segments[stream, 1 + i], 0)
      moves = zip(walk, walk[1:], strict=False) if pairs else ()
      self.assertTrue(all(after in brute_force.valid_successors(TASK, before) for before, after in moves))
      self.assertTrue((batch.row.segments[stream, 12:] == 1).all())
    self.assertEqual(kinds, {0, 2, 3, 4})  # no return; s r, s r c, s r c c


class LossTest(parameterized.TestCase):
  def test_by_hand(self):
    """Two labels. The target has 1/2 in the first copy and 3/4 in the second, where 1/4 is wanted: -log(1 - 1/2)."""
    q = jnp.array([0.5, 0.75])
    logits = jnp.log(jnp.stack([q, 1 - q], axis=-1))[None, None]
    zero = jnp.zeros((1, 1, 2), jnp.int32)
    batch = DittoRow(cases.by_hand(TASK, [0, 1, 0])._replace(targets=zero), zero, jnp.array([[[0.0, 1.0]]]))
    found = cases.jit(ditto.repetition_loss)(logits, batch, jnp.float32(0.5))
    np.testing.assert_allclose(found[0, 0, 1], math.log(2), rtol=1e-6)

  @parameterized.parameters(0.5, 1.0)
  def test_plain_python(self, decay):
    batch = jax.tree.map(lambda field: field[None], repeated_row())
    logits = cases.random_logits(TASK, batch.row)
    found = np.asarray(cases.jit(ditto.repetition_loss)(logits, batch, jnp.float32(decay)))
    for place in zip(*np.nonzero(batch.repeats), strict=True):
      now, before = place, (*place[:2], batch.earlier[place])
      q, b = (cases.softmax(logits[at])[batch.row.targets[at]] for at in (now, before))
      np.testing.assert_allclose(found[place], -math.log(1 - abs(q - decay * b)), rtol=1e-4, atol=1e-6)

  def test_probabilities_move_to_the_decayed_ones_of_the_copy_before_which_stay(self):
    batch = jax.tree.map(lambda field: field[None], repeated_row())
    logits = cases.random_logits(TASK, batch.row)
    loss = lambda x: jnp.sum(ditto.repetition_loss(x, batch, jnp.float32(0.5)) * batch.repeats)
    pull = np.asarray(cases.jit(jax.grad(loss))(logits))
    np.testing.assert_array_equal(pull[batch.repeats == 0], 0)  # also the first copy's, though others look at it
    fell = set()
    for place in zip(*np.nonzero(batch.repeats), strict=True):
      q, b = (cases.softmax(logits[at])[batch.row.targets[place]] for at in (place, (*place[:2], batch.earlier[place])))
      falls = bool(pull[place][batch.row.targets[place]] > 0)
      self.assertEqual(falls, q > 0.5 * b)
      fell.add(falls)
    self.assertEqual(fell, {True, False})

  def test_certainty(self):
    """q rounds to 1 where nothing is wanted: 1 - q is 2 exp(-40), and every gradient is finite."""
    logits = jnp.array([[[[-40.0, 0.0, 0.0], [40.0, 0.0, 0.0]]]])
    zero = jnp.zeros((1, 1, 2), jnp.int32)
    batch = DittoRow(cases.by_hand(TASK, [0, 1, 0])._replace(targets=zero), zero, jnp.array([[[0.0, 1.0]]]))
    loss = lambda x: ditto.repetition_loss(x, batch, jnp.float32(0.0))[0, 0, 1]
    found, pull = cases.jit(jax.value_and_grad(loss))(logits)
    np.testing.assert_allclose(found, 40 - math.log(2), rtol=1e-6)
    np.testing.assert_allclose(pull[0, 0, 1], [1, -0.5, -0.5], rtol=1e-5)


class ObjectiveTest(absltest.TestCase):
  def test_the_share_is_that_of_rows(self):
    built = Ditto().build(TASK, MODEL, TRAINING)
    draw = cases.jit(lambda key, extra: built.sample(key, task_state(TASK, TRAINING), extra).row.weights)
    for share, low, high in ((0.0, 0, 0), (0.25, 2, 16), (1.0, 32, 32)):
      extra = Ditto(share).init(jax.random.key(0), TASK, TRAINING)
      rows = [draw(jax.random.key(number), extra) for number in range(32)]
      repeated = sum(not np.any(weights) for weights in rows)
      self.assertBetween(repeated, low, high)

  def test_without_repetitions_rows_are_those_of_maximum_likelihood(self):
    state, key = task_state(TASK, TRAINING), jax.random.key(5)
    draw = cases.jit(Ditto().build(TASK, MODEL, TRAINING).sample)
    plain = cases.jit(lambda key: objective.sample_row(TASK, TRAINING, key, state))(key)
    found = draw(key, state, Ditto(0.0).init(key, TASK, TRAINING))
    jax.tree.map(np.testing.assert_array_equal, found.row, plain)
    np.testing.assert_array_equal(found.repeats, 0)

  def test_validation(self):
    with self.assertRaisesRegex(ValueError, r"^objective\.share=1\.5 .* in \[0, 1\]$"):
      Ditto(1.5)
    with self.assertRaisesRegex(ValueError, r"^objective\.decay=-1 .* in \[0, 1\]$"):
      Ditto(0.5, -1)
    with self.assertRaisesRegex(ValueError, r"^objective\.repetition_weight=-1 .* at least 0$"):
      Ditto(0.5, 0.5, -1)


if __name__ == "__main__":
  absltest.main()
