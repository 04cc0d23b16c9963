"""DRY, "don't repeat yourself" (p-e-w; llama.cpp's rule): a token that continues an earlier text loses more and more.

  l - multiplier base^(L - allowed)  where L >= allowed

L is the length of the longest end of the text that stands earlier and was followed by the token there. llama.cpp
advises multiplier 0.8, base 1.75, allowed 2. Neutral: multiplier 0.

Traps: a window of w tokens sees only what repeats within it, see `window`. A breaker ends every match: if a loop
contains one, DRY sees at most what follows it. exllamav2's rule is another one. exp(88.7), the largest float, bounds
the power.

Shapes: as in `processors`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from loopjax.generation import matches
from loopjax.generation.matches import Matches
from loopjax.generation.processors import Context, Prompt, Sizes, per_column, register
from loopjax.runtime.config import check_fields, require

LARGEST_LOG = 88.7228391  # of a float32


@register
@dataclasses.dataclass(frozen=True)
class Dry:
  """Strength: the multiplier, at least 0; 0 changes nothing. The first token counts.

  Attributes:
    base: at least 1.
    allowed: the match length from which on a token is penalised, at least 1.
    window: how many of the last tokens are looked at; 0 for all.
    breakers: tokens that no match reaches over, and that are never penalised.
    prompt_counts: whether the prompt is the beginning of the text, as in llama.cpp.
  """

  base: float = 1.75
  allowed: int = 2
  window: int = 0
  breakers: tuple[int, ...] = ()
  prompt_counts: bool = False

  name: ClassVar[str] = "dry"
  neutral: ClassVar[float | None] = 0.0

  def __post_init__(self) -> None:
    check_fields(self, self.name)
    require(self.base >= 1, f"{self.name}.base", self.base, "at least 1")
    require(self.allowed >= 1, f"{self.name}.allowed", self.allowed, "at least 1")
    require(self.window >= 0, f"{self.name}.window", self.window, "at least 0")
    require(min(self.breakers, default=0) >= 0, f"{self.name}.breakers", self.breakers, "tokens, which are at least 0")

  def check(self, strength: float) -> None:
    require(strength >= 0, self.name, strength, "at least 0")

  def init(self, prompt: Prompt, sizes: Sizes) -> Matches:
    return matches.begin(sizes, prompt if self.prompt_counts else None)

  def apply(
    self, strength: jax.Array, state: Matches, logits: jax.Array, context: Context
  ) -> tuple[Matches, jax.Array]:
    state, text = matches.follow(state, context)
    lengths = jnp.minimum(self._inside_window(state.lengths), self._since_breaker(text))
    scores = jnp.where(lengths >= self.allowed, lengths - self.allowed + 1, 0)
    exponent = matches.greatest(scores, text, logits.shape[-1]) - 1
    largest = math.floor(LARGEST_LOG / math.log(self.base)) if self.base > 1.000001 else None
    penalised = (exponent >= 0) & ~self._is_breaker(jnp.arange(logits.shape[-1])[None, None])
    return state, logits - per_column(strength) * jnp.where(penalised, self.base ** jnp.clip(exponent, 0, largest), 0.0)

  def _inside_window(self, lengths: jax.Array) -> jax.Array:
    return jnp.minimum(lengths, self.window - matches.lags(lengths)) if self.window else lengths

  def _since_breaker(self, text: jax.Array) -> jax.Array:
    """How many tokens were read since the last breaker, [G, R, 1]; all of them where there was none."""
    if not self.breakers:
      return jnp.full((1, 1, 1), text.shape[-1])
    is_breaker = self._is_breaker(text)
    last = jnp.argmax(is_breaker, axis=-1, keepdims=True)
    return jnp.where(jnp.any(is_breaker, axis=-1, keepdims=True), last, text.shape[-1])

  def _is_breaker(self, tokens: jax.Array) -> jax.Array:
    return jnp.isin(tokens, jnp.array(self.breakers, jnp.int32)) if self.breakers else jnp.zeros(tokens.shape, bool)
