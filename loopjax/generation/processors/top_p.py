"""Top-p, nucleus sampling (arXiv 1904.09751): the likeliest tokens stay, as few as have probability p together.

A token stays if the tokens that are likelier than it have less than p together. Neutral: 1. The best token stays.

Traps: equally likely tokens stay or go together; an implementation that sorts takes those that come first.

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
class TopP(Stateless):
  """Strength: p, above 0 and at most 1; 1 changes nothing."""

  name: ClassVar[str] = "top_p"
  neutral: ClassVar[float | None] = 1.0

  def check(self, strength: float) -> None:
    require(0 < strength <= 1, self.name, strength, "above 0, and at most 1")

  def change(self, strength: jax.Array, logits: jax.Array, context: Context) -> jax.Array:
    del context
    return nucleus(per_column(strength), logits)


def nucleus(p: jax.Array, logits: jax.Array) -> jax.Array:
  """The logits [G, R, V] with what is outside the nucleus of mass p banned."""
  likelier = laws.before(logits, jnp.exp(laws.log_probabilities(logits)))
  return laws.keep((likelier < p) | (p >= 1), logits)
