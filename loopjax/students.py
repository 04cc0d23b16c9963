"""From tasks to trained students, and back from a folder: the calls that experiments, reports and notebooks make.

A group of students differs in seed and in the teacher's probabilities alone, and so trains in one compiled program.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from loopjax import checkpoints, results, runner, seeds, teacher, training
from loopjax import config as configs
from loopjax.config import require
from loopjax.runner import Students
from loopjax.star_graph import StarGraph
from loopjax.training import Objective, Training, TrainState
from loopjax.transformer import Transformer


def check_one_program(tasks: Sequence[StarGraph]) -> None:
  """Raises `ValueError` where tasks differ in more than probabilities and margins."""
  require(len(tasks) > 0, "tasks", tasks, "one task or more")
  sizes = [configs.to_json(teacher.sizes_of(task)) for task in tasks]
  for size in sizes:
    differing = [name for name in size if size[name] != sizes[0][name]]
    for name in differing:
      require(False, f"task.{name}", size[name], f"{sizes[0][name]!r} as in the other tasks: another size, another run")


def train_students(
  tasks: Sequence[StarGraph],
  model: Transformer,
  config: Training,
  seed_numbers: Sequence[int],
  mesh: Mesh,
  *,
  objective: Objective | None = None,
  extras: Sequence[Any] | None = None,
  until: int | None = None,
  folder: str | os.PathLike[str] | None = None,
  params: Any = None,
  description: str = "training",
) -> Students:
  """Trains one student per (task, seed), seed by seed within a task; by default by maximum likelihood on teacher walks.

  Args:
    tasks: they differ in probabilities and margins alone.
    model: architecture of all students.
    config: how they are trained.
    seed_numbers: seeds, the same for every task.
    mesh: from `seeds.device_mesh`.
    objective: what else to train for.
    extras: what the objective carries, a pytree of scalars per task; by default the teacher's probabilities.
    until: the step to stop at, as in `runner.train`.
    folder: for checkpoints; a run stopped there goes on where it was. None: nothing is saved.
    params: parameters to begin with, as in the state of earlier students of the same rows; fresh ones by default.
    description: what the progress bar says.

  Raises:
    ValueError: the tasks differ in size; `folder` belongs to another run.
  """
  check_one_program(tasks)
  run_config: dict[str, Any] = {
    "tasks": {str(i): configs.to_json(task) for i, task in enumerate(tasks)},
    "model": configs.to_json(model),
    "training": configs.to_json(config),
    "seeds": [int(seed) for seed in seed_numbers],
  }
  if extras is not None:
    run_config["extras"] = {str(i): [float(leaf) for leaf in jax.tree.leaves(extra)] for i, extra in enumerate(extras)}
  state = runner.initial_states(tasks, model, config, seed_numbers, mesh, extras)
  return runner.train(
    training.teacher_forcing(teacher.sizes_of(tasks[0]), model, config) if objective is None else objective,
    config,
    state if params is None else state._replace(params=params),
    mesh,
    num_seeds=len(tasks) * len(seed_numbers),
    until=until,
    folder=folder,
    run_config=run_config,
    labels=_labels([teacher.teacher_probabilities(task) for task in tasks] if extras is None else extras, seed_numbers),
    description=description,
  )


def _labels(extras: Sequence[Any], seed_numbers: Sequence[int]) -> list[dict[str, float]]:
  """For every row its seed and what its task carries that is not the same in all tasks, by name."""
  carried = []
  for extra in extras:
    leaves = jax.tree_util.tree_leaves_with_path(extra)
    named = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
    carried.append({name: float(str(np.float32(leaf))) for name, leaf in named.items()})  # 0.1, not 0.10000000149
  differing = [name for name in carried[0] if len({one[name] for one in carried}) > 1]
  conditions = [{name: one[name] for name in differing} for one in carried]
  if any(condition in conditions[:i] for i, condition in enumerate(conditions)):
    conditions = [{"task": i, **condition} for i, condition in enumerate(conditions)]
  return [{**condition, "seed": int(seed)} for condition in conditions for seed in seed_numbers]


def rows_of(num_tasks: int, seed_numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
  """For every row of `train_students`, the index of its task and its seed, both [S]."""
  tasks = np.repeat(np.arange(num_tasks), len(seed_numbers))
  return tasks, np.tile(np.asarray(seed_numbers), num_tasks)


class Group(NamedTuple):
  """What `train_students` was asked for and gave: `students` has a row per (task, seed), in the order of `rows_of`."""

  tasks: list[StarGraph]
  model: Transformer
  training: Training
  seed_numbers: list[int]
  students: Students


def load_students(folder: str | os.PathLike[str], mesh: Mesh) -> Group:
  """The students that `train_students` saved in `folder`, as far as they were trained.

  Args:
    folder: as given to `train_students`; any number of devices may have saved it.
    mesh: where to place them, from `seeds.device_mesh`.

  Raises:
    FileNotFoundError: the folder has no config.
    ValueError: one line: what lies there is not of `train_students`, has no checkpoint, or does not fit its config.
  """
  path = Path(folder) / "config.json"
  run = checkpoints.load_config(folder)
  for name, kind in (("tasks", dict), ("model", dict), ("training", dict), ("seeds", list)):
    part = run.get(name) if isinstance(run, dict) else None
    require(isinstance(part, kind) and len(part) > 0, f"{path}: {name}", part, f"a {kind.__name__} that is not empty")
  if "extras" in run:
    raise ValueError(f"{path}: these students were trained for another objective, and cannot be loaded without it")
  try:
    tasks = [configs.from_json(StarGraph, task, f"tasks.{i}") for i, task in run["tasks"].items()]
    model = configs.from_json(Transformer, run["model"], "model")
    config = configs.from_json(Training, run["training"], "training")
    check_one_program(tasks)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error
  num_rows = len(tasks) * len(run["seeds"])
  state = _load_rows(folder, tasks[0], model, config, num_rows)
  history = results.read_frame(Path(folder) / "history.parquet")
  history = history[history["step"] <= int(np.max(state.step))]
  trained = Students(seeds.place(state, mesh), runner.finite_rows(history, num_rows), history)
  return Group(tasks, model, config, run["seeds"], trained)


def _load_rows(folder: Any, task: StarGraph, model: Transformer, config: Training, num_rows: int) -> TrainState:
  """The states of the latest checkpoint [num_rows, ...] on one device, without the padding of those that saved it."""
  extra = teacher.teacher_probabilities(task)
  one = jax.eval_shape(lambda: training.init(task, model, config, jax.random.key(0), extra))
  loaded = checkpoints.load_rows(folder, one, num_rows)
  if loaded is None:
    raise ValueError(f"{folder}: holds no checkpoint: the run had saved nothing")
  return loaded[0]
