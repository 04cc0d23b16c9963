"""Students that say hints before they walk: the walking half of `reversed_chain`.

After the prompt and the goal the student says its hints, one by one, each the likeliest label, whatever the temperature
of the walk. They stay in its cache, and the walk begins at s.

Shapes: G graphs, R rollouts, W nodes of a walk.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from loopjax.models import decoding
from loopjax.models.transformer import Transformer
from loopjax.remedies import loss_hints, reversed_chain
from loopjax.star_graph import encoding, student_functions
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.streams import stream_length
from loopjax.star_graph.student_functions import Problems, Student
from loopjax.star_graph.teacher import TeacherProbabilities


@dataclasses.dataclass(frozen=True)
class Hinted:
  """A student that says hints before it walks, in place of its model.

  Attributes:
    model: its architecture.
  """

  model: Transformer


@student_functions.walking_model.register(reversed_chain.ReversedChain)
@student_functions.walking_model.register(loss_hints.LossHints)
def _walking_model(objective: Any, model: Transformer) -> Hinted:
  del objective
  return Hinted(model)


@student_functions.functions_of.register
def _hinted(model: Hinted, task: StarGraph) -> Student:
  network, hints = model.model, reversed_chain.check(task, model.model)

  def begin(params: Any, probabilities: TeacherProbabilities, problems: Problems) -> Any:
    del probabilities
    prompts = jax.vmap(functools.partial(encoding.encode_prompt, task))(problems.graphs)
    prompt = decoding.read_prompt(network, task, params, prompts)
    num_graphs, num_rollouts = problems.goal_chain.shape
    cache = decoding.empty_cache(network, num_graphs, num_rollouts, stream_length(task) + hints)
    tokens = jax.vmap(functools.partial(encoding.goal_token, task))(*problems)

    def say(carry: Any, index: jax.Array) -> tuple[Any, jax.Array]:
      tokens, cache = carry
      logits, cache = decoding.decode_step(network, task, params, tokens, index, prompt, cache)
      said = jnp.argmax(logits, axis=-1).astype(tokens.dtype)
      return (tokens.at[..., 0].set(said), cache), said

    (tokens, cache), _ = jax.lax.scan(say, (tokens, cache), jnp.arange(hints))
    _, cache = decoding.decode_step(network, task, params, tokens, jnp.int32(hints), prompt, cache)
    return prompt, cache

  def step(params: Any, state: Any, labels: jax.Array, index: jax.Array) -> tuple[jax.Array, Any]:
    prompt, cache = state
    tokens = jnp.stack([labels, jnp.full_like(labels, encoding.null_id(task))], axis=-1)
    logits, cache = decoding.decode_step(network, task, params, tokens, index + hints + 1, prompt, cache)
    return logits, (prompt, cache)

  def read(params: Any, probabilities: TeacherProbabilities, problems: Problems, walks: jax.Array) -> jax.Array:
    nodes = jnp.clip(walks[..., :-1], 0, task.num_nodes - 1)
    labels = jax.vmap(lambda graph, nodes: graph.labels[nodes])(problems.graphs, nodes)

    def take(state: Any, index: jax.Array) -> tuple[Any, jax.Array]:
      logits, state = step(params, state, labels[..., index], index)
      return state, logits

    _, logits = jax.lax.scan(take, begin(params, probabilities, problems), jnp.arange(labels.shape[-1]))
    return jnp.moveaxis(logits, 0, 2)

  return Student(begin, step, read)
