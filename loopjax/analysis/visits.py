"""Visits to the root along walks: what student and teacher say of the children at each.

Shapes: G graphs, R walks of a graph (one goal, one temperature), W nodes of a walk, K visits to r, C children.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from loopjax.runtime.config import require
from loopjax.star_graph import teacher
from loopjax.star_graph.graph import ROOT, Graph, StarGraph
from loopjax.star_graph.student_functions import Problems
from loopjax.star_graph.teacher import PADDING, TeacherProbabilities

NO_CHILD = -1


class Visits(NamedTuple):
  """The visits to r of walks, in their order. Where a visit does not exist, the other fields are arbitrary.

  Attributes:
    log_student: [G, R, K, C], log q_v.
    log_teacher: [G, R, K, C], log p_v; -inf where the teacher gives a child nothing.
    exists: [G, R, K] bool; in each walk the visits that exist come first.
    top: [G, R, K], the chain of argmax q_v, the child that greedy decoding takes if it takes any. It is read off the
      logits, since log q_v may round two of them to one number; of equal logits the smaller label's counts.
    child: [G, R, K], the chain whose child was entered next; `NO_CHILD` after a reset or an invalid move.
    position: [G, R, K], where the visit stands in its walk (s: 0).
  """

  log_student: jax.Array
  log_teacher: jax.Array
  exists: jax.Array
  top: jax.Array
  child: jax.Array
  position: jax.Array


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
  """K: a walk comes to r at every other node at most, and at its last node nothing is asked."""
  return (task.max_steps - 1) // 2


def _visits_of_walk(
  task: StarGraph, probabilities: TeacherProbabilities, graph: Graph, goal_chain: jax.Array, walk: jax.Array,
  child_logits: jax.Array,
) -> Visits:  # fmt: skip
  """The visits of one walk [W] from its logits [W - 1, C]; fields [K, ...]."""
  is_visit = (walk[:-1] == ROOT) & (walk[1:] != PADDING)
  (position,) = jnp.nonzero(is_visit, size=max_visits(task), fill_value=PADDING)
  exists = position != PADDING
  position = jnp.maximum(position, 0)

  logits = child_logits[position].astype(jnp.float32)
  by_label = jnp.argsort(graph.labels[task.children()])
  visited = teacher.visited_children(task, walk)[position]
  p = jax.vmap(lambda seen: teacher.child_probabilities(task, probabilities, goal_chain, seen))(visited)
  enters = teacher.entered(task, walk[position + 1])
  return Visits(
    log_student=jax.nn.log_softmax(logits),
    log_teacher=jnp.log(p / jnp.sum(p, axis=-1, keepdims=True)),
    exists=exists,
    top=by_label[jnp.argmax(logits[:, by_label], axis=-1)],
    child=jnp.where(jnp.any(enters, axis=-1), jnp.argmax(enters, axis=-1), NO_CHILD),
    position=position,
  )


def visits_of_logits(
  task: StarGraph, probabilities: TeacherProbabilities, problems: Problems, nodes: jax.Array, child_logits: jax.Array
) -> Visits:
  """The visits of walks, from a student's logits along them.

  Args:
    task: the task.
    probabilities: the teacher's, traced.
    problems: graphs and goals of the walks.
    nodes: [G, R, W], the walks, from s on; `PADDING` after the end. A walk ends at its first invalid move, so that one
      node at most, the last, is N (a label off the graph) or may not follow. At the last node nothing is asked.
    child_logits: [G, R, W - 1, C], the student's logits of the children's labels, asked at each node about the next;
      up to a constant a node. Those of other nodes than r are not read.
  """
  of_walk = functools.partial(_visits_of_walk, task, probabilities)
  of_graph = jax.vmap(of_walk, in_axes=(None, 0, 0, 0))
  return jax.vmap(of_graph)(problems.graphs, problems.goal_chain, nodes, child_logits)


def in_prompt_order(task: StarGraph, visits: Visits, graphs: Graph) -> Visits:
  """The visits with the children numbered as the prompt of their graph lists the edges from r to them."""

  def of_graph(visits: Visits, edge_order: jax.Array) -> Visits:
    place_of_edge = jnp.argsort(edge_order)
    order = jnp.argsort(place_of_edge[task.children() - 1])  # edge k leads to node k + 1
    place = jnp.argsort(order)
    return visits._replace(
      log_student=visits.log_student[..., order],
      log_teacher=visits.log_teacher[..., order],
      top=place[visits.top],
      child=jnp.where(visits.child == NO_CHILD, NO_CHILD, place[visits.child]),
    )

  return jax.vmap(of_graph)(visits, graphs.edge_order)
