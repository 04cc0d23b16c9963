"""Students for the two contrastive strategies, which need more of a network than its logits.

Each is a frozen config that stands in place of the model, as `students._replace(model=LookingAhead(students.model))`.
The processor of the same strategy then finds what it needs.

Shapes: G graphs, R rollouts of a graph, V vocabulary, D model width.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from loopjax.generation import contrastive_decoding, contrastive_search
from loopjax.generation.generate import Decoder
from loopjax.generation.processors import Sizes
from loopjax.models import decoding
from loopjax.models.transformer import Transformer, module_of
from loopjax.runtime.config import require
from loopjax.star_graph import encoding, student_functions
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.student_functions import Problems, Student
from loopjax.star_graph.teacher import TeacherProbabilities


class Pair(NamedTuple):
  """The parameters of an expert and of its amateur."""

  expert: Any
  amateur: Any


@dataclasses.dataclass(frozen=True)
class BesideAmateur:
  """A student that is decoded beside an amateur of the same architecture; its parameters are a `Pair`.

  Attributes:
    model: their architecture.
  """

  model: Transformer


@dataclasses.dataclass(frozen=True)
class LookingAhead:
  """A student that looks one token ahead, for contrastive search.

  Attributes:
    model: its architecture, without a graph network.
    k: candidates that are looked at, for each of which the network takes one more step.
  """

  model: Transformer
  k: int = 4

  def __post_init__(self) -> None:
    require(type(self.model) is Transformer, "model", self.model, "a Transformer without a graph network")


def _nothing(params: Any) -> None:
  """What a decoder that is only asked to go on begins with."""
  del params


_NO_WALKS = Sizes(0, 0, 0, 0)  # what a decoder tells does not depend on its sizes


def _sizes(task: StarGraph, walks: jax.Array) -> Sizes:
  """Of walks [G, R]."""
  num_graphs, num_rollouts = walks.shape
  return Sizes(num_graphs, num_rollouts, task.vocabulary_size, task.max_steps)


@student_functions.functions_of.register
def _beside_amateur(model: BesideAmateur, task: StarGraph) -> Student:
  own = student_functions.functions_of(model.model, task)

  def one(params: Any, begin: Any) -> Decoder:
    return Decoder(functools.partial(begin, params), functools.partial(own.step, params))

  def decoder(params: Pair, begin: Any, sizes: Sizes) -> Decoder:
    return contrastive_decoding.beside(one(params.expert, begin), one(params.amateur, begin), sizes)

  def begin(params: Pair, probabilities: TeacherProbabilities, problems: Problems) -> Any:
    return decoder(
      params, lambda one: own.begin(one, probabilities, problems), _sizes(task, problems.goal_chain)
    ).prefill()

  def step(params: Pair, state: Any, labels: jax.Array, index: jax.Array) -> tuple[jax.Array, Any]:
    return decoder(params, _nothing, _sizes(task, labels)).step(state, labels, index)

  def read(params: Pair, *asked: Any) -> jax.Array:
    return own.read(params.expert, *asked)

  return Student(begin, step, read, decoder(Pair(None, None), _nothing, _NO_WALKS).extras)


class _WithHidden(NamedTuple):
  """A network's state, and its hidden states at the last token read, [G, R, D]: what the head reads."""

  prompt: Any
  cache: Any
  hidden: jax.Array


@student_functions.functions_of.register
def _looking_ahead(model: LookingAhead, task: StarGraph) -> Student:
  network, own = model.model, student_functions.functions_of(model.model, task)

  def begin_network(params: Any, probabilities: TeacherProbabilities, problems: Problems) -> _WithHidden:
    begun = own.begin(params, probabilities, problems)
    return _WithHidden(begun.prompt, begun.cache, jnp.zeros((*problems.goal_chain.shape, network.width)))

  def step_network(
    params: Any, state: _WithHidden, labels: jax.Array, index: jax.Array
  ) -> tuple[jax.Array, _WithHidden]:
    tokens = jnp.stack([labels, jnp.full_like(labels, encoding.null_id(task))], axis=-1)
    position = index + (0 if task.goal_hidden else 1)
    x, cache = decoding.read_position(network, task, params, tokens, position, state.prompt, state.cache)
    hidden, logits = (
      cast(jax.Array, module_of(network, task).apply({"params": params}, x, method=name))
      for name in ("hidden", "logits")
    )
    return logits, _WithHidden(state.prompt, cache, hidden)

  def decoder(params: Any, prefill: Any, sizes: Sizes) -> Decoder:
    plain = Decoder(prefill, functools.partial(step_network, params))
    return contrastive_search.looking_ahead(plain, lambda state: state.hidden, sizes, k=model.k)

  def begin(params: Any, probabilities: TeacherProbabilities, problems: Problems) -> Any:
    prefill = functools.partial(begin_network, params, probabilities, problems)
    return decoder(params, prefill, _sizes(task, problems.goal_chain)).prefill()

  def step(params: Any, state: Any, labels: jax.Array, index: jax.Array) -> tuple[jax.Array, Any]:
    return decoder(params, None, _sizes(task, labels)).step(state, labels, index)

  return Student(begin, step, own.read, decoder(None, None, _NO_WALKS._replace(vocabulary=task.vocabulary_size)).extras)
