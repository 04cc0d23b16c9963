"""LZ penalty (arXiv 2504.20131): the cheaper a token is to compress, the more it loses.

  l_v - a (log2 V - min(log2 d_v, log2 V))

A code of the Lempel-Ziv family writes a token as a pointer to an earlier match. Among the places where v stands, those
count that make the longest match with the end of the text, v included; d_v is how far back the nearest of them is. A
token that is not in the window loses nothing. The authors advise a = 0.15, a window of 512 and matches up to 32.

Neutral: 0. Only the continuation counts, with its first token.

Traps: the authors' demo has the opposite sign; this is the sign of their SGLang fork. The fork's windows leave out the
first `buffer` tokens of a text, here they count: most walks are hardly longer than that.

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
class LzPenalty:
  """Strength: a, at least 0; 0 changes nothing.

  Attributes:
    window: how many of the last tokens are looked at.
    buffer: the longest match that counts, v aside.
  """

  window: int = 512
  buffer: int = 32

  name: ClassVar[str] = "lz_penalty"
  neutral: ClassVar[float | None] = 0.0

  def __post_init__(self) -> None:
    check_fields(self, self.name)
    require(1 <= self.window <= 2**15, f"{self.name}.window", self.window, "from 1 to 2^15")
    require(1 <= self.buffer <= 2**15, f"{self.name}.buffer", self.buffer, "from 1 to 2^15")

  def check(self, strength: float) -> None:
    require(strength >= 0, self.name, strength, "at least 0")

  def init(self, prompt: Prompt, sizes: Sizes) -> Matches:
    del prompt
    return matches.begin(sizes)

  def apply(
    self, strength: jax.Array, state: Matches, logits: jax.Array, context: Context
  ) -> tuple[Matches, jax.Array]:
    state, text = matches.follow(state, context)
    lengths, text = state.lengths[..., : self.window], text[..., : self.window]
    distances, farthest = matches.lags(lengths), lengths.shape[-1]
    # The longest match first, then the nearest: both in one whole number. What is left of it is farthest - distance.
    lengths = jnp.minimum(jnp.minimum(lengths, self.buffer), farthest - distances)
    best = matches.greatest(lengths * farthest + farthest - distances + 1, text, logits.shape[-1])
    distance = (farthest - (best - 1) % farthest).astype(jnp.float32)
    most = jnp.log2(jnp.float32(logits.shape[-1]))
    cheap = jnp.where(best > 0, most - jnp.minimum(jnp.log2(distance), most), 0.0)
    return state, logits - per_column(strength) * cheap
