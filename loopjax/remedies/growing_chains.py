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
- Each stage has seeds of its own, so that its data are its own. Those of the last stage are the seeds asked for.
- The `training` of students that come back is that of one stage.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from loopjax.runtime.config import require
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import row_length
from loopjax.star_graph.sharing import Obtain, Request
from loopjax.star_graph.students import Students
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


def _check(request: Request, chain_lengths: Sequence[int]) -> None:
  """Raises `ValueError`, as `train_with_growing_chains` says."""
  last, model, num_steps = request.tasks[0].chain_length, request.model, request.training.num_steps
  rises = all(before <= after for before, after in zip(chain_lengths, chain_lengths[1:], strict=False))
  is_right = len(chain_lengths) > 0 and rises and chain_lengths[0] >= 1 and chain_lengths[-1] == last
  require(is_right, "chain_lengths", list(chain_lengths), f"lengths that do not fall, the last one the task's {last}")
  require(model.positions != "learned", "model.positions", model.positions, "rotary or none: a table has one size")
  is_drawn = not any(task.graph_fixed for task in request.tasks)
  require(is_drawn, "task.graph_fixed", True, "False: with shorter chains the fixed graph would be another graph")
  count = len(chain_lengths)
  require(num_steps >= count, "training.num_steps", num_steps, f"at least {count}, a step a stage")


def train_with_growing_chains(request: Request, chain_lengths: Sequence[int], obtain: Obtain) -> list[Students]:
  """Students of the request's tasks that were trained on shorter chains first: those of every stage, in order.

  The last ones are what is asked for. Each stage is a group of its own, in folders `stage_0` and so on.

  Args:
    request: the students; its training is that of all stages together, and its steps are shared out.
    chain_lengths: of the stages, in their order; they do not fall, and the last one is the tasks'.
    obtain: where students come from, such as a `sharing.Trainer`.

  Raises:
    ValueError: the lengths are not as said; the graph is fixed; the model has a table of positions; there are fewer
      steps than stages; or as `train_students` says.
  """
  _check(request, chain_lengths)
  count, length = len(chain_lengths), row_length(request.tasks[0], request.training)
  trainings, stages = stages_of(request.training, count, length), list[Students]()
  for stage, (chains, training) in enumerate(zip(chain_lengths, trainings, strict=True)):
    shift = (count - 1 - stage) * _SEEDS_APART
    own = request._replace(
      name=f"{request.name}/stage_{stage}", tasks=[with_chains(task, chains) for task in request.tasks],
      training=training, seed_numbers=[seed + shift for seed in request.seed_numbers],
    )  # fmt: skip
    stages.append(obtain(own, params=stages[-1].state.params if stages else None))
  return stages
