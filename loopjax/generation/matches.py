"""Where the last tokens of a continuation stand already: what penalties of repeated text, and detectors, look at.

A match at lag p has length m: the last m tokens are the m tokens that stand p before them, and no more are. It is
longer by one, or over, with every token, so it costs one comparison a lag. What followed the earlier occurrence is the
token that would make the match longer. A match of length m is a stretch of m + p tokens with period p: `cycles` says
when that is a locked cycle.

Example: after `a b x a b` the match at lag 3 has length 2, all others 0; `x` would make it longer.

Shapes: G prompts, R columns, W tokens of a continuation, P of a prompt that counts or 0, L = W + P lags; V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from loopjax.generation.processors import Context, Prompt, Sizes


class Matches(NamedTuple):
  """What a processor carries.

  Attributes:
    lengths: [G, R, L], of the match at each lag; lag p is at index p - 1.
    prompt: [G, P], the prompt where it counts, newest first.
  """

  lengths: jax.Array
  prompt: jax.Array


def begin(sizes: Sizes, prompt: Prompt | None = None) -> Matches:
  """The matches before the first token is read: those inside the prompt, where it counts."""
  tokens = jnp.zeros((sizes.num_prompts, 0), jnp.int32) if prompt is None else _backwards(prompt.tokens)
  num_prompt, num_lags = tokens.shape[-1], sizes.length + tokens.shape[-1]
  padded = jnp.pad(tokens, [(0, 0), (0, num_lags)], constant_values=-1)

  def read(i: jax.Array, lengths: jax.Array) -> jax.Array:
    return _longer(lengths, jax.lax.dynamic_slice_in_dim(padded, num_prompt - 1 - i, num_lags, axis=-1))

  lengths = jax.lax.fori_loop(0, num_prompt, read, jnp.zeros((sizes.num_prompts, num_lags), jnp.int32))
  return Matches(jnp.broadcast_to(lengths[:, None], (*sizes.rows, num_lags)), tokens)


def follow(matches: Matches, context: Context) -> tuple[Matches, jax.Array]:
  """The matches after the token just read, and the text [G, R, L], newest first: the prompt too, where it counts."""
  lengths, prompt = matches
  text = context.recent
  if prompt.shape[-1]:
    text = jnp.pad(text, [(0, 0), (0, 0), (0, prompt.shape[-1])], constant_values=-1)
    given = jnp.broadcast_to(prompt[:, None], (*text.shape[:2], prompt.shape[-1]))
    text = jax.lax.dynamic_update_slice_in_dim(text, given, context.step + 1, axis=-1)
  return Matches(_longer(lengths, text), prompt), text


def _backwards(tokens: jax.Array) -> jax.Array:
  """Tokens [G, P] newest first; padding comes last, wherever it stood."""
  backwards = tokens[:, ::-1]
  return jnp.take_along_axis(backwards, jnp.argsort(backwards < 0, axis=-1), axis=-1)


def _longer(lengths: jax.Array, text: jax.Array) -> jax.Array:
  """Match lengths [..., L] after the token `text[..., 0]`; -1 is no token and matches nothing."""
  no_token = jnp.full_like(text[..., :1], -1)
  earlier = jnp.concatenate([text[..., 1:], no_token], axis=-1)
  return jnp.where((earlier == text[..., :1]) & (earlier >= 0), lengths + 1, 0)


def lags(lengths: jax.Array) -> jax.Array:
  """The lags of match lengths, [1, 1, L]."""
  return jnp.arange(1, lengths.shape[-1] + 1)[None, None]


def greatest(scores: jax.Array, text: jax.Array, vocabulary: int) -> jax.Array:
  """For every token, [G, R, V], the greatest score of the lags at which it would make a match longer; 0 for none.

  Args:
    scores: [G, R, L], whole numbers, at least 0.
    text: [G, R, L], newest first; the token that would make the match at lag p longer is at index p - 1.
    vocabulary: V.
  """
  g, r = (jnp.arange(size).reshape(shape) for size, shape in zip(text.shape, ((-1, 1, 1), (1, -1, 1)), strict=False))
  tokens = jnp.where(text < 0, vocabulary, text)  # no token: dropped
  return jnp.zeros((*text.shape[:2], vocabulary), scores.dtype).at[g, r, tokens].max(scores, mode="drop")
