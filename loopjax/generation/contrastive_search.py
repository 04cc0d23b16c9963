"""A decoder that looks one token ahead, for the processor `contrastive_search`.

Shapes: G prompts, R columns, V vocabulary, W tokens of a continuation, P of a prompt, F features of a hidden state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from loopjax.generation.generate import Decoder
from loopjax.generation.processors import Sizes
from loopjax.generation.processors.contrastive_search import SIMILARITY
from loopjax.runtime.config import require


class _State(NamedTuple):
  """The model's state, the text's hidden states [G, R, P + W, F] of length 1 (0 where none is), and similarities."""

  model: Any
  text: jax.Array
  similarity: jax.Array


def looking_ahead(
  decoder: Decoder, hidden: Callable[[Any], jax.Array], sizes: Sizes, *, k: int = 4, prompt: jax.Array | None = None
) -> Decoder:
  """Decodes as `decoder` does, and tells how similar the hidden states at the k likeliest tokens are to the text's.

  Args:
    decoder: the model. Its `step` must be a pure function of its state: it is asked k more times for each token.
    hidden: the model's state after a step -> its hidden state there, [G, R, F].
    sizes: G, R, V and W.
    k: candidates, from 1 to V.
    prompt: [G, P, F], hidden states of the prompt, which then is part of the text; 0 where padding is.

  Raises:
    ValueError: `k` is out of its range.
  """
  require(1 <= k <= sizes.vocabulary, "k", k, f"from 1 to {sizes.vocabulary}")
  num_prompt = 0 if prompt is None else prompt.shape[1]

  def prefill() -> _State:
    tokens, model = jnp.zeros(sizes.rows, jnp.int32), decoder.prefill()
    one = jax.eval_shape(lambda: hidden(decoder.step(model, tokens, jnp.int32(0))[1]))
    text = jnp.zeros((*sizes.rows, num_prompt + sizes.length, one.shape[-1]), one.dtype)
    if prompt is not None:
      text = text.at[:, :, :num_prompt].set(_unit(prompt)[:, None])
    return _State(model, text, jnp.full((*sizes.rows, sizes.vocabulary), jnp.inf))

  def step(state: _State, tokens: jax.Array, index: jax.Array) -> tuple[jax.Array, _State]:
    logits, model = decoder.step(state.model, tokens, index)
    text = state.text.at[:, :, num_prompt + index].set(_unit(hidden(model)), mode="drop")
    _, candidates = jax.lax.top_k(logits, k)

    def look(i: jax.Array, similarity: jax.Array) -> jax.Array:
      candidate = candidates[..., i]
      _, ahead = decoder.step(model, candidate, index + 1)
      is_candidate = jax.nn.one_hot(candidate, sizes.vocabulary, dtype=bool)
      return jnp.where(is_candidate, _largest_cosine(text, _unit(hidden(ahead)))[..., None], similarity)

    return logits, _State(model, text, jax.lax.fori_loop(0, k, look, jnp.full(logits.shape, jnp.inf)))

  def extras(state: _State) -> Mapping[str, jax.Array]:
    return {**decoder.extras(state.model), SIMILARITY: state.similarity}

  return Decoder(prefill, step, extras)


def _unit(x: jax.Array) -> jax.Array:
  """Vectors [..., F] at length 1; 0 stays 0."""
  length = jnp.linalg.norm(x, axis=-1, keepdims=True)
  return x / jnp.where(length > 0, length, 1.0)


def _largest_cosine(text: jax.Array, ahead: jax.Array) -> jax.Array:
  """Of `ahead` [G, R, F] with any of `text` [G, R, T, F], [G, R]; what is 0 in the text is none of it."""
  cosines = jnp.einsum("grtf,grf->grt", text, ahead)
  return jnp.max(jnp.where(jnp.any(text != 0, axis=-1), cosines, -1.0), axis=-1)
