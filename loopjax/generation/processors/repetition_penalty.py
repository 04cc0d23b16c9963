"""Repetition penalty (CTRL, arXiv 1909.05858): tokens that were seen become less likely, once, however often seen.

A logit l of a seen token becomes l / t where it is at least 0, else l t. That depends on an offset of all logits, which
a softmax does not. `of_log_probabilities` applies it to log-probabilities, which have no such freedom.

Shapes: as in `processors`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from loopjax.generation.processors import Context, Prompt, per_column, register
from loopjax.runtime.config import require

LEAST = 1e-3


@register
@dataclasses.dataclass(frozen=True)
class RepetitionPenalty:
  """Strength: t, at least 0.001; 1 changes nothing, more makes what was seen less likely. The first token counts.

  Attributes:
    vocabulary: V; in the star graph `task.vocabulary_size`.
    prompt_counts: whether the tokens of the prompt count as seen, as in Hugging Face transformers.
    of_log_probabilities: whether log-probabilities are penalised in place of logits.
  """

  vocabulary: int
  prompt_counts: bool = False
  of_log_probabilities: bool = False

  name: ClassVar[str] = "repetition_penalty"
  neutral: ClassVar[float | None] = 1.0

  def check(self, strength: float) -> None:
    require(strength >= LEAST, self.name, strength, f"at least {LEAST:g}")

  def init(self, prompt: Prompt, shape: tuple[int, ...], length: int) -> jax.Array:
    """The tokens seen, [G, R, V] bool."""
    del length
    seen = jnp.zeros((*shape, self.vocabulary), bool)
    if not self.prompt_counts:
      return seen
    in_prompt = jnp.any(jax.nn.one_hot(prompt.tokens, self.vocabulary, dtype=bool), axis=1)
    return seen | in_prompt[:, None]

  def apply(
    self, strength: jax.Array, state: jax.Array, logits: jax.Array, context: Context
  ) -> tuple[jax.Array, jax.Array]:
    seen = state | jax.nn.one_hot(context.tokens, self.vocabulary, dtype=bool)  # of -1, no token, it is all False
    penalty = per_column(strength)
    plain = jax.nn.log_softmax(logits) if self.of_log_probabilities else logits
    penalised = jnp.where(plain < 0, plain * penalty, plain / penalty)
    return seen, jnp.where(seen, penalised, plain)
