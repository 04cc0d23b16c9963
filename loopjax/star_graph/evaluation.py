"""Rollouts of students and their walk measures, as tidy frames: the host side of `decoding` and `analysis`.

Shapes: S seeds, G graphs, R temperatures, W nodes of a walk, C children of the root.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.sharding import Mesh

from loopjax.runtime import seeds
from loopjax.star_graph import decoding, student_functions, teacher, walks
from loopjax.star_graph.decoding import LogitsProcessor
from loopjax.star_graph.graph import StarGraph
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
    problems: with a leading S.
  """

  nodes: jax.Array
  confidence: jax.Array
  child_logits: jax.Array
  problems: Problems


def roll_out(
  students: Students,
  mesh: Mesh,
  *,
  temperatures: Sequence[float],
  num_graphs: int,
  seed: int,
  processors: Sequence[LogitsProcessor] = (),
) -> Rollouts:
  """Every student walks each of its graphs once per temperature, until all have ended or were cut.

  Args:
    students: on the mesh.
    mesh: from `devices.device_mesh`.
    temperatures: R of them; 0 takes the argmax.
    num_graphs: G per student; the same for its temperatures, others for every seed (`evaluation_key`).
    seed: of graphs and draws.
    processors: logits processors.
  """
  task, state = students.tasks[0], students.state
  begin, advance = _rollout_programs(
    teacher.sizes_of(task), students.model, mesh, tuple(temperatures), num_graphs, seed, tuple(processors)
  )
  problems, rollout = begin(state)
  for _ in range(0, task.max_steps - 1, STEPS_PER_CHUNK):
    rollout = advance((problems, rollout, state.params, state.task.probabilities))
    if np.all(seeds.to_host(rollout.ended, state.key.shape[0])):
      break
  return Rollouts(rollout.nodes, rollout.confidence, rollout.child_logits, problems)


@functools.lru_cache(maxsize=seeds.PROGRAMS)
def _rollout_programs(
  task: StarGraph, model: Any, mesh: Mesh, temperatures: tuple[float, ...], num_graphs: int, seed: int,
  processors: tuple[LogitsProcessor, ...],
) -> tuple[jax.stages.Wrapped, jax.stages.Wrapped]:  # fmt: skip
  """Beginning the rollouts of students, and taking them `STEPS_PER_CHUNK` further."""
  functions = student_functions.functions_of(model, task)

  def begin(one: TrainState) -> tuple[Problems, decoding.Rollout]:
    problem_key, walk_key = jax.random.split(evaluation_key(one, seed))
    problems = decoding.sample_problems(task, problem_key, num_graphs, len(temperatures))
    keys = decoding.column_keys(walk_key, temperatures)
    probabilities = one.task.probabilities
    return problems, decoding.begin(task, functions, one.params, probabilities, problems, keys, processors)

  def advance(row: tuple[Problems, decoding.Rollout, Any, TeacherProbabilities]) -> decoding.Rollout:
    problems, rollout, params, probabilities = row
    step = functools.partial(decoding.advance, num_steps=STEPS_PER_CHUNK, processors=processors)
    return step(task, functions, params, probabilities, problems, jnp.asarray(temperatures, jnp.float32), rollout)

  is_brief = num_graphs * len(temperatures) * task.max_steps <= _BRIEF_NODES
  return seeds.map_seeds(begin, mesh, brief=True), seeds.map_seeds(advance, mesh, brief=is_brief)


def mean_measures(students: Students, rollouts: Rollouts, mesh: Mesh) -> walks.WalkMeasures:
  """Mean walk measures over graphs, on the host, fields [S, R]."""
  rows = (students.state.task.probabilities, rollouts.nodes, rollouts.problems.goal_chain)
  return seeds.to_host(_measuring(teacher.sizes_of(students.tasks[0]), mesh)(rows), len(students.is_finite))


@functools.lru_cache(maxsize=seeds.PROGRAMS)
def _measuring(task: StarGraph, mesh: Mesh) -> jax.stages.Wrapped:
  def one(row: tuple[TeacherProbabilities, jax.Array, jax.Array]) -> walks.WalkMeasures:
    probabilities, nodes, goals = row
    each = jax.vmap(jax.vmap(lambda walk, goal: walks.measure_walk(task, probabilities, walk, goal)))(nodes, goals)
    return jax.tree.map(lambda measure: jnp.nanmean(measure, axis=0), each)

  return seeds.map_seeds(one, mesh, brief=True)


def measures_frame(measures: walks.WalkMeasures, temperatures: Sequence[float], is_finite: np.ndarray) -> pd.DataFrame:
  """One row per student and temperature; the measures of a student that is not finite are NaN."""
  num_seeds, num_temperatures = measures.reached.shape
  frame = pd.DataFrame({
    "row": np.repeat(np.arange(num_seeds), num_temperatures), "temperature": np.tile(temperatures, num_seeds),
  })  # fmt: skip
  for name, values in measures._asdict().items():
    frame[name] = np.where(is_finite[:, None], values, np.nan).ravel()
  return frame


def evaluate_students(
  students: Students, mesh: Mesh, *, temperatures: Sequence[float], num_graphs: int, seed: int,
  processors: Sequence[LogitsProcessor] = (),
) -> pd.DataFrame:  # fmt: skip
  """Mean walk measures of each student at each temperature: columns row, temperature, and those of `WalkMeasures`."""
  rollouts = roll_out(
    students, mesh, temperatures=temperatures, num_graphs=num_graphs, seed=seed, processors=processors
  )
  return measures_frame(mean_measures(students, rollouts, mesh), temperatures, students.is_finite)
