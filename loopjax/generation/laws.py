"""Probabilities of logits in which tokens may be banned, and who comes before whom. Nothing here gives a NaN.

Shapes: ... rows, V vocabulary.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

PAIRWISE = 128  # vocabularies up to this are compared in pairs: on a CPU 30 times as fast as a sort of 27 tokens


def log_probabilities(logits: jax.Array) -> jax.Array:
  """Of softmax(logits [..., V]); -inf for all tokens where all are banned."""
  best = jnp.max(logits, axis=-1, keepdims=True)
  shifted = logits - jnp.where(jnp.isfinite(best), best, 0.0)
  total = jnp.sum(jnp.exp(shifted), axis=-1, keepdims=True)
  return shifted - jnp.log(jnp.where(total > 0, total, 1.0))


def entropy(log_probs: jax.Array) -> jax.Array:
  """In nats, [..., 1], of `log_probabilities`; 0 where all tokens are banned."""
  possible = jnp.isfinite(log_probs)
  return -jnp.sum(jnp.where(possible, jnp.exp(log_probs) * log_probs, 0.0), axis=-1, keepdims=True)


def divergence(changed: jax.Array, plain: jax.Array) -> jax.Array:
  """Kullback and Leibler's, in nats, of the law of `changed` logits [..., V] against that of `plain` ones, [...].

  It is 0 where all tokens are banned in `changed`: then there is no law.
  """
  log_changed, log_plain = log_probabilities(changed), log_probabilities(plain)
  possible = jnp.isfinite(log_changed)
  return jnp.sum(jnp.where(possible, jnp.exp(log_changed) * (log_changed - log_plain), 0.0), axis=-1)


def relative(logits: jax.Array) -> jax.Array:
  """Every token's probability over the largest one, [..., V]; all 0 where all are banned."""
  best = jnp.max(logits, axis=-1, keepdims=True)
  return jnp.where(jnp.isfinite(best), jnp.exp(logits - jnp.where(jnp.isfinite(best), best, 0.0)), 0.0)


def keep(which: jax.Array, logits: jax.Array) -> jax.Array:
  """The logits with all tokens banned but those in `which` [..., V] bool."""
  return jnp.where(which, logits, -jnp.inf)


def before(values: jax.Array, weights: jax.Array) -> jax.Array:
  """The weight of all tokens whose value is larger than a token's own, [..., V]; equal ones do not count.

  So tokens of equal value are always kept or dropped together, whatever their order.
  """
  if values.shape[-1] <= PAIRWISE:
    total = jnp.zeros_like(weights)
    for other in range(values.shape[-1]):
      own, weight = (jax.lax.slice_in_dim(x, other, other + 1, axis=-1) for x in (values, weights))
      total += jnp.where(own > values, weight, 0.0)
    return total
  order = jnp.argsort(-values, axis=-1)
  ordered, own = (jnp.take_along_axis(x, order, axis=-1) for x in (values, weights))
  total = jnp.cumsum(own, axis=-1) - own
  is_first = jnp.concatenate([jnp.ones_like(order[..., :1], bool), ordered[..., 1:] != ordered[..., :-1]], axis=-1)
  total = jax.lax.cummax(jnp.where(is_first, total, 0.0), axis=total.ndim - 1)  # of equal ones, the first's
  return jnp.take_along_axis(total, jnp.argsort(order, axis=-1), axis=-1)
