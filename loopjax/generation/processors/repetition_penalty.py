"""Repetition penalty (CTRL, arXiv 1909.05858): tokens that were seen become less likely, once, however often seen.

`repetition_penalty` is the published rule: a logit l of a seen token becomes l / t where it is at least 0, else l t.
`probability_penalty` applies the same rule to log-probabilities: log p becomes t log p.

Traps: the first depends on an offset of all logits, which changes no probability: +5 on all logits can change the
argmax. Every trained network has such an offset, and it means nothing. The second has no such freedom. Report both.

Shapes: as in `processors`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from loopjax.generation import counts, laws
from loopjax.generation.processors import Context, Prompt, Sizes, per_column, register
from loopjax.runtime.config import check_fields, require

LEAST = 1e-3


@dataclasses.dataclass(frozen=True)
class _Penalty:
  """Strength: t, at least 0.001; 1 changes nothing, more makes what was seen less likely. The first token counts.

  Attributes:
    prompt_counts: whether the tokens of the prompt count as seen, as in Hugging Face transformers.
    window: how many of the last tokens count; 0 for all, and the prompt then never leaves.
  """

  prompt_counts: bool = False
  window: int = 0

  name: ClassVar[str]
  neutral: ClassVar[float | None] = 1.0

  def __post_init__(self) -> None:
    check_fields(self, self.name)
    require(self.window >= 0, f"{self.name}.window", self.window, "at least 0")

  def check(self, strength: float) -> None:
    require(strength >= LEAST, self.name, strength, f"at least {LEAST:g}")

  def init(self, prompt: Prompt, sizes: Sizes) -> tuple[jax.Array, jax.Array]:
    """How often each token was read, [G, R, V], and whether the prompt has it, [G, 1, V]."""
    in_prompt = jax.nn.one_hot(prompt.tokens, sizes.vocabulary, dtype=bool) & self.prompt_counts
    return counts.begin(sizes), jnp.any(in_prompt, axis=1, keepdims=True)

  def apply(
    self, strength: jax.Array, state: tuple[jax.Array, jax.Array], logits: jax.Array, context: Context
  ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    read, in_prompt = state
    read = counts.follow(read, context, self.window, first_counts=True)
    return (read, in_prompt), jnp.where((read > 0) | in_prompt, self._penalised(per_column(strength), logits), logits)

  def _penalised(self, t: jax.Array, logits: jax.Array) -> jax.Array:
    raise NotImplementedError


@register
class RepetitionPenalty(_Penalty):
  __doc__ = _Penalty.__doc__
  name = "repetition_penalty"

  def _penalised(self, t: jax.Array, logits: jax.Array) -> jax.Array:
    return jnp.where(logits < 0, logits * t, logits / t)


@register
class ProbabilityPenalty(_Penalty):
  __doc__ = _Penalty.__doc__
  name = "probability_penalty"

  def _penalised(self, t: jax.Array, logits: jax.Array) -> jax.Array:
    """log p is (t - 1) log p larger, and so is the logit."""
    log_probs = laws.log_probabilities(logits)
    return logits + jnp.where(jnp.isfinite(log_probs), (t - 1.0) * log_probs, 0.0)
