"""How walks loop under any way of decoding, as a tidy frame: what remedies are compared by.

A *locked cycle* is a stretch of a walk that repeats one block three times or more, as `loops.cycles` has it with no
least length. *Capped length* is the number of nodes up to the goal; a walk that does not reach it counts as long as the
cut, whether it was cut or broke. So a remedy cannot look short by breaking walks. *Persistence* is the share of
consecutive visits to r, of one walk, at which the student's likeliest child is the same.

Shapes: S students, G graphs, R columns, W nodes of a walk.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.sharding import Mesh

from loopjax.analysis import root_distribution
from loopjax.analysis.visits import visits_of_logits
from loopjax.generation import cycles
from loopjax.generation.settings import Generation
from loopjax.runtime import devices, seeds
from loopjax.star_graph import evaluation, student_functions, teacher, walks
from loopjax.star_graph.evaluation import Rollouts
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.rollouts import sample_problems
from loopjax.star_graph.students import Students
from loopjax.star_graph.teacher import PADDING
from loopjax.training.step import TrainState, evaluation_key


class Looping(NamedTuple):
  """Measures of one column of one student, float32 scalars.

  Attributes:
    locked_cycle_share: of the nodes of a walk, those in locked cycles; the mean over walks.
    locked: the share of walks that are cut inside a locked cycle.
    capped_length: nodes to the goal, the cut where it is not reached; the mean over walks.
    persistence: NaN where no walk comes to r twice.
    divergence: nats a node, of the law that was drawn from against the student's own; the mean over all nodes asked at.
  """

  locked_cycle_share: jax.Array
  locked: jax.Array
  capped_length: jax.Array
  persistence: jax.Array
  divergence: jax.Array


def measure_looping(
  task: StarGraph, nodes: jax.Array, reached: jax.Array, same_child: jax.Array, pairs: jax.Array, divergence: jax.Array
) -> Looping:
  """The measures of a student, fields [R].

  Args:
    task: the task.
    nodes: [G, R, W], the walks.
    reached: [G, R], 1 where the goal was reached.
    same_child: [G, R, K - 1] bool, whether the likeliest child at a visit is that of the visit before.
    pairs: [G, R, K - 1] bool, whether there are two such visits.
    divergence: [G, R, W - 1], nats.
  """
  is_node = nodes != PADDING
  length = jnp.sum(is_node, axis=-1)
  locked = jax.vmap(jax.vmap(cycles.in_cycle))(nodes)
  return Looping(
    locked_cycle_share=jnp.mean(jnp.sum(locked, axis=-1) / length, axis=0),
    locked=jnp.mean(locked[..., -1], axis=0),
    capped_length=jnp.mean(jnp.where(reached > 0, length, task.max_steps), axis=0),
    persistence=jnp.sum(same_child & pairs, axis=(0, 2)) / jnp.sum(pairs, axis=(0, 2)),
    divergence=jnp.sum(divergence, axis=(0, 2)) / jnp.sum(is_node[..., 1:], axis=(0, 2)),
  )


def evaluate_looping(students: Students, *, generation: Generation, num_graphs: int, seed: int) -> pd.DataFrame:
  """The columns of `evaluation.measures_frame`, those of `Looping`, and root_kl: a row per student and column.

  root_kl is KL(teacher || student) in nats at the first visit to r, before decoding, the same in all columns.

  Args:
    students: S of them.
    generation: R columns.
    num_graphs: G per student, the same for its columns.
    seed: of graphs and draws.
  """
  rollouts = evaluation.roll_out(students, generation=generation, num_graphs=num_graphs, seed=seed)
  task, count = teacher.sizes_of(students.tasks[0]), len(students.is_finite)
  looping = seeds.to_host(_measuring(task, students.mesh)((students.state.task.probabilities, rollouts)), count)
  frame = evaluation.measures_frame(evaluation.mean_measures(students, rollouts), generation, students.is_finite)
  is_finite = students.is_finite[frame["row"]]
  for name, values in looping._asdict().items():
    frame[name] = np.where(is_finite, values.ravel(), np.nan)
  root_kl = seeds.to_host(_root(task, students.model, students.mesh, num_graphs, seed)(students.evaluated), count)
  frame["root_kl"] = np.where(is_finite, root_kl[frame["row"]], np.nan)
  return frame


@functools.lru_cache(maxsize=seeds.PROGRAMS)
def _measuring(task: StarGraph, mesh: Mesh) -> jax.stages.Wrapped:
  def one(row: tuple[Any, Rollouts]) -> Looping:
    probabilities, rollouts = row
    problems = rollouts.problems
    visits = visits_of_logits(task, probabilities, problems, rollouts.nodes, rollouts.child_logits)
    of_walk = jax.vmap(jax.vmap(lambda walk, goal: walks.measure_walk(task, probabilities, walk, goal).reached))
    reached = of_walk(rollouts.nodes, problems.goal_chain)
    same, pairs = visits.top[..., 1:] == visits.top[..., :-1], visits.exists[..., 1:]
    return measure_looping(task, rollouts.nodes, reached, same, pairs, rollouts.divergence)

  return seeds.map_seeds(one, mesh, brief=True)


@functools.lru_cache(maxsize=seeds.PROGRAMS)
def _root(task: StarGraph, model: Any, mesh: Mesh, num_graphs: int, seed: int) -> jax.stages.Wrapped:
  student = student_functions.functions_of(model, task)

  def one(row: TrainState) -> jax.Array:
    problems = sample_problems(task, evaluation_key(row, seed), num_graphs, 1)
    return jnp.mean(
      root_distribution.divergence_from_teacher(task, student, row.params, row.task.probabilities, problems)
    )

  return seeds.map_seeds(one, mesh, brief=devices.is_brief(num_graphs * task.max_steps))
