"""The student, one position at a time: keys and values of prompts and of walks so far are kept.

Shapes: B graphs, P prompt positions, R streams, K positions of the cache, N = B H R rows of it, F features of a head,
V vocabulary.
"""

from __future__ import annotations

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp

from loopjax.models.attention import KeysValues
from loopjax.models.computed_once import computed_once
from loopjax.models.transformer import Layer, LayersKeysValues, Transformer, module_of
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import StarGraph


def _for_decoding(config: Transformer, x: KeysValues) -> KeysValues:
  """Keys and values in the type in which a decoding step reads them: converted once, not at every step.

  Where one query meets many keys a CPU is no faster in bfloat16, if it multiplies it at all: there float32 is kept.
  """
  dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.dtype(config.matmul_dtype)
  return jax.tree.map(lambda a: a.astype(dtype), x)


@functools.singledispatch
def read_prompt(config: Transformer, task: StarGraph, params: Any, prompt: jax.Array) -> Any:
  """Keys and values of the prompts [B, P, 2], for `decode_step`: computed once, shared by all rollouts of a graph."""
  own = module_of(config, task).apply({"params": params}, prompt, method="read_prompt")
  own = _for_decoding(config, cast(KeysValues, own))
  return tuple(KeysValues(*layer) for layer in zip(*own, strict=True))


@functools.singledispatch
def empty_cache(config: Transformer, batch: int, num_streams: int, length: int) -> Any:
  """Zeros [N, K, F] for R rollouts of K positions on each of B graphs."""
  zeros = jnp.zeros((batch * config.num_heads * num_streams, length, config.width // config.num_heads))
  return (_for_decoding(config, KeysValues(zeros, zeros)),) * config.num_layers


@functools.singledispatch
def read_goals(
  config: Transformer, task: StarGraph, params: Any, goals: jax.Array | None, prompt: Any, cache: Any
) -> Any:
  """The cache of walks that are about to begin at s, given their goals [B, R, 2], None where these are not told."""
  return cache if goals is None else decode_step(config, task, params, goals, jnp.int32(0), prompt, cache)[1]


@functools.singledispatch
def decode_step(
  config: Transformer, task: StarGraph, params: Any, tokens: jax.Array, index: jax.Array, prompt: Any, cache: Any
) -> tuple[jax.Array, Any]:
  """Reads position `index` of every stream: tokens [B, R, 2] -> logits [B, R, V] and the cache with it added."""
  x, cache = read_position(config, task, params, tokens, index, prompt, cache)
  return cast(jax.Array, module_of(config, task).apply({"params": params}, x, method="logits")), cache


def read_position(
  config: Transformer, task: StarGraph, params: Any, tokens: jax.Array, index: jax.Array, prompt: LayersKeysValues,
  cache: LayersKeysValues, beside: jax.Array | None = None,
) -> tuple[jax.Array, LayersKeysValues]:  # fmt: skip
  """As `decode_step`, up to the residual stream after all layers; `beside` [B, R, D] is added to the embeddings."""
  position = (encoding.prompt_length(task) + index)[None, None]
  x, turns = module_of(config, task).apply({"params": params}, tokens, position, method="embed")
  x = x if beside is None else x + beside
  turns = computed_once(index >= 0, turns)  # else sine and cosine in all that reads them, for every feature anew
  added: list[KeysValues] = []
  for i, (of_prompt, own) in enumerate(zip(prompt, cache, strict=True)):
    layer = {"params": jax.tree.map(lambda a, i=i: a[i], params["layers"])}
    x, with_position = cast(Any, Layer(config).apply(layer, x, turns, of_prompt, own, index, method="decode"))
    added.append(with_position)
  return x, tuple(added)
