"""What is done at the root, given how far the walk is known: states, and the policies of teacher and learners.

Shapes: K kinds of action.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.theory.proposition import proposition_one

_ROUNDING = 1e-12  # what is left below this after a subtraction is 0: at high temperature 1e-17 would not stay small


class ChildProbabilities(NamedTuple):
  """The teacher's probability of an unvisited and of a visited child, and what the goal's child gets on top."""

  unvisited: np.ndarray
  visited: np.ndarray
  goal_bonus: float


def _exploration(task: StarGraph, num_visited: ArrayLike) -> tuple[np.ndarray, np.ndarray, float]:
  """The exploration distribution, as in `ChildProbabilities`, given how many children are visited (any shape)."""
  n, k = task.num_chains, np.asarray(num_visited)
  if task.goal_margin > 0:
    other = 1 - 1 / n - task.goal_margin
    other = other / (n - 1) if other > _ROUNDING else 0.0
    others = np.full(k.shape, other)
    return others, others, 1 / n + task.goal_margin - other
  unvisited = np.minimum((1 + task.visited_margin * k) / n, 1 / np.maximum(n - k, 1))
  rest = 1 - (n - k) * unvisited  # 1 at k = n, so that all visited is uniform again
  return unvisited, np.where(rest > _ROUNDING, rest, 0) / np.maximum(k, 1), 0.0


def child_probabilities(task: StarGraph, num_visited: ArrayLike) -> ChildProbabilities:
  """The teacher's move to a child: `explore_prob` of the exploration distribution, the rest on the goal's child."""
  e, forward = task.explore_prob, 1 - task.reset_prob
  unvisited, visited, bonus = _exploration(task, num_visited)
  return ChildProbabilities(forward * e * unvisited, forward * e * visited, forward * (1 - e + e * bonus))


class State(NamedTuple):
  """A state of the chain. Children count as visited from the moment they are entered.

  Attributes:
    place: `start`, `root`, or the chain one is in, `goal` or `wrong`.
    depth: j in 1..l in a chain, else 0.
    wrong_visited: the number of distinct wrong children visited.
    goal_visited: whether the goal's child is visited.
    start_covered: at s and at the r after it, whether that s closed an (s, r, s) window, so that a window that follows
      directly covers two nodes more instead of three.
    pure_cycles: how often the walk has been from s to r and back, while it has entered no child; 0 from then on. It is
      counted up to the chain's `tracked_cycles` only.
  """

  place: str
  depth: int = 0
  wrong_visited: int = 0
  goal_visited: bool = False
  start_covered: bool = False
  pure_cycles: int = 0


# A policy gives, for the task and a state at the root, the probability (up to a factor) of a reset, of the goal's
# child, of one visited and of one unvisited wrong child.
Policy = Callable[[StarGraph, State], list[float]]


def teacher_policy(task: StarGraph, state: State) -> list[float]:
  """The exact teacher's, which knows the goal."""
  unvisited, visited, bonus = child_probabilities(task, state.wrong_visited + state.goal_visited)
  goal_child = (visited if state.goal_visited else unvisited) + bonus
  return [task.reset_prob, float(goal_child), float(visited), float(unvisited)]


def memoryless_policy(task: StarGraph, state: State) -> list[float]:
  """That of the learner which plays Proposition 1's solution at every visit."""
  cycle, child = proposition_one(task.reset_prob, task.num_chains)
  return [float(cycle)] + 3 * [float(child)]


def cycle_policy(task: StarGraph, state: State) -> list[float]:
  """That of a learner which resets at every visit."""
  return [1, 0, 0, 0]


def goal_child_policy(task: StarGraph, state: State) -> list[float]:
  """That of a learner which enters the goal's child at every visit."""
  return [0, 1, 0, 0]


def same_wrong_child_policy(task: StarGraph, state: State) -> list[float]:
  """That of a learner which enters one and the same wrong child at every visit."""
  return [0, 0, 1, 0] if state.wrong_visited else [0, 0, 0, 1]


def root_actions(task: StarGraph, state: State, policy: Policy) -> tuple[np.ndarray, np.ndarray]:
  """What `policy` gives at the root to one action of each kind, [K], and the number of actions of each kind, [K]."""
  count = np.array([1, 1, state.wrong_visited, task.num_chains - 1 - state.wrong_visited])
  return np.array(policy(task, state), float), count
