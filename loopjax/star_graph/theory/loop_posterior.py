"""The loop-posterior learner, exact: the maximum-likelihood student of walks of which some repeat s-r-s until the cut.

The learner holds a posterior that the walk so far is an injected loop. Such a loop begins with s-r-s cycles and holds
nothing else; the teacher makes k of them with probability reset^k. So at r, after k cycles from the walk's start, the
posterior is

  share / (share + (1 - share) reset^k),

and one child entered sets it to 0 for ever. The learner resets with posterior + (1 - posterior) * reset. The children
share the rest as the clean learner has them.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike

from loopjax.runtime.config import require
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.theory.markov_chain import STATISTICS_KEPT, WalkStatistics, chain_statistics, markov_chain
from loopjax.star_graph.theory.policies import Policy, State, memoryless_policy, teacher_policy


def _check_loops(task: StarGraph) -> None:
  require(task.injected_kind == "root", "task.injected_kind", task.injected_kind, "'root' for the loop posterior")


def loop_posterior(task: StarGraph, num_cycles: ArrayLike) -> np.ndarray:
  """The posterior that a walk is an injected s-r-s loop, at r after `num_cycles` such cycles and nothing else.

  Args:
    task: the task, with the share of injected loops in training; they are of kind `root`.
    num_cycles: k, whole numbers, at least 0, of any shape.

  Returns:
    The posterior, of the shape of `num_cycles`.

  Raises:
    ValueError: loops are of another kind, or a number is not whole or below 0.
  """
  _check_loops(task)
  cycles = np.asarray(num_cycles)
  require(bool(np.all((cycles >= 0) & (cycles == np.round(cycles)))), "num_cycles", num_cycles, "whole, at least 0")
  by_teacher = (1 - task.injected_share) * task.reset_prob ** cycles.astype(float)
  either = task.injected_share + by_teacher
  return np.divide(task.injected_share, either, out=np.zeros_like(by_teacher), where=either > 0)


def _with_loop_posterior(clean: Policy) -> Policy:
  """The policy that mixes the reset in, with the posterior's weight, at the states in which no child is entered."""

  def policy(task: StarGraph, state: State) -> list[float]:
    may_be_loop = task.reset_prob > 0 and not (state.wrong_visited or state.goal_visited)
    posterior = float(loop_posterior(task, state.pure_cycles)) if may_be_loop else 0.0
    reset, *children = ((1 - posterior) * each for each in clean(task, state))
    return [posterior + reset, *children]

  return policy


@functools.lru_cache(maxsize=STATISTICS_KEPT)
def loop_posterior_statistics(task: StarGraph, *, temperature: float = 1.0, traced: bool) -> WalkStatistics:
  """The exact statistics of the loop-posterior learner's own walks, in which nothing is injected.

  Where the teacher never resets (`reset_prob` = 0), the move from r to s is not valid. The statistics are of valid
  moves alone. So no posterior begins there, and the learner is the clean one.

  Args:
    task: the task that it was trained on, with the share of injected loops in training; they are of kind `root`.
    temperature: T, as in `teacher_statistics`.
    traced: whether the clean learner knows the goal, and so is the exact teacher; else it is the memoryless learner.

  Raises:
    ValueError: loops are of another kind, or the temperature is negative or not finite.
  """
  _check_loops(task)
  policy = _with_loop_posterior(teacher_policy if traced else memoryless_policy)
  chain = markov_chain(task, policy, temperature, tracked_cycles=task.max_steps // 2)
  return chain_statistics(chain, task.max_steps)
