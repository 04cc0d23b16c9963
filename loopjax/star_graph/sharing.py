"""Students for several experiments: what an experiment asks for, and a trainer that trains no student twice.

Shapes: S students.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from absl import logging
from jax.sharding import Mesh

from loopjax import results
from loopjax.models.transformer import Transformer
from loopjax.runtime import seeds
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.identity import identity, read_identity
from loopjax.star_graph.objective import MaximumLikelihood, ObjectiveConfig
from loopjax.star_graph.students import Students, _check_some_finite, load_students, train_students
from loopjax.training import checkpoints
from loopjax.training.step import Training


class Request(NamedTuple):
  """A group of students that an experiment asks for.

  Attributes:
    name: of their folder and of their progress bar.
    tasks: T of them, a condition each.
    model: their architecture.
    training: how they are trained.
    seed_numbers: the same for every task.
    conditions: what tables say of each task: column -> T values.
    objectives: what they are trained for, one per task of one kind; maximum likelihood where left out.
    until: the step to stop at, the last one where left out.
  """

  name: str
  tasks: Sequence[StarGraph]
  model: Transformer
  training: Training
  seed_numbers: Sequence[int]
  conditions: Mapping[str, Sequence[Any]] = MappingProxyType({})
  objectives: Sequence[ObjectiveConfig] | None = None
  until: int | None = None

  @property
  def seed_steps(self) -> int:
    return len(self.tasks) * len(self.seed_numbers) * self.training.num_steps


class Obtain(Protocol):
  """Where an experiment has its students from: trained (`Trainer`), or of a world (`null_worlds.Pretender`).

  Attributes:
    claims_only: whether nothing is wanted but what the measures of claims read: no legal decoding, no losses.
  """

  claims_only: bool

  def __call__(self, request: Request, *, params: Any = None, extra: Any = None) -> Students:
    """The students of one group; they begin with `params` and `extra` where these are given: see `train_students`."""

  def once(self, name: str, config: Any, compute: Callable[[], Mapping[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """A part of an experiment's results, `name`, which is kept where results are kept (`results.compute_once`)."""


class Trainer:
  """Trains groups of students, each in a folder of its own under `output_dir`/checkpoints, and none twice.

  A task whose students another group in the folder has trained to the end, with the same model, training, objective and
  seeds, is read from there. So experiments share students.
  """

  claims_only = False

  def __init__(self, output_dir: str | os.PathLike[str], mesh: Mesh):
    self.output_dir, self.mesh = Path(output_dir), mesh

  @property
  def folder(self) -> Path:
    return self.output_dir / "checkpoints"

  def once(self, name: str, config: Any, compute: Callable[[], Mapping[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    return results.compute_once(self.output_dir, name, config, compute)

  def __call__(self, request: Request, *, params: Any = None, extra: Any = None) -> Students:
    name, tasks, model, config, seed_numbers, conditions, objectives, until = request
    objectives = [MaximumLikelihood()] * len(tasks) if objectives is None else list(objectives)
    wanted = [identity([task], model, config, seed_numbers, [one]) for task, one in zip(tasks, objectives, strict=True)]
    own = self.folder / name
    is_alone = any(one is not None for one in (params, extra, until))
    elsewhere = {} if is_alone else self._find(own, wanted)
    left = [i for i in range(len(tasks)) if i not in elsewhere]
    parts = {}
    if left:
      trained = train_students(
        [tasks[i] for i in left], model, config, seed_numbers, self.mesh, objectives=[objectives[i] for i in left],
        folder=own, params=params, extra=extra, until=until, description=name,
      )  # fmt: skip
      if not elsewhere:
        return trained._replace(conditions=conditions)
      parts = {i: (trained, number) for number, i in enumerate(left)}
    loaded = {folder: load_students(folder, self.mesh) for folder, _ in elsewhere.values()}
    parts |= {i: (loaded[folder], number) for i, (folder, number) in elsewhere.items()}
    ordered = [parts[i] for i in range(len(tasks))]
    students = _assemble(ordered, list(tasks), objectives, list(seed_numbers), self.mesh)
    _check_some_finite(students, name)
    return students._replace(conditions=conditions)

  def _find(self, own: Path, wanted: Sequence[Mapping[str, Any]]) -> dict[int, tuple[Path, int]]:
    """For those that another group has trained to the end: its folder, and the number of the task there.

    What `own` has begun stays there, whoever has trained it since: a folder never changes its group.
    """
    missing = {i: one for i, one in enumerate(wanted) if not _holds(own, one)}
    found: dict[int, tuple[Path, int]] = {}
    for path in sorted(self.folder.glob("*/config.json")):
      run = None if path.parent == own else _complete(path.parent)
      if run is None:
        continue
      for i, one in missing.items():
        place = _place(run, one)
        if i not in found and place is not None:
          logging.info("%s: students of %s are taken from %s", own.name, one["tasks"], path.parent.name)
          found[i] = (path.parent, place)
    return found


def repeated_parameters(students: Students, times: int) -> Any:
  """The parameters of the students, `times` times one after the other, on the mesh: to begin with under several tasks
  or objectives."""
  return seeds.join_rows([(students.state.params, slice(len(students.is_finite)))] * times, students.mesh)


def _holds(folder: Path, one: Mapping[str, Any]) -> bool:
  """Whether a group with the one task of `one` has begun in `folder`."""
  return (folder / "config.json").exists() and _place(read_identity(folder), one) is not None


def _complete(folder: Path) -> Mapping[str, Any] | None:
  """The identity of the group in `folder`; None where it is not trained to the end, or its config cannot be read."""
  try:
    run = read_identity(folder)
  except ValueError as error:
    logging.warning("students of this folder are not shared: %s", error)
    return None
  return run if checkpoints.latest_step(folder) == run["training"].get("num_steps") else None


def _place(run: Mapping[str, Any], one: Mapping[str, Any]) -> int | None:
  """The number of the one task of `one` in the group `run`; None where it is not there, or differs in anything else."""
  for name in ("model", "training", "seeds", "objective", "initial_parameters"):
    if run.get(name) != one[name]:
      return None
  for number, task in run["tasks"].items():
    if task == one["tasks"]["0"] and run["objectives"][number] == one["objectives"]["0"]:
      return int(number)
  return None


def _assemble(
  parts: Sequence[tuple[Students, int]], tasks: list[StarGraph], objectives: list[ObjectiveConfig],
  seed_numbers: list[int], mesh: Mesh,
) -> Students:  # fmt: skip
  """The students of several groups, a task of each, as one group."""
  count, group = len(seed_numbers), parts[0][0]

  def rows_of_part(number: int) -> slice:
    return slice(number * count, (number + 1) * count)

  state = seeds.join_rows([(one.state, rows_of_part(number)) for one, number in parts], mesh)
  is_finite = np.concatenate([one.is_finite[rows_of_part(number)] for one, number in parts])
  histories = []
  for place, (one, number) in enumerate(parts):
    row = one.history["row"] - number * count
    histories.append(one.history.assign(row=row + place * count)[row.between(0, count - 1)])
  history = pd.concat(histories, ignore_index=True)
  return Students(tasks, group.model, group.training, seed_numbers, objectives, mesh, state, is_finite, history)
