"""How far students repeat their own errors, as tidy frames: the host side of `analysis.temporal_errors`.

A student walks every graph R times at each temperature, and says at every node what it thinks of the children. Walks of
a teacher on the same graphs to the same goals are then read by it teacher-forced: one group of walks per temperature,
and the teacher's. The teacher's are also the other walks of null (ii), for every group alike.

Shapes: S seeds, T temperatures, G graphs, R walks of a graph in a group, W nodes of a walk, C children, K visits,
J lags.
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

from loopjax.analysis import temporal_errors
from loopjax.analysis.temporal_errors import PairMeans, Resemblance, TemporalErrors
from loopjax.analysis.visits import Visits, check_errors_defined, visits_of_logits
from loopjax.generation.settings import at_temperatures
from loopjax.runtime import devices, seeds
from loopjax.star_graph import evaluation, student_functions, teacher, theory, tidy, walks
from loopjax.star_graph.graph import Graph, StarGraph
from loopjax.star_graph.streams import teacher_walks
from loopjax.star_graph.student_functions import Problems
from loopjax.star_graph.students import Students
from loopjax.star_graph.teacher import TeacherProbabilities
from loopjax.star_graph.walks import WalkMeasures
from loopjax.training.step import TrainState, evaluation_key

ROLLOUTS, TEACHER = "rollouts", "teacher"  # whose walks; the teacher's have no temperature (NaN)
# Which visits are compared: fields of `TemporalErrors`.
PAIRS = ("own_walk", "own_walk_matched", "other_walks", "own_walk_matched_graphs", "other_graphs")
_OF_TEACHER = 2**31 - 1  # folded into the key that rollouts split


class Repetition(NamedTuple):
  """Measures of one student; leaves have a leading axis T + 1: the temperatures, then the teacher's walks."""

  walks: WalkMeasures
  errors: TemporalErrors


class Chance(NamedTuple):
  """Top-child persistence of the exact teacher, its ties broken afresh at every visit, on its own walks.

  Attributes:
    pooled: [S, T + 1], of the teacher's walks at each temperature, then (for the teacher's) at temperature 1.
    by_visit: [S, T + 1, K - 1], by the first visit of the pair.
  """

  pooled: np.ndarray
  by_visit: np.ndarray


class RepetitionFrames(NamedTuple):
  """All have columns row (of the student), walks (`rollouts` or `teacher`) and temperature (NaN for the teacher's).

  Attributes:
    summary: a row per group of walks: walk measures; persistence, correlation at lag 1 and num_pairs over all pairs of
      one walk; the same of the other `PAIRS`, with their names before; chance and persistence_ratio, the persistence
      over it (NaN over a chance of 0); copying and the teacher's.
    by_lag: a row per group, pairs and lag: correlation over one set of visits for all lags, those with J before them,
      and num_pairs. At lag 1 it is not that of the summary, which needs one visit before.
    by_visit: a row per group, pairs, by and index: persistence, chance, num_pairs. By `visit`: the first of the pair,
      from 1; only walks that last so long have it. By `distance`: the tokens from the first to the second. Without the
      rows that have no pair. Chance is of `own_walk` by visit, else NaN.
  """

  summary: pd.DataFrame
  by_lag: pd.DataFrame
  by_visit: pd.DataFrame


def measure_groups(task: StarGraph, visits: Visits, graphs: Graph, *, num_lags: int) -> TemporalErrors:
  """The measures of groups of visits; leaves get the leading axis of the groups.

  Args:
    task: the task.
    visits: fields [T + 1, G, R, ...], the last group of a teacher's walks. Null (ii) compares the others with it, and
      each of its walks with the next on the same graph.
    graphs: fields [G, ...].
    num_lags: J, static.
  """

  def other_walks(field: jax.Array) -> jax.Array:
    of_teacher = jnp.broadcast_to(field[-1], field[:-1].shape)
    return jnp.concatenate([of_teacher, jnp.roll(field[-1:], -1, axis=2)])

  def one(group: tuple[Visits, Visits]) -> TemporalErrors:
    return temporal_errors.measure_visits(task, *group, graphs, num_lags=num_lags)

  return jax.lax.map(one, (visits, jax.tree.map(other_walks, visits)))


def measure_student(
  task: StarGraph, probabilities: TeacherProbabilities, problems: Problems, nodes: jax.Array, child_logits: jax.Array,
  teacher_nodes: jax.Array, teacher_child_logits: jax.Array, *, num_lags: int,
) -> Repetition:  # fmt: skip
  """All measures of one student.

  Args:
    task: the task.
    probabilities: the teacher's, traced.
    problems: the graphs and, [G, T R], the goals; one goal a graph.
    nodes: [G, T R, W], the student's walks, R for each temperature in their order.
    child_logits: [G, T R, W - 1, C], its logits of the children along them (`visits.visits_of_logits`).
    teacher_nodes: [G, R, W], a teacher's walks to the same goals.
    teacher_child_logits: [G, R, W - 1, C], the student's logits along them.
    num_lags: J, static.
  """
  num_graphs, num_walks, _ = teacher_nodes.shape
  problems = problems._replace(goal_chain=problems.goal_chain[:, :num_walks])

  def in_groups(own: jax.Array, of_teacher: jax.Array) -> jax.Array:
    own = own.reshape(num_graphs, -1, num_walks, *own.shape[2:])
    return jnp.concatenate([jnp.moveaxis(own, 1, 0), of_teacher[None]])

  walked, logits = in_groups(nodes, teacher_nodes), in_groups(child_logits, teacher_child_logits)
  measure = functools.partial(walks.measure_walk, task, probabilities)
  of_walks = jax.vmap(jax.vmap(jax.vmap(measure)), in_axes=(0, None))(walked, problems.goal_chain)
  visits = jax.vmap(functools.partial(visits_of_logits, task, probabilities, problems))(walked, logits)
  return Repetition(
    walks=jax.tree.map(lambda each: jnp.nanmean(each, axis=(1, 2)), of_walks),
    errors=measure_groups(task, visits, problems.graphs, num_lags=num_lags),
  )


def evaluate_repetition(
  students: Students, *, temperatures: Sequence[float], num_graphs: int, walks_per_graph: int,
  num_lags: int, seed: int,
) -> RepetitionFrames:  # fmt: skip
  """The measures of every student; those of a student that is not finite are NaN.

  Args:
    students: S of them; a teacher that may give a child nothing is refused (`visits.check_errors_defined`).
    temperatures: T of them.
    num_graphs: G per student.
    walks_per_graph: R, of each graph at each temperature.
    num_lags: J.
    seed: of graphs and draws.
  """
  for task in students.tasks:
    check_errors_defined(task)
  generation = at_temperatures(np.repeat(temperatures, walks_per_graph).tolist())
  rollouts = evaluation.roll_out(students, generation=generation, num_graphs=num_graphs, seed=seed)
  task = teacher.sizes_of(students.tasks[0])
  is_brief = devices.is_brief(num_graphs * walks_per_graph * task.max_steps)  # positions read: the teacher's walks
  measure = _measuring(task, students.model, students.mesh, walks_per_graph, num_lags, seed, is_brief)
  measured = measure((students.evaluated, rollouts.problems, rollouts.nodes, rollouts.child_logits))
  on_host = seeds.to_host(measured, len(students.is_finite))
  return to_frames(on_host, exact_chance(students, temperatures), temperatures, students.is_finite)


def exact_chance(students: Students, temperatures: Sequence[float]) -> Chance:
  """The persistence of every student's teacher; its task alone decides it."""
  each = [
    [theory.teacher_persistence_by_visit(task, temperature=temperature)[0] for temperature in (*temperatures, 1.0)]
    for task in students.tasks
  ]
  pooled = [
    [theory.teacher_persistence(task, temperature=temperature) for temperature in (*temperatures, 1.0)]
    for task in students.tasks
  ]
  count = len(students.seed_numbers)
  return Chance(np.repeat(pooled, count, axis=0), np.repeat(each, count, axis=0))


@functools.lru_cache(maxsize=seeds.PROGRAMS)
def _measuring(
  task: StarGraph, model: Any, mesh: Mesh, walks_per_graph: int, num_lags: int, seed: int, is_brief: bool
) -> jax.stages.Wrapped:
  functions = student_functions.functions_of(model, task)

  def one(row: tuple[TrainState, Problems, jax.Array, jax.Array]) -> Repetition:
    student, problems, nodes, child_logits = row
    probabilities = student.task.probabilities
    key = jax.random.fold_in(evaluation_key(student, seed), _OF_TEACHER)
    asked = problems._replace(goal_chain=problems.goal_chain[:, :walks_per_graph])
    of_teacher = teacher_walks(task, probabilities, key, asked.goal_chain)
    logits = functions.read(student.params, probabilities, asked, of_teacher)
    read = student_functions.child_logits(task, problems.graphs, logits)
    return measure_student(task, probabilities, problems, nodes, child_logits, of_teacher, read, num_lags=num_lags)

  return seeds.map_seeds(one, mesh, brief=is_brief)


# Frames. Arrays are on the host and begin with the axes [S, T + 1].


def to_frames(
  measured: Repetition, chance: Chance, temperatures: Sequence[float], is_finite: np.ndarray
) -> RepetitionFrames:
  """The frames of measures whose leaves begin with [S, T + 1]."""
  kinds = [ROLLOUTS] * len(temperatures) + [TEACHER]
  groups: dict[str, Any] = {"walks": kinds, "temperature": [*temperatures, np.nan]}
  by_lag, by_visit = [], []
  for pairs in PAIRS:
    resemblance: Resemblance = getattr(measured.errors, pairs)
    lags = {"correlation": resemblance.correlation_by_lag, "num_pairs": resemblance.num_pairs_by_lag}
    places = {"lag": np.arange(1, resemblance.correlation_by_lag.shape[-1] + 1)}
    by_lag.append(tidy.frame(is_finite, lags, groups, places).assign(pairs=pairs))
    for by, first in (("visit", 1), ("distance", 0)):
      columns = _means_by(resemblance.persistence, by)
      is_known = (pairs, by) == ("own_walk", "visit")
      columns["chance"] = chance.by_visit if is_known else np.full_like(columns["persistence"], np.nan)
      places = {"index": np.arange(columns["persistence"].shape[-1]) + first}
      by_visit.append(tidy.frame(is_finite, columns, groups, places).assign(pairs=pairs, by=by))
  visits = pd.concat(by_visit, ignore_index=True)
  visits = visits[visits["num_pairs"] > 0].reset_index(drop=True)
  summary = tidy.frame(is_finite, _summary(measured, chance), groups)
  return RepetitionFrames(summary, pd.concat(by_lag, ignore_index=True), visits)


def _summary(measured: Repetition, chance: Chance) -> dict[str, np.ndarray]:
  """The columns of `RepetitionFrames.summary`, [S, T + 1]."""
  errors = measured.errors
  columns = dict(measured.walks._asdict())
  for pairs in PAIRS:
    resemblance: Resemblance = getattr(errors, pairs)
    prefix = "" if pairs == "own_walk" else f"{pairs}_"
    columns |= {
      f"{prefix}persistence": resemblance.persistence.pooled,
      f"{prefix}correlation": resemblance.correlation,
      f"{prefix}num_pairs": resemblance.num_pairs,
    }
  return columns | {
    "chance": chance.pooled,
    "persistence_ratio": _ratio(columns["persistence"], chance.pooled),
    "copying": errors.copying.pooled,
    "teacher_copying": errors.teacher_copying.pooled,
  }


def _means_by(means: PairMeans, by: str) -> dict[str, np.ndarray]:
  """Persistence by `visit` or by `distance`, and the numbers of pairs."""
  counts = getattr(means, f"{by}_counts")
  return {"persistence": _ratio(getattr(means, f"{by}_sums"), counts), "num_pairs": counts}


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
  """NaN over 0: no pairs, or a chance of none."""
  return numerator / np.where(denominator == 0, np.nan, denominator)
