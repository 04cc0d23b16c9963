"""Rollouts of students and their walk measures, as tidy frames: the host side of `rollouts` and `walks`.

Shapes: S seeds, G graphs, R columns, W nodes of a walk, C children of the root.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.sharding import Mesh

from loopjax.generation.generate import Continuations
from loopjax.generation.processors import Processor
from loopjax.generation.settings import Columns, Generation
from loopjax.runtime import seeds
from loopjax.star_graph import rollouts, student_functions, teacher, tidy, walks
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.rollouts import Asked
from loopjax.star_graph.student_functions import Problems
from loopjax.star_graph.students import Students
from loopjax.star_graph.teacher import TeacherProbabilities
from loopjax.training.step import TrainState, evaluation_key

STEPS_PER_CHUNK = 16
_BRIEF_NODES = 2**10  # of a student: few enough for tens of students to walk while a better program would compile


class Rollouts(NamedTuple):
  """Finished rollouts of students on the mesh.

  Attributes:
    nodes: [S, G, R, W].
    confidence: [S, G, R, W].
    child_logits: [S, G, R, W - 1, C].
    divergence: [S, G, R, W - 1].
    problems: with a leading S.
  """

  nodes: jax.Array
  confidence: jax.Array
  child_logits: jax.Array
  divergence: jax.Array
  problems: Problems


def roll_out(students: Students, *, generation: Generation, num_graphs: int, seed: int) -> Rollouts:
  """Every student walks each of its graphs once per column, until all have ended or were cut.

  Args:
    students: S of them.
    generation: R columns.
    num_graphs: G per student; the same for its columns, others for every seed (`evaluation_key`).
    seed: of graphs and draws.
  """
  task, state, columns = students.tasks[0], students.evaluated, generation.traced()
  programs = _rollout_programs(
    teacher.sizes_of(task), students.model, students.mesh, generation.processors, len(generation.columns), num_graphs
  )
  problems, continuations = programs.begin(state, columns, jnp.int32(seed))
  given = problems, state.params, state.task.probabilities
  for _ in range(0, task.max_steps - 1, STEPS_PER_CHUNK):
    continuations, over = programs.advance((given, continuations), columns)
    if np.all(seeds.to_host(over, state.key.shape[0])):
      break
  walked: rollouts.Rollout = programs.finish((given, continuations))
  return Rollouts(*walked, problems=problems)


class _Programs(NamedTuple):
  """Beginning the rollouts of students, taking them `STEPS_PER_CHUNK` further, and reading the walks off them."""

  begin: jax.stages.Wrapped
  advance: jax.stages.Wrapped
  finish: jax.stages.Wrapped


_Given = tuple[Problems, Any, TeacherProbabilities]  # and parameters


@functools.lru_cache(maxsize=seeds.PROGRAMS)
def _rollout_programs(
  task: StarGraph, model: Any, mesh: Mesh, processors: tuple[Processor, ...], num_columns: int, num_graphs: int
) -> _Programs:
  student = student_functions.functions_of(model, task)

  def asked(given: _Given, columns: Columns) -> Asked:
    problems, params, probabilities = given
    return Asked(task, student, params, probabilities, problems, processors, columns)

  def begin(one: TrainState, columns: Columns, seed: jax.Array) -> tuple[Problems, Continuations]:
    problem_key, walk_key = jax.random.split(evaluation_key(one, seed))
    problems = rollouts.sample_problems(task, problem_key, num_graphs, num_columns)
    return problems, rollouts.begin(asked((problems, one.params, one.task.probabilities), columns), walk_key)

  def advance(row: tuple[_Given, Continuations], columns: Columns) -> tuple[Continuations, jax.Array]:
    given, continuations = row
    problems, _, probabilities = given
    continuations = rollouts.advance(asked(given, columns), continuations, num_steps=STEPS_PER_CHUNK)
    return continuations, rollouts.are_over(task, probabilities, problems, continuations)

  def finish(row: tuple[_Given, Continuations]) -> rollouts.Rollout:
    (problems, _, probabilities), continuations = row
    return rollouts.finish(task, probabilities, problems, continuations)

  is_brief = num_graphs * num_columns * task.max_steps <= _BRIEF_NODES
  return _Programs(
    seeds.map_seeds(begin, mesh, brief=True), seeds.map_seeds(advance, mesh, brief=is_brief),
    seeds.map_seeds(finish, mesh, brief=True),
  )  # fmt: skip


def mean_measures(students: Students, walked: Rollouts) -> walks.WalkMeasures:
  """Mean walk measures over graphs, on the host, fields [S, R]."""
  rows = (students.state.task.probabilities, walked.nodes, walked.problems.goal_chain)
  return seeds.to_host(_measuring(teacher.sizes_of(students.tasks[0]), students.mesh)(rows), len(students.is_finite))


@functools.lru_cache(maxsize=seeds.PROGRAMS)
def _measuring(task: StarGraph, mesh: Mesh) -> jax.stages.Wrapped:
  def one(row: tuple[TeacherProbabilities, jax.Array, jax.Array]) -> walks.WalkMeasures:
    probabilities, nodes, goals = row
    each = jax.vmap(jax.vmap(lambda walk, goal: walks.measure_walk(task, probabilities, walk, goal)))(nodes, goals)
    return jax.tree.map(lambda measure: jnp.nanmean(measure, axis=0), each)

  return seeds.map_seeds(one, mesh, brief=True)


def measures_frame(measures: walks.WalkMeasures, generation: Generation, is_finite: np.ndarray) -> pd.DataFrame:
  """One row per student and column: row, the processors' strengths by their names, and the fields of `WalkMeasures`."""
  axis = generation.labels() or {"column": list(range(generation.num_columns))}
  return tidy.frame(is_finite, measures._asdict(), axis)


def evaluate_students(students: Students, *, generation: Generation, num_graphs: int, seed: int) -> pd.DataFrame:
  """Mean walk measures of each student in each column: the columns of `measures_frame`."""
  walked = roll_out(students, generation=generation, num_graphs=num_graphs, seed=seed)
  return measures_frame(mean_measures(students, walked), generation, students.is_finite)
