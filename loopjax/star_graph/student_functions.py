"""What rollouts and analyses ask of one student, whether it is a trained network or a law whose truth is known.

A network is a `Transformer` with parameters; it may have a graph network (`graph_transformer`). The laws are in
`null_worlds`, which registers them here.

Shapes: G graphs, R rollouts of a graph, W nodes of a walk, V vocabulary, C children of the root.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from loopjax.models import decoding, graph_transformer, transformer
from loopjax.models.transformer import Transformer
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import Graph, StarGraph
from loopjax.star_graph.streams import stream_length
from loopjax.star_graph.teacher import TeacherProbabilities


class Problems(NamedTuple):
  """Graphs (fields [G, ...]) and the goals of their rollouts, `goal_chain` [G, R]."""

  graphs: Graph
  goal_chain: jax.Array


class Student(NamedTuple):
  """The functions of one student. All are pure, and know nothing of seeds.

  Attributes:
    begin: (params, probabilities, problems) -> its state after the prompts, before s is read. `probabilities` are the
      teacher's; a network does not look at them.
    step: (params, state, labels [G, R], index) -> (logits [G, R, V], state). It reads the labels of the nodes `index`,
      and answers for the nodes that follow.
    read: (params, probabilities, problems, walks [G, R, W]) -> logits [G, R, W - 1, V]. It reads whole walks, and
      answers at node i for node i + 1. Past the end of a walk, and from a label off the graph on, the answer is
      arbitrary.
    extras: a state after a step -> what logits processors may read beside the logits (`generate.Decoder`).
  """

  begin: Callable[[Any, TeacherProbabilities, Problems], Any]
  step: Callable[[Any, Any, jax.Array, jax.Array], tuple[jax.Array, Any]]
  read: Callable[[Any, TeacherProbabilities, Problems, jax.Array], jax.Array]
  extras: Callable[[Any], Mapping[str, jax.Array]] = lambda state: {}


@functools.singledispatch
def functions_of(model: Any, task: StarGraph) -> Student:
  """The functions of students of this kind; `model` is a `Transformer`, or `null_worlds.Lawful`.

  Raises:
    TypeError: it is neither.
  """
  raise TypeError(f"model={model!r} is not allowed: must be a Transformer or Lawful, for {task}")


@functools.singledispatch
def walking_model(objective: Any, model: Any) -> Any:
  """What stands in the model's place when students of an objective walk: the model, where a remedy registers no other.

  Args:
    objective: what they were trained for.
    model: their architecture.
  """
  del objective
  return model


class SecondIds(NamedTuple):
  """What stands beside the labels of walks as the second ids of their tokens (`encoding`), where it is not the null id.

  Attributes:
    begin: problems -> a pytree of arrays, told once a rollout.
    of: (that pytree, labels [G, R], index) -> ids [G, R], of the nodes `index` with these labels.
  """

  begin: Callable[[Problems], Any]
  of: Callable[[Any, jax.Array, jax.Array], jax.Array]


class _NetworkState(NamedTuple):
  """What `decoding` keeps of the prompts and of the walks so far, and what `SecondIds` keeps."""

  prompt: Any
  cache: Any
  told: Any


@functions_of.register
def _network(model: Transformer, task: StarGraph) -> Student:
  return network(
    model, task, SecondIds(lambda problems: (), lambda _, labels, index: jnp.full_like(labels, encoding.null_id(task)))
  )


def network(model: Transformer, task: StarGraph, second_ids: SecondIds) -> Student:
  """The functions of a network whose walks have these second ids."""

  def begin(params: Any, probabilities: TeacherProbabilities, problems: Problems) -> _NetworkState:
    del probabilities
    prompts = jax.vmap(lambda graph: encoding.encode_prompt(task, graph))(problems.graphs)
    prompt = decoding.read_prompt(model, task, params, prompts)
    num_graphs, num_rollouts = problems.goal_chain.shape
    cache = decoding.empty_cache(model, num_graphs, num_rollouts, stream_length(task))
    goals = None if task.goal_hidden else jax.vmap(functools.partial(encoding.goal_token, task))(*problems)
    cache = decoding.read_goals(model, task, params, goals, prompt, cache)
    return _NetworkState(prompt, cache, second_ids.begin(problems))

  def step(params: Any, state: _NetworkState, labels: jax.Array, index: jax.Array) -> tuple[jax.Array, _NetworkState]:
    tokens = jnp.stack([labels, second_ids.of(state.told, labels, index)], axis=-1)
    position = index + (0 if task.goal_hidden else 1)
    logits, cache = decoding.decode_step(model, task, params, tokens, position, state.prompt, state.cache)
    return logits, state._replace(cache=cache)

  def read(params: Any, probabilities: TeacherProbabilities, problems: Problems, walks: jax.Array) -> jax.Array:
    del probabilities
    rows = encoding.encode_walks(task, *problems, walks)
    first = stream_length(task) - (task.max_steps - 1)  # where s stands in a stream
    told, labels = second_ids.begin(problems), rows.inputs[:, :, first:, 0]
    of_nodes = jax.vmap(lambda labels, index: second_ids.of(told, labels, index), in_axes=(2, 0), out_axes=2)
    rows = rows._replace(inputs=rows.inputs.at[:, :, first:, 1].set(of_nodes(labels, jnp.arange(labels.shape[2]))))
    rows = graph_transformer.with_walking_draws(model, rows)
    return transformer.apply(model, task, params, rows).logits[:, :, first:]

  return Student(begin, step, read)


def child_logits(task: StarGraph, graphs: Graph, logits: jax.Array) -> jax.Array:
  """Of logits [G, R, ..., V] those of the children of the root, [G, R, ..., C], in the order of their chains."""
  labels = graphs.labels[:, task.children()]
  return jax.vmap(lambda of_graph, chosen: jnp.take(of_graph, chosen, axis=-1))(logits, labels)
