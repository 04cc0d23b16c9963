"""Temporally correlated errors (arXiv 2512.12895): does a student repeat its errors at every visit to the root?

At visit v to r, q_v is the student's and p_v the teacher's distribution over the children, at temperature 1 and
renormalised over the children; the error e_v is log q_v - log p_v, centred over the children. Pairs of visits are
compared: those of one walk, and, as nulls, those of walks on other graphs and of other walks on the same graph.

The errors decide which walks last. So a null and the pairs of one walk beside it are taken over one set of (graph,
walk, visit), and a curve by lag over one set for all lags. The visit of a set is the later one, w, of the pairs
(w - k, w): that a walk came to w depends on its errors before w, not on the error at w. With a set of first visits v
that have a v + J, the walk would also have had to go on after v + 1, ..., v + J - 1, and these errors be selected.

Shapes: G graphs, R walks of a graph (one goal, one temperature), W nodes of a walk, K visits to r, C children, J lags.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from loopjax.analysis.visits import NO_CHILD, Visits, in_prompt_order
from loopjax.runtime.config import require
from loopjax.star_graph.graph import Graph, StarGraph


class PairMeans(NamedTuple):
  """Means of a quantity over pairs (visit v, visit v + 1); NaN without pairs. Sums and counts are for pooling further.

  Attributes:
    pooled: over all pairs, scalar.
    visit_sums: [K - 1], by v, from 0.
    visit_counts: [K - 1], their numbers of pairs.
    distance_sums: [W], by the tokens from the first visit to the second; 0 is empty. In nulls, whose visits are of two
      walks, without the pairs in which the second visit does not stand later.
    distance_counts: [W], their numbers of pairs.
  """

  pooled: jax.Array
  visit_sums: jax.Array
  visit_counts: jax.Array
  distance_sums: jax.Array
  distance_counts: jax.Array


class Resemblance(NamedTuple):
  """How alike student and errors are at pairs of visits (w - k, w), w from a set that is given.

  rho(k) = sum e_{w-k}.e_w / sqrt(sum |e_{w-k}|^2 sum |e_w|^2), no time mean taken off; NaN without pairs, without
  errors, and where some p is 0.

  Attributes:
    persistence: of argmax q_{w-1} = argmax q_w.
    correlation: rho(1) over all pairs of the set, scalar.
    num_pairs: their number, scalar.
    correlation_by_lag: [J], rho(k) for k = 1..J, over one set of w for all lags: those with J visits before them. With
      all pairs of each lag, the larger lags would be of longer walks.
    num_pairs_by_lag: [J], their number, one for all lags.
  """

  persistence: PairMeans
  correlation: jax.Array
  num_pairs: jax.Array
  correlation_by_lag: jax.Array
  num_pairs_by_lag: jax.Array


class TemporalErrors(NamedTuple):
  """All measures of one student. A null and the pairs of one walk beside it are over one set of (graph, walk, visit).

  Attributes:
    own_walk: all pairs of visits of one walk.
    own_walk_matched: those of the set of `other_walks`.
    other_walks: null (ii), the later visit from another walk on the same graph to the same goal; NaN where there is
      none. It keeps what the prompt drives and loses the repetition of the model's own past. Not compared are walks
      that are still one and the same at the later visit: that pair is of one walk.
    own_walk_matched_graphs: those of the set of `other_graphs`.
    other_graphs: null (i), the later visit on another graph, children aligned by prompt order; NaN for G = 1 and
      where all graphs are one (`StarGraph.graph_fixed`). It keeps preferences that do not depend on the graph.
    copying: centred log q_{v+1} of the child entered at v, over the pairs of one walk with such a child.
    teacher_copying: centred log p_{v+1} on the same pairs: the effect of margins and of the goal.
  """

  own_walk: Resemblance
  own_walk_matched: Resemblance
  other_walks: Resemblance
  own_walk_matched_graphs: Resemblance
  other_graphs: Resemblance
  copying: PairMeans
  teacher_copying: PairMeans


def centred(log_probabilities: jax.Array) -> jax.Array:
  """[..., C] minus their mean over the children; NaN for all of them where one is not finite."""
  defined = jnp.all(jnp.isfinite(log_probabilities), axis=-1, keepdims=True)
  return jnp.where(defined, log_probabilities - jnp.mean(log_probabilities, axis=-1, keepdims=True), jnp.nan)


def log_errors(visits: Visits) -> jax.Array:
  """e_v, [G, R, K, C]; NaN where some p is 0."""
  return centred(visits.log_student - visits.log_teacher)


def _pair_means(task: StarGraph, values: jax.Array, mask: jax.Array, distance: jax.Array) -> PairMeans:
  """The means of `values` over the pairs in `mask`, `distance` tokens apart; all [G, R, K - 1]."""
  values, counts = jnp.where(mask, values, 0.0), mask.astype(jnp.float32)
  bins = jnp.where(mask & (distance > 0), distance, task.max_steps)  # the last is off the histogram: dropped
  histogram = jnp.zeros(task.max_steps).at[bins]
  return PairMeans(
    pooled=jnp.sum(values) / jnp.sum(counts),
    visit_sums=jnp.sum(values, axis=(0, 1)),
    visit_counts=jnp.sum(counts, axis=(0, 1)),
    distance_sums=histogram.add(values, mode="drop"),
    distance_counts=histogram.add(counts, mode="drop"),
  )


def _correlations(
  first: Visits, second: Visits, counts: jax.Array, lags: jax.Array, least: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """rho(k) over the w in `counts` from `least` (at least k) on, and their numbers, for each k in `lags`, both [J].

  Lags are traced: what compares visits is compiled once for all of them.
  """
  visit = jnp.arange(counts.shape[-1])[None, None]
  first_errors, second_errors = log_errors(first), log_errors(second)

  def of_lag(lag: jax.Array, least: jax.Array) -> tuple[jax.Array, jax.Array]:
    mask = counts & (visit >= least)
    a, b = (jnp.where(mask[..., None], errors, 0.0) for errors in (jnp.roll(first_errors, lag, axis=2), second_errors))
    return jnp.sum(a * b) / jnp.sqrt(jnp.sum(a**2)) / jnp.sqrt(jnp.sum(b**2)), jnp.sum(mask)

  return jax.lax.map(lambda each: of_lag(*each), (lags, least))


def compare(task: StarGraph, first: Visits, second: Visits, counts: jax.Array, *, num_lags: int) -> Resemblance:
  """Pairs visit w - k of each walk in `first` with visit w of the same place [G, R] in `second`.

  With the same visits twice these are the pairs of one walk, with those of other walks a null.

  Args:
    task: the task.
    first: whose earlier visits are taken.
    second: whose later visits are taken.
    counts: [G, R, K] bool, the set of w: visits that both have.
    num_lags: J, static.
  """
  require(num_lags >= 1, "num_lags", num_lags, "at least 1")
  lags = jnp.arange(1, num_lags + 1)
  lags, least = jnp.append(1, lags), jnp.append(1, jnp.full_like(lags, num_lags))  # all pairs, then the curve
  correlations, num_pairs = _correlations(first, second, counts, lags, least)
  agree = first.top[..., :-1] == second.top[..., 1:]
  distance = second.position[..., 1:] - first.position[..., :-1]
  return Resemblance(
    persistence=_pair_means(task, agree, counts[..., 1:], distance),
    correlation=correlations[0],
    num_pairs=num_pairs[0],
    correlation_by_lag=correlations[1:],
    num_pairs_by_lag=num_pairs[1:],
  )


def one_walk_so_far(first: Visits, second: Visits) -> jax.Array:
  """Whether two walks on one graph are the same up to each visit and with it, [G, R, K].

  They are if they came to it, and to all visits before, at the same position, and entered the same children before.
  """
  came_by = [jnp.pad(visits.child, ((0, 0), (0, 0), (1, 0)))[..., :-1] for visits in (first, second)]
  differ = (first.position != second.position) | (came_by[0] != came_by[1])
  return jnp.cumsum(differ, axis=-1) == 0


def _copying(task: StarGraph, visits: Visits, log_probabilities: jax.Array) -> PairMeans:
  """Centred `log_probabilities` [G, R, K, C] at v + 1 of the child entered at v."""
  child = visits.child[..., :-1]
  values = jnp.take_along_axis(centred(log_probabilities[:, :, 1:]), jnp.maximum(child, 0)[..., None], axis=-1)
  mask = visits.exists[..., 1:] & (child != NO_CHILD)
  return _pair_means(task, values[..., 0], mask, jnp.diff(visits.position))


def measure_visits(
  task: StarGraph, visits: Visits, other_walks: Visits, graphs: Graph, *, num_lags: int
) -> TemporalErrors:
  """All measures of the visits of one student's walks.

  Args:
    task: the task.
    visits: of the walks, fields [G, R, ...].
    other_walks: of as many other walks on the same graphs to the same goals, for null (ii).
    graphs: fields [G, ...].
    num_lags: J, static.
  """
  own, beside = (in_prompt_order(task, each, graphs) for each in (visits, other_walks))
  elsewhere = jax.tree.map(lambda field: jnp.roll(field, -1, axis=0), own)
  has_elsewhere = len(own.exists) > 1 and not task.graph_fixed
  of_walks = own.exists & beside.exists & ~one_walk_so_far(own, beside)
  of_graphs = own.exists & elsewhere.exists & has_elsewhere

  seconds = jax.tree.map(lambda *fields: jnp.stack(fields), own, own, beside, own, elsewhere)
  counts = jnp.stack([own.exists, of_walks, of_walks, of_graphs, of_graphs])
  compare_own = functools.partial(compare, task, own, num_lags=num_lags)
  compared = jax.vmap(compare_own)(seconds, counts)  # one program for the five
  resemblances = [jax.tree.map(lambda field, place=place: field[place], compared) for place in range(len(counts))]
  return TemporalErrors(*resemblances, *(_copying(task, own, log) for log in (own.log_student, own.log_teacher)))
