"""From tasks to trained students: the one call that experiments and notebooks make.

A group of students differs in seed and in the teacher's probabilities alone, and so trains in one compiled program.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from loopjax import config as configs
from loopjax import runner, teacher, training
from loopjax.config import require
from loopjax.runner import Students
from loopjax.star_graph import StarGraph
from loopjax.training import Training
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
  folder: str | os.PathLike[str] | None = None,
  params: Any = None,
  description: str = "training",
) -> Students:
  """Trains one student per (task, seed), seed by seed within a task, by maximum likelihood on teacher walks.

  Args:
    tasks: they differ in probabilities and margins alone.
    model: architecture of all students.
    config: how they are trained.
    seed_numbers: seeds, the same for every task.
    mesh: from `seeds.device_mesh`.
    folder: for checkpoints; a run stopped there goes on where it was. None: nothing is saved.
    params: parameters to begin with, as in the state of earlier students of the same rows; fresh ones by default.
    description: what the progress bar says.

  Raises:
    ValueError: the tasks differ in size; `folder` belongs to another run.
  """
  check_one_program(tasks)
  run_config = {
    "tasks": {str(i): configs.to_json(task) for i, task in enumerate(tasks)},
    "model": configs.to_json(model),
    "training": configs.to_json(config),
    "seeds": [int(seed) for seed in seed_numbers],
  }
  state = runner.initial_states(tasks, model, config, seed_numbers, mesh)
  return runner.train(
    training.teacher_forcing(teacher.sizes_of(tasks[0]), model, config),
    config,
    state if params is None else state._replace(params=params),
    mesh,
    num_seeds=len(tasks) * len(seed_numbers),
    folder=folder,
    run_config=run_config,
    description=description,
  )


def rows_of(num_tasks: int, seed_numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
  """For every row of `train_students`, the index of its task and its seed, both [S]."""
  tasks = np.repeat(np.arange(num_tasks), len(seed_numbers))
  return tasks, np.tile(np.asarray(seed_numbers), num_tasks)
