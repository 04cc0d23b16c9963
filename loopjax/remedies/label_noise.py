"""Label noise: a share of the training targets is replaced by labels drawn uniformly from the vocabulary.

What the student reads stays clean; what it should predict is not. Drawn independently for every target, so that no walk
and no graph tells of it: noise that cannot be learnt, beside the errors that students make by themselves.

Shapes: R streams, L stream positions, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from loopjax.models.transformer import Transformer
from loopjax.runtime.config import check_fields, require
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import TaskState, register, teacher_forcing
from loopjax.training.step import Objective, Training

_OF_NOISE = 2**31 - 1  # folded into a row's key, far from 0 and 1, which are what splitting it gives to graph and walks


@register
@dataclasses.dataclass(frozen=True)
class LabelNoise:
  """Maximum likelihood on teacher walks with noisy targets.

  Attributes:
    share: of the targets, that are replaced; 0 is maximum likelihood, row by row.
  """

  share: float = 0.0

  def __post_init__(self) -> None:
    check_fields(self, "objective")
    require(0 <= self.share <= 1, "objective.share", self.share, "in [0, 1]")

  def build(self, task: StarGraph, model: Transformer, training: Training) -> Objective:
    return with_label_noise(task, model, training)

  def init(self, key: jax.Array, task: StarGraph, training: Training) -> jax.Array:
    del key, task, training
    return jnp.float32(self.share)


def replace_targets(task: StarGraph, row: encoding.Row, share: jax.Array, key: jax.Array) -> encoding.Row:
  """The row with each target [R, L] replaced, with probability `share`, by a uniform label (perhaps its own)."""
  choice_key, label_key = jax.random.split(key)
  is_replaced = jax.random.uniform(choice_key, row.targets.shape) < share
  labels = jax.random.randint(label_key, row.targets.shape, 0, task.vocabulary_size, dtype=row.targets.dtype)
  return row._replace(targets=jnp.where(is_replaced, labels, row.targets))


@functools.cache  # the same objective again is the same program again
def with_label_noise(task: StarGraph, model: Transformer, training: Training) -> Objective:
  """The objective of `LabelNoise`; carries the share, traced."""
  clean = teacher_forcing(task, model, training)

  def sample(key: jax.Array, state: TaskState, share: jax.Array) -> encoding.Row:
    return replace_targets(task, clean.sample(key, state, ()), share, jax.random.fold_in(key, _OF_NOISE))

  def loss(params: Any, batch: encoding.Row, key: jax.Array, share: jax.Array) -> tuple[Any, Any, jax.Array]:
    total, weight, _ = clean.loss(params, batch, key, ())
    return total, weight, share

  return Objective(sample, loss)
