"""Attention of a row's prompt to itself, of its streams to the prompt and themselves, and its backward pass.

Heads come before streams, so that every product is a plain batched one on every platform, the prompt's shared by all
streams of the row.

Shapes: B batch, H heads, R streams, L query positions, P prompt positions (0 while the prompt itself is read), K
positions of the stream that can be attended to, T = P + R L positions of a row, F features of a head.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from loopjax.products import product_without_gradient

MASKED = -1e30
QUERIES_PER_BLOCK = 64  # 32 and fewer save operations but no time: their gradients must be summed


class KeysValues(NamedTuple):
  """Keys and values: [B, H, P, F] of a prompt, [B, H, R, K, F] of streams; with a leading axis, of every layer."""

  keys: jax.Array
  values: jax.Array


class _Exponentials(NamedTuple):
  """exp(score - largest score) to the prompt [B, H, R, L, P] and to the stream [B, H, R, L, K]; 1 / their sum."""

  prompt: jax.Array
  own: jax.Array
  inverse_sum: jax.Array


class Masks(NamedTuple):
  """What may be attended to: of the prompt by itself, [P, P] bool; of the streams by themselves, [B, R, L, L] bool."""

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


def _exponentials(dtype: Any, query: jax.Array, own: KeysValues, prompt: KeysValues, mask: jax.Array) -> _Exponentials:
  to_prompt = product_without_gradient("bhrlf,bhpf->bhrlp", dtype, query, prompt.keys)
  to_own = product_without_gradient("bhrlf,bhrkf->bhrlk", dtype, query, own.keys)
  to_own = jnp.where(mask[:, None], to_own, MASKED)
  largest = jnp.maximum(jnp.max(to_prompt, axis=-1, initial=MASKED), jnp.max(to_own, axis=-1))[..., None]
  to_prompt, to_own = jnp.exp(to_prompt - largest), jnp.exp(to_own - largest)
  return _Exponentials(to_prompt, to_own, 1 / (jnp.sum(to_prompt, axis=-1) + jnp.sum(to_own, axis=-1))[..., None])


def attention_weights(dtype: Any, query: jax.Array, own: KeysValues, prompt: KeysValues, mask: jax.Array) -> jax.Array:
  """The weights that `attend` mixes values with, over prompt, then stream: [B, H, R, L, P + K]."""
  prompt_part, own_part, inverse_sum = _exponentials(dtype, query / query.shape[-1] ** 0.5, own, prompt, mask)
  return jnp.concatenate([prompt_part, own_part], axis=-1) * inverse_sum


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def attend(dtype: Any, query: jax.Array, own: KeysValues, prompt: KeysValues, mask: jax.Array) -> jax.Array:
  """Softmax attention of the streams to the whole prompt and to themselves under `mask`.

  Args:
    dtype: of the products' operands.
    query: [B, H, R, L, F].
    own: the streams' keys and values, [B, H, R, K, F].
    prompt: the prompt's, [B, H, P, F].
    mask: [B or 1, R or 1, L, K] bool, what of the stream may be attended to; every position something.

  Returns:
    The mixed values [B, H, R, L, F].
  """
  return _attend_forward(dtype, query, own, prompt, mask)[0]


def _attend_forward(dtype: Any, query: jax.Array, own: KeysValues, prompt: KeysValues, mask: jax.Array) -> Any:
  query = query / query.shape[-1] ** 0.5
  exponentials = _exponentials(dtype, query, own, prompt, mask)
  mixed = product_without_gradient("bhrlp,bhpf->bhrlf", dtype, exponentials.prompt, prompt.values)
  mixed += product_without_gradient("bhrlk,bhrkf->bhrlf", dtype, exponentials.own, own.values)
  mixed *= exponentials.inverse_sum
  return mixed, (query, own, prompt, exponentials, mixed)


def _attend_backward(dtype: Any, residuals: Any, cotangent: jax.Array) -> Any:
  # With weights w, scores s and output o = w v the gradient to s is w (g v' - g o'), g o' being the same for all keys
  # (FlashAttention, arXiv 2205.14135, appendix B.4): no sum over keys, and only exponentials are kept from the forward
  # pass. Normalising g once stands for normalising every weight.
  query, own, prompt, exponentials, mixed = residuals
  dot = functools.partial(product_without_gradient, dtype=dtype)
  cotangent = cotangent * exponentials.inverse_sum
  shared = jnp.sum(cotangent * mixed, axis=-1, keepdims=True)
  to_prompt = exponentials.prompt * (dot("bhrlf,bhpf->bhrlp", x=cotangent, y=prompt.values) - shared)
  to_own = exponentials.own * (dot("bhrlf,bhrkf->bhrlk", x=cotangent, y=own.values) - shared)
  to_query = dot("bhrlp,bhpf->bhrlf", x=to_prompt, y=prompt.keys) + dot("bhrlk,bhrkf->bhrlf", x=to_own, y=own.keys)
  return (
    to_query / query.shape[-1] ** 0.5,
    KeysValues(
      dot("bhrlk,bhrlf->bhrkf", x=to_own, y=query), dot("bhrlk,bhrlf->bhrkf", x=exponentials.own, y=cotangent)
    ),
    KeysValues(
      dot("bhrlp,bhrlf->bhpf", x=to_prompt, y=query), dot("bhrlp,bhrlf->bhpf", x=exponentials.prompt, y=cotangent)
    ),
    None,
  )


attend.defvjp(_attend_forward, _attend_backward)


def attend_causally(dtype: Any, query: jax.Array, own: KeysValues, prompt: KeysValues, mask: jax.Array) -> jax.Array:
  """As `attend`, for L = K and a mask that hides what comes later: block by block, later keys are not looked at."""
  blocks = []
  for start in range(0, query.shape[3], QUERIES_PER_BLOCK):
    stop = min(start + QUERIES_PER_BLOCK, query.shape[3])
    seen = KeysValues(*(part[:, :, :, :stop] for part in own))
    blocks.append(attend(dtype, query[:, :, :, start:stop], seen, prompt, mask[:, :, start:stop, :stop]))
  return jnp.concatenate(blocks, axis=3)


def prompt_and_streams(
  query: jax.Array, own: KeysValues, masks: Masks
) -> tuple[tuple[jax.Array, KeysValues], tuple[jax.Array, KeysValues]]:
  """Of a row's `query` [B, H, T, F], keys and values the prompt's part [B, H, P, F] and the streams' [B, H, R, L, F]."""
  num_prompt, num_streams = masks.prompt.shape[0], masks.streams.shape[1]
  split = [jnp.split(x, [num_prompt], axis=2) for x in (query, *own)]
  prompt = [first for first, _ in split]
  streams = [rest.reshape(*rest.shape[:2], num_streams, -1, rest.shape[-1]) for _, rest in split]
  return (prompt[0], KeysValues(*prompt[1:])), (streams[0], KeysValues(*streams[1:]))


def attend_prompt(dtype: Any, query: jax.Array, own: KeysValues, mask: jax.Array) -> jax.Array:
  """A prompt's attention to itself: query, keys, values and result [B, H, P, F], mask [P, P]."""
  as_stream = KeysValues(*(part[:, :, None] for part in own))
  nothing = KeysValues(*(part[:, :, :0] for part in own))
  return attend(dtype, query[:, :, None], as_stream, nothing, mask[None, None])[:, :, 0]


def attend_row(dtype: Any, query: jax.Array, own: KeysValues, masks: Masks) -> jax.Array:
  """Attention of a row, the prompt and then its streams end to end: query, keys, values and result [B, H, T, F]."""
  (of_prompt, prompt), (of_streams, streams) = prompt_and_streams(query, own, masks)
  of_prompt = attend_prompt(dtype, of_prompt, prompt, masks.prompt)
  of_streams = attend_causally(dtype, of_streams, streams, prompt, masks.streams)
  return jnp.concatenate([of_prompt, of_streams.reshape(*query.shape[:2], -1, query.shape[-1])], axis=2)


def attend_from_cache(query: jax.Array, own: KeysValues, prompt: KeysValues, mask: jax.Array) -> jax.Array:
  """As `attend`, for decoding: one position of each stream, products with `own` in the type that it has; no gradient.

  One query meets many keys: written as sums, the products read a layer of the cache where it lies, where a matrix
  product would first be handed a copy of it.

  Args:
    query: [B, H, R, F].
    own: the streams' keys and values, [B, H, R, K, F].
    prompt: the prompt's, [B, H, P, F].
    mask: [K] bool, what of the stream may be attended to.

  Returns:
    The mixed values [B, H, R, F].
  """
  dot = functools.partial(product_without_gradient, dtype=own.keys.dtype)
  query = query / query.shape[-1] ** 0.5
  to_prompt = dot("bhrf,bhpf->bhrp", x=query, y=prompt.keys)
  to_own = jnp.where(mask[None, None, None], jnp.sum(query[..., None, :] * own.keys, axis=-1), MASKED)
  weights = jax.nn.softmax(jnp.concatenate([to_prompt, to_own], axis=-1))
  of_prompt, of_own = jnp.split(weights, [prompt.keys.shape[2]], axis=-1)
  return dot("bhrp,bhpf->bhrf", x=of_prompt, y=prompt.values) + jnp.sum(of_own[..., None] * own.values, axis=-2)
