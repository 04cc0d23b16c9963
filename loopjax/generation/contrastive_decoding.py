"""A decoder that an amateur accompanies, for the processor `contrastive_decoding`.

Shapes: G prompts, R columns, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from loopjax.generation.generate import Decoder
from loopjax.generation.processors import Sizes
from loopjax.generation.processors.contrastive_decoding import AMATEUR


class _State(NamedTuple):
  """Of both models, and the amateur's last logits [G, R, V]."""

  expert: Any
  amateur: Any
  logits: jax.Array


def beside(expert: Decoder, amateur: Decoder, sizes: Sizes) -> Decoder:
  """Decodes as `expert` does, and tells the processors the amateur's logits; both read the same tokens."""

  def prefill() -> _State:
    return _State(expert.prefill(), amateur.prefill(), jnp.zeros((*sizes.rows, sizes.vocabulary)))

  def step(state: _State, tokens: jax.Array, index: jax.Array) -> tuple[jax.Array, _State]:
    logits, of_expert = expert.step(state.expert, tokens, index)
    of_amateur, amateurs = amateur.step(state.amateur, tokens, index)
    return logits, _State(of_expert, amateurs, of_amateur)

  def extras(state: _State) -> Mapping[str, jax.Array]:
    return {**expert.extras(state.expert), AMATEUR: state.logits}

  return Decoder(prefill, step, extras)
