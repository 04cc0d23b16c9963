"""Rollouts of one student: it walks on its own from s until the goal, its first invalid move, or the cut.

Problems are graphs, each with R goals; a graph's prompt is read once and shared by its R rollouts. A rollout is a state
that `advance` takes some steps further, so that the caller may stop between chunks when every walk has ended
(`evaluation.roll_out`; data-dependent stopping stays outside the seed map). All temperatures run in one program.

A logits processor is a pure pair of functions: `init(probabilities, problems) -> state` and `apply(state, logits,
labels) -> (state, logits)`, where labels [G, R] are the tokens just read. Processors compose in order.

Shapes: G graphs, R rollouts of a graph, W nodes of a walk, C children of the root, N nodes, V vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from loopjax.star_graph import encoding, student_functions, teacher
from loopjax.star_graph.graph import START, Graph, StarGraph, sample_goal, sample_graph
from loopjax.star_graph.student_functions import Problems, Student
from loopjax.star_graph.teacher import PADDING, TeacherProbabilities


class LogitsProcessor(NamedTuple):
  """A change of the next-token logits that depends on the tokens so far."""

  init: Callable[[TeacherProbabilities, Problems], Any]
  apply: Callable[[Any, jax.Array, jax.Array], tuple[Any, jax.Array]]


class Rollout(NamedTuple):
  """Rollouts in progress.

  Attributes:
    nodes: [G, R, W], `PADDING` after the end; N for a label that is not on the graph. An invalid move is the last one.
    confidence: [G, R, W], the largest next-token probability (at temperature 1) before logits processors; 0 at s.
    child_logits: [G, R, W - 1, C], the student's logits of the children, asked at each node, before processors. At
      temperature 0 the child that leads is the child that is taken, whatever precision the student computes in.
    ended: [G, R], whether the walk has reached its goal or is broken.
    step: how many steps have been taken: the nodes after s, until the cut.
    labels: [G, R], the token to read next.
    student: what the student keeps of the walks.
    processors: the states of the logits processors.
    keys: [R] typed keys.
  """

  nodes: jax.Array
  confidence: jax.Array
  child_logits: jax.Array
  ended: jax.Array
  step: jax.Array
  labels: jax.Array
  student: Any
  processors: tuple[Any, ...]
  keys: jax.Array


def sample_problems(task: StarGraph, key: jax.Array, num_graphs: int, num_rollouts: int) -> Problems:
  """Fresh graphs, each with one goal for all of its rollouts."""
  graph_key, goal_key = jax.random.split(key)
  graphs = jax.vmap(lambda k: sample_graph(task, k))(jax.random.split(graph_key, num_graphs))
  goals = jax.vmap(lambda k: sample_goal(task, k))(jax.random.split(goal_key, num_graphs))
  return Problems(graphs, jnp.broadcast_to(goals[:, None], (num_graphs, num_rollouts)))


def column_keys(key: jax.Array, temperatures: Sequence[float]) -> jax.Array:
  """A key for each of the R rollouts of a graph, [R], which depends on its temperature and its number among equals.

  So draws at one temperature do not depend on which others are listed.
  """
  numbers = [temperatures[:place].count(value) for place, value in enumerate(temperatures)]
  bits = np.asarray(temperatures, np.float32).view(np.uint32)

  def one(bits: jax.Array, number: jax.Array) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(key, bits), number)

  return jax.vmap(one)(jnp.asarray(bits), jnp.asarray(numbers))


def sample_token(keys: jax.Array, logits: jax.Array, temperature: jax.Array) -> jax.Array:
  """Labels [G, R] drawn from softmax(logits [G, R, V] / temperature [R]) with keys [R]; the argmax at temperature 0.

  argmax(logits + temperature * Gumbel noise) is that draw at every temperature, 0 included (the Gumbel-max trick).
  """
  num_graphs, _, vocabulary = logits.shape
  noise = jax.vmap(lambda key: jax.random.gumbel(key, (num_graphs, vocabulary)), out_axes=1)(keys)
  return jnp.argmax(logits + temperature[None, :, None] * noise, axis=-1)


def begin(
  task: StarGraph, one: Student, params: Any, probabilities: TeacherProbabilities, problems: Problems,
  keys: jax.Array, processors: Sequence[LogitsProcessor] = (),
) -> Rollout:  # fmt: skip
  """Reads the prompts, and the goals where the task shows them; every walk stands at s. `keys`: [R], of the draws."""
  shape = (*problems.goal_chain.shape, task.max_steps)
  return Rollout(
    nodes=jnp.full(shape, PADDING).at[..., 0].set(START),
    confidence=jnp.zeros(shape),
    child_logits=jnp.zeros((*shape[:2], task.max_steps - 1, task.num_chains)),
    ended=jnp.zeros(shape[:2], bool),
    step=jnp.int32(0),
    labels=jnp.broadcast_to(problems.graphs.labels[:, START, None], shape[:2]),
    student=one.begin(params, probabilities, problems),
    processors=tuple(processor.init(probabilities, problems) for processor in processors),
    keys=keys,
  )


def _process(
  processors: Sequence[LogitsProcessor], states: tuple[Any, ...], logits: jax.Array, labels: jax.Array
) -> tuple[tuple[Any, ...], jax.Array]:
  """The processors' next states, and the logits after all of them."""
  following = []
  for processor, state in zip(processors, states, strict=True):
    new_state, logits = processor.apply(state, logits, labels)
    following.append(new_state)
  return tuple(following), logits


def _take_step(
  task: StarGraph, one: Student, params: Any, probabilities: TeacherProbabilities, problems: Problems,
  temperature: jax.Array, processors: Sequence[LogitsProcessor], rollout: Rollout,
) -> Rollout:  # fmt: skip
  plain, of_student = one.step(params, rollout.student, rollout.labels, rollout.step)
  states, logits = _process(processors, rollout.processors, plain, rollout.labels)
  keys = jax.vmap(lambda key: jax.random.fold_in(key, rollout.step))(rollout.keys)
  labels = sample_token(keys, logits, temperature)
  nodes = jax.vmap(functools.partial(encoding.nodes_of_labels, task))(problems.graphs, labels)

  here = rollout.step + 1  # past the cut nothing is written
  before = rollout.nodes[..., rollout.step]
  is_over = (nodes == task.goal_node(problems.goal_chain)) | ~teacher.is_valid_move(task, probabilities, before, nodes)

  def write(old: jax.Array, place: jax.Array, new: jax.Array, after_end: float) -> jax.Array:
    ended = rollout.ended.reshape(rollout.ended.shape + (1,) * (new.ndim - 2))
    return old.at[:, :, place].set(jnp.where(ended, after_end, new), mode="drop")

  children = student_functions.child_logits(task, problems.graphs, plain)
  return rollout._replace(
    nodes=write(rollout.nodes, here, nodes, PADDING),
    confidence=write(rollout.confidence, here, jnp.max(jax.nn.softmax(plain), axis=-1), 0.0),
    child_logits=write(rollout.child_logits, rollout.step, children, 0.0),
    ended=rollout.ended | (is_over & (here < task.max_steps)),
    step=here,
    labels=labels,
    student=of_student,
    processors=states,
  )


def advance(
  task: StarGraph, one: Student, params: Any, probabilities: TeacherProbabilities, problems: Problems,
  temperature: jax.Array, rollout: Rollout, *, num_steps: int, processors: Sequence[LogitsProcessor] = (),
) -> Rollout:  # fmt: skip
  """Takes every walk `num_steps` further; steps past the cut change no walk.

  Args:
    task: the task.
    one: the student's functions.
    params: its parameters.
    probabilities: the teacher's; they decide which resets are valid.
    problems: what the rollouts began with.
    temperature: [R], at least 0; 0 takes the argmax.
    rollout: the state so far.
    num_steps: static.
    processors: the same as in `begin`.
  """

  def step(_: jax.Array, state: Rollout) -> Rollout:
    return _take_step(task, one, params, probabilities, problems, temperature, processors, state)

  return jax.lax.fori_loop(0, num_steps, step, rollout)


@functools.cache  # the same processor again is the same program again
def legal_moves(task: StarGraph) -> LogitsProcessor:
  """Takes invalid moves out: the student chooses among those that the teacher may make (`teacher.is_valid_move`)."""

  def init(probabilities: TeacherProbabilities, problems: Problems) -> tuple[jax.Array, Problems]:
    nodes = jnp.arange(task.num_nodes)
    return teacher.is_valid_move(task, probabilities, nodes[:, None], nodes[None]), problems

  def apply(
    state: tuple[jax.Array, Problems], logits: jax.Array, labels: jax.Array
  ) -> tuple[tuple[jax.Array, Problems], jax.Array]:
    is_valid, problems = state

    def of_graph(graph: Graph, labels: jax.Array) -> jax.Array:
      nodes = jnp.minimum(encoding.nodes_of_labels(task, graph, labels), task.num_nodes - 1)
      return jnp.zeros((len(labels), task.vocabulary_size), bool).at[:, graph.labels].set(is_valid[nodes])

    return state, jnp.where(jax.vmap(of_graph)(problems.graphs, labels), logits, -jnp.inf)

  return LogitsProcessor(init, apply)
