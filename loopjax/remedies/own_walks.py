"""A student's own walks inside training, greedy or drawn.

Shapes: B rows, K walks of a row, W nodes of a walk, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from loopjax.generation.processors.temperature import Temperature
from loopjax.generation.settings import Columns, at_temperatures
from loopjax.models.transformer import Transformer
from loopjax.star_graph import rollouts, student_functions, teacher
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


class Walks(NamedTuple):
  """Walks that a student drew; fields [..., W].

  Attributes:
    nodes: as `rollouts.Rollout` has them: `PADDING` after the end; an invalid move is the last one.
    labels: of these nodes, also where they are off the graph; arbitrary after the end.
  """

  nodes: jax.Array
  labels: jax.Array


def _walk(
  task: StarGraph, model: Transformer, params: Any, probabilities: TeacherProbabilities, asked: Problems,
  columns: Columns, key: jax.Array,
) -> Walks:  # fmt: skip
  """Walks [G, R, W] under one temperature a column; no gradient flows through them."""
  functions, fixed = student_functions.functions_of(model, task), jax.lax.stop_gradient(params)
  all_asked = rollouts.Asked(task, functions, fixed, probabilities, asked, (Temperature(),), columns)
  walked = rollouts.advance(all_asked, rollouts.begin(all_asked, key), num_steps=task.max_steps - 1)
  return Walks(rollouts.finish(task, probabilities, asked, walked).nodes, walked.tokens)


def _asked(problems: Problem, count: int) -> tuple[TeacherProbabilities, Problems]:
  """The probabilities, which are the same in every row, and the problems as rollouts have them: `count` walks each."""
  goals = jnp.broadcast_to(problems.goal_chain[:, None], (*problems.goal_chain.shape, count))
  return jax.tree.map(lambda leaf: leaf[0], problems.probabilities), Problems(problems.graph, goals)


def greedy_walks(task: StarGraph, model: Transformer, params: Any, problems: Problem) -> jax.Array:
  """The walks at temperature 0, nodes [B, W], as `rollouts.Rollout` has them; no gradient flows through them."""
  columns, no_draws = at_temperatures([0.0]).traced(), jax.random.key(0)
  return _walk(task, model, params, *_asked(problems, 1), columns, no_draws).nodes[:, 0]


def drawn_walks(
  task: StarGraph, model: Transformer, params: Any, probabilities: TeacherProbabilities, graph: Graph,
  goal_chain: jax.Array, temperature: jax.Array, key: jax.Array,
) -> Walks:  # fmt: skip
  """Independent walks on one graph to the goals `goal_chain` [K], fields [K, W]; no gradient flows through them.

  Map it over the rows of a batch, each with a key of its own. Then a batch that is split over devices has the same
  walks.
  """
  asked = Problems(jax.tree.map(lambda leaf: leaf[None], graph), goal_chain[None])
  columns = at_temperatures([1.0] * goal_chain.shape[0]).traced()
  columns = columns._replace(strengths=(jnp.broadcast_to(temperature, goal_chain.shape),))
  return jax.tree.map(lambda field: field[0], _walk(task, model, params, probabilities, asked, columns, key))


def valid_part(task: StarGraph, probabilities: TeacherProbabilities, nodes: jax.Array) -> jax.Array:
  """The walks [..., W] without the invalid move with which they may end."""
  is_valid = teacher.valid_moves(task, probabilities, nodes)
  return jnp.concatenate([nodes[..., :1], jnp.where(is_valid, nodes[..., 1:], PADDING)], axis=-1)


def read(task: StarGraph, model: Transformer, params: Any, problems: Problem, walks: jax.Array) -> jax.Array:
  """What the student says at each node of walks [B, W] about the next, logits [B, W - 1, V]."""
  return read_groups(task, model, params, problems, walks[:, None])[:, 0]


def read_groups(task: StarGraph, model: Transformer, params: Any, problems: Problem, walks: jax.Array) -> jax.Array:
  """The same of several walks a row, [B, K, W], logits [B, K, W - 1, V]."""
  student = student_functions.functions_of(model, task)
  return student.read(params, *_asked(problems, walks.shape[1]), walks)
