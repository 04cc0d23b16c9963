"""Chains that grow: students learn on short chains first, and go on with longer ones.

The length of chains is a size, so each length is a program of its own. Students are handed on: they are trained on one
length after the other, and each training begins with the parameters of the one before. That is possible where
parameters do not depend on the size of the graph. They depend on the vocabulary, which shorter tasks fill up with spare
labels, and on a table of positions, which models with `positions` `rotary` or `none` do not have.

It is meant to repair what is too hard to learn at once. On a chain of length 1 the goal is the child, and a copy is all
it takes. Each further length asks for one more step of the way back.

What to know before use:

- The steps are shared out evenly, what is left over to the last length. Streams have one length throughout. So all
  positions of streams together are as many as those of students from scratch with the same `Training`. Where walks are
  shorter, the goals that are told take more of them.
- **The control has the same schedule.** Warm-up and cosine run anew for every length, and so does the optimiser.
  Compare with `chain_lengths` that are all the task's own: students from scratch with the same restarts.
- A student begins with the parameters that a student from scratch of the same seed has. The data of each stage are its
  own; those of the last one are those of that seed.
- The students that come back are those of the last stage. Their `training` is that of one stage.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from jax.sharding import Mesh

from loopjax.models.transformer import Transformer
from loopjax.runtime.config import require
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import ObjectiveConfig, row_length
from loopjax.star_graph.students import Students, initial_states, train_students
from loopjax.training.step import Training

_SEEDS_APART = 2**20  # between the data of one stage and those of the next


def with_chains(task: StarGraph, chain_length: int) -> StarGraph:
  """The task with shorter chains, and as many spare labels as keep its vocabulary."""
  shorter = dataclasses.replace(task, chain_length=chain_length, spare_labels=0)
  return dataclasses.replace(shorter, spare_labels=task.vocabulary_size - shorter.vocabulary_size)


def stages_of(training: Training, count: int, length: int) -> list[Training]:
  """How each stage is trained: an even part of the steps, the rest to the last, streams of `length` positions."""
  part = training.num_steps // count
  steps = [part] * (count - 1) + [training.num_steps - part * (count - 1)]
  return [dataclasses.replace(training, num_steps=number, stream_length=length) for number in steps]


def _check(tasks: Sequence[StarGraph], chain_lengths: Sequence[int], model: Transformer, training: Training) -> None:
  """Raises `ValueError`, as `train_with_growing_chains` says."""
  last = tasks[0].chain_length
  rises = all(before <= after for before, after in zip(chain_lengths, chain_lengths[1:], strict=False))
  is_right = len(chain_lengths) > 0 and rises and chain_lengths[0] >= 1 and chain_lengths[-1] == last
  require(is_right, "chain_lengths", list(chain_lengths), f"lengths that do not fall, the last one the task's {last}")
  require(model.positions != "learned", "model.positions", model.positions, "rotary or none: a table has one size")
  count = len(chain_lengths)
  require(training.num_steps >= count, "training.num_steps", training.num_steps, f"at least {count}, a step a stage")


def train_with_growing_chains(
  tasks: Sequence[StarGraph],
  chain_lengths: Sequence[int],
  model: Transformer,
  training: Training,
  seed_numbers: Sequence[int],
  mesh: Mesh,
  *,
  objectives: Sequence[ObjectiveConfig] | None = None,
  folder: str | os.PathLike[str] | None = None,
) -> Students:
  """Students of `tasks` that were trained on shorter chains first.

  Args:
    tasks: of the last stage; as for `train_students`.
    chain_lengths: of the stages, in their order; they do not fall, and the last one is the tasks'.
    model: architecture of all students, without a table of positions.
    training: of all stages together; its steps are shared out.
    seed_numbers: seeds, the same for every task.
    mesh: from `devices.device_mesh`.
    objectives: what to train for in every stage; maximum likelihood by default.
    folder: for checkpoints, a folder a stage in it: `stage_0` and so on. None: nothing is saved.

  Raises:
    ValueError: the lengths are not as said; the model has a table of positions; there are fewer steps than stages; or
      as `train_students` says.
  """
  _check(tasks, chain_lengths, model, training)
  count = len(chain_lengths)
  trainings = stages_of(training, count, row_length(tasks[0], training))
  students = None
  params = initial_states(tasks, model, trainings[-1], seed_numbers, mesh, objectives).params
  for stage, (length, config) in enumerate(zip(chain_lengths, trainings, strict=True)):
    shift = (count - 1 - stage) * _SEEDS_APART
    students = train_students(
      [with_chains(task, length) for task in tasks], model, config, [seed + shift for seed in seed_numbers], mesh,
      objectives=objectives, params=params, folder=None if folder is None else Path(folder) / f"stage_{stage}",
      description=f"chains of {length}",
    )  # fmt: skip
    params = students.state.params
  assert students is not None
  return students
