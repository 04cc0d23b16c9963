"""Walks of students, step by step: what a student says along its own walk, the teacher beside, the loop found.

A student walks (`evaluation.roll_out`), and its walks are read again, teacher-forced in one pass: at every node its
probabilities of the next one, at temperature 1 whatever the walk was drawn at.

Shapes: S students, G graphs, R columns, W nodes of a walk, N nodes of the graph, V vocabulary.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from loopjax.analysis import confidence
from loopjax.analysis.confidence import Loop
from loopjax.generation.settings import Generation
from loopjax.runtime import seeds
from loopjax.star_graph import encoding, evaluation, student_functions, teacher
from loopjax.star_graph.graph import Graph, StarGraph
from loopjax.star_graph.student_functions import Problems, Student
from loopjax.star_graph.students import Students
from loopjax.star_graph.teacher import PADDING, TeacherProbabilities


class WalkTraces(NamedTuple):
  """Walks and what is said along them. Leaves have leading axes [G, R], over students [S, G, R].

  Index i of the probabilities is asked at node i of the walk, about node i + 1. It is NaN where the walk has no next
  node, and from a label off the graph on: which label it was is not known, so the walk cannot be read further.

  Attributes:
    goal_chain: the goal's chain, scalar.
    nodes: [W], from s on; N for a label off the graph; `PADDING` after the end.
    student: [W - 1, N], the student's next-node probabilities; with `off_graph` they sum to 1.
    off_graph: [W - 1], what the student gives to labels that are not on the graph.
    teacher: [W - 1, N], the clean teacher's, given the children visited so far; its rows sum to 1.
    is_valid: [W - 1] bool, the moves as `teacher.valid_moves` sees them.
    loop: the walk's first loop, as `analysis.confidence` defines it.
  """

  goal_chain: jax.Array
  nodes: jax.Array
  student: jax.Array
  off_graph: jax.Array
  teacher: jax.Array
  is_valid: jax.Array
  loop: Loop


def _trace(
  task: StarGraph, probabilities: TeacherProbabilities, graph: Graph, goal_chain: jax.Array, walk: jax.Array,
  logits: jax.Array,
) -> WalkTraces:  # fmt: skip
  """The trace of one walk [W] from the student's logits [W - 1, V] along it."""
  is_asked = (walk[1:] != PADDING) & (jnp.cumsum(walk >= task.num_nodes)[:-1] == 0)
  student = encoding.node_probabilities(graph, jax.nn.softmax(logits))
  visited = teacher.visited_children(task, walk)
  right = jax.vmap(functools.partial(teacher.next_node_probabilities, task, probabilities, goal_chain))
  return WalkTraces(
    goal_chain=goal_chain,
    nodes=walk,
    student=jnp.where(is_asked[:, None], student, jnp.nan),
    off_graph=jnp.where(is_asked, jnp.maximum(1 - jnp.sum(student, axis=-1), 0), jnp.nan),
    teacher=jnp.where(is_asked[:, None], right(walk[:-1], visited[:-1]), jnp.nan),
    is_valid=teacher.valid_moves(task, probabilities, walk),
    loop=confidence.find_loop(task, walk),
  )


def read_walks(
  task: StarGraph, student: Student, params: Any, probabilities: TeacherProbabilities, problems: Problems,
  nodes: jax.Array,
) -> WalkTraces:  # fmt: skip
  """The traces of walks [G, R, W] of one student, in one pass.

  Args:
    task: the task.
    student: its functions.
    params: its parameters.
    probabilities: the teacher's, traced.
    problems: graphs and goals of the walks.
    nodes: the walks, as `rollouts.Rollout` has them.
  """
  logits = student.read(params, probabilities, problems, nodes)
  trace = functools.partial(_trace, task, probabilities)
  return jax.vmap(jax.vmap(trace, in_axes=(None, 0, 0, 0)))(problems.graphs, problems.goal_chain, nodes, logits)


def trace_students(students: Students, *, generation: Generation, num_graphs: int, seed: int) -> WalkTraces:
  """Traces of fresh rollouts of students on the mesh, as NumPy arrays [S, G, R, ...].

  Args:
    students: S of them.
    generation: R columns.
    num_graphs: G per student.
    seed: of graphs and draws.
  """
  rollouts = evaluation.roll_out(students, generation=generation, num_graphs=num_graphs, seed=seed)
  read = _reading(teacher.sizes_of(students.tasks[0]), students.model, students.mesh)
  traces = read((students.state.params, students.state.task.probabilities, rollouts.problems, rollouts.nodes))
  return jax.tree.map(np.asarray, seeds.to_host(traces, len(students.is_finite)))


@functools.lru_cache(maxsize=seeds.PROGRAMS)
def _reading(task: StarGraph, model: Any, mesh: Mesh) -> jax.stages.Wrapped:
  functions = student_functions.functions_of(model, task)
  return seeds.map_seeds(lambda row: read_walks(task, functions, *row), mesh, brief=True)
