"""Repetition-aware sampling (VALL-E 2, arXiv 2406.05370): a token that came too often lately is drawn once more.

A token is drawn from the nucleus of mass `top_p`. If it stands at least tau K times among the last K tokens, it is
drawn again, from all of the distribution. K = 10 and tau = 0.1 are published; top_p = 0.8 is CosyVoice's.

Neutral: tau = 0, since everything is then drawn from all of the distribution.

Traps: put the temperature before it. The first draw is made here, so it is random whatever temperature follows; the
second is made at the end, where temperature 0 takes the argmax instead. After temperature 0 both draws are the argmax,
and it does nothing. The second draw may give the same token again.

Shapes: as in `processors`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from loopjax.generation import draws
from loopjax.generation.processors import Context, Stateless, per_column, register
from loopjax.generation.processors.top_p import nucleus
from loopjax.runtime.config import check_fields, require


@register
@dataclasses.dataclass(frozen=True)
class RepetitionAware(Stateless):
  """Strength: tau, from 0 to 1; 0 changes nothing. The first token counts.

  Attributes:
    window: K, at least 1.
    top_p: of the first draw, above 0 and at most 1.
  """

  window: int = 10
  top_p: float = 0.8

  name: ClassVar[str] = "repetition_aware"
  neutral: ClassVar[float | None] = 0.0

  def __post_init__(self) -> None:
    check_fields(self, self.name)
    require(self.window >= 1, f"{self.name}.window", self.window, "at least 1")
    require(0 < self.top_p <= 1, f"{self.name}.top_p", self.top_p, "above 0, and at most 1")

  def check(self, strength: float) -> None:
    require(0 <= strength <= 1, self.name, strength, "from 0 to 1")

  def change(self, strength: jax.Array, logits: jax.Array, context: Context) -> jax.Array:
    inside = nucleus(jnp.full((1, 1, 1), self.top_p), logits)
    token = draws.choose(draws.uniform(context.keys, self.name, len(logits)), inside)
    times = jnp.sum(context.recent[..., : self.window] == token[..., None], axis=-1, keepdims=True)
    too_often = times >= self.window * per_column(strength) - 1e-3  # 10 times 0.3 is above 3 in float32
    return jnp.where(too_often, logits, draws.only(token, logits))
