"""Temperature: logits are divided by it; at 0 the argmax alone is left (of equal logits, the smallest token's)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from loopjax.generation.processors import Context, Prompt, per_column, register
from loopjax.runtime.config import require


@register
@dataclasses.dataclass(frozen=True)
class Temperature:
  """Strength: the temperature, at least 0; 1 changes nothing."""

  name: ClassVar[str] = "temperature"
  neutral: ClassVar[float | None] = 1.0

  def check(self, strength: float) -> None:
    require(strength >= 0, self.name, strength, "at least 0")

  def init(self, prompt: Prompt, shape: tuple[int, ...], length: int) -> tuple[()]:
    del prompt, shape, length
    return ()

  def apply(
    self, strength: jax.Array, state: tuple[()], logits: jax.Array, context: Context
  ) -> tuple[tuple[()], jax.Array]:
    del context
    temperature = per_column(strength)
    is_best = jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1], dtype=bool)
    greedy = jnp.where(is_best, logits, -jnp.inf)
    return state, jnp.where(temperature == 0, greedy, logits / jnp.where(temperature == 0, 1.0, temperature))
