"""Rollouts of trained students and their walk measures, as tidy frames: the host side of `decoding` and `analysis`.

Shapes: S seeds, G graphs, R temperatures, W nodes of a walk.
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

from loopjax import decoding, seeds, teacher, training
from loopjax.analysis import walks
from loopjax.decoding import LogitsProcessor, Problems
from loopjax.star_graph import StarGraph
from loopjax.teacher import TeacherProbabilities
from loopjax.training import TrainState
from loopjax.transformer import Transformer

STEPS_PER_CHUNK = 16
_BRIEF_NODES = 2**10  # of a student: few enough for tens of students to walk while a better program would compile


class Rollouts(NamedTuple):
  """Finished rollouts of students on the mesh: nodes and confidence [S, G, R, W], problems with a leading S."""

  nodes: jax.Array
  confidence: jax.Array
  problems: Problems


def roll_out(
  task: StarGraph,
  model: Transformer,
  state: TrainState,
  mesh: Mesh,
  *,
  temperatures: Sequence[float],
  num_graphs: int,
  seed: int,
  processors: Sequence[LogitsProcessor] = (),
) -> Rollouts:
  """Every student walks each of its graphs once per temperature, until all have ended or were cut.

  Args:
    task: the task.
    model: the students' architecture.
    state: theirs [S, ...] on the mesh; parameters and keys are used.
    mesh: from `seeds.device_mesh`.
    temperatures: R of them; 0 takes the argmax.
    num_graphs: G per student; the same for its temperatures, others for every seed (`training.evaluation_key`).
    seed: of graphs and draws.
    processors: logits processors.
  """
  begin, advance = _rollout_programs(
    teacher.sizes_of(task), model, mesh, tuple(temperatures), num_graphs, seed, tuple(processors)
  )
  problems, rollout = begin(state)
  for _ in range(0, task.max_steps - 1, STEPS_PER_CHUNK):
    rollout = advance((problems, rollout, state.params))
    if np.all(seeds.to_host(rollout.ended, state.key.shape[0])):
      break
  return Rollouts(rollout.nodes, rollout.confidence, problems)


@functools.lru_cache(maxsize=seeds.PROGRAMS)
def _rollout_programs(
  task: StarGraph, model: Transformer, mesh: Mesh, temperatures: tuple[float, ...], num_graphs: int, seed: int,
  processors: tuple[LogitsProcessor, ...],
) -> tuple[jax.stages.Wrapped, jax.stages.Wrapped]:  # fmt: skip
  """Beginning the rollouts of students, and taking them `STEPS_PER_CHUNK` further."""

  def begin(one: TrainState) -> tuple[Problems, decoding.Rollout]:
    problem_key, walk_key = jax.random.split(training.evaluation_key(one, seed))
    problems = decoding.sample_problems(task, problem_key, num_graphs, len(temperatures))
    return problems, decoding.begin(task, model, one.params, problems, walk_key, processors)

  def advance(row: tuple[Problems, decoding.Rollout, Any]) -> decoding.Rollout:
    problems, rollout, params = row
    step = functools.partial(decoding.advance, num_steps=STEPS_PER_CHUNK, processors=processors)
    return step(task, model, params, problems, jnp.asarray(temperatures, jnp.float32)[None], rollout)

  is_brief = num_graphs * len(temperatures) * task.max_steps <= _BRIEF_NODES
  return seeds.map_seeds(begin, mesh, brief=True), seeds.map_seeds(advance, mesh, brief=is_brief)


def mean_measures(
  task: StarGraph, probabilities: TeacherProbabilities, rollouts: Rollouts, mesh: Mesh, num_seeds: int
) -> walks.WalkMeasures:
  """Mean walk measures over graphs, on the host, fields [S, R]; `probabilities` has a leading S."""
  rows = (probabilities, rollouts.nodes, rollouts.problems.goal_chain)
  return seeds.to_host(_measuring(teacher.sizes_of(task), mesh)(rows), num_seeds)


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
  task: StarGraph,
  model: Transformer,
  state: TrainState,
  is_finite: np.ndarray,
  mesh: Mesh,
  *,
  temperatures: Sequence[float],
  num_graphs: int,
  seed: int,
) -> pd.DataFrame:
  """Mean walk measures of each student at each temperature; `state.extra` holds the teacher's probabilities."""
  rollouts = roll_out(task, model, state, mesh, temperatures=temperatures, num_graphs=num_graphs, seed=seed)
  measures = mean_measures(task, state.extra, rollouts, mesh, len(is_finite))
  return measures_frame(measures, temperatures, is_finite)
