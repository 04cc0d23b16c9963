"""Label noise: a share of the training targets is replaced by labels drawn uniformly from the vocabulary.

What the student reads stays clean; what it should predict is not. Drawn independently for every target, so that no walk
and no graph tells of it: noise that cannot be learnt, beside the errors that students make by themselves.

Shapes: R streams, L stream positions, V vocabulary.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from loopjax import encoding
from loopjax.config import require
from loopjax.star_graph import StarGraph
from loopjax.training import Objective

_OF_NOISE = 2**31 - 1  # folded into a row's key, far from 0 and 1, which are what splitting it gives to graph and walks


class NoisyState(NamedTuple):
  """What the noisy objective carries: the share of replaced targets, traced, and what the clean one carries."""

  share: jax.Array
  clean: Any


def noisy_state(share: float, clean: Any) -> NoisyState:
  """The initial state; raises `ValueError` where the share is none."""
  require(0 <= share <= 1, "share", share, "in [0, 1]")
  return NoisyState(jnp.float32(share), clean)


def replace_targets(task: StarGraph, row: encoding.Row, share: jax.Array, key: jax.Array) -> encoding.Row:
  """The row with each target [R, L] replaced, with probability `share`, by a uniform label (perhaps its own)."""
  choice_key, label_key = jax.random.split(key)
  is_replaced = jax.random.uniform(choice_key, row.targets.shape) < share
  labels = jax.random.randint(label_key, row.targets.shape, 0, task.vocabulary_size, dtype=row.targets.dtype)
  return row._replace(targets=jnp.where(is_replaced, labels, row.targets))


@functools.cache  # the same objective again is the same program again
def with_label_noise(task: StarGraph, clean: Objective) -> Objective:
  """The objective on noisy targets; its `extra` is a `NoisyState`. With share 0 it is the clean one, row by row."""

  def sample(key: jax.Array, state: NoisyState) -> encoding.Row:
    return replace_targets(task, clean.sample(key, state.clean), state.share, jax.random.fold_in(key, _OF_NOISE))

  def loss(params: Any, batch: encoding.Row, key: jax.Array, state: NoisyState) -> tuple[Any, Any, NoisyState]:
    total, weight, extra = clean.loss(params, batch, key, state.clean)
    return total, weight, state._replace(clean=extra)

  return Objective(sample, loss)
