"""Min-p (arXiv 2407.01082): drops every token whose probability is below m times the largest one.

Neutral: 0. A token with exactly that probability stays. So does the best one.

Traps: its place among temperature and others matters. Hugging Face transformers puts it after the temperature.

Shapes: as in `processors`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax

from loopjax.generation import laws
from loopjax.generation.processors import Context, Stateless, per_column, register
from loopjax.runtime.config import require


@register
@dataclasses.dataclass(frozen=True)
class MinP(Stateless):
  """Strength: m, from 0 to 1; 0 changes nothing, 1 leaves the best token."""

  name: ClassVar[str] = "min_p"
  neutral: ClassVar[float | None] = 0.0

  def check(self, strength: float) -> None:
    require(0 <= strength <= 1, self.name, strength, "from 0 to 1")

  def change(self, strength: jax.Array, logits: jax.Array, context: Context) -> jax.Array:
    del context
    return laws.keep(laws.relative(logits) >= per_column(strength), logits)
