"""Students whose truth is known: they go through the same code as trained ones, and tell what a measure says of them.

A *law* answers with known probabilities of the next node. At s and on chains it is the teacher. At r it is the exact
teacher, which knows the goal, or the memoryless learner, which plays Proposition 1's solution at every visit; to the
children it may add errors to the log-probabilities. These errors are an autoregressive process over the visits of a
walk: a share of them, the memory, stays from one visit to the next. Without memory they are independent at every
visit. With a memory of 1 they are a standing preference, a function of the graph alone. What is new at a visit is a
function of the whole walk so far, as a network's errors are. A law may also hold the posterior that the walk so far is
an injected s-r-s loop (`theory.loop_posterior`).

Ties are broken by independent errors too small to matter otherwise, so that they are fresh at every visit.

Shapes: G graphs, R rollouts of a graph, W nodes of a walk, N nodes of a graph, C children, V vocabulary, S students.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.sharding import Mesh

from loopjax.models.transformer import Transformer
from loopjax.runtime import seeds
from loopjax.runtime.config import check_fields, require
from loopjax.star_graph import encoding, student_functions, teacher
from loopjax.star_graph.graph import ROOT, START, Graph, StarGraph
from loopjax.star_graph.objective import MaximumLikelihood, ObjectiveConfig
from loopjax.star_graph.sharing import Request
from loopjax.star_graph.student_functions import Problems, Student
from loopjax.star_graph.students import Students, check_one_program, initial_states, task_rows
from loopjax.star_graph.teacher import TeacherProbabilities
from loopjax.training.step import Training, TrainState

FRESH_TIES = 1e-4  # in nats: far above rounding, far below any difference between probabilities
NEVER = 1e-30  # in place of a probability of 0, whose logarithm would spoil every sum


@dataclasses.dataclass(frozen=True)
class Law:
  """A student's probabilities, known exactly up to its errors.

  Attributes:
    learner: `teacher` (the exact one, which knows the goal) or `memoryless`.
    error_size: standard deviation of the errors, in nats.
    memory: correlation of the errors at two consecutive visits, from 0 (independent) to 1 (a standing preference).
    loop_posterior: whether it holds the posterior that the walk is an injected s-r-s loop.
  """

  learner: str = "teacher"
  error_size: float = FRESH_TIES
  memory: float = 0.0
  loop_posterior: bool = True

  def __post_init__(self) -> None:
    check_fields(self, "law")
    require(self.learner in ("teacher", "memoryless"), "law.learner", self.learner, "'teacher' or 'memoryless'")
    require(self.error_size > 0, "law.error_size", self.error_size, "above 0")
    require(0 <= self.memory <= 1, "law.memory", self.memory, "0 to 1")


ERROR_SIZE = 0.1  # nats, of the worlds with errors; a margin of 0.1 is worth 0.6 nats after the first visit
WORLDS: dict[str, Law | None] = {
  "untrained": None,
  "exact teacher": Law(loop_posterior=False),
  "independent errors": Law(error_size=ERROR_SIZE, loop_posterior=False),
  "remembered errors": Law(error_size=ERROR_SIZE, memory=0.7, loop_posterior=False),
  "standing preference": Law(error_size=ERROR_SIZE, memory=1.0, loop_posterior=False),
  "memoryless": Law("memoryless", loop_posterior=False),
  "loop posterior, traced": Law("teacher"),
  "loop posterior, untraced": Law("memoryless"),
}
"""The worlds by name; None is the network as it is initialised."""
TEACHERS = ("exact teacher", "independent errors", "remembered errors", "standing preference")
"""The worlds of students that know the goal and hold no loop posterior."""


class LawParameters(NamedTuple):
  """A law as a student's parameters, traced: one compiled program serves all. Scalars; `key` is that of its errors."""

  key: jax.Array
  is_memoryless: jax.Array
  error_size: jax.Array
  memory: jax.Array
  loop_posterior: jax.Array


def law_parameters(law: Law, key: jax.Array) -> LawParameters:
  """The parameters of a student that follows the law."""
  is_memoryless, loop_posterior = jnp.array(law.learner == "memoryless"), jnp.array(law.loop_posterior)
  return LawParameters(key, is_memoryless, jnp.float32(law.error_size), jnp.float32(law.memory), loop_posterior)


@dataclasses.dataclass(frozen=True)
class Lawful:
  """The model of students whose parameters are a law: it stands where a network's `Transformer` stands."""


class _LawState(NamedTuple):
  """What a law keeps of walks: the problems, and of each walk, [G, R]:

  Attributes:
    law: the student's parameters.
    graphs: fields [G, ...].
    goal_chain: [G, R].
    probabilities: the teacher's.
    visited: [G, R, C] bool, the children entered so far.
    cycles: the number of s-r-s cycles from its start, -1 once a child was entered.
    walk_keys: a key that depends on every node so far.
    errors: [G, R, C], of the children, with a standard deviation of 1: those of the last visit to r; before the
      first, a function of the graph.
  """

  law: LawParameters
  graphs: Graph
  goal_chain: jax.Array
  probabilities: TeacherProbabilities
  visited: jax.Array
  cycles: jax.Array
  walk_keys: jax.Array
  errors: jax.Array


def _normal(task: StarGraph, keys: jax.Array) -> jax.Array:
  """Standard normal draws for the children, [..., C], of the keys [...]."""
  draws = jax.vmap(lambda key: jax.random.normal(key, (task.num_chains,)))(keys.ravel())
  return draws.reshape(*keys.shape, task.num_chains)


def _begin(task: StarGraph, law: LawParameters, probabilities: TeacherProbabilities, problems: Problems) -> _LawState:
  shape = problems.goal_chain.shape

  def graph_key(labels: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, task.num_nodes, lambda i, k: jax.random.fold_in(k, labels[i]), law.key)

  graph_keys = jax.vmap(graph_key)(problems.graphs.labels)
  walk_keys = jax.vmap(lambda k, goals: jax.vmap(functools.partial(jax.random.fold_in, k))(goals))(
    graph_keys, problems.goal_chain
  )
  return _LawState(
    law,
    *problems,
    probabilities=probabilities,
    visited=jnp.zeros((*shape, task.num_chains), bool),
    cycles=jnp.zeros(shape, jnp.int32),
    walk_keys=walk_keys,
    errors=jnp.repeat(_normal(task, graph_keys)[:, None], shape[1], axis=1),
  )


def _loop_posterior(probabilities: TeacherProbabilities, cycles: jax.Array) -> jax.Array:
  """The probability that the walk is an injected loop after `cycles` s-r-s alone; 0 once a child was entered."""
  share = probabilities.injected_share
  by_teacher = (1 - share) * probabilities.reset_prob ** jnp.maximum(cycles, 0)
  return jnp.where((cycles < 0) | (share == 0), 0.0, share / (share + by_teacher))


def _at_root(task: StarGraph, state: _LawState) -> tuple[jax.Array, jax.Array]:
  """Log-probabilities of the reset [G, R] and of the children [G, R, C], errors added, not normalised."""
  law, reset, n = state.law, state.probabilities.reset_prob, task.num_chains
  of_walk = functools.partial(teacher.child_probabilities, task, state.probabilities)
  of_teacher = jax.vmap(jax.vmap(of_walk))(state.goal_chain, state.visited)
  children = jnp.where(law.is_memoryless, (1 - reset) / n, of_teacher)
  is_loop = jnp.where(law.loop_posterior, _loop_posterior(state.probabilities, state.cycles), 0.0)
  reset, children = is_loop + (1 - is_loop) * reset, (1 - is_loop[..., None]) * children
  log_children = jnp.log(jnp.maximum(children, NEVER)) + law.error_size * state.errors
  return jnp.log(jnp.maximum(reset, NEVER)), log_children


def _follow(task: StarGraph, state: _LawState, nodes: jax.Array, index: jax.Array) -> _LawState:
  """The state once `nodes` [G, R] were read as nodes `index` of their walks."""
  enters = teacher.entered(task, nodes)
  cycles = state.cycles + ((nodes == START) & (index > 0))
  walk_keys, memory = jax.vmap(jax.vmap(jax.random.fold_in))(state.walk_keys, nodes), state.law.memory
  errors = memory * state.errors + jnp.sqrt(1 - memory**2) * _normal(task, walk_keys)
  return state._replace(
    visited=state.visited | enters,
    cycles=jnp.where((state.cycles < 0) | jnp.any(enters, axis=-1), -1, cycles),
    walk_keys=walk_keys,
    errors=jnp.where((nodes == ROOT)[..., None], errors, state.errors),
  )


def _next_log_probabilities(task: StarGraph, state: _LawState, nodes: jax.Array) -> jax.Array:
  """Log-probabilities of the next node, [G, R, N], where the walks stand at `nodes`."""
  of_node = functools.partial(teacher.next_node_probabilities, task, state.probabilities)
  elsewhere = jax.vmap(jax.vmap(of_node))(state.goal_chain, nodes, state.visited)
  reset, children = _at_root(task, state)
  at_root = jnp.full(elsewhere.shape, jnp.log(NEVER)).at[..., START].set(reset)
  at_root = at_root.at[..., task.children()].set(children)
  return jnp.where((nodes == ROOT)[..., None], at_root, jnp.log(jnp.maximum(elsewhere, NEVER)))


def _logits(task: StarGraph, state: _LawState, nodes: jax.Array) -> jax.Array:
  """As `_next_log_probabilities`, over labels, [G, R, V]."""
  over_nodes = _next_log_probabilities(task, state, nodes)
  over_labels = jnp.full((*nodes.shape, task.vocabulary_size), jnp.log(NEVER))
  return jax.vmap(lambda to, labels, values: to.at[:, labels].set(values))(over_labels, state.graphs.labels, over_nodes)


@student_functions.functions_of.register
def _functions(model: Lawful, task: StarGraph) -> Student:
  """The functions of students whose parameters are `LawParameters`."""
  del model
  begin = functools.partial(_begin, task)

  def answer(state: _LawState, nodes: jax.Array, index: jax.Array) -> tuple[_LawState, jax.Array]:
    state = _follow(task, state, nodes, index)
    return state, _logits(task, state, jnp.clip(nodes, 0, task.num_nodes - 1))

  def step(law: Any, state: _LawState, labels: jax.Array, index: jax.Array) -> tuple[jax.Array, _LawState]:
    del law
    nodes = jax.vmap(functools.partial(encoding.nodes_of_labels, task))(state.graphs, labels)
    state, logits = answer(state, nodes, index)
    return logits, state

  def read(law: Any, probabilities: TeacherProbabilities, problems: Problems, walks: jax.Array) -> jax.Array:
    places = jnp.arange(task.max_steps - 1)
    nodes = jnp.moveaxis(walks[..., :-1], -1, 0)
    state = begin(law, probabilities, problems)
    _, logits = jax.lax.scan(lambda state, here: answer(state, *here), state, (nodes, places))
    return jnp.moveaxis(logits, 0, 2)

  return Student(begin, step, read)


def law_students(
  law: Law, tasks: Sequence[StarGraph], config: Training, seed_numbers: Sequence[int], mesh: Mesh
) -> Students:
  """Students that follow the law, a row per (task, seed); their seeds choose errors, graphs and draws."""
  check_one_program(tasks)
  law_keys, keys = _two_keys(jax.vmap(jax.random.key)(np.tile(np.asarray(seed_numbers, np.int32), len(tasks))))
  _, *values = law_parameters(law, law_keys)
  params = LawParameters(law_keys, *(jnp.asarray(np.full(len(keys), value)) for value in values))
  steps = jnp.asarray(np.zeros(len(keys), np.int32))
  state = TrainState(steps, params, (), keys, task_rows(tasks, config, len(seed_numbers)), ())
  return _known(Lawful(), tasks, config, seed_numbers, mesh, seeds.place(state, mesh))


@jax.jit
def _two_keys(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
  """From the keys of students [S] those of their laws, and those of their graphs and draws."""
  pairs = jax.vmap(jax.random.split)(keys)
  return pairs[:, 0], pairs[:, 1]


def untrained_students(
  model: Transformer, tasks: Sequence[StarGraph], config: Training, seed_numbers: Sequence[int], mesh: Mesh
) -> Students:
  """Networks as they are initialised, a row per (task, seed)."""
  check_one_program(tasks)
  state = initial_states(tasks, model, config, seed_numbers, mesh)
  return _known(model, tasks, config, seed_numbers, mesh, state)


def _known(
  model: Lawful | Transformer, tasks: Sequence[StarGraph], config: Training, seed_numbers: Sequence[int],
  mesh: Mesh, state: TrainState,
) -> Students:  # fmt: skip
  num_students = len(tasks) * len(seed_numbers)
  columns = {"step": int, "row": int, "loss": float, "gradient_norm": float, "trained_positions": float}
  history = pd.DataFrame(columns=list(columns)).astype(columns)
  objectives: list[ObjectiveConfig] = [MaximumLikelihood()] * len(tasks)
  is_finite = np.ones(num_students, bool)
  return Students(list(tasks), model, config, list(seed_numbers), objectives, mesh, state, is_finite, history)


class Pretender:
  """Gives experiments the students of one world in place of trained ones; see `students.Obtain`."""

  claims_only = True

  def __init__(self, world: str, mesh: Mesh):
    require(world in WORLDS, "world", world, f"one of {list(WORLDS)}")
    self.law, self.mesh = WORLDS[world], mesh

  def __call__(self, request: Request, *, params: Any = None, extra: Any = None) -> Students:
    del params, extra
    asked = request.tasks, request.training, request.seed_numbers, self.mesh
    students = untrained_students(request.model, *asked) if self.law is None else law_students(self.law, *asked)
    return students._replace(conditions=request.conditions)

  def once(self, name: str, config: Any, compute: Callable[[], Mapping[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    del name, config
    return dict(compute())
