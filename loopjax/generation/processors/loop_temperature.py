"""Loop-triggered temperature (ours): where the text has locked into a cycle, tokens are drawn hot for a while.

It triggers where the last `window` tokens end in a locked cycle: three repetitions of a block or more, `min_length`
tokens or more. From there on tokens are drawn at temperature T for `steps` tokens. Then the temperature halves every
`half_life` tokens. Once it is below `coldest`, the processors that follow rule again. Neutral: 0.

Traps: it draws the token itself, so it is random whatever temperature comes after it: that is how it can break a loop
of greedy decoding. Place it after penalties and before the temperature. A cycle longer than window / 3 is not seen.

Shapes: as in `processors`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from loopjax.generation import cycles, draws, matches
from loopjax.generation.matches import Matches
from loopjax.generation.processors import Context, Prompt, Sizes, per_column, register
from loopjax.runtime.config import COLDEST, check_fields, require

NEVER = 2**30  # steps


@register
@dataclasses.dataclass(frozen=True)
class LoopTemperature:
  """Strength: T, at least 1e-6; 0 changes nothing. The first token counts.

  Attributes:
    window: how many of the last tokens are looked at, at least 3.
    min_length: the least tokens of a cycle, at most the window.
    steps: tokens at the full temperature, at least 1.
    half_life: tokens in which it then halves, at least 1.
    coldest: below it the processor lets go, above 0; best the temperature that follows.
  """

  window: int = 96
  min_length: int = 6
  steps: int = 8
  half_life: int = 8
  coldest: float = 0.1

  name: ClassVar[str] = "loop_temperature"
  neutral: ClassVar[float | None] = 0.0

  def __post_init__(self) -> None:
    check_fields(self, self.name)
    for field, least in (("window", 3), ("min_length", 0), ("steps", 1), ("half_life", 1), ("coldest", COLDEST)):
      require(getattr(self, field) >= least, f"{self.name}.{field}", getattr(self, field), f"at least {least:g}")
    require(self.min_length <= self.window, f"{self.name}.min_length", self.min_length, f"at most {self.window}")

  def check(self, strength: float) -> None:
    require(strength == 0 or strength >= COLDEST, self.name, strength, f"0, or at least {COLDEST:g}")

  def init(self, prompt: Prompt, sizes: Sizes) -> tuple[Matches, jax.Array]:
    """Matches, and how many tokens ago a cycle was last seen, [G, R]."""
    del prompt
    return matches.begin(sizes), jnp.full(sizes.rows, NEVER)

  def apply(
    self, strength: jax.Array, state: tuple[Matches, jax.Array], logits: jax.Array, context: Context
  ) -> tuple[tuple[Matches, jax.Array], jax.Array]:
    own, since = state
    own, _ = matches.follow(own, context)
    is_locked = cycles.tail_period(own.lengths, self.window, self.min_length) > 0
    since = jnp.where(is_locked, 0, jnp.minimum(since + 1, NEVER))
    halvings = jnp.maximum(since - self.steps + 1, 0)[..., None] / self.half_life
    temperature = per_column(strength) * 0.5**halvings
    numbers = draws.uniform(context.keys, self.name, len(logits))
    token = draws.choose(numbers, logits / jnp.maximum(temperature, COLDEST))
    hot = (temperature >= self.coldest) & (per_column(strength) > 0)
    return (own, since), jnp.where(hot, draws.only(token, logits), logits)
