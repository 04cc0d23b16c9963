"""From tasks to trained students, and back from a folder: the calls that experiments, reports and notebooks make.

A group of students differs in seed, in the teacher's probabilities and in the strengths of its objective alone, and so
trains in one compiled program. What makes a group is its *identity*: tasks, model, training, objectives, seeds and,
where others than fresh ones were given, initial parameters. It lies beside the checkpoints, and a folder of another
identity is refused.

Shapes: S students.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.sharding import Mesh

from loopjax import results
from loopjax.models import graph_transformer
from loopjax.models.transformer import Transformer
from loopjax.runtime import config as configs
from loopjax.runtime import seeds
from loopjax.runtime.config import require
from loopjax.star_graph import teacher
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.identity import identity, read_identity
from loopjax.star_graph.objective import (
  OBJECTIVES,
  MaximumLikelihood,
  ObjectiveConfig,
  TaskState,
  begun,
  fresh_student,
  task_state,
)
from loopjax.training import checkpoints, runner
from loopjax.training.step import Objective, Training, TrainState

_OF_OBJECTIVE = 2**31 - 1  # folded into a seed's key for what its objective carries


class Students(NamedTuple):
  """Students and what they are: a row per (task, seed), seed by seed within a task.

  Attributes:
    tasks: T of them, a condition each; they differ in probabilities and margins alone.
    model: their architecture, or the law of a null world.
    training: how they were trained.
    seed_numbers: the same for every task.
    objectives: one per task.
    mesh: the devices on which they are.
    state: leaves [S, ...] on the mesh, S padded as `seeds.place` does.
    is_finite: [S] bool on the host; False where a student diverged: it is left out of results.
    history: one row per student and chunk: step, row, loss, gradient_norm, trained_positions.
    conditions: what tables say of each task: column -> T values.
  """

  tasks: list[StarGraph]
  model: Any
  training: Training
  seed_numbers: list[int]
  objectives: list[ObjectiveConfig]
  mesh: Mesh
  state: TrainState
  is_finite: np.ndarray
  history: pd.DataFrame
  conditions: Mapping[str, Sequence[Any]] = MappingProxyType({})

  @property
  def evaluated(self) -> TrainState:
    """`state` without what training alone reads: one program then evaluates students of all objectives."""
    return self.state._replace(opt_state=(), extra=())

  def label(self, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the student's conditions and seed in place of its column `row`."""
    task_index, seed = rows_of(len(self.tasks), self.seed_numbers)
    row = frame["row"].to_numpy()
    columns = {name: np.asarray(values)[task_index[row]] for name, values in self.conditions.items()}
    beside = pd.DataFrame(columns | {"seed": seed[row]})
    return pd.concat([beside, frame.drop(columns="row").reset_index(drop=True)], axis=1)


def check_one_program(tasks: Sequence[StarGraph]) -> None:
  """Raises `ValueError` where tasks differ in more than probabilities and margins."""
  require(len(tasks) > 0, "tasks", tasks, "one task or more")
  sizes = [configs.to_json(teacher.sizes_of(task)) for task in tasks]
  for size in sizes:
    differing = [name for name in size if size[name] != sizes[0][name]]
    for name in differing:
      require(False, f"task.{name}", size[name], f"{sizes[0][name]!r} as in the other tasks: another size, another run")


def _build(
  tasks: Sequence[StarGraph], model: Transformer, config: Training, objectives: Sequence[ObjectiveConfig]
) -> Objective:
  """The one objective of all tasks."""
  require(len(objectives) == len(tasks), "objectives", objectives, f"one for each of {len(tasks)} tasks")
  built = [objective.build(teacher.sizes_of(tasks[0]), model, config) for objective in objectives]
  same = all(one is built[0] for one in built)
  require(same, "objectives", objectives, "of one kind, different in traced strengths alone: else another run")
  return built[0]


def initial_states(
  tasks: Sequence[StarGraph], model: Transformer, config: Training, seed_numbers: Sequence[int], mesh: Mesh,
  objectives: Sequence[ObjectiveConfig] | None = None,
) -> TrainState:  # fmt: skip
  """Fresh students on the mesh, one per (task, seed), seed by seed within a task.

  The tasks may differ in probabilities and margins alone, so that one compiled program trains all. The same seed under
  two tasks begins with the same parameters and graphs. `objectives`: one per task; by default maximum likelihood.
  """
  objectives = [MaximumLikelihood()] * len(tasks) if objectives is None else objectives
  keys = jax.vmap(jax.random.key)(np.asarray(seed_numbers, np.int32))
  own_keys = _own_keys(keys)
  pairs = zip(tasks, objectives, strict=True)
  carried = [jax.vmap(lambda key, of=of, task=task: of.init(key, task, config))(own_keys) for task, of in pairs]
  extra = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *carried)
  task_states, extra = seeds.place((task_rows(tasks, config, len(keys)), extra), mesh)
  row_keys = seeds.join_rows([(keys, slice(None))] * len(tasks), mesh)
  initialise = _initialiser(teacher.sizes_of(tasks[0]), model, mesh)
  return initialise(row_keys)._replace(task=task_states, extra=extra)


def task_rows(tasks: Sequence[StarGraph], config: Training, num_seeds: int) -> TaskState:
  """What each task traces, a row for each of its `num_seeds` students, [S, ...], as NumPy arrays.

  By jax it would be a program for each shape.
  """
  states = [task_state(task, config) for task in tasks]
  return jax.tree.map(lambda *leaves: np.repeat(np.stack(leaves), num_seeds, axis=0), *states)


@jax.jit
def _own_keys(keys: jax.Array) -> jax.Array:
  """From the keys of seeds [S] those of what objectives carry, [S]."""
  return jax.vmap(lambda key: jax.random.fold_in(key, _OF_OBJECTIVE))(keys)


@functools.lru_cache(maxsize=seeds.PROGRAMS)
def _initialiser(task: StarGraph, model: Transformer, mesh: Mesh) -> jax.stages.Wrapped:
  """From keys to students, but for what task and objective carry: one program serves all trainings and objectives."""
  return seeds.map_seeds(lambda key: fresh_student(task, model, key, (), ()), mesh)


def train_students(
  tasks: Sequence[StarGraph], model: Transformer, config: Training, seed_numbers: Sequence[int], mesh: Mesh, *,
  objectives: Sequence[ObjectiveConfig] | None = None, until: int | None = None,
  folder: str | os.PathLike[str] | None = None, params: Any = None, extra: Any = None, description: str = "training",
) -> Students:  # fmt: skip
  """Trains one student per (task, seed), seed by seed within a task; by default by maximum likelihood on teacher walks.

  Args:
    tasks: they differ in probabilities and margins alone.
    model: architecture of all students.
    config: how they are trained.
    seed_numbers: seeds, the same for every task.
    mesh: from `devices.device_mesh`.
    objectives: what to train for, one per task, of one kind.
    until: the step to stop at, as in `runner.train`.
    folder: for checkpoints; a run stopped there goes on where it was. None: nothing is saved.
    params: parameters to begin with, as in the state of earlier students of the same rows; fresh ones by default.
    extra: what the objective carries for each of these rows, in place of what its config makes.
    description: what the progress bar says.

  Raises:
    ValueError: the tasks differ in size, the objectives in kind; `folder` belongs to another run; all students of a
      task diverged.
  """
  check_one_program(tasks)
  objectives = [MaximumLikelihood()] * len(tasks) if objectives is None else list(objectives)
  objective = _build(tasks, model, config, objectives)
  state = initial_states(tasks, model, config, seed_numbers, mesh, objectives)
  state = state if params is None else state._replace(params=_copied(params))  # training uses its own up
  state = state if extra is None else state._replace(extra=seeds.place(extra, mesh))
  given = params if extra is None else (params, extra)
  if objective.begin or objective.extend:
    state = seeds.map_seeds(lambda one: begun(objective, config, one), mesh)(state)
  trained = runner.train(
    objective, config, state, mesh, num_seeds=len(tasks) * len(seed_numbers), until=until, folder=folder,
    run_config=identity(tasks, model, config, seed_numbers, objectives, given),
    labels=_labels(tasks, objectives, seed_numbers), description=description,
  )  # fmt: skip
  students = Students(list(tasks), model, config, list(seed_numbers), objectives, mesh, *trained)
  _check_some_finite(students, description)
  return students


@jax.jit
def _copied(tree: Any) -> Any:
  return jax.tree.map(jnp.copy, tree)


def _check_some_finite(students: Students, description: str) -> None:
  """Raises `ValueError` where every student of a task diverged: there is nothing to measure."""
  by_task = students.is_finite.reshape(len(students.tasks), -1)
  for task, is_finite in zip(students.tasks, by_task, strict=True):
    if not is_finite.any():
      raise ValueError(
        f"{description}: all {len(is_finite)} students of {task} diverged; "
        f"lower training.learning_rate={students.training.learning_rate:g}"
      )


def _labels(
  tasks: Sequence[StarGraph], objectives: Sequence[ObjectiveConfig], seed_numbers: Sequence[int]
) -> list[dict[str, Any]]:
  """For every row its seed and the settings of its task and objective that are not the same for all, by name."""
  trees = [configs.to_json(task) | configs.to_json(one) for task, one in zip(tasks, objectives, strict=True)]
  differing = [name for name in trees[0] if len({str(tree[name]) for tree in trees}) > 1]
  conditions = [{name: tree[name] for name in differing} for tree in trees]
  if any(condition in conditions[:i] for i, condition in enumerate(conditions)):
    conditions = [{"task": i, **condition} for i, condition in enumerate(conditions)]
  return [{**condition, "seed": int(seed)} for condition in conditions for seed in seed_numbers]


def rows_of(num_tasks: int, seed_numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
  """For every row of `train_students`, the index of its task and its seed, both [S]."""
  tasks = np.repeat(np.arange(num_tasks), len(seed_numbers))
  return tasks, np.tile(np.asarray(seed_numbers), num_tasks)


def load_students(folder: str | os.PathLike[str], mesh: Mesh) -> Students:
  """The students that `train_students` saved in `folder`, as far as they were trained.

  Args:
    folder: as given to `train_students`; any number of devices may have saved it.
    mesh: where to place them, from `devices.device_mesh`.

  Raises:
    FileNotFoundError: the folder has no config.
    ValueError: one line: what lies there is not of `train_students`, has no checkpoint, or does not fit its config.
  """
  run = read_identity(folder)
  path, name = Path(folder) / "config.json", run["objective"]
  known = f"one of {sorted(OBJECTIVES)}, or one whose module was imported, as `import loopjax.remedies` does"
  require(name in OBJECTIVES, f"{path}: objective", name, known)
  try:
    tasks = [configs.from_json(StarGraph, task, f"tasks.{i}") for i, task in run["tasks"].items()]
    model = graph_transformer.from_json(run["model"], "model")
    config = configs.from_json(Training, run["training"], "training")
    kind = OBJECTIVES[name]
    objectives: list[ObjectiveConfig] = [
      configs.from_json(kind, one, f"objectives.{i}") for i, one in run["objectives"].items()
    ]
    check_one_program(tasks)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error
  num_rows = len(tasks) * len(run["seeds"])
  state = _load_rows(folder, tasks[0], model, config, objectives[0], num_rows, mesh)
  history = results.read_frame(Path(folder) / "history.parquet")
  history = history[history["step"] <= int(np.max(seeds.to_host(state.step, num_rows)))]
  is_finite = runner.finite_rows(history, state.params, num_rows)
  return Students(tasks, model, config, run["seeds"], objectives, mesh, state, is_finite, history)


def _load_rows(
  folder: Any, task: StarGraph, model: Transformer, config: Training, objective: ObjectiveConfig, num_rows: int,
  mesh: Mesh,
) -> TrainState:  # fmt: skip
  """The states of the latest checkpoint on the mesh, `num_rows` and the padding of its own devices."""
  built = objective.build(teacher.sizes_of(task), model, config)

  def fresh() -> TrainState:
    key = jax.random.key(0)
    carried = task_state(task, config), objective.init(key, task, config)
    return begun(built, config, fresh_student(task, model, key, *carried))

  loaded = checkpoints.load_rows(folder, jax.eval_shape(fresh), num_rows, mesh)
  if loaded is None:
    raise ValueError(f"{folder}: holds no checkpoint: the run had saved nothing")
  return loaded[0]
