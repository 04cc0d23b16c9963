"""Processors along given tokens, outside of any generation; and one of each with a strength that is not neutral."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from loopjax.generation import generate
from loopjax.generation.processors import PROCESSORS, Context, Processor, Prompt, Sizes, all_processors
from loopjax.generation.processors.early_stop import EarlyStop
from loopjax.generation.processors.loop_temperature import LoopTemperature

VOCABULARY, LENGTH, PROMPTS, COLUMNS = 5, 24, 2, 3
all_processors()


class Case(NamedTuple):
  """What a processor meets: tokens [G, R, W], logits [W, G, R, V], prompts [G, P], what the decoder tells, keys [R]."""

  tokens: np.ndarray
  logits: np.ndarray
  prompt: np.ndarray
  extras: dict[str, np.ndarray]
  keys: jax.Array

  @property
  def sizes(self) -> Sizes:
    return Sizes(*self.tokens.shape[:2], self.logits.shape[-1], self.tokens.shape[-1])

  def at(self, *, prompts=slice(None), columns=slice(None)) -> Case:
    """Some of the rows."""
    extras = {name: value[:, prompts][:, :, columns] for name, value in self.extras.items()}
    tokens, logits = self.tokens[prompts][:, columns], self.logits[:, prompts][:, :, columns]
    prompt = None if self.prompt is None else self.prompt[prompts]
    return Case(tokens, logits, prompt, extras, self.keys[columns])


def case(seed: int = 0, *, length: int = LENGTH, banned: float = 0.0) -> Case:
  """Column 0 is a loop of three tokens, the others are random; a share of logits is banned, but no row's all."""
  rng, shape = np.random.default_rng(seed), (PROMPTS, COLUMNS)
  tokens = rng.integers(VOCABULARY, size=(*shape, length))
  tokens[:, 0, 4:] = np.resize([0, 1, 2], length - 4)
  logits = (2.0 * rng.normal(size=(length, *shape, VOCABULARY))).astype(np.float32)
  logits[..., 1:][rng.random(size=logits[..., 1:].shape) < banned] = -np.inf
  similarity = rng.uniform(-1, 1, size=logits.shape).astype(np.float32)
  similarity[..., 3:] = np.inf
  extras = {"amateur": rng.normal(size=logits.shape).astype(np.float32), "similarity": similarity}
  prompt = rng.integers(VOCABULARY, size=(PROMPTS, 6))
  return Case(tokens, logits, prompt, extras, jax.random.split(jax.random.key(seed), COLUMNS))


@functools.cache
def program(processor: Processor) -> Any:
  """(strength, state, case, steps) -> the state and the logits after the steps."""

  @jax.jit
  def run(strength, state, case, steps):
    def step(state, index):
      keys = jax.vmap(lambda key: jax.random.fold_in(key, index))(case.keys)
      extras = {name: value[index] for name, value in case.extras.items()}
      recent = generate.newest_first(case.tokens, index)
      context = Context(case.tokens[..., index], index, keys, recent, extras)
      return processor.apply(strength, state, case.logits[index], context)

    return jax.lax.scan(step, state, steps)

  return run


def processed(processor: Processor, strength: Any, given: Case, between: Any = lambda *x: x) -> np.ndarray:
  """The logits [W, G, R, V] after the processor, half of the steps at a time; `between` may change state and case."""
  given, num_steps = jax.tree.map(jnp.asarray, given), len(given.logits)
  state, strength = processor.init(Prompt(given.prompt), given.sizes), jnp.asarray(strength, jnp.float32)
  given = given._replace(prompt=None)  # only `init` reads it
  steps = jnp.arange(num_steps).reshape(2, -1)
  state, first = program(processor)(strength, state, given, steps[0])
  state, given = between(state, given)
  return np.concatenate([first, program(processor)(strength, state, given, steps[1])[1]])


OTHER = {
  "contrastive_decoding": 1.0, "contrastive_search": 0.6, "dry": 0.8, "dynamic_temperature": 0.5, "early_stop": 3.0,
  "epsilon": 0.2, "eta": 0.3, "frequency_penalty": 0.5, "loop_temperature": 1.5, "lz_penalty": 0.5, "min_p": 0.5,
  "no_repeat_ngram": 2.0, "presence_penalty": 0.5, "probability_penalty": 1.5, "repetition_aware": 0.1,
  "repetition_penalty": 1.5, "temperature": 0.5, "top_k": 2.0, "top_n_sigma": 0.5, "top_p": 0.5, "typical": 0.5,
  "xtc": 0.8,
}  # fmt: skip
"""A strength that is not neutral, of every processor."""

SHORT = {  # their defaults look further back than the texts here are long
  "early_stop": EarlyStop(longest=8),
  "loop_temperature": LoopTemperature(window=12, steps=2, half_life=2, coldest=0.3),
}
ONE_OF_EACH = tuple(SHORT.get(name) or PROCESSORS[name]() for name in sorted(OTHER))
