"""Top-n-sigma (arXiv 2411.07641): drops every logit that is more than n standard deviations below the largest.

The deviation is that of all logits that are not banned, over their number. Neutral: 0, as in llama.cpp. The best stays.

Traps: a larger n drops less, but 0 drops nothing. The deviation grows as the temperature falls, and the same tokens
stay; what other processors have banned does change it.

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
class TopNSigma(Stateless):
  """Strength: n, above 0; 0 changes nothing."""

  name: ClassVar[str] = "top_n_sigma"
  neutral: ClassVar[float | None] = 0.0

  def check(self, strength: float) -> None:
    require(strength >= 0, self.name, strength, "at least 0")

  def change(self, strength: jax.Array, logits: jax.Array, context: Context) -> jax.Array:
    del context
    n, possible = per_column(strength), jnp.isfinite(logits)
    best = jnp.max(logits, axis=-1, keepdims=True)
    below = jnp.where(possible, best - logits, 0.0)  # an offset of all logits is gone before anything is squared
    count = jnp.maximum(jnp.sum(possible, axis=-1, keepdims=True), 1)
    mean = jnp.sum(below, axis=-1, keepdims=True) / count
    variance = jnp.sum(jnp.where(possible, jnp.square(below - mean), 0.0), axis=-1, keepdims=True) / count
    return laws.keep((below <= n * jnp.sqrt(variance)) | (n == 0), logits)
