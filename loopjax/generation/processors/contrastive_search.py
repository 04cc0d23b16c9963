"""Contrastive search (SimCTG, arXiv 2202.06417): of the likeliest tokens, one whose representation is new to the text.

  argmax over the k candidates v of (1 - alpha) p(v) - alpha max_j cos(h_v, h_j)

h_v is the hidden state that the model would have at v, and h_j those of the text so far. k = 4, alpha = 0.6 are
published. Neutral: alpha = 0, and then all tokens stay.

The candidates and their similarities come from a decoder made by `generation.contrastive_search.looking_ahead`, which
takes k more steps of the model for each token.

Traps: it leaves one token, so no later temperature matters. Candidates are the model's own, before other processors.

Shapes: as in `processors`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from loopjax.generation import draws, laws
from loopjax.generation.processors import Context, Stateless, extra, per_column, register
from loopjax.runtime.config import require

SIMILARITY = "similarity"
"""[G, R, V], the largest cosine of a candidate with the text so far; inf for tokens that are no candidates."""


@register
@dataclasses.dataclass(frozen=True)
class ContrastiveSearch(Stateless):
  """Strength: alpha, from 0 to 1; 0 changes nothing."""

  name: ClassVar[str] = "contrastive_search"
  neutral: ClassVar[float | None] = 0.0

  def check(self, strength: float) -> None:
    require(0 <= strength <= 1, self.name, strength, "from 0 to 1")

  def change(self, strength: jax.Array, logits: jax.Array, context: Context) -> jax.Array:
    similarity, alpha = extra(context, SIMILARITY, self.name), per_column(strength)
    candidates = jnp.isfinite(similarity) & jnp.isfinite(logits)
    probs = jnp.exp(laws.log_probabilities(logits))
    score = jnp.where(candidates, (1.0 - alpha) * probs - alpha * similarity, -jnp.inf)
    best = draws.only(jnp.argmax(score, axis=-1), laws.keep(candidates, logits))
    return jnp.where(alpha == 0, logits, best)
