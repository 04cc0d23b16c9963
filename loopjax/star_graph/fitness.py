"""How far students are from an exact learner: their loss on fresh walks of the clean teacher, above the learner's.

Student and learner are asked about the same walks, so that the walks' own chance cancels. A student is *fit* for a
claim if it has learnt what the claim's mechanism predicts: the memoryless learner for risk aversion, else the exact
teacher.

Shapes: S students, G graphs, R walks of a graph, W nodes of a walk, V vocabulary.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.sharding import Mesh

from loopjax.runtime import devices, seeds
from loopjax.star_graph import student_functions, teacher
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.null_worlds import Law, Lawful, LawParameters, law_parameters
from loopjax.star_graph.rollouts import sample_problems
from loopjax.star_graph.streams import teacher_walks
from loopjax.star_graph.student_functions import Problems
from loopjax.star_graph.students import Students
from loopjax.star_graph.teacher import PADDING
from loopjax.training.step import TrainState, cross_entropy, evaluation_key

LEARNERS = {"teacher": Law("teacher"), "memoryless": Law("memoryless")}
WALKS_PER_GRAPH = 8  # the worth of a small margin, 0.004 nats, needs some thousand walks to be told from nothing
_OF_LOSSES = 2**31 - 2  # folded into the key that rollouts split


def mean_loss(task: StarGraph, problems: Problems, walks: jax.Array, logits: jax.Array) -> jax.Array:
  """The mean cross entropy, in nats per position, of logits [G, R, W - 1, V] along walks [G, R, W], scalar."""
  following = walks[..., 1:]
  labels = jax.vmap(lambda graph, nodes: graph.labels[jnp.clip(nodes, 0, task.num_nodes - 1)])(
    problems.graphs, following
  )
  counts = following != PADDING
  nats = jnp.where(counts, cross_entropy(logits, labels), 0.0)
  return jnp.sum(nats) / jnp.sum(counts)


def evaluate_losses(students: Students, *, num_graphs: int, seed: int) -> pd.DataFrame:
  """A row per student: row, loss, and loss_above_<learner> for each of `LEARNERS`; NaN where it is not finite.

  Args:
    students: S of them.
    num_graphs: G per student, with `WALKS_PER_GRAPH` walks of the teacher each, to one goal.
    seed: of graphs and walks.
  """
  measure = _measuring(teacher.sizes_of(students.tasks[0]), students.model, students.mesh, num_graphs, seed)
  losses = seeds.to_host(measure(students.evaluated), len(students.is_finite))
  frame = pd.DataFrame({"row": np.arange(len(students.is_finite))})
  for name, values in losses.items():
    frame[name] = np.where(students.is_finite, values, np.nan)
  return frame


@functools.lru_cache(maxsize=seeds.PROGRAMS)
def _measuring(task: StarGraph, model: Any, mesh: Mesh, num_graphs: int, seed: int) -> jax.stages.Wrapped:
  own = student_functions.functions_of(model, task)
  learner = student_functions.functions_of(Lawful(), task)

  def one(student: TrainState) -> dict[str, jax.Array]:
    key = jax.random.fold_in(evaluation_key(student, seed), _OF_LOSSES)
    problem_key, walk_key, tie_key = jax.random.split(key, 3)
    problems = sample_problems(task, problem_key, num_graphs, WALKS_PER_GRAPH)
    probabilities = student.task.probabilities
    walks = teacher_walks(task, probabilities, walk_key, problems.goal_chain)
    loss = mean_loss(task, problems, walks, own.read(student.params, probabilities, problems, walks))

    def loss_above(law: LawParameters) -> jax.Array:
      return loss - mean_loss(task, problems, walks, learner.read(law, probabilities, problems, walks))

    each = [law_parameters(law, tie_key) for law in LEARNERS.values()]
    laws = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    above = jax.lax.map(loss_above, laws)  # one learner's program serves all, and is compiled once
    return {"loss": loss} | {f"loss_above_{name}": above[i] for i, name in enumerate(LEARNERS)}

  return seeds.map_seeds(one, mesh, brief=devices.is_brief(num_graphs * WALKS_PER_GRAPH * task.max_steps))
