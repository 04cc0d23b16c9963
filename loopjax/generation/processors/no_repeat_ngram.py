"""No-repeat n-gram: bans every token that would complete an n-gram that the continuation has had already.

Shapes: as in `processors`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from loopjax.generation.processors import Context, Prompt, per_column, register
from loopjax.runtime.config import check_fields, require


@register
@dataclasses.dataclass(frozen=True)
class NoRepeatNgram:
  """Strength: n, a whole number, at least 1; 0 bans nothing. n = 1 bans every token that was seen.

  Attributes:
    largest: the largest n of any column: a bound on the work.
  """

  largest: int = 8

  name: ClassVar[str] = "no_repeat_ngram"
  neutral: ClassVar[float | None] = 0.0

  def __post_init__(self) -> None:
    check_fields(self, self.name)
    require(self.largest >= 1, f"{self.name}.largest", self.largest, "at least 1")

  def check(self, strength: float) -> None:
    is_whole = float(strength).is_integer() and 0 <= strength <= self.largest
    require(is_whole, self.name, strength, f"a whole number from 0 to largest={self.largest}")

  def init(self, prompt: Prompt, shape: tuple[int, ...], length: int) -> jax.Array:
    """The tokens read so far, [G, R, W]; -1 where none was yet."""
    del prompt
    return jnp.full((*shape, length), -1)

  def apply(
    self, strength: jax.Array, state: jax.Array, logits: jax.Array, context: Context
  ) -> tuple[jax.Array, jax.Array]:
    history = state.at[..., context.step].set(context.tokens, mode="drop")
    banned = self._banned(per_column(strength), history, context.step, logits.shape[-1])
    return history, jnp.where(banned, -jnp.inf, logits)

  def _banned(self, n: jax.Array, history: jax.Array, step: jax.Array, vocabulary: int) -> jax.Array:
    """Which tokens complete an n-gram of the history, [G, R, V] bool.

    Place i of the history, before the last, completes one where the n - 1 tokens before it are the last n - 1.
    """
    places = jnp.arange(history.shape[-1])[None, None]
    matches = (places <= step) & (history >= 0) & (places >= n - 1) & (n >= 1)
    for back in range(1, self.largest):
      earlier = jnp.roll(history, back, axis=-1)  # place i holds token i - back
      last = jnp.take(history, step - back + 1, axis=-1, mode="fill", fill_value=-1)[..., None]
      matches &= (back >= n) | (earlier == last)
    return jnp.any(jax.nn.one_hot(history, vocabulary, dtype=bool) & matches[..., None], axis=-2)
