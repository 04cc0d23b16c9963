"""A student's own greedy walks inside training, and the locked cycles in which they end.

Shapes: B rows, W nodes of a walk, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from loopjax.generation.settings import at_temperatures
from loopjax.loops.cycles import REPETITIONS
from loopjax.models.transformer import Transformer
from loopjax.star_graph import rollouts, student_functions
from loopjax.star_graph.graph import Graph, StarGraph, sample_goal, sample_graph
from loopjax.star_graph.objective import TaskState
from loopjax.star_graph.student_functions import Problems
from loopjax.star_graph.teacher import PADDING, TeacherProbabilities


class Problem(NamedTuple):
  """What a student is asked: a graph, the goal's chain, and the teacher's probabilities; a batch has leading axes B."""

  graph: Graph
  goal_chain: jax.Array
  probabilities: TeacherProbabilities


def sample_problem(task: StarGraph, key: jax.Array, state: TaskState) -> Problem:
  """A fresh graph and a goal on it."""
  graph_key, goal_key = jax.random.split(key)
  return Problem(sample_graph(task, graph_key), sample_goal(task, goal_key), state.probabilities)


def _asked(problems: Problem) -> tuple[TeacherProbabilities, Problems]:
  """The probabilities, which are the same in every row, and the problems as rollouts have them: one walk each."""
  return jax.tree.map(lambda leaf: leaf[0], problems.probabilities), Problems(
    problems.graph, problems.goal_chain[:, None]
  )


def greedy_walks(task: StarGraph, model: Transformer, params: Any, problems: Problem) -> jax.Array:
  """The walks at temperature 0, nodes [B, W], as `rollouts.Rollout` has them; no gradient flows through them."""
  probabilities, asked = _asked(problems)
  generation = at_temperatures([0.0])
  all_asked = rollouts.Asked(
    task, student_functions.functions_of(model, task), jax.lax.stop_gradient(params), probabilities, asked,
    generation.processors, generation.traced(),
  )  # fmt: skip
  begun = rollouts.begin(all_asked, jax.random.key(0))  # nothing is drawn at temperature 0
  walked = rollouts.advance(all_asked, begun, num_steps=task.max_steps - 1)
  return rollouts.finish(task, probabilities, asked, walked).nodes[:, 0]


def read(task: StarGraph, model: Transformer, params: Any, problems: Problem, walks: jax.Array) -> jax.Array:
  """What the student says at each node of walks [B, W] about the next, logits [B, W - 1, V]."""
  student = student_functions.functions_of(model, task)
  return student.read(params, *_asked(problems), walks[:, None])[:, 0]


def cycle_at_end(walk: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Start and period of the locked cycle that reaches the end of a walk [W]; the period is 0 where there is none.

  As `loops.cycles` defines it: the smallest period that repeats three times or more, and the first node from which on
  it does. A walk that ended before the cut is in no cycle.
  """
  size = walk.shape[0]
  place = jnp.arange(size)
  periods = jnp.arange(1, size // REPETITIONS + 1)
  earlier = place[None] - periods[:, None]
  differs = (earlier >= 0) & (walk[jnp.maximum(earlier, 0)] != walk[None])
  starts = jnp.max(jnp.where(differs, earlier + 1, 0), axis=1)  # after the last node whose period-later one differs
  is_locked = size - starts >= REPETITIONS * periods
  which = jnp.argmax(is_locked)
  found = jnp.any(is_locked) & (walk[-1] != PADDING)
  return jnp.where(found, starts[which], size), jnp.where(found, periods[which], 0)
