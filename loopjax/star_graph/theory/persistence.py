"""The exact top-child persistence of the teacher with fresh ties: chance for students that repeat no error.

At every visit to r the top child is drawn anew, uniformly among the children to which the teacher gives most. A *pair*
are the visits v and v + 1 of one walk, counted from 1, if both predict a next node: their node index is at most W - 2.
A pair *agrees* if both have the same top child. At T = 0 a walk that enters a child enters its top child. At T > 0 the
child entered is drawn from the tempered teacher, whatever the top child is.

Up to exchange of chains a visit is a `State` at the root, and what comes between two visits is one excursion.

Shapes: W nodes of the longest walk, X states at the root, D numbers of nodes from a visit to the next, C children, K
visits that may have a next one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.theory.markov_chain import chain_moves, check_clean, root_moves
from loopjax.star_graph.theory.policies import State, root_actions, teacher_policy
from loopjax.star_graph.theory.proposition import check_temperature, temper


def _top_child(task: StarGraph, state: State) -> np.ndarray:
  """The probability of each child to be the top one, [C]: the goal's, then visited wrong ones, then unvisited ones."""
  each, count = root_actions(task, state, teacher_policy)
  return np.repeat(temper(each[1:], count[1:], 0.0), count[1:])


def _nodes_to_next_visit(task: StarGraph, place: str, temperature: float) -> np.ndarray:
  """The probability that r comes back after 0..D - 1 nodes, [D], given the place to which the move from r led."""
  nodes = np.zeros(task.chain_length + 3)
  if place == "start":
    nodes[2] = 1
  else:
    reset, forward = chain_moves(task, temperature)
    nodes[3:-1] = reset * forward ** np.arange(task.chain_length - 1)
    nodes[-1] = forward ** (task.chain_length - 1) if place == "wrong" else 0  # the goal's leaf ends the walk
  return nodes


class _Excursion(NamedTuple):
  """From a visit to the next one.

  Attributes:
    following: the state of the next visit.
    probability: [D] of this excursion with a next visit after 0..D - 1 nodes.
    agreement: the probability that both visits have the same top child.
  """

  following: State
  probability: np.ndarray
  agreement: float


def _excursions(task: StarGraph, state: State, temperature: float) -> Iterator[_Excursion]:
  """What may follow a visit in `state`."""
  top = _top_child(task, state)
  entered = (None, 0, 1, state.wrong_visited + 1)  # by each kind of move, in the order of `_top_child`
  moves = root_moves(task, state, teacher_policy, temperature)
  for child, (target, probability) in zip(entered, moves, strict=True):
    if probability > 0:
      following = State("root", wrong_visited=target.wrong_visited, goal_visited=target.goal_visited)
      next_top = _top_child(task, following)
      enters_top = child is not None and temperature == 0
      agreement = next_top[child] if enters_top else top @ next_top
      nodes = _nodes_to_next_visit(task, target.place, temperature)
      yield _Excursion(following, probability * nodes, float(agreement))


def _kernels(task: StarGraph, temperature: float) -> np.ndarray:
  """Of pairs, and of those that agree, [2, D, X, X]: their probability from the first state, by nodes and second."""
  wrong = range(task.num_chains)
  states = [State("root", wrong_visited=k, goal_visited=goal) for k in wrong for goal in (False, True)]
  kernels = np.zeros((2, task.chain_length + 3, len(states), len(states)))
  for i, state in enumerate(states):
    for following, probability, agreement in _excursions(task, state, temperature):
      kernels[:, :, i, states.index(following)] += np.outer([1, agreement], probability)
  return kernels


def _pairs(task: StarGraph, temperature: float) -> tuple[np.ndarray, np.ndarray]:
  """The expected number of pairs of visits v and v + 1 of a walk, and of those that agree, v = 1..K: two [K]."""
  check_clean(task)
  check_temperature(temperature)
  kernels = _kernels(task, temperature)
  visits = np.zeros((task.max_steps - 1, kernels.shape[-1]))  # the probability of visit v, by node index and state
  visits[1, 0] = 1
  counts = np.zeros(((task.max_steps - 3) // 2, 2))
  for count in counts:
    reached = np.zeros((2, *visits.shape))
    for nodes in range(2, min(kernels.shape[1], len(visits))):
      reached[:, nodes:] += visits[:-nodes] @ kernels[:, nodes]
    visits = reached[0]
    count[:] = reached.sum(axis=(1, 2))
  return counts[:, 0], counts[:, 1]


def teacher_persistence_by_visit(task: StarGraph, *, temperature: float) -> tuple[np.ndarray, np.ndarray]:
  """The probability that visits v and v + 1 have the same top child, and the expected pairs of a walk, two [K].

  Args:
    task: the task; loops are not injected.
    temperature: T of the walks, as in `teacher_statistics`; it changes moves, not which children are the top ones.

  Returns:
    For v = 1..K: the share of agreeing pairs, NaN where there are no pairs; and the expected number of pairs.

  Raises:
    ValueError: the temperature is negative or not finite, or loops are injected.
  """
  expected, agreed = _pairs(task, temperature)
  return np.divide(agreed, expected, out=np.full_like(agreed, np.nan), where=expected > 0), expected


def teacher_persistence(task: StarGraph, *, temperature: float) -> float:
  """The probability that the top child stays from one visit to the next, pooled over the pairs of all walks.

  It is the expected number of agreeing pairs by that of pairs; NaN where no walk has a pair. Arguments and errors are
  those of `teacher_persistence_by_visit`.
  """
  expected, agreed = _pairs(task, temperature)
  return float(agreed.sum() / expected.sum()) if expected.sum() > 0 else np.nan
