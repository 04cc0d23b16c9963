"""How random a student's first choice is: the entropy of the node that it takes at its first visit to r.

All that differs from walk to walk on one prompt counts: draws at a temperature, and what the student is told, such as a
seed. So two kinds of randomness can be compared at the same entropy. The walk's later choices are not looked at.

Shapes: S students, T temperatures, G graphs, R columns, N nodes.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.sharding import Mesh

from loopjax.analysis import root_distribution
from loopjax.runtime import devices, seeds
from loopjax.star_graph import student_functions, teacher, tidy
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.rollouts import sample_problems
from loopjax.star_graph.students import Students
from loopjax.training.step import TrainState, evaluation_key


def choice_entropy(nodes: jax.Array, temperatures: jax.Array) -> jax.Array:
  """The entropy in nats of a choice whose law is the mean over columns, [T].

  Args:
    nodes: [R, N], the probabilities of each column at temperature 1; what they lack to 1 is left out.
    temperatures: [T]; 0 is the argmax, the first of equal ones.
  """

  def at(temperature: jax.Array) -> jax.Array:
    warm = jax.nn.softmax(jnp.log(nodes) / jnp.where(temperature > 0, temperature, 1.0), axis=-1)
    greedy = jax.nn.one_hot(jnp.argmax(nodes, axis=-1), nodes.shape[-1])
    mixture = jnp.mean(jnp.where(temperature > 0, warm, greedy), axis=0)
    return jnp.sum(jax.scipy.special.entr(mixture))

  return jax.vmap(at)(temperatures)


def evaluate_root_entropy(
  students: Students, *, temperatures: Sequence[float], num_graphs: int, num_columns: int = 1, seed: int
) -> pd.DataFrame:
  """Columns row (of the student), temperature and root_entropy, the mean over graphs in nats.

  Args:
    students: S of them.
    temperatures: T of them.
    num_graphs: G per student.
    num_columns: R. What a student is told may differ from column to column; the goal is the same in all.
    seed: of the graphs; they are others than those that `evaluation.roll_out` draws with it.
  """
  task = teacher.sizes_of(students.tasks[0])
  program = _measuring(task, students.model, students.mesh, num_graphs, num_columns, seed)
  entropies = program(students.evaluated, jnp.asarray(temperatures, jnp.float32))
  on_host = seeds.to_host(entropies, len(students.is_finite))
  return tidy.frame(students.is_finite, {"root_entropy": np.asarray(on_host)}, {"temperature": list(temperatures)})


@functools.lru_cache(maxsize=seeds.PROGRAMS)
def _measuring(
  task: StarGraph, model: Any, mesh: Mesh, num_graphs: int, num_columns: int, seed: int
) -> jax.stages.Wrapped:
  student = student_functions.functions_of(model, task)

  def one(row: TrainState, temperatures: jax.Array) -> jax.Array:
    problems = sample_problems(task, evaluation_key(row, seed), num_graphs, 1)
    goals = jnp.repeat(problems.goal_chain, num_columns, axis=1)
    asked = problems._replace(goal_chain=goals)
    nodes = root_distribution.root_probabilities(task, student, row.params, row.task.probabilities, asked, 1)[:, :, 0]
    return jnp.mean(jax.vmap(choice_entropy, in_axes=(0, None))(nodes, temperatures), axis=0)

  return seeds.map_seeds(one, mesh, brief=devices.is_brief(num_graphs * num_columns * task.max_steps))
