"""Dynamic temperature (kalomaze; llama.cpp): hot where the model is unsure, cold where it is sure.

  T = (1 - d) + 2 d (H / H_max)^e

H is the entropy, and H_max the largest that it can be: the log of how many tokens are not banned. llama.cpp's
temperature t with range r is this processor with d = r / t, followed by the temperature t. Neutral: d = 0.

Traps: a loop is where a model is sure. Dynamic temperature is coldest there.

Shapes: as in `processors`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from loopjax.generation import draws, laws
from loopjax.generation.processors import Context, Stateless, per_column, register
from loopjax.runtime.config import COLDEST, check_fields, require


@register
@dataclasses.dataclass(frozen=True)
class DynamicTemperature(Stateless):
  """Strength: d, from 0 to 1; 0 changes nothing. Like a temperature it also divides an offset of all logits.

  Attributes:
    exponent: e, above 0.
  """

  exponent: float = 1.0

  name: ClassVar[str] = "dynamic_temperature"
  neutral: ClassVar[float | None] = 0.0

  def __post_init__(self) -> None:
    check_fields(self, self.name)
    require(self.exponent > 0, f"{self.name}.exponent", self.exponent, "above 0")

  def check(self, strength: float) -> None:
    require(0 <= strength <= 1, self.name, strength, "from 0 to 1")

  def change(self, strength: jax.Array, logits: jax.Array, context: Context) -> jax.Array:
    del context
    d, count = per_column(strength), jnp.sum(jnp.isfinite(logits), axis=-1, keepdims=True)
    share = laws.entropy(laws.log_probabilities(logits)) / jnp.log(jnp.maximum(count, 2).astype(jnp.float32))
    temperature = (1.0 - d) + 2.0 * d * jnp.maximum(share, 0.0) ** self.exponent
    greedy = draws.only(jnp.argmax(logits, axis=-1), logits)
    divided = logits / jnp.maximum(temperature, COLDEST)
    return jnp.where(count <= 1, logits, jnp.where(temperature < COLDEST, greedy, divided))
