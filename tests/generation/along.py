"""Processors along given tokens, outside of any generation; and one of each with strengths that are not neutral."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.remedy_catalogue import DECODING
from loopjax.generation import generate
from loopjax.generation.processors import Context, Processor, Prompt, Sizes, all_processors
from loopjax.generation.processors.early_stop import EarlyStop
from loopjax.generation.processors.loop_temperature import LoopTemperature

VOCABULARY, LENGTH, PROMPTS, COLUMNS = 5, 24, 2, 3


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


def reads(processor: Processor) -> set[str]:
  """Which of the text (`tokens`, `recent`) and the random `keys` its change of the logits depends on, step by step."""
  given = jax.tree.map(jnp.asarray, case())
  state, extras = processor.init(Prompt(given.prompt), given.sizes), {n: value[0] for n, value in given.extras.items()}
  told = {"tokens": given.tokens[..., 0], "recent": given.tokens, "keys": given.keys}

  def apply(told):
    return processor.apply(jnp.ones(COLUMNS), state, given.logits[0], Context(step=jnp.int32(1), extras=extras, **told))

  jaxpr = jax.make_jaxpr(apply)(told).jaxpr
  used = {id(variable) for equation in jaxpr.eqns for variable in equation.invars}
  return {name for name, variable in zip(sorted(told), jaxpr.invars, strict=True) if id(variable) in used}


class _Strengths(dict):
  def __missing__(self, name: str):
    raise LookupError(
      f"{name}: no strengths to test it with. Enter the processor in DECODING in experiments/remedy_catalogue.py."
    )


STRENGTHS = _Strengths({remedy.processor.name: remedy.strengths for remedy in DECODING.values()})
"""Of every processor the three strengths at which the comparison of remedies tries it; none is neutral."""
STRENGTHS["temperature"] = (0.5, 0.375, 0.25)  # the comparison has it as its reference

# Where the default of a field looks further back than the texts here are long, with which nothing would show.
SHORT = {
  "early_stop": EarlyStop(longest=8),
  "loop_temperature": LoopTemperature(window=12, steps=2, half_life=2, coldest=0.3),
}
ONE_OF_EACH = tuple(SHORT.get(name) or kind() for name, kind in all_processors().items())

MAY_BAN_ALL = ("early_stop", "no_repeat_ngram", "contrastive_search")
"""Processors that may leave no token; their docstrings say so."""
