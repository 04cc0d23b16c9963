"""Locally typical sampling (arXiv 2202.00666): tokens stay whose surprise is nearest to the expected one.

A token is the more typical, the smaller |-log p - H| is, H being the entropy. The most typical tokens stay, as few as
have probability m together. Neutral: 1. The most typical token stays.

Traps: the likeliest token may be dropped. Temperature 0 after it then takes another token than the argmax.

Shapes: as in `processors`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from loopjax.generation import laws
from loopjax.generation.processors import Context, Stateless, per_column, register
from loopjax.runtime.config import require


@register
@dataclasses.dataclass(frozen=True)
class Typical(Stateless):
  """Strength: m, above 0 and at most 1; 1 changes nothing."""

  name: ClassVar[str] = "typical"
  neutral: ClassVar[float | None] = 1.0

  def check(self, strength: float) -> None:
    require(0 < strength <= 1, self.name, strength, "above 0, and at most 1")

  def change(self, strength: jax.Array, logits: jax.Array, context: Context) -> jax.Array:
    del context
    log_probs = laws.log_probabilities(logits)
    more_typical = laws.before(-jnp.abs(log_probs + laws.entropy(log_probs)), jnp.exp(log_probs))
    mass = per_column(strength)
    return laws.keep((more_typical < mass) | (mass >= 1), logits)
