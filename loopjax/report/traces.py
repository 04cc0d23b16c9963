"""The data of the walk viewer: a few walks of the students of each checkpoint folder, as JSON.

Probabilities are in thousandths, and those that round to none are left out: a list [node, thousandths, node,
thousandths, ...] per step, where node N stands for labels off the graph.

Shapes: S students, G graphs, R temperatures, W nodes of a walk, N nodes of the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

import loopjax.remedies  # noqa: F401 (students of every remedy can then be loaded, and walk as it asks)
from loopjax.analysis import walk_traces
from loopjax.analysis.walk_traces import WalkTraces
from loopjax.generation.settings import at_temperatures
from loopjax.runtime import config as configs
from loopjax.runtime import seeds
from loopjax.star_graph import student_functions, students
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import ObjectiveConfig
from loopjax.star_graph.students import Students
from loopjax.star_graph.teacher import PADDING

TEMPERATURES = (0.0, 0.5, 1.0)
NUM_GRAPHS = 4
MAX_SEEDS = 2  # per condition, where nobody has chosen: a page is to be looked at, and to stay small


def group_walks(folder: Path, name: str, mesh: Mesh, most_seeds: int | None) -> dict[str, Any]:
  """The walks of the students in a checkpoint folder; students of a remedy walk as it asks.

  Args:
    folder: of `students.train_students`.
    name: of the group.
    mesh: from `devices.device_mesh`.
    most_seeds: how many students of a condition walk, the first ones; None: all.

  Raises:
    FileNotFoundError, ValueError: as `students.load_students`; no student is finite.
  """
  group = students.load_students(folder, mesh)
  rows = _shown_rows(group, most_seeds)
  if not rows:
    raise ValueError(f"{folder}: no student's loss stayed finite")
  state = seeds.join_rows([(group.state, rows)], mesh)
  task = group.tasks[0]
  model = student_functions.walking_model(group.objectives[0], group.model)
  shown = group._replace(model=model, state=state, is_finite=np.ones(len(rows), bool))
  traces = walk_traces.trace_students(shown, generation=at_temperatures(TEMPERATURES), num_graphs=NUM_GRAPHS, seed=0)
  names = condition_names(group.tasks, group.objectives)
  task_index, seed = students.rows_of(len(group.tasks), group.seed_numbers)
  return {
    "name": name.replace("_", " "),
    "chains": task.num_chains,
    "length": task.chain_length,
    "cut": task.max_steps,
    "goalHidden": task.goal_hidden,
    "walksAs": "" if model is group.model else type(model).__name__,
    "steps": [int(group.history["step"].max()), group.training.num_steps],
    "temperatures": TEMPERATURES,
    "students": [
      {"condition": names[task_index[row]], "seed": int(seed[row]), "walks": _walks(task, traces, index)}
      for index, row in enumerate(rows)
    ],
  }


def condition_names(tasks: Sequence[StarGraph], objectives: Sequence[ObjectiveConfig]) -> list[str]:
  """A name per task that says in what it, or what is trained for, differs from the others; of a single one nothing."""
  trees = [configs.to_json(task) | configs.to_json(one) for task, one in zip(tasks, objectives, strict=True)]
  differing = [field for field in trees[0] if len({str(tree[field]) for tree in trees}) > 1]
  return [", ".join(f"{field} {tree[field]:g}" for field in differing) for tree in trees]


def _shown_rows(group: Students, most_seeds: int | None) -> list[int]:
  """The first finite students of every condition."""
  is_finite = group.is_finite.reshape(len(group.tasks), -1)
  return [
    int(task * is_finite.shape[1] + row)
    for task in range(len(group.tasks))
    for row in np.flatnonzero(is_finite[task])[:most_seeds]
  ]


def _walks(task: StarGraph, traces: WalkTraces, student: int) -> list[list[dict[str, Any]]]:
  """Per temperature the walks on the G graphs."""

  def one(graph: int, temperature: int) -> dict[str, Any]:
    return _walk(task, jax.tree.map(lambda leaf: leaf[student, graph, temperature], traces))

  return [[one(graph, temperature) for graph in range(NUM_GRAPHS)] for temperature in range(len(TEMPERATURES))]


def _walk(task: StarGraph, trace: WalkTraces) -> dict[str, Any]:
  """One walk; the probabilities are as long as it could be read."""
  asked = ~np.isnan(trace.off_graph)
  student = np.concatenate([trace.student, trace.off_graph[:, None]], axis=1)[asked]
  walk = trace.nodes[trace.nodes != PADDING]
  return {
    "goal": int(trace.goal_chain),
    "nodes": walk.tolist(),
    "student": [_thousandths(row) for row in student],
    "teacher": [_thousandths(row) for row in trace.teacher[asked]],
    "invalid": np.flatnonzero(~trace.is_valid).tolist(),
    "loop": [int(field) for field in trace.loop] if trace.loop.period > 0 else None,
  }


def _thousandths(probabilities: np.ndarray) -> list[int]:
  rounded = np.rint(1000 * probabilities).astype(int)
  nodes = np.flatnonzero(rounded)
  return np.stack([nodes, rounded[nodes]], axis=1).ravel().tolist()
