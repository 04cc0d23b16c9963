"""Attention and its hand-written gradient against a softmax differentiated by jax."""

from __future__ import annotations

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax import attention
from loopjax.attention import KeysValues

B, H, R, L, K, F = 2, 3, 2, 5, 7, 4


def arguments(prompt_length: int, scale: float = 1.0):
  """Query, the stream's and the prompt's keys and values, a mask that shows every position something, a cotangent."""
  rng = np.random.default_rng(0)
  normal = lambda *shape: jnp.asarray(scale * rng.normal(size=shape), jnp.float32)
  own = KeysValues(normal(B, H, R, K, F), normal(B, H, R, K, F))
  prompt = KeysValues(normal(B, H, prompt_length, F), normal(B, H, prompt_length, F))
  mask = jnp.asarray(rng.random((B, R, L, K)) < 0.5).at[..., 0].set(True)
  return normal(B, H, R, L, F), own, prompt, mask, normal(B, H, R, L, F)


def plain(query, own, prompt, mask):
  """The same by concatenation and `jax.nn.softmax`: mixed values and weights."""
  spread = lambda part: jnp.broadcast_to(part[:, :, None], (B, H, R) + part.shape[2:])
  keys, values = (jnp.concatenate([spread(a), b], axis=3) for a, b in zip(prompt, own, strict=True))
  shown = jnp.concatenate([jnp.ones(mask.shape[:3] + prompt.keys.shape[2:3], bool), mask], axis=-1)
  scores = jnp.einsum("bhrlf,bhrkf->bhrlk", query, keys) / F**0.5
  weights = jax.nn.softmax(jnp.where(shown[:, None], scores, -jnp.inf))
  return jnp.einsum("bhrlk,bhrkf->bhrlf", weights, values), weights


class AttendTest(parameterized.TestCase):
  @parameterized.product(prompt_length=(0, 6), accuracy=(("float32", 2e-6), ("bfloat16", 2e-2)))
  def test_values_and_gradients_as_of_a_plain_softmax(self, prompt_length, accuracy):
    dtype, within = accuracy
    query, own, prompt, mask, cotangent = arguments(prompt_length)

    @functools.partial(jax.jit, static_argnums=0)
    def evaluate(function, *inputs):
      mixed, pull = jax.vjp(lambda *inputs: function(*inputs, mask), *inputs)
      return mixed, pull(cotangent)

    found = evaluate(functools.partial(attention.attend, jnp.dtype(dtype)), query, own, prompt)
    expected = evaluate(lambda *inputs: plain(*inputs)[0], query, own, prompt)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
      self.assertEqual(a.shape, b.shape)
      if b.size:
        self.assertLess(np.linalg.norm(a - b) / np.linalg.norm(b), within)

  def test_causal_blocks_are_the_whole_square(self):
    query, own, prompt, _, cotangent = arguments(6)
    own = jax.tree.map(lambda part: part[:, :, :, :L], own)
    mask = jnp.tril(jnp.ones((1, 1, L, L), bool))
    self.enterContext(mock.patch.object(attention, "QUERIES_PER_BLOCK", 2))  # blocks of 2, 2 and 1 queries

    def evaluate(function):
      mixed, pull = jax.vjp(lambda *inputs: function(jnp.dtype("float32"), *inputs, mask), query, own, prompt)
      return mixed, pull(cotangent)

    for a, b in zip(*map(jax.tree.leaves, map(evaluate, (attention.attend_causally, attention.attend))), strict=True):
      np.testing.assert_allclose(a, b, atol=1e-6)

  @parameterized.parameters(0, 6)
  def test_weights_are_those_of_a_plain_softmax(self, prompt_length):
    query, own, prompt, mask, _ = arguments(prompt_length)
    found = attention.attention_weights(jnp.dtype("float32"), query, own, prompt, mask)
    np.testing.assert_allclose(found, plain(query, own, prompt, mask)[1], atol=1e-6)

  def test_scores_of_any_size_stay_finite(self):
    query, own, prompt, mask, cotangent = arguments(6, scale=100.0)
    attend = functools.partial(attention.attend, jnp.dtype("float32"))
    mixed, pull = jax.vjp(lambda *inputs: attend(*inputs, mask), query, own, prompt)
    for leaf in jax.tree.leaves((mixed, pull(cotangent))):
      self.assertTrue(np.all(np.isfinite(leaf)))


if __name__ == "__main__":
  absltest.main()
