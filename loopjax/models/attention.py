"""Attention of a row's prompt to itself, of its streams to the prompt and themselves, and its backward pass.

A score stands at [key, query]: what is taken over keys, the largest score and sums, then runs along rows of queries,
and the gradients of keys and values are plain products. Keys of the prompt come before those of a stream.

Products are written over one batch axis, with operands that lie in memory as they are indexed: from others XLA makes
float32 copies on a CPU, or a product that it has no bfloat16 code for.

Shapes: B batch, H heads, R streams, N = B H R, L query positions, P prompt positions, K positions that can be attended
to, T = P + R L positions of a row, F features of a head.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from loopjax.models.products import product_without_gradient

MASKED = -1e30
QUERIES_PER_BLOCK = 64  # 32 save operations but no time: the gradients of more blocks must be summed


class KeysValues(NamedTuple):
  """Keys and values: [B, H, P, F] of a prompt, [B, H, R, K, F] of streams, [N, K, F] of streams while decoding."""

  keys: jax.Array
  values: jax.Array


class Masks(NamedTuple):
  """Which keys a query may attend to, bool: of the prompt, [P, P]; of the prompt and its stream, [B, R, P + L, L]."""

  prompt: jax.Array
  streams: jax.Array


class Turns(NamedTuple):
  """Rotary positions (arXiv 2104.09864): cosine and sine [B, 1, T, F / 2] of angles that grow with position."""

  cos: jax.Array
  sin: jax.Array


def turns(positions: jax.Array, features: int) -> Turns:
  """The turns of `positions` [B, T] for heads of F features."""
  half = features // 2
  frequency = 10_000.0 ** (-jnp.arange(half, dtype=jnp.float32) / half)
  angle = positions[:, None, :, None] * frequency.reshape(1, 1, 1, half)
  return Turns(jnp.cos(angle), jnp.sin(angle))


def rotate(x: jax.Array, by: Turns) -> jax.Array:
  """Turns the halves of `x` [B, H, T, F]."""
  a, b = jnp.split(x, 2, axis=-1)
  return jnp.concatenate([a * by.cos - b * by.sin, b * by.cos + a * by.sin], axis=-1)


def row_masks(prompt: jax.Array, streams: jax.Array) -> Masks:
  """Masks of a row from which positions attend to which, [P, P] of the prompt and [B, R, L, L] of the streams."""
  whole_prompt = jnp.ones(streams.shape[:2] + (prompt.shape[0], streams.shape[3]), bool)
  return Masks(prompt.T, jnp.concatenate([whole_prompt, jnp.swapaxes(streams, -1, -2)], axis=2))


def _flat(x: jax.Array) -> jax.Array:
  """[B, H, R, ...] -> [N, ...]."""
  return x.reshape(-1, *x.shape[3:])


def _exponentials(dtype: Any, query: jax.Array, keys: jax.Array, mask: jax.Array) -> jax.Array:
  """exp(score - largest score) of the scaled query, [N, K, L]."""
  shape = keys.shape[:3] + (keys.shape[3], query.shape[3])
  scores = product_without_gradient("nkf,nlf->nkl", dtype, _flat(keys), _flat(query)).reshape(shape)
  scores = jnp.where(mask[:, None], scores, MASKED)
  return _flat(jnp.exp(scores - jnp.max(scores, axis=-2, keepdims=True))).astype(dtype)


def attention_weights(dtype: Any, query: jax.Array, own: KeysValues, mask: jax.Array) -> jax.Array:
  """The weights that `attend` mixes values with, [B, H, R, L, K]."""
  exponentials = _exponentials(dtype, query / query.shape[-1] ** 0.5, own.keys, mask).astype(jnp.float32)
  weights = jnp.swapaxes(exponentials / jnp.sum(exponentials, axis=-2, keepdims=True), -1, -2)
  return weights.reshape(query.shape[:4] + own.keys.shape[3:4])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def attend(dtype: Any, query: jax.Array, own: KeysValues, mask: jax.Array) -> jax.Array:
  """Softmax attention under `mask`.

  Args:
    dtype: of the products' operands.
    query: [B, H, R, L, F].
    own: keys and values, [B, H, R, K, F].
    mask: [B or 1, R or 1, K, L] bool, which keys a query may attend to; every query to some.

  Returns:
    The mixed values [B, H, R, L, F].
  """
  return _attend_forward(dtype, query, own, mask)[0]


def _attend_forward(dtype: Any, query: jax.Array, own: KeysValues, mask: jax.Array) -> Any:
  query = query / query.shape[-1] ** 0.5
  exponentials = _exponentials(dtype, query, own.keys, mask)
  values = _flat(jnp.swapaxes(own.values, -1, -2))
  with_ones = jnp.concatenate([values, jnp.ones_like(values[:, :1])], axis=1)  # a last row that sums up
  mixed = product_without_gradient("nfk,nkl->nfl", dtype, with_ones, exponentials)
  inverse_sum = 1 / mixed[:, -1:]
  mixed = mixed[:, :-1] * inverse_sum
  return jnp.swapaxes(mixed, -1, -2).reshape(query.shape), (query, own, exponentials, inverse_sum, mixed)


def _attend_backward(dtype: Any, residuals: Any, cotangent: jax.Array) -> Any:
  # With weights w, scores s and output o = w v the gradient to s is w (g v' - g o'), g o' being the same for all keys
  # (FlashAttention, arXiv 2205.14135, appendix B.4): no sum over keys, and only exponentials are kept from the forward
  # pass. Normalising g once stands for normalising every weight.
  query, own, exponentials, inverse_sum, mixed = residuals
  dot = functools.partial(product_without_gradient, dtype=dtype)
  cotangent = inverse_sum * _flat(jnp.swapaxes(cotangent, -1, -2))
  shared = jnp.sum(cotangent * mixed, axis=-2, keepdims=True)
  to_scores = exponentials * (dot("nkf,nfl->nkl", x=_flat(own.values), y=cotangent) - shared)
  to_query = dot("nfk,nkl->nfl", x=_flat(jnp.swapaxes(own.keys, -1, -2)), y=to_scores) / query.shape[-1] ** 0.5
  to_keys = dot("nkl,nlf->nkf", x=to_scores, y=_flat(query)).reshape(own.keys.shape)
  to_values = dot("nkl,nfl->nkf", x=exponentials, y=cotangent).reshape(own.values.shape)
  return jnp.swapaxes(to_query, -1, -2).reshape(query.shape), KeysValues(to_keys, to_values), None


attend.defvjp(_attend_forward, _attend_backward)


def split_row(
  query: jax.Array, own: KeysValues, masks: Masks
) -> tuple[tuple[jax.Array, KeysValues], tuple[jax.Array, KeysValues]]:
  """Query, keys and values of a row [B, H, T, F] as arguments of `attend`: those of the prompt, those of the streams.

  To the streams' own keys and values [B, H, R, L, F] those of the prompt are prepended: [B, H, R, P + L, F].
  """
  num_prompt, num_streams = masks.prompt.shape[0], masks.streams.shape[1]
  parts = [jnp.split(x[:, :, None], [num_prompt], axis=3) for x in (query, *own)]  # a slice would be padded backwards
  prompt = [part for part, _ in parts]
  streams = [part.reshape(*part.shape[:2], num_streams, -1, part.shape[-1]) for _, part in parts]

  def with_prompt(prompt: jax.Array, streams: jax.Array) -> jax.Array:
    repeated = jnp.broadcast_to(prompt, prompt.shape[:2] + (num_streams,) + prompt.shape[3:])
    return jnp.concatenate([repeated, streams], axis=3)

  seen = KeysValues(*map(with_prompt, prompt[1:], streams[1:]))
  return (prompt[0], KeysValues(*prompt[1:])), (streams[0], seen)


def attend_row(dtype: Any, query: jax.Array, own: KeysValues, masks: Masks) -> jax.Array:
  """Attention of a row, the prompt and then its streams end to end: query, keys, values and result [B, H, T, F].

  Streams go block by block of queries: keys that come later than all of a block are not looked at.
  """
  (of_prompt, prompt), (of_streams, seen) = split_row(query, own, masks)
  num_prompt, length = masks.prompt.shape[0], of_streams.shape[3]
  starts = list(range(0, length, QUERIES_PER_BLOCK))
  blocks = []
  for start, block in zip(starts, jnp.split(of_streams, starts[1:], axis=3), strict=True):
    stop = start + block.shape[3]
    keys_values = KeysValues(*(part[:, :, :, : num_prompt + stop] for part in seen))
    blocks.append(attend(dtype, block, keys_values, masks.streams[:, :, : num_prompt + stop, start:stop]))
  mixed = [attend(dtype, of_prompt, prompt, masks.prompt[None, None])] if num_prompt else []  # a prompt may be empty
  mixed.append(jnp.concatenate(blocks, axis=3))
  return jnp.concatenate([x.reshape(*x.shape[:2], -1, x.shape[-1]) for x in mixed], axis=2)


def attend_prompt(dtype: Any, query: jax.Array, own: KeysValues, mask: jax.Array) -> jax.Array:
  """A prompt's attention to itself: query, keys, values and result [B, H, P, F], mask [P, P], keys first."""
  own = KeysValues(*(part[:, :, None] for part in own))
  return attend(dtype, query[:, :, None], own, mask[None, None])[:, :, 0]


def attend_from_cache(query: jax.Array, own: KeysValues, prompt: KeysValues, is_past: jax.Array) -> jax.Array:
  """As `attend`, for decoding: one position of each stream, products in the type that `own` has; no gradient.

  Args:
    query: [B, H, R, F].
    own: the streams' keys and values, [N, K, F].
    prompt: the prompt's, [B, H, P, F].
    is_past: [K] bool, what of the stream may be attended to.

  Returns:
    The mixed values [B, H, R, F].
  """
  dot = functools.partial(product_without_gradient, dtype=own.keys.dtype)
  query = query / query.shape[-1] ** 0.5
  to_prompt = _flat(dot("bhrf,bhpf->bhrp", x=query, y=prompt.keys))
  to_own = jnp.where(is_past[None], dot("nf,nkf->nk", x=_flat(query), y=own.keys), MASKED)
  weights = jax.nn.softmax(jnp.concatenate([to_prompt, to_own], axis=-1))
  of_prompt, of_own = jnp.split(weights, [prompt.keys.shape[2]], axis=-1)
  mixed = dot("bhrp,bhpf->bhrf", x=of_prompt.reshape(*query.shape[:3], -1), y=prompt.values)
  return mixed + dot("nk,nkf->nf", x=of_own, y=own.values).reshape(query.shape)
