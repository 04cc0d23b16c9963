"""Presence and frequency penalty (OpenAI's API; vLLM): a number comes off the logit of every token that was drawn.

  presence: l - p where the token was drawn        frequency: l - f c where it was drawn c times

Neutral: 0. Only drawn tokens count: neither the prompt nor the first token, which is given.

Traps: in a long text the frequency penalty grows without bound, also on tokens that no text can do without.

Shapes: as in `processors`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from loopjax.generation import counts
from loopjax.generation.processors import Context, Prompt, Sizes, per_column, register
from loopjax.runtime.config import check_fields, require


@dataclasses.dataclass(frozen=True)
class _Penalty:
  """Strength: what comes off, once or for each time, at least 0; 0 changes nothing.

  Attributes:
    window: how many of the last tokens count; 0 for all.
  """

  window: int = 0

  name: ClassVar[str]
  neutral: ClassVar[float | None] = 0.0

  def __post_init__(self) -> None:
    check_fields(self, self.name)
    require(self.window >= 0, f"{self.name}.window", self.window, "at least 0")

  def check(self, strength: float) -> None:
    require(strength >= 0, self.name, strength, "at least 0")

  def init(self, prompt: Prompt, sizes: Sizes) -> jax.Array:
    """How often each token was drawn, [G, R, V]."""
    del prompt
    return counts.begin(sizes)

  def apply(
    self, strength: jax.Array, state: jax.Array, logits: jax.Array, context: Context
  ) -> tuple[jax.Array, jax.Array]:
    drawn = counts.follow(state, context, self.window, first_counts=False)
    return drawn, logits - per_column(strength) * self._times(drawn)

  def _times(self, drawn: jax.Array) -> jax.Array:
    raise NotImplementedError


@register
class PresencePenalty(_Penalty):
  __doc__ = _Penalty.__doc__
  name = "presence_penalty"

  def _times(self, drawn: jax.Array) -> jax.Array:
    return jnp.minimum(drawn, 1)


@register
class FrequencyPenalty(_Penalty):
  __doc__ = _Penalty.__doc__
  name = "frequency_penalty"

  def _times(self, drawn: jax.Array) -> jax.Array:
    return drawn
