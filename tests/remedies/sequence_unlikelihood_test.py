"""Sequence-level unlikelihood: repetitions against plain Python, the loss by hand, signs, nothing at weight 0."""

from __future__ import annotations

import functools
import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.remedies import own_walks, sequence_unlikelihood
from loopjax.remedies.sequence_unlikelihood import SequenceUnlikelihood
from loopjax.star_graph.objective import task_state
from tests.models.students import random_params, sample_packed
from tests.remedies import cases
from tests.remedies.groups_test import MODEL, TASK, TRAINING

SIZE, KEY = 11, jax.random.key(0)


def plain_repeated(walk: list[int], ngram: int) -> list[bool]:
  """Piece after piece in the order of time, as the authors do it, with the last piece."""
  seen: set[tuple[int, ...]] = set()
  marked = [False] * len(walk)
  for start in range(len(walk) - ngram + 1):
    piece = tuple(walk[start : start + ngram])
    if piece in seen:
      marked[start : start + ngram] = [True] * ngram
    seen.add(piece)
  return marked


@functools.cache
def jitted(ngram: int):
  return cases.jit(functools.partial(sequence_unlikelihood.repeated, ngram=ngram))


class RepeatedTest(parameterized.TestCase):
  @parameterized.parameters(
    ([0, 1, 2, 0, 1, 2, 0, 1], [0] * 3 + [1] * 5), ([0, 1, 2, 0, 1, 3], [0] * 6), ([0, 1, 0, 1, 0, 1], [0, 0] + [1] * 4)
  )
  def test_by_hand(self, walk, expected):
    self.assertEqual(plain_repeated(walk, 4), [bool(x) for x in expected])
    found = jitted(4)(np.array(walk + [-1] * (SIZE - len(walk))))
    self.assertEqual(found[: len(walk)].tolist(), plain_repeated(walk, 4))

  @hypothesis.settings(max_examples=200)
  @hypothesis.given(st.lists(st.integers(0, 2), min_size=1, max_size=SIZE), st.sampled_from((1, 2, 4)))
  def test_any_walk(self, walk, ngram):
    found = jitted(ngram)(np.array(walk + [-1] * (SIZE - len(walk)))).tolist()
    self.assertEqual(found, plain_repeated(walk, ngram) + [False] * (SIZE - len(walk)))

  def test_a_walk_shorter_than_a_piece(self):
    self.assertEqual(jitted(4)(np.array([0, 0, 0])).tolist(), [False] * 3)


class LossTest(absltest.TestCase):
  def test_by_hand_and_the_sign(self):
    """s r s r s, pieces of 2: s r comes back at node 2, and r s at node 3.

    So nodes 2, 3 and 4 are repeated. The moves to them are taken at nodes 1, 2 and 3.
    """
    walks = np.array([[0, 1, 0, 1, 0, -1]])
    q = np.array([0.9, 0.5, 0.25, 0.75, 0.5])
    logits = np.log(np.stack([1 - q, q], axis=-1)).astype(np.float32)[None]
    loss = lambda logits: sequence_unlikelihood.repetition_loss(logits, np.ones((1, 5), int), walks, 2)
    total, count = cases.jit(loss)(logits)
    np.testing.assert_allclose(total, -math.log(0.5) - math.log(0.75) - math.log(0.25), rtol=1e-5)
    self.assertEqual(count, 4)
    pull = np.asarray(jax.grad(lambda x: loss(x)[0])(jnp.asarray(logits)))[0]
    self.assertTrue((pull[1:4, 1] > 0).all())  # what was taken falls, the other label rises
    self.assertTrue((pull[1:4, 0] < 0).all())
    np.testing.assert_array_equal(pull[[0, 4]], 0)

  def test_at_weight_0_loss_and_gradient_are_those_of_maximum_likelihood_bit_for_bit(self):
    params, rows = random_params(MODEL, TASK), sample_packed(TASK, 4, 1, 16)
    state = task_state(TASK, TRAINING)
    problems = jax.vmap(lambda key: own_walks.sample_problem(TASK, key, state))(jax.random.split(KEY, 4))
    config = SequenceUnlikelihood(0.0, 1)
    cases.assert_maximum_likelihood(TASK, MODEL, TRAINING, config, params, rows, (rows, problems))

  def test_validation(self):
    with self.assertRaisesRegex(ValueError, r"^objective\.sequence_weight=-1 .* at least 0$"):
      SequenceUnlikelihood(-1)
    with self.assertRaisesRegex(ValueError, r"^objective\.ngram=0 .* at least 1$"):
      SequenceUnlikelihood(ngram=0)


if __name__ == "__main__":
  absltest.main()
