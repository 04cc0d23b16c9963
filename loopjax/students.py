"""From tasks to trained students: the one call that experiments and notebooks make.

A group of students differs in seed and in the teacher's probabilities alone, and so trains in one compiled program.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from loopjax import config as configs
from loopjax import runner, training
from loopjax.config import require
from loopjax.runner import Students
from loopjax.star_graph import StarGraph
from loopjax.teacher import TeacherProbabilities
from loopjax.training import Objective, Training
from loopjax.transformer import Transformer


def check_one_program(tasks: Sequence[StarGraph]) -> None:
  """Raises `ValueError` where tasks differ in more than probabilities and margins."""
  require(len(tasks) > 0, "tasks", tasks, "one task or more")
  traced = TeacherProbabilities._fields
  sizes = [{k: v for k, v in configs.to_json(task).items() if k not in traced} for task in tasks]
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
    training.teacher_forcing(tasks[0], model, config) if objective is None else objective,
    config,
    state if params is None else state._replace(params=params),
    mesh,
    num_seeds=len(tasks) * len(seed_numbers),
    until=until,
    folder=folder,
    run_config=run_config,
    description=description,
  )


def rows_of(num_tasks: int, seed_numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
  """For every row of `train_students`, the index of its task and its seed, both [S]."""
  tasks = np.repeat(np.arange(num_tasks), len(seed_numbers))
  return tasks, np.tile(np.asarray(seed_numbers), num_tasks)
