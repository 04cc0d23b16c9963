"""The teacher and the memoryless learner as Markov chains, exact.

Up to exchange of chains the teacher's walk is a Markov chain on `State`: where it is, how many wrong children it has
entered, whether the goal's child is among the entered. The transition matrix is iterated max_steps - 1 times. The
memoryless learner plays the solution of Proposition 1 at every visit to the root, as if the walk told nothing.

Injected loops are no part of the chain: with `injected_share` the walks are a mixture of the chain's and of loops that
last until the cut, whose measures are known in closed form. A learner is defined for the clean teacher alone.

Shapes: X states of the chain, K kinds of action.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
from scipy import sparse

from loopjax.runtime.config import require
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.theory.policies import (
  Policy,
  State,
  cycle_policy,
  goal_child_policy,
  memoryless_policy,
  root_actions,
  same_wrong_child_policy,
  teacher_policy,
)
from loopjax.star_graph.theory.proposition import check_temperature, proposition_one, temper

STATISTICS_KEPT = 1024  # of the last calls: claims, figures and the plan of a run ask for the same ones again


@dataclasses.dataclass(frozen=True)
class WalkStatistics:
  """Means over walks under the cut at max_steps; `successful_` means over the walks that reach the goal, else NaN.

  Attributes:
    reached: the probability that the goal is reached.
    returns: moves back to s.
    response_length: nodes up to and with the goal, or max_steps if cut; s counts.
    root_loop_share: the share of a walk's nodes in the union of its (s, r, s) windows (the mean of the ratio).
    distinct_children: distinct children of the root entered.
    revisits: entries into a child entered before.
    successful_length: response length of successful walks.
    successful_returns: returns to s of successful walks.
  """

  reached: float
  returns: float
  response_length: float
  root_loop_share: float
  distinct_children: float
  revisits: float
  successful_length: float
  successful_returns: float


def chain_moves(task: StarGraph, temperature: float) -> np.ndarray:
  """The probabilities of a reset and of the move forward at an inner chain node, [2]."""
  return temper(np.array([task.reset_prob, 1 - task.reset_prob]), np.ones(2), temperature)


def root_moves(task: StarGraph, state: State, policy: Policy, temperature: float) -> list[tuple[State, float]]:
  """The states that may follow `state`, which is at the root, one for each kind of action, and their probabilities."""
  each, count = root_actions(task, state, policy)
  is_pure = not (state.wrong_visited or state.goal_visited)
  chain = state._replace(depth=1, start_covered=False, pure_cycles=0)
  targets = [
    state._replace(place="start", start_covered=True, pure_cycles=state.pure_cycles + is_pure),
    chain._replace(place="goal", goal_visited=True),
    chain._replace(place="wrong"),
    chain._replace(place="wrong", wrong_visited=state.wrong_visited + 1),
  ]
  return list(zip(targets, count * temper(each, count, temperature), strict=True))


def _moves(task: StarGraph, state: State, policy: Policy, temperature: float) -> list[tuple[State, float]]:
  """The states that may follow `state` and their probabilities; none at the goal, where walks end."""
  if state.place == "start":
    return [(state._replace(place="root"), 1.0)]
  if state.place == "root":
    return root_moves(task, state, policy, temperature)
  back = state._replace(place="start", depth=0)
  if state.depth == task.chain_length:
    return [] if state.place == "goal" else [(back, 1.0)]
  reset, forward = chain_moves(task, temperature)
  return [(back, reset), (state._replace(depth=state.depth + 1), forward)]


def _gains(state: State, target: State) -> tuple[int, int, int, int]:
  """What the move adds to: loops, nodes covered by root loops, distinct children, revisits."""
  is_loop = target.place == "start"
  is_root_loop = is_loop and state.place == "root"
  covered = (2 if state.start_covered else 3) if is_root_loop else 0
  is_entry = state.place == "root" and not is_loop
  is_new = (state.wrong_visited, state.goal_visited) != (target.wrong_visited, target.goal_visited)
  return int(is_loop), covered, int(is_entry and is_new), int(is_entry and not is_new)


class MarkovChain(NamedTuple):
  """The chain over the states reachable from `states[0]`, the walk's first node.

  Attributes:
    states: the X states.
    transition: [X, X] sparse; row x holds the probabilities of the states that follow x. Rows of goal states are empty.
    gains: four sparse [X, X], the transition matrix times what the move adds to each measure (order of `_gains`).
    at_goal: [X] bool, the states in which the walk has ended.
  """

  states: list[State]
  transition: sparse.csr_array
  gains: list[sparse.csr_array]
  at_goal: np.ndarray


def markov_chain(
  task: StarGraph, policy: Policy = teacher_policy, temperature: float = 1.0, *, tracked_cycles: int = 0
) -> MarkovChain:
  """Enumerates the states reachable under `policy` at the root and the teacher's chain moves, all at `temperature`.

  Pure cycles are counted up to `tracked_cycles`: 0, the default, for policies that do not ask for their number.
  """
  check_temperature(temperature)
  states, index, entries = [State("start")], {State("start"): 0}, []
  for source, state in enumerate(states):  # `states` grows as it is read
    for following, probability in _moves(task, state, policy, temperature):
      if probability > 0:
        target = following._replace(pure_cycles=min(following.pure_cycles, tracked_cycles))
        if target not in index:
          index[target] = len(states)
          states.append(target)
        entries.append((source, index[target], probability, *_gains(state, target)))
  source, target, probability, *gains = np.array(entries).T
  place = (source.astype(int), target.astype(int))
  matrices = [sparse.csr_array((probability * x, place), shape=(len(states),) * 2) for x in [1, *gains]]
  at_goal = np.array([x.place == "goal" and x.depth == task.chain_length for x in states])
  return MarkovChain(states, matrices[0], matrices[1:], at_goal)


def occupation(chain: MarkovChain, num_nodes: int) -> np.ndarray:
  """The probability that a walk's node of index 0, 1, ... stands in each state, [`num_nodes`, X]; goals end walks."""
  mass = [np.eye(len(chain.states))[0]]
  for _ in range(num_nodes - 1):
    mass.append(chain.transition.T @ mass[-1])
  return np.stack(mass)


def _ended(mass: np.ndarray, totals: np.ndarray, length: int) -> np.ndarray:
  """Walks that end with `length` nodes: their probability times 1, loops, length, share, distinct, revisits, [6]."""
  probability = mass.sum()
  loops, covered, distinct, revisits = totals.sum(axis=0)
  return np.array([probability, loops, length * probability, covered / length, distinct, revisits])


def _expectations(chain: MarkovChain, max_steps: int) -> np.ndarray:
  """The sums of `_ended` over successful walks (row 0) and over cut walks (row 1), [2, 6].

  Iterated beside the mass of each state is, for each measure, its expectation on the event of being there, [X, 4]:
  a walk's length is known at the step at which it ends, so the mean of the ratio covered / length is exact.
  """
  mass = occupation(chain, max_steps)
  # What each move adds to each measure, by the state in which it ends: [X, max_steps - 1, 4].
  gained = np.stack([gain.T @ mass[:-1].T for gain in chain.gains], axis=-1)
  totals = np.zeros((len(chain.states), len(chain.gains)))
  successful = np.zeros(6)
  for length in range(2, max_steps + 1):
    totals = chain.transition.T @ totals + gained[:, length - 2]
    successful += _ended(mass[length - 1, chain.at_goal], totals[chain.at_goal], length)
  return np.stack([successful, _ended(mass[-1, ~chain.at_goal], totals[~chain.at_goal], max_steps)])


def walk_lengths(task: StarGraph) -> np.ndarray:
  """The distribution of a sampled walk's number of nodes, [W + 1], W = max_steps: entry m is P(m nodes).

  The walks are the teacher's at T = 1 and, in their share, injected loops, which take all W nodes.
  """
  chain, longest = markov_chain(task), np.eye(task.max_steps + 1)[-1]
  mass = occupation(chain, task.max_steps)
  reached = np.append(0, mass[:, chain.at_goal].sum(axis=-1))
  clean = reached + mass[-1, ~chain.at_goal].sum() * longest
  return (1 - task.injected_share) * clean + task.injected_share * longest


def _loop_depths(task: StarGraph) -> dict[int, float]:
  """How many nodes of a chain an injected loop enters each time, with its probability."""
  n, l = task.num_chains, task.chain_length
  if task.injected_kind == "root":
    return {0: 1.0}
  if task.injected_kind == "child":
    return {l: 1.0}
  return {depth: (n - (depth == l)) / (n * l - 1) for depth in range(1, l + 1)}


def _loop_measures(task: StarGraph, depth: int) -> np.ndarray:
  """What `_ended` gives for the walk that repeats s, r and `depth` nodes of one chain until the cut, [6]."""
  length, period = task.max_steps, depth + 2
  covered = length - (length % 2 == 0) if depth == 0 else 0  # a last r is in no window
  entries = 1 + (length - 3) // period if depth > 0 else 0
  return np.array([1, (length - 1) // period, length, covered / length, min(entries, 1), max(entries - 1, 0)])


def _loop_expectations(task: StarGraph) -> np.ndarray:
  """The sums of `_ended` over injected loops, as `_expectations`: all of them are cut."""
  cut = sum(probability * _loop_measures(task, depth) for depth, probability in _loop_depths(task).items())
  return np.stack([np.zeros(6), cut])


def check_clean(task: StarGraph) -> None:
  """Raises `ValueError` where the task injects loops: a theoretical learner is one of the clean teacher."""
  require(task.injected_share == 0, "task.injected_share", task.injected_share, "0 for a theoretical learner")


def _statistics(expectations: np.ndarray) -> WalkStatistics:
  """Reads the statistics off `_expectations`, or off a mixture of them."""
  reached = expectations[0, 0]
  _, *means = expectations.sum(axis=0)
  given_success = expectations[0] / reached if reached > 0 else np.full(6, np.nan)
  return WalkStatistics(*map(float, [reached, *means, given_success[2], given_success[1]]))


def chain_statistics(chain: MarkovChain, max_steps: int) -> WalkStatistics:
  """The exact statistics of the chain's walks under the cut at `max_steps` nodes."""
  return _statistics(_expectations(chain, max_steps))


@functools.lru_cache(maxsize=STATISTICS_KEPT)
def teacher_statistics(task: StarGraph, *, temperature: float = 1.0) -> WalkStatistics:
  """The exact statistics of the walks that are sampled: the teacher's, and injected loops in their share.

  Args:
    task: the task, with the teacher's probabilities and margins.
    temperature: T; every next-node probability is raised to 1/T and renormalised, at chain nodes too, as in a
      student's rollouts: a greedy walk never resets there if `reset_prob` < 1/2. 0 is greedy, ties split evenly. The
      moves of injected loops are certain at every temperature, and their share stays as it is.

  Raises:
    ValueError: the temperature is negative or not finite.
  """
  clean = _expectations(markov_chain(task, teacher_policy, temperature), task.max_steps)
  return _statistics((1 - task.injected_share) * clean + task.injected_share * _loop_expectations(task))


@functools.lru_cache(maxsize=STATISTICS_KEPT)
def memoryless_statistics(task: StarGraph, *, temperature: float = 1.0, ties: str = "fresh") -> WalkStatistics:
  """The exact walk statistics of the learner that plays Proposition 1's solution at every visit to the root.

  At the root it resets with `reset_prob` and enters each child with (1 - reset_prob)/n, whatever the walk has shown; in
  chains it is the teacher. Where the cycle is the argmax, T = 0 repeats s - r - s for ever.

  Args:
    task: the task; exploration and its margins do not matter, as they do not to the Proposition.
    temperature: T, as in `teacher_statistics`.
    ties: at T = 0, where all children tie: `fresh` draws one anew at every visit; `frozen` draws one for the graph and
      keeps to it. (On the line p = 1/(n + 1) the cycle is one of the tied actions.)

  Raises:
    ValueError: an argument is out of its range, ties are frozen at T > 0, where there are none, or loops are injected.
  """
  check_clean(task)
  require(ties in ("fresh", "frozen"), "ties", ties, "'fresh' or 'frozen'")
  may_freeze = temperature == 0
  require(may_freeze or ties == "fresh", "ties", ties, f"'fresh' where temperature={temperature!r} is not 0")
  if ties == "fresh":
    return chain_statistics(markov_chain(task, memoryless_policy, temperature), task.max_steps)
  cycle, child = proposition_one(task.reset_prob, task.num_chains, temperature=0.0)
  policies = [cycle_policy, goal_child_policy, same_wrong_child_policy]
  weights = [cycle, child, (task.num_chains - 1) * child]
  mixture = [(weight, policy) for weight, policy in zip(weights, policies, strict=True) if weight > 0]
  return _statistics(
    sum(weight * _expectations(markov_chain(task, policy, 0.0), task.max_steps) for weight, policy in mixture)
  )
