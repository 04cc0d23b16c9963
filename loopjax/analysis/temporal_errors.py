"""Temporally correlated errors (arXiv 2512.12895): does a student repeat its errors at every visit to the root?

At visit v to r, q_v is the student's and p_v the teacher's distribution over the children, at temperature 1 and
renormalised over the children; the error e_v is log q_v - log p_v, centred over the children. Pairs of visits are
compared: those of one walk, and, as nulls, those of walks on other graphs and of other walks on the same graph.

Shapes: G graphs, R rollouts of a graph (one goal, one temperature), W nodes of a walk, L positions of a stream,
V vocabulary, K visits to r, C children, J lags.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from loopjax import encoding, star_graph, teacher, transformer
from loopjax.config import require
from loopjax.star_graph import ROOT, Graph, StarGraph
from loopjax.student_functions import Problems
from loopjax.teacher import PADDING, TeacherProbabilities
from loopjax.transformer import Transformer

TIE = 1e-5  # log-probabilities that are closer are tied: rounding stays below, margins worth setting above
NO_CHILD = -1


class Visits(NamedTuple):
  """The visits to r of walks, in their order. Where a visit does not exist, the other fields are arbitrary.

  Attributes:
    log_student: [G, R, K, C], log q_v.
    log_teacher: [G, R, K, C], log p_v; -inf where the teacher gives a child nothing.
    exists: [G, R, K] bool; in each walk the visits that exist come first.
    child: [G, R, K], the chain whose child was entered next; `NO_CHILD` after a reset or an invalid move.
    position: [G, R, K], where the visit stands in its walk (s: 0).
  """

  log_student: jax.Array
  log_teacher: jax.Array
  exists: jax.Array
  child: jax.Array
  position: jax.Array


class PairMeans(NamedTuple):
  """Means of a quantity over pairs (visit v, visit v + 1); NaN without pairs. Sums and counts are for pooling further.

  Attributes:
    pooled: over all pairs, scalar.
    per_walk: over walks with a pair, of the mean over the walk's pairs, scalar.
    visit_sums: [K - 1], by v, from 0.
    visit_counts: [K - 1], their numbers of pairs.
    distance_sums: [W], by the tokens from the first visit to the second; 0 is empty. In nulls, whose visits are of two
      walks, without the pairs in which the second visit does not stand later.
    distance_counts: [W], their numbers of pairs.
  """

  pooled: jax.Array
  per_walk: jax.Array
  visit_sums: jax.Array
  visit_counts: jax.Array
  distance_sums: jax.Array
  distance_counts: jax.Array


class Resemblance(NamedTuple):
  """How alike student and errors are at pairs of visits.

  Attributes:
    persistence: of argmax q_{v+1} = argmax q_v.
    chance: what the exact teacher would reach on the same pairs if it broke its ties afresh at every visit.
    correlation: [J], rho(k) = sum e_v.e_{v+k} / sqrt(sum |e_v|^2 sum |e_{v+k}|^2) for k = 1..J, no time mean taken
      off; NaN without pairs, without errors, and where some p is 0.
    correlation_counts: [J], the numbers of pairs.
  """

  persistence: PairMeans
  chance: PairMeans
  correlation: jax.Array
  correlation_counts: jax.Array


class TemporalErrors(NamedTuple):
  """All measures of one student.

  Attributes:
    own_walk: pairs of visits of one walk.
    other_graphs: null (i), the second visit on another graph, children aligned by prompt order; NaN for G = 1 and
      where all graphs are one (`StarGraph.graph_fixed`). It keeps preferences that do not depend on the graph.
    other_walks: null (ii), the second visit from another walk on the same graph; NaN for R = 1. It keeps what the
      prompt drives and loses the repetition of the model's own past. At temperature 0 all walks to one goal are one
      walk, and this is no null: `compare` those visits with visits at another temperature.
    copying: centred log q_{v+1} of the child entered at v, over the pairs with such a child.
    teacher_copying: centred log p_{v+1} on the same pairs: the effect of margins and of the goal.
  """

  own_walk: Resemblance
  other_graphs: Resemblance
  other_walks: Resemblance
  copying: PairMeans
  teacher_copying: PairMeans


def check_errors_defined(task: StarGraph) -> None:
  """Raises `ValueError` where the teacher may give a child nothing: then log p, and with it the error, is undefined."""
  n, why = task.num_chains, "else the teacher gives some child 0 and its error is undefined"
  if n == 1:
    return
  require(task.explore_prob > 0, "task.explore_prob", task.explore_prob, f"above 0: {why}")
  # A visited child has (1 - m (n - k))/n, least for k = 1; with a goal margin m the others share 1 - 1/n - m.
  for name, most in (("visited_margin", 1 / (n - 1)), ("goal_margin", 1 - 1 / n)):
    margin = getattr(task, name)
    require(margin < most * (1 - 1e-6), f"task.{name}", margin, f"below {most:g}: {why}")  # closer: rounded to it


def max_visits(task: StarGraph) -> int:
  """K: a student may move from r to r, so all nodes but s, and the last one, after which nothing is asked."""
  return task.max_steps - 2


def _visits_of_walk(
  task: StarGraph, probabilities: TeacherProbabilities, graph: Graph, goal_chain: jax.Array, walk: jax.Array,
  logits: jax.Array,
) -> Visits:  # fmt: skip
  """The visits of one walk [W] from its logits [L, V]; fields [K, ...]."""
  on_graph = jnp.cumsum(walk >= task.num_nodes) == 0
  is_visit = ((walk == ROOT) & on_graph)[:-1]
  (position,) = jnp.nonzero(is_visit, size=max_visits(task), fill_value=PADDING)
  exists = position != PADDING
  position = jnp.maximum(position, 0)

  first = teacher.stream_length(task) - (task.max_steps - 1)  # where s stands in a stream
  child_logits = logits[first + position][:, graph.labels[star_graph.children(task)]]
  visited = teacher.visited_children(task, walk)[position]
  p = jax.vmap(lambda seen: teacher.child_probabilities(task, probabilities, goal_chain, seen))(visited)
  enters = teacher.entered(task, walk[position + 1])
  return Visits(
    log_student=jax.nn.log_softmax(child_logits),
    log_teacher=jnp.log(p / jnp.sum(p, axis=-1, keepdims=True)),
    exists=exists,
    child=jnp.where(jnp.any(enters, axis=-1), jnp.argmax(enters, axis=-1), NO_CHILD),
    position=position,
  )


def visits_of_logits(
  task: StarGraph, probabilities: TeacherProbabilities, problems: Problems, nodes: jax.Array, logits: jax.Array
) -> Visits:
  """The visits of walks, from a student's logits along them.

  Args:
    task: the task.
    probabilities: the teacher's, traced.
    problems: graphs and goals of the walks.
    nodes: [G, R, W], the walks, from s on; N for a label off the graph; `PADDING` after the end. Which label N stood
      for is not known, so what the student would say after it is not either: visits after it do not exist.
    logits: [G, R, L, V], read teacher-forced along the walks as `encoding.stream_of_walk` lays them out.
  """

  of_walk = functools.partial(_visits_of_walk, task, probabilities)
  of_graph = jax.vmap(of_walk, in_axes=(None, 0, 0, 0))
  return jax.vmap(of_graph)(problems.graphs, problems.goal_chain, nodes, logits)


def read_visits(
  task: StarGraph, model: Transformer, params: Any, probabilities: TeacherProbabilities, problems: Problems,
  nodes: jax.Array,
) -> Visits:  # fmt: skip
  """The visits of walks [G, R, W], the student's own or a teacher's, read teacher-forced by one student."""
  rows = encoding.encode_walks(task, *problems, nodes)
  return visits_of_logits(task, probabilities, problems, nodes, transformer.apply(model, task, params, rows).logits)


def in_prompt_order(task: StarGraph, visits: Visits, graphs: Graph) -> Visits:
  """The visits with the children numbered as the prompt of their graph lists the edges from r to them."""

  def of_graph(visits: Visits, edge_order: jax.Array) -> Visits:
    place_of_edge = jnp.argsort(edge_order)
    order = jnp.argsort(place_of_edge[star_graph.children(task) - 1])  # edge k leads to node k + 1
    child = jnp.where(visits.child == NO_CHILD, NO_CHILD, jnp.argsort(order)[visits.child])
    log_student, log_teacher = visits.log_student[..., order], visits.log_teacher[..., order]
    return visits._replace(log_student=log_student, log_teacher=log_teacher, child=child)

  return jax.vmap(of_graph)(visits, graphs.edge_order)


def centred(log_probabilities: jax.Array) -> jax.Array:
  """[..., C] minus their mean over the children; NaN for all of them where one is not finite."""
  defined = jnp.all(jnp.isfinite(log_probabilities), axis=-1, keepdims=True)
  return jnp.where(defined, log_probabilities - jnp.mean(log_probabilities, axis=-1, keepdims=True), jnp.nan)


def log_errors(visits: Visits) -> jax.Array:
  """e_v, [G, R, K, C]; NaN where some p is 0."""
  return centred(visits.log_student - visits.log_teacher)


def top_shares(log_probabilities: jax.Array) -> jax.Array:
  """[..., C], each child's probability of being the argmax when ties are broken at random."""
  is_top = log_probabilities > jnp.max(log_probabilities, axis=-1, keepdims=True) - TIE
  return is_top / jnp.sum(is_top, axis=-1, keepdims=True)


def _pairs(first: Visits, second: Visits) -> tuple[Visits, Visits, jax.Array]:
  """Visits v of `first`, visits v + 1 of `second`, and which of these pairs exist, [G, R, K - 1]."""
  earlier = jax.tree.map(lambda field: field[:, :, :-1], first)
  later = jax.tree.map(lambda field: field[:, :, 1:], second)
  return earlier, later, earlier.exists & later.exists


def _pair_means(task: StarGraph, values: jax.Array, mask: jax.Array, distance: jax.Array) -> PairMeans:
  """The means of `values` over the pairs in `mask`, `distance` tokens apart; all [G, R, K - 1]."""
  values, counts = jnp.where(mask, values, 0.0), mask.astype(jnp.float32)
  walk_counts = jnp.sum(counts, axis=-1)
  walk_means = jnp.sum(values, axis=-1) / jnp.maximum(walk_counts, 1)  # 0 without a pair
  bins = jnp.where(mask & (distance > 0), distance, task.max_steps)  # the last is off the histogram: dropped
  histogram = jnp.zeros(task.max_steps).at[bins]
  return PairMeans(
    pooled=jnp.sum(values) / jnp.sum(counts),
    per_walk=jnp.sum(walk_means) / jnp.sum(walk_counts > 0),
    visit_sums=jnp.sum(values, axis=(0, 1)),
    visit_counts=jnp.sum(counts, axis=(0, 1)),
    distance_sums=histogram.add(values, mode="drop"),
    distance_counts=histogram.add(counts, mode="drop"),
  )


def _correlations(first: Visits, second: Visits, num_lags: int) -> tuple[jax.Array, jax.Array]:
  """rho(k) and the numbers of pairs for k = 1..J, both [J]. The lag is traced: it is compiled once for all lags."""
  num_visits = first.exists.shape[-1]
  first_errors, second_errors = log_errors(first), log_errors(second)

  def of_lag(lag: jax.Array) -> tuple[jax.Array, jax.Array]:
    is_inside = (jnp.arange(num_visits) < num_visits - lag)[None, None]
    mask = first.exists & jnp.roll(second.exists, -lag, axis=2) & is_inside
    later = jnp.roll(second_errors, -lag, axis=2)
    a, b = (jnp.where(mask[..., None], errors, 0.0) for errors in (first_errors, later))
    return jnp.sum(a * b) / jnp.sqrt(jnp.sum(a**2)) / jnp.sqrt(jnp.sum(b**2)), jnp.sum(mask)

  return jax.lax.map(of_lag, jnp.arange(1, num_lags + 1))


def compare(task: StarGraph, first: Visits, second: Visits, *, num_lags: int) -> Resemblance:
  """Pairs visit v of each walk in `first` with visit v + k of the same place [G, R] in `second`.

  With the same visits twice these are the pairs of one walk, with those of other walks a null. k = 1..J, J = `num_lags`
  (static); persistence and chance are of k = 1.
  """
  require(num_lags >= 1, "num_lags", num_lags, "at least 1")
  earlier, later, mask = _pairs(first, second)
  agree = jnp.argmax(earlier.log_student, axis=-1) == jnp.argmax(later.log_student, axis=-1)
  chance = jnp.sum(top_shares(earlier.log_teacher) * top_shares(later.log_teacher), axis=-1)
  distance = later.position - earlier.position
  correlation, counts = _correlations(first, second, num_lags)
  return Resemblance(
    persistence=_pair_means(task, agree, mask, distance),
    chance=_pair_means(task, chance, mask, distance),
    correlation=correlation,
    correlation_counts=counts,
  )


def _of_next(visits: Visits, axis: int, count: int) -> Visits:
  """The visits of the next graph (axis 0) or the next walk on the same graph (axis 1), of which there are `count`
  different ones; none if there is no other."""
  rolled = jax.tree.map(lambda field: jnp.roll(field, -1, axis), visits)
  return rolled._replace(exists=rolled.exists & (count > 1))


def _copying(task: StarGraph, visits: Visits, log_probabilities: jax.Array) -> PairMeans:
  """Centred `log_probabilities` [G, R, K, C] at v + 1 of the child entered at v."""
  earlier, later, mask = _pairs(visits, visits)
  child = jnp.maximum(earlier.child, 0)[..., None]
  values = jnp.take_along_axis(centred(log_probabilities[:, :, 1:]), child, axis=-1)[..., 0]
  return _pair_means(task, values, mask & (earlier.child != NO_CHILD), later.position - earlier.position)


def measure_visits(task: StarGraph, visits: Visits, graphs: Graph, *, num_lags: int) -> TemporalErrors:
  """All measures of the visits of one student's walks on `graphs` (fields [G, ...]), at J = `num_lags` lags, static."""
  aligned = in_prompt_order(task, visits, graphs)
  num_graphs, num_walks, _ = visits.exists.shape
  num_graphs = 1 if task.graph_fixed else num_graphs
  return TemporalErrors(
    own_walk=compare(task, visits, visits, num_lags=num_lags),
    other_graphs=compare(task, aligned, _of_next(aligned, 0, num_graphs), num_lags=num_lags),
    other_walks=compare(task, visits, _of_next(visits, 1, num_walks), num_lags=num_lags),
    copying=_copying(task, visits, visits.log_student),
    teacher_copying=_copying(task, visits, visits.log_teacher),
  )
