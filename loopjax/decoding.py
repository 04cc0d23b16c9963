"""Rollouts of one student with a KV cache: it walks on its own from s until the goal or the cut.

Problems are graphs, each with R goals; a graph's prompt is read once and shared by its R rollouts. A rollout is a state
that `advance` takes some steps further, so that the caller may stop between chunks when every walk has ended
(`rollout`; data-dependent stopping stays outside the seed map). All temperatures run in one program.

A logits processor is a pure pair of functions: `init(problems) -> state` and `(state, logits, labels) -> (state,
logits)`, where labels [G, R] are the tokens just read. Processors compose in order.

Shapes: G graphs, R rollouts of a graph, W nodes of a walk, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from loopjax import encoding, star_graph, teacher, transformer
from loopjax.star_graph import START, Graph, StarGraph
from loopjax.teacher import PADDING
from loopjax.transformer import LayersKeysValues, Transformer


class Problems(NamedTuple):
  """Graphs (fields [G, ...]) and the goals of their rollouts, `goal_chain` [G, R]."""

  graphs: Graph
  goal_chain: jax.Array


class LogitsProcessor(NamedTuple):
  """A change of the next-token logits that depends on the tokens so far."""

  init: Callable[[Problems], Any]
  apply: Callable[[Any, jax.Array, jax.Array], tuple[Any, jax.Array]]


class Rollout(NamedTuple):
  """Rollouts in progress.

  Attributes:
    nodes: [G, R, W], `PADDING` after the end; N for a label that is not on the graph.
    confidence: [G, R, W], the largest next-token probability (at temperature 1) before logits processors; 0 at s.
    ended: [G, R], whether the goal was reached.
    step: how many steps have been taken: the nodes after s, until the cut.
    labels: [G, R], the token to read next.
    prompt: keys and values of the prompts.
    cache: keys and values of the walks.
    processors: the states of the logits processors.
    key: typed key.
  """

  nodes: jax.Array
  confidence: jax.Array
  ended: jax.Array
  step: jax.Array
  labels: jax.Array
  prompt: LayersKeysValues
  cache: LayersKeysValues
  processors: tuple[Any, ...]
  key: jax.Array


def sample_problems(task: StarGraph, key: jax.Array, num_graphs: int, num_rollouts: int) -> Problems:
  """Fresh graphs, each with one goal for all of its rollouts."""
  graph_key, goal_key = jax.random.split(key)
  graphs = jax.vmap(lambda k: star_graph.sample_graph(task, k))(jax.random.split(graph_key, num_graphs))
  goals = jax.vmap(lambda k: star_graph.sample_goal(task, k))(jax.random.split(goal_key, num_graphs))
  return Problems(graphs, jnp.broadcast_to(goals[:, None], (num_graphs, num_rollouts)))


def sample_token(key: jax.Array, logits: jax.Array, temperature: jax.Array) -> jax.Array:
  """Labels [...] drawn from softmax(logits [..., V] / temperature [...]); the argmax at temperature 0.

  argmax(logits + temperature * Gumbel noise) is that draw at every temperature, 0 included (the Gumbel-max trick).
  """
  noise = jax.random.gumbel(key, logits.shape)
  return jnp.argmax(logits + temperature[..., None] * noise, axis=-1)


def begin(
  task: StarGraph, model: Transformer, params: Any, problems: Problems, key: jax.Array,
  processors: Sequence[LogitsProcessor] = (),
) -> Rollout:  # fmt: skip
  """Reads the prompts, and the goals where the task shows them; every walk stands at s."""
  num_graphs, num_rollouts = problems.goal_chain.shape
  prompt = transformer.read_prompt(
    model, task, params, jax.vmap(lambda g: encoding.encode_prompt(task, g))(problems.graphs)
  )
  cache = transformer.empty_cache(model, num_graphs, num_rollouts, teacher.stream_length(task))
  if not task.goal_hidden:
    tokens = jax.vmap(lambda g, goal: encoding.goal_token(task, g, goal))(problems.graphs, problems.goal_chain)
    _, cache = transformer.decode_step(model, task, params, tokens, jnp.int32(0), prompt, cache)
  shape = (num_graphs, num_rollouts, task.max_steps)
  return Rollout(
    nodes=jnp.full(shape, PADDING).at[..., 0].set(START),
    confidence=jnp.zeros(shape),
    ended=jnp.zeros(shape[:2], bool),
    step=jnp.int32(0),
    labels=jnp.broadcast_to(problems.graphs.labels[:, START, None], shape[:2]),
    prompt=prompt,
    cache=cache,
    processors=tuple(processor.init(problems) for processor in processors),
    key=key,
  )


def _take_step(
  task: StarGraph, model: Transformer, params: Any, problems: Problems, temperature: jax.Array,
  processors: Sequence[LogitsProcessor], rollout: Rollout,
) -> Rollout:  # fmt: skip
  null = jnp.full_like(rollout.labels, encoding.null_id(task))
  tokens = jnp.stack([rollout.labels, null], axis=-1)
  index = rollout.step + (0 if task.goal_hidden else 1)
  logits, cache = transformer.decode_step(model, task, params, tokens, index, rollout.prompt, rollout.cache)
  confidence = jnp.max(jax.nn.softmax(logits), axis=-1)

  states = []
  for processor, state in zip(processors, rollout.processors, strict=True):
    new_state, logits = processor.apply(state, logits, rollout.labels)
    states.append(new_state)
  labels = sample_token(jax.random.fold_in(rollout.key, rollout.step), logits, temperature)
  nodes = jax.vmap(lambda g, label: encoding.nodes_of_labels(task, g, label))(problems.graphs, labels)
  here = rollout.step + 1  # past the cut nothing is written
  reached = (nodes == star_graph.goal_node(task, problems.goal_chain)) & (here < task.max_steps)
  return rollout._replace(
    nodes=rollout.nodes.at[..., here].set(jnp.where(rollout.ended, PADDING, nodes), mode="drop"),
    confidence=rollout.confidence.at[..., here].set(jnp.where(rollout.ended, 0.0, confidence), mode="drop"),
    ended=rollout.ended | reached,
    step=here,
    labels=labels,
    cache=cache,
    processors=tuple(states),
  )


def advance(
  task: StarGraph, model: Transformer, params: Any, problems: Problems, temperature: jax.Array, rollout: Rollout,
  *, num_steps: int, processors: Sequence[LogitsProcessor] = (),
) -> Rollout:  # fmt: skip
  """Takes every walk `num_steps` further; steps past the cut change no walk.

  Args:
    task: the task.
    model: the student's architecture.
    params: one student's parameters.
    problems: what the rollouts began with.
    temperature: [G or 1, R], at least 0; 0 takes the argmax.
    rollout: the state so far.
    num_steps: static.
    processors: the same as in `begin`.
  """

  def step(_: jax.Array, state: Rollout) -> Rollout:
    return _take_step(task, model, params, problems, temperature, processors, state)

  return jax.lax.fori_loop(0, num_steps, step, rollout)
