"""Attention and its hand-written gradient against a softmax differentiated by jax."""

from __future__ import annotations

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.models import attention
from loopjax.models.attention import KeysValues
from loopjax.runtime import devices
from tests.compiling import WELL

B, H, R, L, K, F = 2, 3, 2, 5, 7, 4


def normal(rng, *shape, scale: float = 1.0):
  return jnp.asarray(scale * rng.normal(size=shape), jnp.float32)


def arguments(scale: float = 1.0):
  """Query, keys and values, a mask [B, R, K, L] that shows every query something, a cotangent."""
  rng = np.random.default_rng(0)
  draw = functools.partial(normal, rng, B, H, R, scale=scale)
  mask = jnp.asarray(rng.random((B, R, K, L)) < 0.5).at[:, :, 0].set(True)
  return draw(L, F), KeysValues(draw(K, F), draw(K, F)), mask, draw(L, F)


def row(num_prompt: int):
  """Query, keys and values of a row, which position may attend to which in prompt and streams, a cotangent."""
  rng = np.random.default_rng(0)
  draw = functools.partial(normal, rng, B, H, num_prompt + R * L, F)
  of_prompt = (rng.random((num_prompt, num_prompt)) < 0.5) | np.eye(num_prompt, dtype=bool)
  later = np.tril(np.ones((L, L), bool))
  of_streams = (rng.random((B, R, L, L)) < 0.5) & later | np.eye(L, dtype=bool)
  return draw(), KeysValues(draw(), draw()), of_prompt, of_streams, draw()


def plain(query, own, mask):
  """The same by `jax.nn.softmax`: mixed values and weights [..., L, K]."""
  scores = jnp.einsum("bhrlf,bhrkf->bhrlk", query, own.keys) / query.shape[-1] ** 0.5
  weights = jax.nn.softmax(jnp.where(jnp.swapaxes(mask, -1, -2)[:, None], scores, -jnp.inf))
  return jnp.einsum("bhrlk,bhrkf->bhrlf", weights, own.values), weights


def plain_row(query, own, of_prompt, of_streams):
  """A row as one square of T positions, of which the prompt sees the prompt, a stream the prompt and itself."""
  num_prompt = of_prompt.shape[0]
  shown = np.zeros((B, num_prompt + R * L, num_prompt + R * L), bool)
  shown[:, :num_prompt, :num_prompt] = of_prompt
  for r in range(R):
    here = slice(num_prompt + r * L, num_prompt + (r + 1) * L)
    shown[:, here, :num_prompt] = True
    shown[:, here, here] = of_streams[:, r]
  as_stream = lambda x: x[:, :, None]
  mask = jnp.swapaxes(shown, -1, -2)[:, None]
  return plain(as_stream(query), KeysValues(*map(as_stream, own)), mask)[0][:, :, 0]


def with_gradients(function, *inputs, cotangent):
  """The values of `function` and the gradients of all inputs."""

  @jax.jit
  def evaluate(*inputs):
    values, pull = jax.vjp(function, *inputs)
    return values, pull(cotangent)

  return jax.tree.leaves(evaluate(*inputs))


class AttendTest(parameterized.TestCase):
  def assert_close(self, found, expected, within):
    for a, b in zip(found, expected, strict=True):
      self.assertEqual(a.shape, b.shape)
      self.assertLess(np.linalg.norm(a - b) / np.linalg.norm(b), within)

  @parameterized.parameters(("float32", 2e-6), ("bfloat16", 2e-2))
  def test_values_and_gradients_as_of_a_plain_softmax(self, dtype, within):
    query, own, mask, cotangent = arguments()
    attend = functools.partial(attention.attend, jnp.dtype(dtype))
    found = with_gradients(lambda *inputs: attend(*inputs, mask), query, own, cotangent=cotangent)
    expected = with_gradients(lambda *inputs: plain(*inputs, mask)[0], query, own, cotangent=cotangent)
    self.assert_close(found, expected, within)

  @parameterized.product(num_prompt=(0, 1, 6), queries_per_block=(2, 64))  # blocks of 2, 2 and 1 queries, or one of all
  def test_a_row_is_one_square_in_which_streams_see_the_prompt_and_themselves(self, num_prompt, queries_per_block):
    self.enterContext(mock.patch.object(attention, "QUERIES_PER_BLOCK", queries_per_block))
    query, own, of_prompt, of_streams, cotangent = row(num_prompt)
    masks = attention.row_masks(jnp.asarray(of_prompt), jnp.asarray(of_streams))
    attend = functools.partial(attention.attend_row, jnp.dtype("float32"))
    found = with_gradients(lambda *inputs: attend(*inputs, masks), query, own, cotangent=cotangent)
    expected = with_gradients(
      lambda *inputs: plain_row(*inputs, of_prompt, of_streams), query, own, cotangent=cotangent
    )
    self.assert_close(found, expected, 2e-6)

  @parameterized.parameters((1, 1, 1, 2), (1, 5, 7, 16), (6, 64, 90, 16), (2, 3, 2, 1))
  def test_bfloat16_products_are_ones_that_the_compiler_has_code_for(self, batch, length, num_keys, features):
    """What XLA makes of a product depends on shapes and on options that others of these tests do without."""
    rng = np.random.default_rng(0)
    query, cotangent = normal(rng, batch, 1, 1, length, features), normal(rng, batch, 1, 1, length, features)
    own = KeysValues(normal(rng, batch, 1, 1, num_keys, features), normal(rng, batch, 1, 1, num_keys, features))
    mask = jnp.ones((1, 1, num_keys, length), bool)

    def gradients(query, own):
      mixed, pull = jax.vjp(lambda *inputs: attention.attend(jnp.dtype("bfloat16"), *inputs, mask), query, own)
      return mixed, pull(cotangent)

    expected = with_gradients(lambda *inputs: plain(*inputs, mask)[0], query, own, cotangent=cotangent)
    for options in (WELL | devices.compiler_options(brief=False), devices.compiler_options(brief=True)):
      found = jax.jit(gradients, compiler_options=options)(query, own)
      for a, b in zip(jax.tree.leaves(found), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=0.05 * max(1.0, np.abs(b).max()))

  def test_weights_are_those_of_a_plain_softmax(self):
    query, own, mask, _ = arguments()
    found = attention.attention_weights(jnp.dtype("float32"), query, own, mask)
    np.testing.assert_allclose(found, plain(query, own, mask)[1], atol=1e-6)

  def test_scores_of_any_size_stay_finite(self):
    query, own, mask, cotangent = arguments(scale=100.0)
    attend = functools.partial(attention.attend, jnp.dtype("float32"))
    for leaf in with_gradients(lambda *inputs: attend(*inputs, mask), query, own, cotangent=cotangent):
      self.assertTrue(np.all(np.isfinite(leaf)))


if __name__ == "__main__":
  absltest.main()
