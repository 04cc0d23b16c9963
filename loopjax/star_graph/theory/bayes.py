"""The Bayes learner: it knows the teacher but not the goal's chain, and infers it from the walk so far. Monte Carlo.

Shapes: M walks, W nodes of a walk, C = n children of the root.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from loopjax.runtime.config import require
from loopjax.star_graph.graph import ROOT, START, StarGraph
from loopjax.star_graph.theory.markov_chain import WalkStatistics, check_clean
from loopjax.star_graph.theory.policies import child_probabilities
from loopjax.star_graph.theory.proposition import check_temperature, temper


class SampledStatistics(NamedTuple):
  """Monte Carlo statistics: means over the walks and the standard errors of these means."""

  mean: WalkStatistics
  standard_error: WalkStatistics


class _Evidence(NamedTuple):
  """What M walks have told about the goal's chain so far. All [M, C]; C runs over the hypotheses g, or over children.

  Attributes:
    log_likelihood: of the walk's moves to children, given g, over those that are possible given g.
    impossible: the number of moves that are impossible given g; W where the leaf of g was no goal.
    visited: bool, the children entered.
  """

  log_likelihood: np.ndarray
  impossible: np.ndarray
  visited: np.ndarray


def _posterior(evidence: _Evidence) -> np.ndarray:
  """The posterior over the goal's chain, [M, C]: uniform prior, and only those with the fewest impossible moves."""
  fewest = evidence.impossible == evidence.impossible.min(axis=-1, keepdims=True)
  log_weight = np.where(fewest, evidence.log_likelihood, -np.inf)
  weight = np.exp(log_weight - log_weight.max(axis=-1, keepdims=True))
  return weight / weight.sum(axis=-1, keepdims=True)


def _choose(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """One index per row of `probabilities` [M, K]; never one of probability 0."""
  cumulative = np.cumsum(probabilities, axis=-1)
  return np.sum(cumulative <= rng.random((len(cumulative), 1)) * cumulative[:, -1:], axis=-1)


def _bayes_root_move(
  task: StarGraph, evidence: _Evidence, rows: np.ndarray, temperature: float, rng: np.random.Generator
) -> np.ndarray:
  """The next nodes of the walks `rows`, which are at the root; updates `evidence` in place."""
  visited = evidence.visited[rows]
  probabilities = child_probabilities(task, visited.sum(axis=-1, keepdims=True))
  plain = np.where(visited, probabilities.visited, probabilities.unvisited)
  mixture = plain + probabilities.goal_bonus * _posterior(_Evidence(*(x[rows] for x in evidence)))
  actions = np.concatenate([np.full((len(rows), 1), task.reset_prob), mixture], axis=-1)
  child = _choose(temper(actions, np.ones(1), temperature), rng) - 1

  entering = child >= 0  # a reset is as likely under every g
  rows, plain, entered = rows[entering], plain[entering], child[entering, None] == np.arange(task.num_chains)
  likelihood = plain[entered][:, None] + probabilities.goal_bonus * entered
  evidence.impossible[rows] += likelihood == 0
  evidence.log_likelihood[rows] += np.log(np.where(likelihood > 0, likelihood, 1))
  evidence.visited[rows] |= entered
  return np.where(entering, 2 + task.chain_length * child, START)


def _chain_move(task: StarGraph, nodes: np.ndarray, temperature: float, rng: np.random.Generator) -> np.ndarray:
  """The nodes that follow the chain nodes `nodes` [M], none of them the goal."""
  reset, _ = temper(np.array([task.reset_prob, 1 - task.reset_prob]), np.ones(2), temperature)
  is_leaf = (nodes - 1) % task.chain_length == 0
  return np.where(is_leaf | (rng.random(len(nodes)) < reset), START, nodes + 1)


def sample_bayes_walks(task: StarGraph, *, num_walks: int, seed: int, temperature: float = 1.0) -> np.ndarray:
  """Walks of the Bayes learner, [M, W] nodes as `star_graph` numbers them, -1 after the end; the goal's chain is 0.

  The learner holds a posterior over the goal's chain g, uniform at first, predicts the mixture over g of the teacher's
  probabilities given the walk so far, and samples from it at temperature T (at T = 0 ties are drawn anew). The walk is
  its own, not the teacher's: it takes its own moves to a child as if the teacher, knowing g, had made them, which is
  what a maximum-likelihood student does in rollouts. A reset tells nothing about g. A leaf at which the walk did not
  end excludes its chain. Where every g left makes the walk impossible (e = 0, and the one child entered was wrong), the
  g with the fewest impossible moves remain: the limit of moves that are barely possible.

  Raises:
    ValueError: an argument is out of its range, or loops are injected.
  """
  check_clean(task)
  check_temperature(temperature)
  require(num_walks >= 2, "num_walks", num_walks, "at least 2, for standard errors")
  rng = np.random.default_rng(seed)
  shape = (num_walks, task.num_chains)
  evidence = _Evidence(np.zeros(shape), np.zeros(shape, int), np.zeros(shape, bool))
  walks = np.full((num_walks, task.max_steps), -1)
  walks[:, 0] = START
  for step in range(1, task.max_steps):
    here = walks[:, step - 1]
    on_chain = np.flatnonzero((here > ROOT) & (here != 1 + task.chain_length))
    at_root = np.flatnonzero(here == ROOT)
    walks[here == START, step] = ROOT
    walks[on_chain, step] = _chain_move(task, here[on_chain], temperature, rng)
    walks[at_root, step] = _bayes_root_move(task, evidence, at_root, temperature, rng)
    _exclude_leaves(task, evidence, walks[:, step])
  return walks


def _exclude_leaves(task: StarGraph, evidence: _Evidence, nodes: np.ndarray) -> None:
  """Excludes, in place, the chains at whose leaf the walks are: those that were the goal's have ended."""
  rows = np.flatnonzero((nodes > ROOT) & ((nodes - 1) % task.chain_length == 0))
  evidence.impossible[rows, (nodes[rows] - 2) // task.chain_length] = task.max_steps


def _root_loop_share(walks: np.ndarray) -> np.ndarray:
  """The share of each walk's nodes in the union of its (s, r, s) windows, [M]."""
  window = (walks[:, :-2] == START) & (walks[:, 1:-1] == ROOT) & (walks[:, 2:] == START)
  covered = np.any([np.pad(window, ((0, 0), (i, 2 - i))) for i in range(3)], axis=0)
  return covered.sum(axis=-1) / (walks >= 0).sum(axis=-1)


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
  """Mean and its standard error; NaN where there are too few values for it."""
  mean = float(values.mean()) if len(values) > 0 else np.nan
  return mean, float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


def _sampled_statistics(task: StarGraph, walks: np.ndarray) -> SampledStatistics:
  """The statistics of `walks` [M, W] whose goal's chain is 0."""
  success = (walks == 1 + task.chain_length).any(axis=-1)
  loops, length = (walks == START).sum(axis=-1) - 1, (walks >= 0).sum(axis=-1)
  entries = np.stack([(walks == 2 + task.chain_length * i).sum(axis=-1) for i in range(task.num_chains)])
  distinct = (entries > 0).sum(axis=0)
  measures = [success, loops, length, _root_loop_share(walks), distinct, entries.sum(axis=0) - distinct]
  pairs = [_mean_and_error(x) for x in [*measures, length[success], loops[success]]]
  return SampledStatistics(*(WalkStatistics(*x) for x in zip(*pairs, strict=True)))


def bayes_statistics(
  task: StarGraph, *, temperature: float = 1.0, num_walks: int = 10_000, seed: int = 0
) -> SampledStatistics:
  """Walk statistics of the Bayes learner and their standard errors, by Monte Carlo: see `sample_bayes_walks`."""
  walks = sample_bayes_walks(task, num_walks=num_walks, seed=seed, temperature=temperature)
  return _sampled_statistics(task, walks)
