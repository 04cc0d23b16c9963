"""How often each token was drawn lately, kept up to date with every token.

Shapes: as in `processors`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from loopjax.generation.processors import Context, Sizes


def begin(sizes: Sizes) -> jax.Array:
  """No token was drawn, [G, R, V]."""
  return jnp.zeros((*sizes.rows, sizes.vocabulary), jnp.int32)


def follow(counts: jax.Array, context: Context, window: int, *, first_counts: bool) -> jax.Array:
  """The counts [G, R, V] after the token just read; the token that leaves the last `window` is taken off again.

  Args:
    counts: before it.
    context: of this step.
    window: how many tokens count, the last ones; 0 for all.
    first_counts: whether the first token, which is given, counts.
  """
  first = 0 if first_counts else 1
  tokens = jnp.arange(counts.shape[-1])[None, None]
  counts += (context.recent[..., :1] == tokens) & (context.step >= first)
  if 0 < window < context.recent.shape[-1]:
    counts -= (context.recent[..., window : window + 1] == tokens) & (context.step - window >= first)
  return counts
