"""Light reinforcement learning: own walks that reach the goal become likelier (GRPO, arXiv 2402.03300).

In every step the student draws `group_size` walks at temperature 1 for each problem, one problem a row. A walk has the
reward 1 if it reaches the goal by valid moves, else 0. Its *advantage* A is its reward minus the mean of its group,
over the group's standard deviation. Each move, with q its probability and b that under the reference, costs

    - A * log q + kl_weight * (b/q - log(b/q) - 1),

the mean over all moves of all walks. A is held fixed. The reference is the student as it was before the first step. The
second term is an estimator of the divergence of the student from it, which is never negative (k3 of J. Schulman).

A step draws its walks from the very parameters that it updates, and makes one update. So the ratio of new to old
probabilities is 1, and there is nothing to clip.

It is meant to repair what likelihood does not ask about: whether the walk arrives. A walk that loops until the cut has
reward 0.

What to know before use:

- Begin with trained students (`params` of `train_students`), a low learning rate, and a few hundred steps. A fresh
  student reaches no goal, and then there is no reward to learn from.
- A group whose walks all reach the goal, or none, has advantage 0.
- The target is no longer the teacher's law: resets and exploration go. The divergence holds the student near to where
  it was. Without it the diversity of walks collapses (arXiv 2509.22613).
- The paper takes the mean over moves walk by walk. Then a move of a long failure counts less, which favours long
  failures. Here every move counts the same (DAPO, arXiv 2503.14476), since loops are long failures.
- The loss that is shown falls and rises with the entropy. It does not say how many walks arrive.
- It costs `group_size` walks and two readings of them for every row of a step.

Shapes: B rows, K walks of a group, W nodes of a walk, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from loopjax.models.transformer import Transformer
from loopjax.remedies import own_walks
from loopjax.remedies.own_walks import Problem, Walks
from loopjax.runtime.config import check_fields, require
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import TaskState, register, teacher_forcing
from loopjax.star_graph.teacher import PADDING
from loopjax.training.step import Objective, Training, cross_entropy

_OF_PROBLEMS = 2**31 - 9  # folded into a row's key, far from what splitting it gives to graph and walks
_SMALLEST = 1e-6  # added to standard deviations: a group of equal rewards has the advantage 0


class PolicyGradientState(NamedTuple):
  """What the objective carries: strengths of `PolicyGradient`, and the reference's parameters."""

  share: jax.Array
  kl_weight: jax.Array
  reference: Any = ()


class Asked(NamedTuple):
  """A training row: the teacher's, a problem for the student, and the key of its draws."""

  row: encoding.Row
  problem: Problem
  key: jax.Array


@register
@dataclasses.dataclass(frozen=True)
class PolicyGradient:
  """The policy gradient of reaching the goal, mixed with maximum likelihood on teacher walks.

  Attributes:
    share: of the loss that is the policy's; the rest is likelihood, and 0 is maximum likelihood.
    kl_weight: of the divergence from the student before the first step, the paper's beta.
    group_size: walks of a problem.
  """

  share: float = 1.0
  kl_weight: float = 0.04
  group_size: int = 8

  def __post_init__(self) -> None:
    check_fields(self, "objective")
    require(0 <= self.share <= 1, "objective.share", self.share, "in [0, 1]")
    require(self.kl_weight >= 0, "objective.kl_weight", self.kl_weight, "at least 0")
    require(self.group_size >= 2, "objective.group_size", self.group_size, "at least 2: a walk is compared with others")

  def build(self, task: StarGraph, model: Transformer, training: Training) -> Objective:
    return policy_gradient(task, model, training, self.group_size)

  def init(self, key: jax.Array, task: StarGraph, training: Training) -> PolicyGradientState:
    del key, task, training
    return PolicyGradientState(jnp.float32(self.share), jnp.float32(self.kl_weight))


def rewards(task: StarGraph, problems: Problem, walks: jax.Array) -> jax.Array:
  """1 for the walks [B, K, W] that reach their goals by valid moves, else 0: [B, K]."""
  probabilities = jax.tree.map(lambda leaf: leaf[0], problems.probabilities)
  valid = own_walks.valid_part(task, probabilities, walks)
  goals = task.goal_node(problems.goal_chain)[:, None, None]
  return jnp.any(valid == goals, axis=-1).astype(jnp.float32)


def advantages(reward: jax.Array) -> jax.Array:
  """Rewards [..., K] minus the mean of their group, over its standard deviation."""
  centred = reward - jnp.mean(reward, axis=-1, keepdims=True)
  return centred / (jnp.std(reward, axis=-1, keepdims=True) + _SMALLEST)


def policy_loss(nats: jax.Array, of_reference: jax.Array, advantage: jax.Array, kl_weight: jax.Array) -> jax.Array:
  """The cost of each move, [..., K, W - 1].

  Args:
    nats: [..., K, W - 1], -log of the move's probability.
    of_reference: likewise, under the reference.
    advantage: [..., K], of the walk.
    kl_weight: scalar.
  """
  log_ratio = nats - of_reference  # log(b/q)
  divergence = jnp.exp(log_ratio) - log_ratio - 1
  return advantage[..., None] * nats + kl_weight * divergence


@functools.cache  # the same objective again is the same program again
def policy_gradient(task: StarGraph, model: Transformer, training: Training, group_size: int) -> Objective:
  """The objective of `PolicyGradient`; carries a `PolicyGradientState`."""
  plain = teacher_forcing(task, model, training)

  def sample(key: jax.Array, state: TaskState, extra: PolicyGradientState) -> Asked:
    del extra
    problem_key, walk_key = jax.random.split(jax.random.fold_in(key, _OF_PROBLEMS))
    return Asked(plain.sample(key, state, ()), own_walks.sample_problem(task, problem_key, state), walk_key)

  def draw(params: Any, problem: Problem, key: jax.Array) -> Walks:
    goals = jnp.full(group_size, problem.goal_chain)
    at = (problem.probabilities, problem.graph, goals, jnp.float32(1.0), key)
    return own_walks.drawn_walks(task, model, params, *at)

  def own_loss(params: Any, problems: Problem, keys: jax.Array, extra: PolicyGradientState) -> Any:
    walks = jax.vmap(functools.partial(draw, params))(problems, keys)
    moves = walks.nodes[..., 1:] != PADDING
    labels = jnp.where(moves, walks.labels[..., 1:], 0)
    logits = own_walks.read_groups(task, model, params, problems, walks.nodes)
    reference = own_walks.read_groups(task, model, extra.reference, problems, walks.nodes)
    advantage = advantages(rewards(task, problems, walks.nodes))
    # Masked before the exponential of the divergence, whose gradient must be finite; where there is no move it is 0.
    nats, of_reference = (jnp.where(moves, cross_entropy(said, labels), 0.0) for said in (logits, reference))
    each = policy_loss(nats, of_reference, advantage, extra.kl_weight)
    return jnp.sum(each), jnp.sum(moves).astype(jnp.float32)

  def loss(params: Any, batch: Asked, key: jax.Array, extra: PolicyGradientState) -> tuple[Any, Any, Any]:
    nats, weight, _ = plain.loss(params, batch.row, key, ())
    total, count = own_loss(params, batch.problem, batch.key, extra)
    return ((1 - extra.share) * nats, extra.share * total), (weight, count), extra

  def begin(params: Any, extra: PolicyGradientState) -> PolicyGradientState:
    return extra._replace(reference=jax.tree.map(jnp.copy, params))

  return Objective(sample, loss, begin=begin)
