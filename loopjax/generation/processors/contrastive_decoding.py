"""Contrastive decoding (arXiv 2210.15097): what a weaker model, the amateur, finds likely too becomes less likely.

  l_v - a log p_amateur(v)  where p(v) >= plausible max p, else banned

a = 1 and plausible = 0.1 are published. Neutral: a = 0, and then nothing is banned either.

The amateur's logits come from a decoder made by `generation.contrastive_decoding.beside`. An amateur may be an earlier
checkpoint of the same student.

Traps: the published rule takes the best token, so temperature 0 belongs after it.

Shapes: as in `processors`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from loopjax.generation import laws
from loopjax.generation.processors import Context, Stateless, extra, per_column, register
from loopjax.runtime.config import check_fields, require

AMATEUR = "amateur"


@register
@dataclasses.dataclass(frozen=True)
class ContrastiveDecoding(Stateless):
  """Strength: a, at least 0; 0 changes nothing.

  Attributes:
    plausible: the least share of the best token's probability, above 0 and at most 1.
  """

  plausible: float = 0.1

  name: ClassVar[str] = "contrastive_decoding"
  neutral: ClassVar[float | None] = 0.0

  def __post_init__(self) -> None:
    check_fields(self, self.name)
    require(0 < self.plausible <= 1, f"{self.name}.plausible", self.plausible, "above 0, and at most 1")

  def check(self, strength: float) -> None:
    require(strength >= 0, self.name, strength, "at least 0")

  def change(self, strength: jax.Array, logits: jax.Array, context: Context) -> jax.Array:
    log_amateur = laws.log_probabilities(extra(context, AMATEUR, self.name))
    a = per_column(strength)
    contrasted = logits - a * jnp.maximum(log_amateur, -1e9)  # a token that the amateur bans is not infinitely good
    return jnp.where(a == 0, logits, laws.keep(laws.relative(logits) >= self.plausible, contrasted))
