"""A slow, plain-Python walker of the star graph: what the fast code is tested against.

It shares no code with loopjax; of a task it reads the config values only. Nodes are numbered as `loopjax.star_graph`
documents: s = 0, r = 1, c[i, j] = 2 + i * l + (j - 1) for chains i = 0.. and depths j = 1..l. A walk is a list of nodes
that begins with s. A *distribution* is a dict {next node: probability}; a *policy* maps (task, goal_chain,
walk) to one.
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple

S, R = 0, 1


def node_number(task, chain, depth):
  return 2 + chain * task.chain_length + (depth - 1)


def goal_of(task, goal_chain):
  return node_number(task, goal_chain, task.chain_length)


def depth_of(task, node):
  """j of c[i, j]."""
  return (node - 2) % task.chain_length + 1


def children_of_root(task):
  return [node_number(task, chain, 1) for chain in range(task.num_chains)]


def entered_children(task, walk):
  """The children entered, in order, with repetition."""
  return [node for node in walk if node in children_of_root(task)]


def exploration(task, goal_chain, walk):
  """The teacher's exploration distribution over the children after `walk`."""
  n = task.num_chains
  kids = children_of_root(task)
  if task.goal_margin > 0:
    goals_child = kids[goal_chain]
    towards_goal = 1 / n + task.goal_margin
    return {kid: towards_goal if kid == goals_child else (1 - towards_goal) / (n - 1) for kid in kids}
  visited = set(entered_children(task, walk))
  k = len(visited)
  if k == 0 or k == n:
    return dict.fromkeys(kids, 1 / n)
  unvisited = (1 + task.visited_margin * k) / n
  if unvisited * (n - k) >= 1:  # the unvisited ones take it all
    return {kid: 0.0 if kid in visited else 1 / (n - k) for kid in kids}
  return {kid: (1 - (n - k) * unvisited) / k if kid in visited else unvisited for kid in kids}


def teacher_distribution(task, goal_chain, walk):
  """The teacher's next-node distribution after `walk`."""
  here = walk[-1]
  if here == S:
    return {R: 1.0}
  if here == R:
    e = task.explore_prob
    distribution = {S: task.reset_prob}
    for kid, probability in exploration(task, goal_chain, walk).items():
      right = 1.0 if kid == children_of_root(task)[goal_chain] else 0.0
      distribution[kid] = (1 - task.reset_prob) * (e * probability + (1 - e) * right)
    return distribution
  if depth_of(task, here) == task.chain_length:
    return {S: 1.0}
  return {S: task.reset_prob, here + 1: 1 - task.reset_prob}


def temper(distribution, temperature):
  """Each probability raised to 1/T, renormalised; T = 0: the argmax, ties split evenly."""
  if temperature == 0:
    top = max(distribution.values())
    weights = {node: float(p > top - 1e-12) for node, p in distribution.items()}
  else:
    weights = {node: p ** (1 / temperature) if p > 1e-13 else 0.0 for node, p in distribution.items()}
  return {node: weight / sum(weights.values()) for node, weight in weights.items()}


def teacher_at(temperature):
  """The policy of the teacher at a temperature."""
  return lambda task, goal_chain, walk: temper(teacher_distribution(task, goal_chain, walk), temperature)


def sample_walk(task, goal_chain, rng: random.Random, policy=teacher_distribution):
  """One walk, up to the goal or of max_steps nodes."""
  walk = [S]
  while walk[-1] != goal_of(task, goal_chain) and len(walk) < task.max_steps:
    distribution = policy(task, goal_chain, walk)
    walk.append(rng.choices(list(distribution), weights=list(distribution.values()))[0])
  return walk


def enumerate_walks(task, goal_chain, policy=teacher_distribution):
  """Every walk that has a positive probability, with it: pairs (walk, probability). For tiny max_steps."""
  unfinished = [([S], 1.0)]
  while unfinished:
    walk, probability = unfinished.pop()
    if walk[-1] == goal_of(task, goal_chain) or len(walk) == task.max_steps:
      yield walk, probability
      continue
    for node, p in policy(task, goal_chain, walk).items():
      if p > 0:
        unfinished.append((walk + [node], probability * p))


def injected_loops(task, goal_chain):
  """Every loop that may be injected, as a walk up to the cut; each is as likely as the others."""
  kids, l = children_of_root(task), task.chain_length
  leaves = [kid + l - 1 for kid in kids]
  lasts = {"root": [R], "child": leaves, "cycle": [kid + j for kid in kids for j in range(l)]}[task.injected_kind]
  loops = []
  for last in lasts:
    if last != goal_of(task, goal_chain):
      loop = [S, R] if last == R else [S, R, *range(max(kid for kid in kids if kid <= last), last + 1)]
      loops.append((loop * task.max_steps)[: task.max_steps])
  return loops


def valid_successors(task, node):
  """Where a move from `node` may lead: to its children, and to s where the teacher may reset; nowhere off the graph."""
  resets = {S} if task.reset_prob > 0 else set()
  if node == S:
    return {R}
  if node == R:
    return {*children_of_root(task), *resets}
  if node > goal_of(task, task.num_chains - 1):
    return set()
  return {S} if depth_of(task, node) == task.chain_length else {node + 1, *resets}


class Measures(NamedTuple):
  """The measures of one walk; the first six are named as in `loopjax.star_graph.theory.WalkStatistics`."""

  reached: bool
  returns: int
  response_length: int
  root_loop_share: float
  distinct_children: int
  revisits: int
  root_loops: int
  broken: bool


def measure_walk(task, walk, goal_chain):
  """Measures a walk that ends where it reaches the goal (no padding; nodes >= num_nodes are off the graph).

  Its first invalid move breaks it: that and all that follows is left out.
  """
  invalid = [i for i in range(1, len(walk)) if walk[i] not in valid_successors(task, walk[i - 1])]
  walk = walk[: invalid[0]] if invalid else walk
  windows = [i for i in range(len(walk) - 2) if walk[i : i + 3] == [S, R, S]]
  entries = entered_children(task, walk)
  return Measures(
    reached=walk[-1] == goal_of(task, goal_chain),
    returns=walk[1:].count(S),
    response_length=len(walk),
    root_loop_share=len({i + j for i in windows for j in range(3)}) / len(walk),
    distinct_children=len(set(entries)),
    revisits=len(entries) - len(set(entries)),
    root_loops=len(windows),
    broken=bool(invalid),
  )


def memoryless_at(temperature):
  """The policy that forgets: Proposition 1's solution at every visit to the root, the teacher's moves in chains."""

  def policy(task, goal_chain, walk):
    if walk[-1] != R:
      return temper(teacher_distribution(task, goal_chain, walk), temperature)
    child = (1 - task.reset_prob) / task.num_chains
    return temper({S: task.reset_prob, **dict.fromkeys(children_of_root(task), child)}, temperature)

  return policy


def memoryless_distribution(task, goal_chain, walk):
  return memoryless_at(1.0)(task, goal_chain, walk)


def loop_posterior(task, walk, share):
  """Bayes' posterior that a walk is the loop s-r-s-r..., of which a `share` was injected: by the walk's likelihoods."""
  is_loop = all(node == (S, R)[i % 2] for i, node in enumerate(walk))
  by_teacher = sum(
    math.prod(teacher_distribution(task, goal_chain, walk[:i])[walk[i]] for i in range(1, len(walk)))
    for goal_chain in range(task.num_chains)
  )
  return share * is_loop / (share * is_loop + (1 - share) * by_teacher / task.num_chains)


def loop_posterior_at(temperature, share, clean):
  """The policy that predicts the loop with its posterior, else as the distribution `clean` does."""

  def policy(task, goal_chain, walk):
    distribution = clean(task, goal_chain, walk)
    if walk[-1] == R and len(set(walk)) == 2:
      posterior = loop_posterior(task, walk, share)
      distribution = {node: (1 - posterior) * p + posterior * (node == S) for node, p in distribution.items()}
    return temper(distribution, temperature)

  return policy


def goal_posterior(task, walk, barely=1e-60):
  """Bayes' posterior over the goal's chain given a walk that has not ended, uniform prior.

  An impossible move is taken to be `barely` possible, so that evidence that contradicts itself leaves the chains that
  are least at odds with it; a chain whose leaf was no goal is excluded.
  """
  likelihoods = []
  for chain in range(task.num_chains):
    moves = [teacher_distribution(task, chain, walk[:i])[walk[i]] for i in range(1, len(walk))]
    ended = goal_of(task, chain) in walk
    likelihoods.append(0.0 if ended else math.prod(max(move, barely) for move in moves))
  posterior = [likelihood / sum(likelihoods) for likelihood in likelihoods]
  return [p if p > math.sqrt(barely) else 0.0 for p in posterior]


def bayes_at(temperature):
  """The policy that predicts the posterior mean of the teacher's distribution."""

  def policy(task, goal_chain, walk):
    mixture = {}
    for chain, weight in enumerate(goal_posterior(task, walk)):
      if weight > 0:
        for node, p in teacher_distribution(task, chain, walk).items():
          mixture[node] = mixture.get(node, 0.0) + weight * p
    return temper(mixture, temperature)

  return policy
