"""Several tokens ahead: further targets in plain Python, losses by hand, signs; how heads come and go."""

from __future__ import annotations

import functools
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.models import decoding, transformer
from loopjax.remedies import multi_token
from loopjax.remedies.multi_token import HEADS, MultiToken
from loopjax.star_graph import objective
from loopjax.star_graph.objective import fresh_student, task_state
from loopjax.training.step import make_optimizer
from tests.models.students import random_params, sample_packed
from tests.remedies import cases, groups_test
from tests.remedies.groups_test import MODEL, TASK, TRAINING

KEY = jax.random.key(0)


class LossTest(parameterized.TestCase):
  @parameterized.product(task=(cases.SHORT, cases.LONG), offset=(1, 3))
  def test_further_targets_in_plain_python(self, task, offset):
    batch = cases.packed_batch(task)
    targets, weights = (np.asarray(part) for part in multi_token.further_targets(batch, offset))
    expected = np.zeros_like(weights)
    for walk in cases.walks_of(batch):
      for here, there in zip(walk, walk[offset:], strict=False):
        self.assertEqual(targets[here], batch.targets[there])
        expected[here] = batch.weights[there]
    np.testing.assert_array_equal(weights, expected)
    self.assertGreater((expected > 0).sum(), 50)

  def test_a_stream_shorter_than_the_offset_has_none(self):
    batch = cases.by_hand(TASK, [0, 1, 2])
    self.assertEqual(multi_token.further_targets(batch, 5)[1].tolist(), [[[0.0, 0.0]]])

  def test_by_hand_and_the_sign(self):
    """s r s r c: two ahead of s, r, s come s, r, c. The head gives label j the logit j times what is read."""
    batch = cases.by_hand(TASK, [0, 1, 0, 1, 2])
    hidden = np.array([1.0, 2.0, 0.0, 5.0], np.float32)[None, None, :, None]
    heads = np.arange(TASK.vocabulary_size, dtype=np.float32)[None, None]
    loss = lambda heads: multi_token.further_losses(MODEL, heads, hidden, batch)
    (total,), (weight,) = loss(heads)
    of = lambda label, scale: -np.log(cases.softmax(scale * np.arange(TASK.vocabulary_size))[label])
    np.testing.assert_allclose(total, of(0, 1.0) + of(1, 2.0) + of(2, 0.0), rtol=1e-5)
    self.assertEqual(weight, 3)
    only_c = batch._replace(weights=np.array([[[1, 0, 1, 1]]], np.float32))
    pull = jax.grad(lambda heads: multi_token.further_losses(MODEL, heads, hidden + 1, only_c)[0][0])(heads)
    self.assertLess(pull[0, 0, 2], 0)  # the label that comes rises; place 0 counts nowhere, as its target does not
    self.assertTrue((np.delete(pull[0, 0], 2) > 0).all())

  def test_at_weight_0_loss_and_gradient_are_those_of_maximum_likelihood_bit_for_bit(self):
    batch, params = sample_packed(TASK, 4, 1, 16), random_params(MODEL, TASK)
    both = multi_token.with_heads(params, 2, KEY)
    found = cases.gradient(TASK, MODEL, TRAINING, MultiToken(0.0, 3), both, batch)
    expected = cases.gradient(TASK, MODEL, TRAINING, objective.MaximumLikelihood(), params, batch)
    self.assertEqual(found[0], expected[0])
    jax.tree.map(np.testing.assert_array_equal, multi_token.without_heads(found[1]), expected[1])
    np.testing.assert_array_equal(found[1][HEADS], 0)


class HeadsTest(absltest.TestCase):
  def test_a_student_begins_with_heads_and_their_optimiser(self):
    built, carried = MultiToken().build(TASK, MODEL, TRAINING), (task_state(TASK, TRAINING), jnp.float32(1))

    def begin(params):
      state = fresh_student(TASK, MODEL, KEY, *carried)
      return objective.begun(built, TRAINING, state._replace(params=params))

    params = random_params(MODEL, TASK)  # as those of students that were trained before
    state = cases.jit(begin)(params)
    self.assertEqual(state.params[HEADS].shape, (3, MODEL.width, TASK.vocabulary_size))
    self.assertLen({float(head.sum()) for head in state.params[HEADS]}, 3)
    jax.tree.map(np.testing.assert_array_equal, multi_token.without_heads(state.params), params)
    jax.tree.map(np.testing.assert_array_equal, state.opt_state, make_optimizer(TRAINING).init(state.params))
    again = cases.jit(begin)(state.params)
    jax.tree.map(np.testing.assert_array_equal, again.params, state.params)

  def test_the_student_does_not_look_at_them(self):
    batch, params = sample_packed(TASK, 4, 1, 16), random_params(MODEL, TASK)
    both = multi_token.with_heads(params, 2, KEY)
    read = cases.jit(lambda params: transformer.apply(MODEL, TASK, params, batch).logits)
    np.testing.assert_array_equal(read(both), read(params))

    @cases.jit
    def walk(params):
      prompt = decoding.read_prompt(MODEL, TASK, params, batch.prompt)
      cache = decoding.empty_cache(MODEL, 4, 1, 2)
      return decoding.decode_step(MODEL, TASK, params, batch.inputs[:, :, 0], jnp.int32(0), prompt, cache)[0]

    np.testing.assert_array_equal(walk(both), walk(params))

  def test_a_group_without_them_is_maximum_likelihood_and_comes_back(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    group = groups_test.train([MultiToken(0.0, 3), MultiToken(1.0, 3)], folder)
    self.assertTrue(group.is_finite.all())
    groups_test.assert_comes_back(group, folder)
    same = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    plain, ours = groups_test.maximum_likelihood().state.params, multi_token.without_heads(group.state.params)
    jax.tree.map(lambda a, b: same(a[:2], b[:2]), ours, plain)
    for with_it, without in ((ours["first_embedding"], plain["first_embedding"]), (group.state.params[HEADS],) * 2):
      self.assertGreater(np.abs(np.asarray(with_it)[2:] - np.asarray(without)[:2]).max(), 1e-3)

  def test_validation(self):
    with self.assertRaisesRegex(ValueError, r"^objective\.ahead_weight=-1 .* at least 0$"):
      MultiToken(-1)
    with self.assertRaisesRegex(ValueError, r"^objective\.num_tokens=1 .* at least 2"):
      MultiToken(num_tokens=1)


if __name__ == "__main__":
  absltest.main()
