"""Early stop on repetition (vLLM, `RepetitionDetectionParams`): a row that repeats itself ends at once.

It ends where the last tokens are N times the same block of `shortest` to `longest` tokens. All tokens are then banned,
so the row is stuck: it ends, is flagged, and counts as a failure, at a lower cost than a row that runs to the cut.

Neutral: 0. Only the continuation counts, with its first token.

Traps: it repairs nothing. N = 2 also stops texts that say a thing twice. A loop longer than `longest` is not seen.

Shapes: as in `processors`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from loopjax.generation import matches
from loopjax.generation.matches import Matches
from loopjax.generation.processors import Context, Prompt, Sizes, per_column, register
from loopjax.runtime.config import check_fields, require


@register
@dataclasses.dataclass(frozen=True)
class EarlyStop:
  """Strength: N, a whole number, at least 2; 0 changes nothing.

  Attributes:
    longest: the longest block.
    shortest: the shortest block, at least 1.
  """

  longest: int = 64
  shortest: int = 1

  name: ClassVar[str] = "early_stop"
  neutral: ClassVar[float | None] = 0.0

  def __post_init__(self) -> None:
    check_fields(self, self.name)
    require(self.shortest >= 1, f"{self.name}.shortest", self.shortest, "at least 1")
    require(self.longest >= self.shortest, f"{self.name}.longest", self.longest, f"at least {self.shortest}")

  def check(self, strength: float) -> None:
    is_count = float(strength).is_integer() and strength >= 0 and strength != 1
    require(is_count, self.name, strength, "0, or a whole number, at least 2")

  def init(self, prompt: Prompt, sizes: Sizes) -> Matches:
    del prompt
    return matches.begin(sizes)

  def apply(
    self, strength: jax.Array, state: Matches, logits: jax.Array, context: Context
  ) -> tuple[Matches, jax.Array]:
    state, _ = matches.follow(state, context)
    blocks, lengths = (x[..., self.shortest - 1 : self.longest] for x in (matches.lags(state.lengths), state.lengths))
    count = per_column(strength)
    repeats = jnp.any(lengths >= blocks * (count - 1), axis=-1, keepdims=True) & (count >= 2)
    return state, jnp.where(repeats, -jnp.inf, logits)
