"""XTC, "exclude top choices" (p-e-w; llama.cpp): sometimes drops all likely tokens but the least likely of them.

With probability q, all tokens with probability `threshold` or more are dropped, but those with the least of these
probabilities. Where only one token is that likely nothing happens. Neutral: q = 0.

Traps: it is random even at temperature 0. llama.cpp keeps one of equally likely tokens, here all of them stay. After
temperature 0 one token is left, and nothing happens: put it before.

Shapes: as in `processors`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from loopjax.generation import draws, laws
from loopjax.generation.processors import Context, Stateless, per_column, register
from loopjax.runtime.config import check_fields, require


@register
@dataclasses.dataclass(frozen=True)
class Xtc(Stateless):
  """Strength: q, the probability, from 0 to 1; 0 changes nothing.

  Attributes:
    threshold: from which probability on a token is likely, above 0 and at most 0.5.
  """

  threshold: float = 0.1

  name: ClassVar[str] = "xtc"
  neutral: ClassVar[float | None] = 0.0

  def __post_init__(self) -> None:
    check_fields(self, self.name)
    require(0 < self.threshold <= 0.5, f"{self.name}.threshold", self.threshold, "above 0, and at most 0.5")

  def check(self, strength: float) -> None:
    require(0 <= strength <= 1, self.name, strength, "from 0 to 1")

  def change(self, strength: jax.Array, logits: jax.Array, context: Context) -> jax.Array:
    chance = draws.uniform(context.keys, self.name, len(logits))
    likely = jnp.exp(laws.log_probabilities(logits)) >= self.threshold
    least = jnp.min(jnp.where(likely, logits, jnp.inf), axis=-1, keepdims=True)
    happens = jnp.expand_dims(chance, -1) < per_column(strength)
    return jnp.where(happens & (logits > least), -jnp.inf, logits)
