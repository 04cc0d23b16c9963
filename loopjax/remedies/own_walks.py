"""A student's own greedy walks inside training.

Shapes: B rows, W nodes of a walk, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from loopjax.generation.settings import at_temperatures
from loopjax.models.transformer import Transformer
from loopjax.star_graph import rollouts, student_functions
from loopjax.star_graph.graph import Graph, StarGraph, sample_goal, sample_graph
from loopjax.star_graph.objective import TaskState
from loopjax.star_graph.student_functions import Problems
from loopjax.star_graph.teacher import TeacherProbabilities


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
