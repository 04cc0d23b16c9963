"""How far students repeat their own errors, as tidy frames: the host side of `analysis.temporal_errors`.

A student walks every graph R times at each temperature. Its own walks, and once those of a teacher on the same graphs
to the same goals, are then read teacher-forced: one group of walks per temperature, and the teacher's.

Shapes: S seeds, T temperatures, G graphs, R walks of a graph in a group, W nodes of a walk, C children, J lags.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.sharding import Mesh

from loopjax import evaluation, seeds, star_graph, teacher, training
from loopjax.analysis import temporal_errors, walks
from loopjax.analysis.temporal_errors import PairMeans, Resemblance, TemporalErrors, Visits
from loopjax.analysis.walks import WalkMeasures
from loopjax.star_graph import Graph, StarGraph
from loopjax.student_functions import Problems
from loopjax.teacher import TeacherProbabilities
from loopjax.training import TrainState
from loopjax.transformer import Transformer

ROLLOUTS, TEACHER = "rollouts", "teacher"  # whose walks; the teacher's have no temperature (NaN)
PAIRS = ("own_walk", "other_walks", "other_graphs")  # which visits are compared: fields of `TemporalErrors`
_OF_TEACHER = 2**31 - 1  # folded into the key that rollouts split


class Repetition(NamedTuple):
  """Measures of one student; leaves have a leading axis T + 1: the temperatures, then the teacher's walks."""

  walks: WalkMeasures
  errors: TemporalErrors


class RepetitionFrames(NamedTuple):
  """All have columns row (of the student), walks (`rollouts` or `teacher`) and temperature (NaN for the teacher's).

  Attributes:
    summary: a row per group of walks: walk measures; persistence (pooled, per walk), chance and their ratio;
      correlation at lag 1; the same of the nulls, by the names of `PAIRS`; copying and the teacher's; num_pairs.
    by_lag: a row per group, pairs and lag: correlation, num_pairs.
    by_visit: a row per group, pairs, by and index: persistence, chance, num_pairs. By `visit`: the first of the pair,
      from 1. By `distance`: the tokens from the first to the second. Without the rows that have no pair.
  """

  summary: pd.DataFrame
  by_lag: pd.DataFrame
  by_visit: pd.DataFrame


def teacher_walks(
  task: StarGraph, probabilities: TeacherProbabilities, key: jax.Array, goal_chain: jax.Array
) -> jax.Array:
  """Independent teacher walks to the goals `goal_chain` [G, R], nodes [G, R, W]; none are injected loops.

  The teacher treats all chains alike, so a walk to another goal becomes one to this by rotating the chains.
  """
  clean = probabilities._replace(injected_share=jnp.zeros_like(probabilities.injected_share))

  def one(key: jax.Array, goal: jax.Array) -> jax.Array:
    walk, own_goal = teacher.sample_walk(task, clean, key)
    first = star_graph.children(task)[0]
    chain, depth = jnp.divmod(walk - first, task.chain_length)
    rotated = first + (chain + goal - own_goal) % task.num_chains * task.chain_length + depth
    return jnp.where(walk < first, walk, rotated)

  keys = jax.random.split(key, goal_chain.shape)
  return jax.vmap(jax.vmap(one))(keys, goal_chain)


def measure_groups(
  task: StarGraph, visits: Visits, graphs: Graph, temperatures: Sequence[float], *, num_lags: int
) -> TemporalErrors:
  """The measures of groups of visits; leaves get the leading axis of the groups.

  Args:
    task: the task.
    visits: fields [T + 1, G, R, ...], the last group of a teacher's walks.
    graphs: fields [G, ...].
    temperatures: of the other groups. At temperature 0 all walks to one goal are one walk, and the other walks of null
      (ii) are the teacher's.
    num_lags: J, static.
  """
  of_teacher = jax.tree.map(lambda field: field[-1], visits)

  def one(group: tuple[jax.Array, Visits]) -> TemporalErrors:
    temperature, visits = group
    errors = temporal_errors.measure_visits(task, visits, graphs, num_lags=num_lags)
    beside_teacher = temporal_errors.compare(task, visits, of_teacher, num_lags=num_lags)
    choose = functools.partial(jnp.where, temperature == 0)
    return errors._replace(other_walks=jax.tree.map(choose, beside_teacher, errors.other_walks))

  return jax.lax.map(one, (jnp.array([*temperatures, jnp.nan]), visits))


def measure_student(
  task: StarGraph, model: Transformer, params: Any, probabilities: TeacherProbabilities, problems: Problems,
  nodes: jax.Array, key: jax.Array, *, temperatures: Sequence[float], num_lags: int,
) -> Repetition:  # fmt: skip
  """All measures of one student.

  Args:
    task: the task.
    model: the student's architecture.
    params: its parameters.
    probabilities: the teacher's, traced.
    problems: the graphs and, [G, T R], the goals; one goal a graph.
    nodes: [G, T R, W], the student's walks, R for each temperature in their order.
    key: of the teacher's walks.
    temperatures: T of them, static.
    num_lags: J, static.
  """
  num_graphs, num_walks, length = nodes.shape
  own = jnp.moveaxis(nodes.reshape(num_graphs, len(temperatures), -1, length), 1, 0)
  problems = problems._replace(goal_chain=problems.goal_chain[:, : num_walks // len(temperatures)])
  groups = jnp.concatenate([own, teacher_walks(task, probabilities, key, problems.goal_chain)[None]])

  measure = functools.partial(walks.measure_walk, task, probabilities)
  of_walks = jax.vmap(jax.vmap(jax.vmap(measure)), in_axes=(0, None))(groups, problems.goal_chain)
  read = functools.partial(temporal_errors.read_visits, task, model, params, probabilities, problems)
  visits = jax.lax.map(read, groups)
  return Repetition(
    walks=jax.tree.map(lambda each: jnp.nanmean(each, axis=(1, 2)), of_walks),
    errors=measure_groups(task, visits, problems.graphs, temperatures, num_lags=num_lags),
  )


def evaluate_repetition(
  task: StarGraph,
  model: Transformer,
  state: TrainState,
  is_finite: np.ndarray,
  mesh: Mesh,
  *,
  temperatures: Sequence[float],
  num_graphs: int,
  walks_per_graph: int,
  num_lags: int,
  seed: int,
) -> RepetitionFrames:
  """The measures of every student; those of a student that is not finite are NaN.

  Args:
    task: the task; a teacher that may give a child nothing is refused (`temporal_errors.check_errors_defined`).
    model: the students' architecture.
    state: theirs, on the mesh; `state.extra` holds the teacher's probabilities.
    is_finite: [S] bool.
    mesh: from `seeds.device_mesh`.
    temperatures: T of them.
    num_graphs: G per student.
    walks_per_graph: R, of each graph at each temperature.
    num_lags: J.
    seed: of graphs and draws.
  """
  temporal_errors.check_errors_defined(task)
  rollouts = evaluation.roll_out(
    task, model, state, mesh,
    temperatures=np.repeat(temperatures, walks_per_graph).tolist(), num_graphs=num_graphs, seed=seed,
  )  # fmt: skip
  num_positions = (len(temperatures) + 1) * num_graphs * walks_per_graph * task.max_steps
  is_brief = seeds.is_brief(num_positions)
  measure = _measuring(teacher.sizes_of(task), model, mesh, tuple(temperatures), num_lags, seed, is_brief)
  measured = measure((state, rollouts.problems, rollouts.nodes))
  return to_frames(seeds.to_host(measured, len(is_finite)), temperatures, is_finite)


@functools.lru_cache(maxsize=seeds.PROGRAMS)
def _measuring(
  task: StarGraph, model: Transformer, mesh: Mesh, temperatures: tuple[float, ...], num_lags: int, seed: int,
  is_brief: bool,
) -> jax.stages.Wrapped:  # fmt: skip
  def one(row: tuple[TrainState, Problems, jax.Array]) -> Repetition:
    student, problems, nodes = row
    key = jax.random.fold_in(training.evaluation_key(student, seed), _OF_TEACHER)
    return measure_student(
      task, model, student.params, student.extra, problems, nodes, key, temperatures=temperatures, num_lags=num_lags
    )

  return seeds.map_seeds(one, mesh, brief=is_brief)


# Frames. Arrays are on the host and begin with the axes [S, T + 1].


def to_frames(measured: Repetition, temperatures: Sequence[float], is_finite: np.ndarray) -> RepetitionFrames:
  """The frames of measures whose leaves begin with [S, T + 1]."""
  frame = functools.partial(_long, temperatures, is_finite)
  by_lag, by_visit = [], []
  for pairs in PAIRS:
    resemblance: Resemblance = getattr(measured.errors, pairs)
    lags = {"correlation": resemblance.correlation, "num_pairs": resemblance.correlation_counts}
    by_lag.append(frame(lags, index="lag", first=1).assign(pairs=pairs))
    for by, first in (("visit", 1), ("distance", 0)):
      by_visit.append(frame(_means_by(resemblance, by), index="index", first=first).assign(pairs=pairs, by=by))
  visits = pd.concat(by_visit, ignore_index=True)
  visits = visits[visits["num_pairs"] > 0].reset_index(drop=True)
  return RepetitionFrames(frame(_summary(measured)), pd.concat(by_lag, ignore_index=True), visits)


def _summary(measured: Repetition) -> dict[str, np.ndarray]:
  """The columns of `RepetitionFrames.summary`, [S, T + 1]."""
  errors = measured.errors
  columns = dict(measured.walks._asdict())
  for pairs in PAIRS:
    resemblance: Resemblance = getattr(errors, pairs)
    prefix = "" if pairs == "own_walk" else f"{pairs}_"
    columns |= {
      f"{prefix}persistence": resemblance.persistence.pooled,
      f"{prefix}chance": resemblance.chance.pooled,
      f"{prefix}correlation": resemblance.correlation[..., 0],
    }
  return columns | {
    "persistence_per_walk": errors.own_walk.persistence.per_walk,
    "chance_per_walk": errors.own_walk.chance.per_walk,
    "persistence_ratio": _ratio(columns["persistence"], columns["chance"]),
    "copying": errors.copying.pooled,
    "teacher_copying": errors.teacher_copying.pooled,
    "num_pairs": errors.own_walk.correlation_counts[..., 0],
  }


def _means_by(resemblance: Resemblance, by: str) -> dict[str, np.ndarray]:
  """Persistence and chance by `visit` or by `distance`."""

  def mean(pairs: PairMeans) -> np.ndarray:
    return _ratio(getattr(pairs, f"{by}_sums"), getattr(pairs, f"{by}_counts"))

  counts = getattr(resemblance.persistence, f"{by}_counts")
  return {"persistence": mean(resemblance.persistence), "chance": mean(resemblance.chance), "num_pairs": counts}


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
  """NaN over 0: no pairs, or a chance of none."""
  return numerator / np.where(denominator == 0, np.nan, denominator)


def _long(
  temperatures: Sequence[float], is_finite: np.ndarray, columns: Mapping[str, Any], index: str | None = None,
  first: int = 0,
) -> pd.DataFrame:  # fmt: skip
  """Arrays [S, T + 1], or with a third axis that becomes the column `index`, counted from `first`."""
  row, group, *rest = (axis.ravel() for axis in np.indices(next(iter(columns.values())).shape))
  frame = pd.DataFrame({
    "row": row,
    "walks": np.where(group < len(temperatures), ROLLOUTS, TEACHER),
    "temperature": np.array([*temperatures, np.nan])[group],
  })  # fmt: skip
  if index is not None:
    frame[index] = rest[0] + first
  for name, values in columns.items():
    keep = is_finite[row] | (name == "num_pairs")
    frame[name] = np.where(keep, np.asarray(values, np.float64).ravel(), np.nan)
  return frame.astype({"num_pairs": np.int64})
