"""Top-k (arXiv 1805.04833): the k likeliest tokens stay, and those that are as likely as the last of them.

A token stays if fewer than k tokens are likelier. Neutral: 0, which changes nothing, as in llama.cpp.

Traps: with ties more than k stay, as in Hugging Face transformers; llama.cpp keeps exactly k.

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
class TopK(Stateless):
  """Strength: k, a whole number, at least 1; 0 changes nothing."""

  name: ClassVar[str] = "top_k"
  neutral: ClassVar[float | None] = 0.0

  def check(self, strength: float) -> None:
    require(float(strength).is_integer() and strength >= 0, self.name, strength, "a whole number, at least 0")

  def change(self, strength: jax.Array, logits: jax.Array, context: Context) -> jax.Array:
    del context
    k = per_column(strength)
    return laws.keep((laws.before(logits, jnp.ones_like(logits)) < k) | (k == 0), logits)
