"""The quantities of Proposition 1 (arXiv 2512.12895) in a student: its next-node distribution at the root.

The Proposition binds only while no child has been entered, so the student is asked at visit 1 to r and after 1, 2, ...
pure s-r-s cycles. With cycle probability p and n children its solution gives p to s and (1 - p)/n to each child.

Shapes: S students, G graphs, K visits to r, N nodes, C children.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from loopjax.runtime import devices, seeds
from loopjax.star_graph import encoding, student_functions, teacher
from loopjax.star_graph.graph import ROOT, START, StarGraph
from loopjax.star_graph.rollouts import sample_problems
from loopjax.star_graph.student_functions import Problems, Student
from loopjax.star_graph.students import Students
from loopjax.star_graph.teacher import TeacherProbabilities
from loopjax.training.step import TrainState, evaluation_key


class RootMeasures(NamedTuple):
  """Proposition 1 at one visit to r of one prompt, float32 scalars.

  Attributes:
    cycle_probability: of s.
    largest_child_probability: the most probable child's.
    risk_aversion_ratio: the former over the latter.
    goal_child_probability: of the goal's child.
    child_entropy: of the distribution over children, renormalised, over log n; NaN for n = 1.
    invalid_mass: all but s and the children.
    kl_from_solution: KL(solution || student), nats.
    total_variation: between solution and student.
    cycle_is_argmax: 1 where greedy decoding goes back to s.
  """

  cycle_probability: jax.Array
  largest_child_probability: jax.Array
  risk_aversion_ratio: jax.Array
  goal_child_probability: jax.Array
  child_entropy: jax.Array
  invalid_mass: jax.Array
  kl_from_solution: jax.Array
  total_variation: jax.Array
  cycle_is_argmax: jax.Array


def measure_root(task: StarGraph, nodes: jax.Array, cycle_prob: jax.Array, goal_chain: jax.Array) -> RootMeasures:
  """The measures of one distribution over nodes.

  Args:
    task: the task.
    nodes: [N], the student's probabilities; what they lack to 1 lies on labels off the graph.
    cycle_prob: p, the teacher's probability of s at the root.
    goal_chain: the goal's chain.
  """
  children = nodes[task.children()]
  cycle, largest, total = nodes[START], jnp.max(children), jnp.sum(children)
  share = children / total
  entropy = -jnp.sum(jax.scipy.special.xlogy(share, share)) / jnp.log(jnp.float32(task.num_chains))
  solution = (1 - cycle_prob) / task.num_chains
  kl = jnp.sum(jax.scipy.special.rel_entr(solution, children)) + jax.scipy.special.rel_entr(cycle_prob, cycle)
  invalid = 1 - cycle - total
  distance = 0.5 * (jnp.abs(cycle - cycle_prob) + jnp.sum(jnp.abs(children - solution)) + invalid)
  return RootMeasures(
    cycle_probability=cycle,
    largest_child_probability=largest,
    risk_aversion_ratio=cycle / largest,
    goal_child_probability=children[goal_chain],
    child_entropy=entropy if task.num_chains > 1 else jnp.float32(jnp.nan),
    invalid_mass=invalid,
    kl_from_solution=kl,
    total_variation=distance,
    cycle_is_argmax=(cycle > largest).astype(jnp.float32),
  )


def root_probabilities(
  task: StarGraph, student: Student, params: Any, probabilities: TeacherProbabilities, problems: Problems,
  num_visits: int,
) -> jax.Array:  # fmt: skip
  """The student's next-node probabilities [G, R, K, N] at r, before and after pure s-r-s cycles, at temperature 1.

  Raises:
    ValueError: a walk of `num_visits` visits would not fit under the task's cut.
  """
  if 2 * num_visits + 1 > task.max_steps:
    raise ValueError(f"num_visits={num_visits} is not allowed: at most {(task.max_steps - 1) // 2} under the cut")
  index = jnp.arange(task.max_steps)
  cycles = jnp.where(index < 2 * num_visits + 1, jnp.where(index % 2 == 0, START, ROOT), teacher.PADDING)
  walks = jnp.broadcast_to(cycles, (*problems.goal_chain.shape, task.max_steps))
  logits = student.read(params, probabilities, problems, walks)
  at_root = jax.nn.softmax(logits[:, :, 1 : 2 * num_visits : 2])
  return jax.vmap(encoding.node_probabilities)(problems.graphs, at_root)


def divergence_from_teacher(
  task: StarGraph, student: Student, params: Any, probabilities: TeacherProbabilities, problems: Problems
) -> jax.Array:
  """KL(teacher || student) in nats at the first visit to r of every prompt, [G, R]: the error, before any decoding.

  A label that the teacher never says counts through what it takes from the others.
  """
  nodes = root_probabilities(task, student, params, probabilities, problems, 1)[:, :, 0]
  nobody = jnp.zeros(task.num_chains, bool)

  def of_prompt(goal: jax.Array, own: jax.Array) -> jax.Array:
    p = teacher.next_node_probabilities(task, probabilities, goal, jnp.int32(ROOT), nobody)
    return jnp.sum(jax.scipy.special.rel_entr(p, own))

  return jax.vmap(jax.vmap(of_prompt))(problems.goal_chain, nodes)


def measure_students_root(
  task: StarGraph, student: Student, params: Any, probabilities: TeacherProbabilities, problems: Problems, *,
  num_visits: int,
) -> RootMeasures:  # fmt: skip
  """The measures of one student at every prompt and visit; fields [G, R, K]. p is the teacher's `reset_prob`."""
  nodes = root_probabilities(task, student, params, probabilities, problems, num_visits)

  def at_visit(distribution: jax.Array, goal: jax.Array) -> RootMeasures:
    return measure_root(task, distribution, probabilities.reset_prob, goal)

  over_visits = jax.vmap(at_visit, in_axes=(0, None))
  return jax.vmap(jax.vmap(over_visits))(nodes, problems.goal_chain)


def evaluate_root(students: Students, *, num_graphs: int, num_visits: int, seed: int) -> RootMeasures:
  """The measures of every student, means over its prompts, as NumPy arrays [S, K].

  Args:
    students: S of them.
    num_graphs: G per student, a prompt each.
    num_visits: K.
    seed: of the prompts.
  """
  task = teacher.sizes_of(students.tasks[0])
  measure = _measuring(task, students.model, students.mesh, num_graphs, num_visits, seed)
  return seeds.to_host(measure(students.evaluated), len(students.is_finite))


@functools.lru_cache(maxsize=seeds.PROGRAMS)
def _measuring(
  task: StarGraph, model: Any, mesh: Mesh, num_graphs: int, num_visits: int, seed: int
) -> jax.stages.Wrapped:
  functions = student_functions.functions_of(model, task)

  def one(student: TrainState) -> RootMeasures:
    problems = sample_problems(task, evaluation_key(student, seed), num_graphs, 1)
    measures = measure_students_root(
      task, functions, student.params, student.task.probabilities, problems, num_visits=num_visits
    )
    return jax.tree.map(lambda field: jnp.mean(field[:, 0], axis=0), measures)

  return seeds.map_seeds(one, mesh, brief=devices.is_brief(num_graphs * task.max_steps))
