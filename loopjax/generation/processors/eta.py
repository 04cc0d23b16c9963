"""Eta sampling (arXiv 2210.15191): drops every token whose probability is below a bound that follows the entropy.

The bound is min(epsilon, sqrt(epsilon) exp(-H)), H being the entropy. Neutral: 0. The best token stays.

Traps: where the model is sure, the bound is epsilon itself, and the processor is epsilon sampling.

Shapes: as in `processors`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from loopjax.generation import laws
from loopjax.generation.processors import Context, Stateless, per_column, register
from loopjax.generation.processors.epsilon import at_least
from loopjax.runtime.config import require


@register
@dataclasses.dataclass(frozen=True)
class Eta(Stateless):
  """Strength: epsilon, at least 0 and below 1; 0 changes nothing."""

  name: ClassVar[str] = "eta"
  neutral: ClassVar[float | None] = 0.0

  def check(self, strength: float) -> None:
    require(0 <= strength < 1, self.name, strength, "at least 0, and below 1")

  def change(self, strength: jax.Array, logits: jax.Array, context: Context) -> jax.Array:
    del context
    epsilon, entropy = per_column(strength), laws.entropy(laws.log_probabilities(logits))
    return laws.keep(at_least(jnp.minimum(epsilon, jnp.sqrt(epsilon) * jnp.exp(-entropy)), logits), logits)
