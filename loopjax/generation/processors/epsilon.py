"""Epsilon sampling (arXiv 2210.15191): drops every token whose probability is below epsilon.

Neutral: 0. The best token stays, however small its probability is.

Traps: in a flat distribution over a large vocabulary all tokens but the best may be below epsilon.

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
class Epsilon(Stateless):
  """Strength: epsilon, at least 0 and below 1; 0 changes nothing."""

  name: ClassVar[str] = "epsilon"
  neutral: ClassVar[float | None] = 0.0

  def check(self, strength: float) -> None:
    require(0 <= strength < 1, self.name, strength, "at least 0, and below 1")

  def change(self, strength: jax.Array, logits: jax.Array, context: Context) -> jax.Array:
    del context
    return laws.keep(at_least(per_column(strength), logits), logits)


def at_least(least: jax.Array, logits: jax.Array) -> jax.Array:
  """Which tokens have at least this probability, or are the best, [G, R, V]."""
  is_best = logits >= jnp.max(logits, axis=-1, keepdims=True)
  return (jnp.exp(laws.log_probabilities(logits)) >= least) | is_best
