"""No-repeat n-gram (arXiv 1705.04304): bans every token that would complete an n-gram that was there already.

A token v is banned if the last n - 1 tokens, followed by v, stand earlier in the text. n = 1 bans all that was seen.

Traps: it also bans what must be said again, such as a name. All tokens may end up banned; the row then ends, flagged.

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
class NoRepeatNgram:
  """Strength: n, a whole number, at least 1; 0 changes nothing. The first token counts.

  Attributes:
    prompt_counts: whether the prompt is the beginning of the text, as in Hugging Face transformers.
  """

  prompt_counts: bool = False

  name: ClassVar[str] = "no_repeat_ngram"
  neutral: ClassVar[float | None] = 0.0

  def __post_init__(self) -> None:
    check_fields(self, self.name)

  def check(self, strength: float) -> None:
    require(float(strength).is_integer() and strength >= 0, self.name, strength, "a whole number, at least 0")

  def init(self, prompt: Prompt, sizes: Sizes) -> Matches:
    return matches.begin(sizes, prompt if self.prompt_counts else None)

  def apply(
    self, strength: jax.Array, state: Matches, logits: jax.Array, context: Context
  ) -> tuple[Matches, jax.Array]:
    n = per_column(strength)
    state, text = matches.follow(state, context)
    completes = (state.lengths >= n - 1) & (n >= 1)
    banned = matches.greatest(completes.astype(jnp.int32), text, logits.shape[-1])
    return state, jnp.where(banned > 0, -jnp.inf, logits)
