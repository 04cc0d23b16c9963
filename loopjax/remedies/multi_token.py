"""Several tokens ahead: the student also says what comes after the next node (arXiv 2404.19737, 2403.06963).

At each node of a teacher walk the student's own head predicts the next node. Further heads, one for each further place,
predict the node after that, and so on, up to `num_tokens` nodes ahead. Every head is a linear map of its own from the
same residual stream. The loss is

    mean cross entropy of the next node + ahead_weight * sum over the further heads of their mean cross entropy.

It is meant to repair what teacher forcing hides. In a chain each next node can be copied from the edge that leaves the
one just read, so nothing but the move at r asks for the whole way. Whoever must say at r, or already at s, what comes
two and three nodes later has to find the way there. Predicting several tokens is known to solve star graphs.

The heads are trained parameters. They stand beside those of the student, under the name `ahead`
(`Objective.extend`). The student does not look at them: it walks, and is evaluated, with its own head alone.

What to know before use:

- It works from fresh parameters, and from those of other students.
- Students with heads cannot begin another kind of training: give `without_heads(students.state.params)` on.
- The teacher draws resets. So what comes later is less sure than the next node, and the further losses stay higher.
- Only nodes of the same walk count. Each counts with the weight of the position that is predicted.
- The paper's heads are transformer layers before one shared map. Here they are maps alone, which leaves more of the
  work to the layers that the student walks with.

Shapes: B rows, R streams, L stream positions, H further heads, D model width, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from loopjax.models import transformer
from loopjax.models.products import product
from loopjax.models.transformer import Transformer
from loopjax.runtime.config import check_fields, require
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import TaskState, register, teacher_forcing
from loopjax.training.step import Objective, Training, cross_entropy

HEADS = "ahead"


@register
@dataclasses.dataclass(frozen=True)
class MultiToken:
  """Maximum likelihood on teacher walks plus weighted likelihood of further nodes, by heads of their own.

  Attributes:
    ahead_weight: of the mean cross entropy of each further head; 0 is maximum likelihood.
    num_tokens: how many nodes ahead are predicted, the next one included.
  """

  ahead_weight: float = 1.0
  num_tokens: int = 4

  def __post_init__(self) -> None:
    check_fields(self, "objective")
    require(self.ahead_weight >= 0, "objective.ahead_weight", self.ahead_weight, "at least 0")
    require(self.num_tokens >= 2, "objective.num_tokens", self.num_tokens, "at least 2: the next node and one more")

  def build(self, task: StarGraph, model: Transformer, training: Training) -> Objective:
    return multi_token(task, model, training, self.num_tokens)

  def init(self, key: jax.Array, task: StarGraph, training: Training) -> jax.Array:
    del key, task, training
    return jnp.float32(self.ahead_weight)


def with_heads(params: Any, count: int, key: jax.Array) -> Any:
  """The parameters with `count` fresh heads, [H, D, V]; those that have heads already stay as they are."""
  shape, keys = params["head"]["kernel"].shape, jax.random.split(key, count)
  fresh = jax.vmap(lambda key: transformer.kernel_init(key, shape))(keys)
  return {HEADS: fresh, **params}


def without_heads(params: Any) -> Any:
  """The parameters of the students alone, for another kind of training."""
  return {name: part for name, part in params.items() if name != HEADS}


def further_targets(batch: encoding.Row, offset: int) -> tuple[jax.Array, jax.Array]:
  """The targets `offset` places later, and their weights, [B, R, L] each; 0 where the walk does not go so far."""

  def later(field: jax.Array) -> jax.Array:
    moved = field[..., offset:]
    return jnp.concatenate([moved, jnp.zeros_like(field[..., : field.shape[-1] - moved.shape[-1]])], axis=-1)

  is_inside = jnp.arange(batch.segments.shape[-1]) < batch.segments.shape[-1] - offset
  same_walk = (batch.segments == later(batch.segments)) & (batch.weights > 0) & is_inside[None, None]
  return later(batch.targets), jnp.where(same_walk, later(batch.weights), 0.0)


def further_losses(model: Transformer, heads: jax.Array, hidden: jax.Array, batch: encoding.Row) -> tuple[Any, Any]:
  """Total and weight of each further head; `hidden` [B, R, L, D]."""
  totals, weights = [], []
  for number, kernel in enumerate(heads):
    targets, weight = further_targets(batch, number + 1)
    logits = product("...d,de->...e", jnp.dtype(model.matmul_dtype), hidden, kernel)
    totals.append(jnp.sum(cross_entropy(logits, targets) * weight))
    weights.append(jnp.sum(weight))
  return tuple(totals), tuple(weights)


@functools.cache  # the same objective again is the same program again
def multi_token(task: StarGraph, model: Transformer, training: Training, num_tokens: int) -> Objective:
  """The objective of `MultiToken`; carries the weight, and adds the heads to the parameters."""
  plain = teacher_forcing(task, model, training)

  def sample(key: jax.Array, state: TaskState, ahead_weight: jax.Array) -> encoding.Row:
    del ahead_weight
    return plain.sample(key, state, ())

  def loss(params: Any, batch: encoding.Row, key: jax.Array, ahead_weight: jax.Array) -> tuple[Any, Any, jax.Array]:
    del key
    output = transformer.apply(model, task, without_heads(params), batch)
    nats = jnp.sum(cross_entropy(output.logits, batch.targets) * batch.weights)
    totals, weights = further_losses(model, params[HEADS], output.hidden, batch)
    weighted = tuple(ahead_weight * total for total in totals)
    return (nats, *weighted), (jnp.sum(batch.weights), *weights), ahead_weight

  def extend(params: Any, key: jax.Array) -> Any:
    return with_heads(params, num_tokens - 1, key)

  return Objective(sample, loss, extend=extend)
