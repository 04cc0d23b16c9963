"""Draws of tokens with one key a column, and keys of a processor's own.

Shapes: G prompts, R columns, V vocabulary.
"""

from __future__ import annotations

import zlib

import jax
import jax.numpy as jnp

from loopjax.generation import laws


def draw(keys: jax.Array, logits: jax.Array) -> jax.Array:
  """Tokens [G, R] drawn from softmax(logits [G, R, V]) with keys [R], by the Gumbel-max trick."""
  num_prompts, _, vocabulary = logits.shape
  noise = jax.vmap(lambda key: jax.random.gumbel(key, (num_prompts, vocabulary)), out_axes=1)(keys)
  return jnp.argmax(logits + noise, axis=-1)


def choose(numbers: jax.Array, logits: jax.Array) -> jax.Array:
  """Tokens [G, R] of softmax(logits [G, R, V]), one for each number of [0, 1), [G, R]: far cheaper than `draw`."""
  total = jnp.cumsum(jnp.exp(laws.log_probabilities(logits)), axis=-1)
  return jnp.argmax(total > total[..., -1:] * jnp.expand_dims(numbers, -1), axis=-1)


def uniform(keys: jax.Array, name: str, num_prompts: int) -> jax.Array:
  """A number of [0, 1) for each row, [G, R], that belongs to the processor of this name.

  The token's own draw uses the keys [R] as they are; here the name is folded in.
  """
  number = zlib.crc32(name.encode())
  return jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, number), (num_prompts,)), out_axes=1)(keys)


def only(token: jax.Array, logits: jax.Array) -> jax.Array:
  """The logits [G, R, V] with all tokens banned but one, [G, R]: whatever follows takes that one."""
  chosen = jnp.expand_dims(token, -1) == jnp.arange(logits.shape[-1])[None, None]
  return jnp.where(chosen, logits, -jnp.inf)
