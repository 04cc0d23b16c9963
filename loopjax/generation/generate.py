"""Continuations: a decoder gives logits, processors change them, a token is drawn, until a stop token or the cut.

A prompt has R continuations, the columns; its own reading is shared by them. Continuations are a state that `advance`
takes some steps further, so that the caller may stop between chunks when every continuation has ended (decisions that
depend on data stay outside the seed map). All columns run in one program: what differs between them is traced.

Shapes: G prompts, R columns, V vocabulary, W tokens of a continuation with its first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from loopjax.generation.draws import draw
from loopjax.generation.processors import Context, Processor, Prompt, Sizes

NO_TOKEN = -1  # after the end; also where the processors have banned every token


class Decoder(NamedTuple):
  """A model that has its parameters and its prompts.

  Attributes:
    prefill: () -> the state after the prompts, which `step` takes on.
    step: (state, tokens [G, R], index) -> (logits [G, R, V], state). It reads the tokens number `index` of the
      continuations, and is asked about the next.
    extras: the state after a step -> what processors may read beside the logits, by name, such as another model's
      logits; nothing for most.
  """

  prefill: Callable[[], Any]
  step: Callable[[Any, jax.Array, jax.Array], tuple[jax.Array, Any]]
  extras: Callable[[Any], Mapping[str, jax.Array]] = lambda state: {}


class Rules(NamedTuple):
  """How tokens are drawn, and when a continuation ends.

  Attributes:
    processors: they change the logits, in this order.
    strengths: of each processor, [R] or scalar, traced.
    stop: [G, R], the token that ends a continuation; `NO_TOKEN` for none.
    observe: what is kept of every step: (the model's logits, those after all processors), both [G, R, V] -> a pytree of
      arrays [G, R, ...].
  """

  processors: Sequence[Processor]
  strengths: Sequence[jax.Array]
  stop: jax.Array
  observe: Callable[[jax.Array, jax.Array], Any] = lambda plain, changed: ()


class Continuations(NamedTuple):
  """Continuations in progress.

  Attributes:
    tokens: [G, R, W]; `NO_TOKEN` after the end.
    observed: what the rules observe, leaves [G, R, W - 1, ...], asked at each token; 0 after the end.
    ended: [G, R], whether the continuation has ended.
    stuck: [G, R], whether it ended because the processors had banned every token.
    step: how many tokens have been drawn.
    model: the decoder's state.
    processors: the processors' states.
    keys: [R] typed keys, of the draws.
  """

  tokens: jax.Array
  observed: Any
  ended: jax.Array
  stuck: jax.Array
  step: jax.Array
  model: Any
  processors: tuple[Any, ...]
  keys: jax.Array


def begin(
  decoder: Decoder, rules: Rules, prompt: Prompt, first: jax.Array, keys: jax.Array, *, vocabulary: int, length: int
) -> Continuations:
  """Reads the prompts; every continuation holds its first token alone.

  Args:
    decoder: the model.
    rules: how tokens will be drawn.
    prompt: what the processors are told of the prompts.
    first: [G, R], the first token of each continuation, which is given.
    keys: [R] typed keys.
    vocabulary: V.
    length: W.
  """
  shape, sizes = first.shape, Sizes(first.shape[0], first.shape[1], vocabulary, length)
  logits = jax.ShapeDtypeStruct((*shape, vocabulary), jnp.float32)
  one = jax.eval_shape(rules.observe, logits, logits)
  return Continuations(
    tokens=jnp.full((*shape, length), NO_TOKEN).at[..., 0].set(first),
    observed=jax.tree.map(lambda leaf: jnp.zeros((*shape, length - 1, *leaf.shape[2:]), leaf.dtype), one),
    ended=jnp.zeros(shape, bool),
    stuck=jnp.zeros(shape, bool),
    step=jnp.int32(0),
    model=decoder.prefill(),
    processors=tuple(processor.init(prompt, sizes) for processor in rules.processors),
    keys=keys,
  )


def _process(rules: Rules, states: tuple[Any, ...], logits: jax.Array, context: Context) -> tuple[Any, jax.Array]:
  """The processors' next states, and the logits after all of them."""
  following = []
  for processor, strength, state in zip(rules.processors, rules.strengths, states, strict=True):
    new_state, logits = processor.apply(strength, state, logits, context)
    following.append(new_state)
  return tuple(following), logits


def newest_first(tokens: jax.Array, step: jax.Array) -> jax.Array:
  """Tokens [..., W] up to number `step`, which comes first, then the one before it; `NO_TOKEN` where there is none."""
  length = tokens.shape[-1]
  backwards = jnp.concatenate([tokens[..., ::-1], jnp.full_like(tokens, NO_TOKEN)], axis=-1)
  return jax.lax.dynamic_slice_in_dim(backwards, length - 1 - step, length, axis=-1)


def _take_step(decoder: Decoder, rules: Rules, before: Continuations) -> Continuations:
  """One token more; past the cut nothing is written."""
  read = before.tokens[..., before.step]
  plain, model = decoder.step(before.model, jnp.maximum(read, 0), before.step)
  keys = jax.vmap(lambda key: jax.random.fold_in(key, before.step))(before.keys)
  context = Context(read, before.step, keys, newest_first(before.tokens, before.step), decoder.extras(model))
  states, logits = _process(rules, before.processors, plain, context)
  stuck = ~jnp.any(jnp.isfinite(logits), axis=-1)  # the argmax of nothing would silently be token 0
  tokens = jnp.where(stuck | before.ended, NO_TOKEN, draw(keys, logits))
  here = before.step + 1
  runs = ~before.ended & (here < before.tokens.shape[-1])

  def write(old: jax.Array, new: jax.Array) -> jax.Array:
    ended = before.ended.reshape(before.ended.shape + (1,) * (new.ndim - 2))
    return old.at[:, :, before.step].set(jnp.where(ended, 0, new), mode="drop")

  return Continuations(
    tokens=before.tokens.at[..., here].set(tokens, mode="drop"),
    observed=jax.tree.map(write, before.observed, rules.observe(plain, logits)),
    ended=before.ended | (runs & (stuck | (tokens == rules.stop))),
    stuck=before.stuck | (runs & stuck),
    step=here,
    model=model,
    processors=states,
    keys=before.keys,
  )


def advance(decoder: Decoder, rules: Rules, continuations: Continuations, *, num_steps: int) -> Continuations:
  """Takes every continuation `num_steps` (static) further; steps past the cut change none."""
  return jax.lax.fori_loop(0, num_steps, lambda _, state: _take_step(decoder, rules, state), continuations)
