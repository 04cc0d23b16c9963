"""The exact training losses of the teacher and of the memoryless learner, in nats per trained position.

Trained positions are all nodes of the teacher's walks but the last, which predicts nothing; walks are whole.
A loss is the expected cross entropy summed over a walk, by the expected number of its positions. It is what the
training loss of a student that is such a learner tends to.
"""

from __future__ import annotations

import numpy as np
from scipy.special import xlogy

from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.theory.markov_chain import chain_moves, check_clean, markov_chain, occupation
from loopjax.star_graph.theory.policies import Policy, State, memoryless_policy, root_actions, teacher_policy


def _cross_entropy(task: StarGraph, state: State, learner: Policy) -> float:
  """The learner's cross entropy under the teacher's next node, in nats; its moves in chains are the teacher's."""
  if state.place == "root":
    (teacher, count), (student, _) = (root_actions(task, state, policy) for policy in (teacher_policy, learner))
    return float(-np.sum(xlogy(count * teacher, student)))
  if 0 < state.depth < task.chain_length:
    moves = chain_moves(task, 1.0)
    return float(-np.sum(xlogy(moves, moves)))
  return 0.0  # from s and from leaves there is one move


def _loss(task: StarGraph, learner: Policy) -> float:
  check_clean(task)
  chain = markov_chain(task)
  positions = occupation(chain, task.max_steps - 1).sum(axis=0) * ~chain.at_goal
  costs = np.array([_cross_entropy(task, state, learner) for state in chain.states])
  return float(positions @ costs / positions.sum())


def teacher_loss(task: StarGraph) -> float:
  """The teacher's entropy in nats per position: the loss of a student that is the teacher, the least there is.

  Raises:
    ValueError: loops are injected.
  """
  return _loss(task, teacher_policy)


def memoryless_loss(task: StarGraph) -> float:
  """The loss, in nats per position, of Proposition 1's solution at every visit to the root; elsewhere the teacher's.

  Raises:
    ValueError: loops are injected.
  """
  return _loss(task, memoryless_policy)
