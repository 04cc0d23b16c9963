"""Rollouts of one student: it walks on its own from s until the goal, its first invalid move, or the cut.

`generation` draws labels, and knows of the graph nothing but the goal's label, at which it stops. Here labels become
nodes, and a walk ends at its first invalid move; what was drawn after it is forgotten.

Shapes: G graphs, R rollouts of a graph (the columns), W nodes of a walk, C children of the root, N nodes, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from loopjax.generation import generate, laws
from loopjax.generation.generate import Continuations, Decoder, Rules
from loopjax.generation.processors import Context, Processor, Prompt, Sizes
from loopjax.generation.settings import Columns
from loopjax.star_graph import encoding, student_functions, teacher
from loopjax.star_graph.graph import START, StarGraph, sample_goal, sample_graph
from loopjax.star_graph.student_functions import Problems, Student
from loopjax.star_graph.teacher import PADDING, TeacherProbabilities


class Asked(NamedTuple):
  """One student and what it is asked: all that a rollout depends on but for the draws.

  Attributes:
    task: the task.
    student: its functions.
    params: its parameters.
    probabilities: the teacher's; they decide which resets are valid.
    problems: graphs and goals.
    processors: of the logits, in their order.
    columns: the R columns' strengths, traced.
  """

  task: StarGraph
  student: Student
  params: Any
  probabilities: TeacherProbabilities
  problems: Problems
  processors: tuple[Processor, ...]
  columns: Columns

  @property
  def decoder(self) -> Decoder:
    return Decoder(
      prefill=lambda: self.student.begin(self.params, self.probabilities, self.problems),
      step=functools.partial(self.student.step, self.params),
      extras=self.student.extras,
    )

  @property
  def rules(self) -> Rules:
    goals = self.task.goal_node(self.problems.goal_chain)
    return Rules(
      processors=self.processors,
      strengths=self.columns.strengths,
      stop=jnp.take_along_axis(self.problems.graphs.labels, goals, axis=1),
      observe=self._observe,
    )

  def _observe(self, plain: jax.Array, changed: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The largest probability [G, R], the children's logits [G, R, C], and the divergence [G, R]."""
    children = student_functions.child_logits(self.task, self.problems.graphs, plain)
    return jnp.max(jax.nn.softmax(plain), axis=-1), children, laws.divergence(changed, plain)


class Rollout(NamedTuple):
  """Finished rollouts.

  Attributes:
    nodes: [G, R, W], `PADDING` after the end; N for a label that is not on the graph. An invalid move is the last one.
    confidence: [G, R, W], the largest next-token probability (at temperature 1) before logits processors; 0 at s.
    child_logits: [G, R, W - 1, C], the student's logits of the children, asked at each node, before processors. At
      temperature 0 the child that leads is the child that is taken, whatever precision the student computes in.
    divergence: [G, R, W - 1], asked at each node, nats: Kullback and Leibler's, of the law that was drawn from against
      the student's own. It says what the logits processors have changed, the temperature among them.
  """

  nodes: jax.Array
  confidence: jax.Array
  child_logits: jax.Array
  divergence: jax.Array


def sample_problems(task: StarGraph, key: jax.Array, num_graphs: int, num_rollouts: int) -> Problems:
  """Fresh graphs, each with one goal for all of its rollouts."""
  graph_key, goal_key = jax.random.split(key)
  graphs = jax.vmap(lambda k: sample_graph(task, k))(jax.random.split(graph_key, num_graphs))
  goals = jax.vmap(lambda k: sample_goal(task, k))(jax.random.split(goal_key, num_graphs))
  return Problems(graphs, jnp.broadcast_to(goals[:, None], (num_graphs, num_rollouts)))


def begin(asked: Asked, key: jax.Array) -> Continuations:
  """Reads the prompts, and the goals where the task shows them; every walk stands at s. `key` is that of the draws."""
  task, problems = asked.task, asked.problems
  prompts = jax.vmap(functools.partial(encoding.encode_prompt, task))(problems.graphs)
  prompt = Prompt(prompts.reshape(len(prompts), -1), (asked.probabilities, problems))
  first = jnp.broadcast_to(problems.graphs.labels[:, START, None], problems.goal_chain.shape)
  return generate.begin(
    asked.decoder, asked.rules, prompt, first, asked.columns.keys(key),
    vocabulary=task.vocabulary_size, length=task.max_steps,
  )  # fmt: skip


def advance(asked: Asked, continuations: Continuations, *, num_steps: int) -> Continuations:
  """Takes every walk `num_steps` (static) further; steps past the cut change no walk."""
  return generate.advance(asked.decoder, asked.rules, continuations, num_steps=num_steps)


def are_over(
  task: StarGraph, probabilities: TeacherProbabilities, problems: Problems, continuations: Continuations
) -> jax.Array:
  """Which walks have reached their goals or made an invalid move, [G, R] bool: no later step changes them."""
  is_valid = teacher.valid_moves(task, probabilities, _nodes(task, problems, continuations))
  return continuations.ended | ~jnp.all(is_valid, axis=-1)


def finish(
  task: StarGraph, probabilities: TeacherProbabilities, problems: Problems, continuations: Continuations
) -> Rollout:
  """The walks: labels as nodes, up to the first invalid move."""
  nodes = _nodes(task, problems, continuations)
  is_valid = teacher.valid_moves(task, probabilities, nodes)
  valid_so_far = jnp.cumprod(is_valid, axis=-1).astype(bool)  # the move that ends a walk is shown, none after it
  shown = jnp.pad(valid_so_far[..., :-1], [(0, 0), (0, 0), (2, 0)], constant_values=True) & (nodes != PADDING)
  confidence, child_logits, divergence = continuations.observed
  return Rollout(
    nodes=jnp.where(shown, nodes, PADDING),
    confidence=jnp.pad(jnp.where(shown[..., 1:], confidence, 0.0), [(0, 0), (0, 0), (1, 0)]),
    child_logits=jnp.where(shown[..., 1:, None], child_logits, 0.0),
    divergence=jnp.where(shown[..., 1:], divergence, 0.0),
  )


def _nodes(task: StarGraph, problems: Problems, continuations: Continuations) -> jax.Array:
  """The labels as nodes, [G, R, W], invalid moves and what follows included."""
  nodes = jax.vmap(functools.partial(encoding.nodes_of_labels, task))(problems.graphs, continuations.tokens)
  nodes = jnp.where(continuations.tokens == generate.NO_TOKEN, PADDING, nodes)
  return jnp.where(_is_stuck_at(continuations), task.num_nodes, nodes)


def _is_stuck_at(continuations: Continuations) -> jax.Array:
  """The place after the last token of a stuck continuation, [G, R, W] bool: it counts as a label off the graph."""
  count = jnp.sum(continuations.tokens != generate.NO_TOKEN, axis=-1, keepdims=True)
  places = jnp.arange(continuations.tokens.shape[-1])[None, None]
  return continuations.stuck[..., None] & (places == count)


@dataclasses.dataclass(frozen=True)
class LegalMoves:
  """A processor: takes invalid moves out, so that the student chooses among those that the teacher may make
  (`teacher.is_valid_move`). Its strength has no meaning.

  Attributes:
    task: the task, its probabilities aside, which are traced (`teacher.sizes_of`).
  """

  task: StarGraph

  name: ClassVar[str] = "legal_moves"
  neutral: ClassVar[float | None] = None

  def check(self, strength: float) -> None:
    del strength

  def init(self, prompt: Prompt, sizes: Sizes) -> tuple[jax.Array, Problems]:
    del sizes
    probabilities, problems = prompt.task
    nodes = jnp.arange(self.task.num_nodes)
    return teacher.is_valid_move(self.task, probabilities, nodes[:, None], nodes[None]), problems

  def apply(
    self, strength: jax.Array, state: tuple[jax.Array, Problems], logits: jax.Array, context: Context
  ) -> tuple[tuple[jax.Array, Problems], jax.Array]:
    del strength
    is_valid, problems = state

    def of_graph(graph: Any, labels: jax.Array) -> jax.Array:
      nodes = jnp.minimum(encoding.nodes_of_labels(self.task, graph, labels), self.task.num_nodes - 1)
      legal = jnp.zeros((len(labels), self.task.vocabulary_size), bool)
      return legal.at[:, graph.labels].set(is_valid[nodes])

    return state, jnp.where(jax.vmap(of_graph)(problems.graphs, context.tokens), logits, -jnp.inf)
