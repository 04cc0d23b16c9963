"""Locked cycles on a device, for jitted code: the twin of `loops.cycles`, which reads longer texts and knows no jax.

A match at lag p has length m: m tokens, one after the other, are those that stand p away, and no more are. With these p
tokens it makes a stretch of m + p tokens of period p. The stretch is a locked cycle from `REPETITIONS` periods on.
That is asked in one place, `_is_locked`. Match lengths are found in two ways, since texts are known in two ways:

- While a text grows, `matches` carries the length at each lag from token to token, and `tail_period` reads them. A new
  token costs one comparison a lag. From the whole text it would cost one comparison a lag and a token.
- Where a whole text is there, all its pairs of tokens are compared at once. `matches` would read it token by token, one
  after the other: as many steps as there are tokens, where a device does next to nothing in each.

A negative token is no token: it is equal to nothing, not even to another.

Example: `x a b a b a b y` has the cycle [1, 7) of period 2. `x a b a b a b` ends in it.

Shapes: W tokens of a text, P = W / `REPETITIONS` lags, L lags.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from loopjax.loops.cycles import REPETITIONS


class Cycle(NamedTuple):
  """A locked cycle, int32 scalars: tokens [start, end) of period `period`. All are 0 where there is none."""

  start: jax.Array
  end: jax.Array
  period: jax.Array


def first_cycle(text: jax.Array) -> Cycle:
  """The locked cycle of a text that begins first, and of several that begin there, the one of the smallest period.

  Args:
    text: [W] integers, W at least `REPETITIONS`.
  """
  repeats = _repeats(text)
  place = jnp.arange(text.shape[0])[None]
  # How many tokens from each on are those a lag later, [P, W]; the last one never is, so that every match ends.
  lengths = jax.lax.cummin(jnp.where(repeats, text.shape[0], place), axis=1, reverse=True) - place
  is_locked = _is_locked(lengths, axis=0)
  start = jnp.argmax(jnp.any(is_locked, axis=0))
  which = jnp.argmax(is_locked[:, start])
  return _where(jnp.any(is_locked), start, start + lengths[which, start] + which + 1, which + 1)


def tail_cycle(text: jax.Array) -> Cycle:
  """The locked cycle that reaches the end of a text, and of several, the one of the smallest period.

  Args:
    text: [W] integers, W at least `REPETITIONS`.
  """
  lengths = jnp.argmin(_repeats(text[::-1]), axis=1)  # [P]: read backwards, the first token that is not repeated
  period = tail_period(lengths, text.shape[0], 0)
  start = text.shape[0] - lengths[period - 1] - period
  return _where(period > 0, start, text.shape[0], period)


def in_cycle(text: jax.Array) -> jax.Array:
  """Which tokens of a text [W] lie in locked cycles, [W] bool.

  A cycle of period p is three blocks long or longer. So it has rows of 2 p tokens, each the same as the one a lag
  later. Every such row marks itself and the p tokens behind it.
  """
  repeats, size = _repeats(text), text.shape[0]
  lags = jnp.arange(1, size // REPETITIONS + 1)[:, None]
  row = (REPETITIONS - 1) * lags
  ends = _sum_of_last(repeats, row) == row  # [P, W], where a row of that length ends; its block reaches a lag further
  marked = _sum_of_last(ends[:, ::-1], row)[:, ::-1] > 0  # the row itself
  behind = _sum_of_last(ends, lags + 1) > 0  # and the tokens up to a lag after its end
  return jnp.any(marked | behind, axis=0)


def _sum_of_last(values: jax.Array, count: jax.Array) -> jax.Array:
  """For each place the sum of the `count` [P, 1] values [P, W] that end there, fewer at the beginning."""
  sums = jnp.pad(jnp.cumsum(values, axis=-1), [(0, 0), (1, 0)])
  before = jnp.maximum(jnp.arange(values.shape[-1])[None] + 1 - count, 0)
  return sums[:, 1:] - jnp.take_along_axis(sums, before, axis=-1)


def tail_period(lengths: jax.Array, window: int, min_length: int) -> jax.Array:
  """The period of the locked cycle at the end of the last `window` tokens, [...]; 0 where there is none.

  A cycle has `REPETITIONS` of its block or more, and at least `min_length` tokens. Of several, the smallest period.

  Args:
    lengths: [..., L], of the match that ends with the last token, at each lag; lag p is at index p - 1.
    window: static.
    min_length: static.
  """
  lengths = lengths[..., : window // REPETITIONS]
  is_locked = _is_locked(lengths, min_length, axis=-1)
  return jnp.where(jnp.any(is_locked, axis=-1), jnp.argmax(is_locked, axis=-1) + 1, 0)


def _is_locked(lengths: jax.Array, min_length: int = 0, *, axis: int) -> jax.Array:
  """Whether matches of these lengths make locked cycles of `min_length` tokens or more; `axis` is that of the lags."""
  lags = jax.lax.broadcasted_iota(lengths.dtype, lengths.shape, axis % lengths.ndim) + 1
  return lengths + lags >= jnp.maximum(REPETITIONS * lags, min_length)


def _repeats(text: jax.Array) -> jax.Array:
  """Whether a token is the same as the one a lag later, [P, W]; False where there is none."""
  size = text.shape[0]
  place, lags = jnp.arange(size)[None], jnp.arange(1, size // REPETITIONS + 1)[:, None]
  later = jnp.pad(text, (0, size), constant_values=-1)[place + lags]
  return (text[None] == later) & (text[None] >= 0)


def _where(found: jax.Array, *cycle: jax.Array | int) -> Cycle:
  return Cycle(*(jnp.where(found, part, 0).astype(jnp.int32) for part in cycle))
