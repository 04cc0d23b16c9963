"""Temperature: logits are divided by it; at 0 the argmax alone is left (of equal logits, the smallest token's).

Traps: it divides an offset of all logits too, which changes no probability.

Shapes: as in `processors`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from loopjax.generation.draws import only
from loopjax.generation.processors import Context, Stateless, per_column, register
from loopjax.runtime.config import COLDEST, require


@register
@dataclasses.dataclass(frozen=True)
class Temperature(Stateless):
  """Strength: the temperature, 0 or at least 1e-6; 1 changes nothing."""

  name: ClassVar[str] = "temperature"
  neutral: ClassVar[float | None] = 1.0

  def check(self, strength: float) -> None:
    require(strength == 0 or strength >= COLDEST, self.name, strength, f"0, or at least {COLDEST:g}")

  def change(self, strength: jax.Array, logits: jax.Array, context: Context) -> jax.Array:
    del context
    temperature = per_column(strength)
    greedy = only(jnp.argmax(logits, axis=-1), logits)
    return jnp.where(temperature == 0, greedy, logits / jnp.where(temperature == 0, 1.0, temperature))
