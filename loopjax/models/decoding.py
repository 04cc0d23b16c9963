"""The student, one position at a time: keys and values of prompts and of walks so far are kept.

Shapes: B graphs, P prompt positions, R streams, K positions of the cache, N = B H R rows of it, F features of a head,
V vocabulary.
"""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp

from loopjax.models.attention import KeysValues
from loopjax.models.computed_once import computed_once
from loopjax.models.transformer import Layer, LayersKeysValues, Transformer, TransformerModule
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import StarGraph


def _for_decoding(config: Transformer, x: KeysValues) -> KeysValues:
  """Keys and values in the type in which a decoding step reads them: converted once, not at every step.

  Where one query meets many keys a CPU is no faster in bfloat16, if it multiplies it at all: there float32 is kept.
  """
  dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.dtype(config.matmul_dtype)
  return jax.tree.map(lambda a: a.astype(dtype), x)


def read_prompt(config: Transformer, task: StarGraph, params: Any, prompt: jax.Array) -> LayersKeysValues:
  """Keys and values of the prompts [B, P, 2], for `decode_step`: computed once, shared by all rollouts of a graph."""
  module = TransformerModule(config, task)
  own = _for_decoding(config, cast(KeysValues, module.apply({"params": params}, prompt, method="read_prompt")))
  return tuple(KeysValues(*layer) for layer in zip(*own, strict=True))


def empty_cache(config: Transformer, batch: int, num_streams: int, length: int) -> LayersKeysValues:
  """Zeros [N, K, F] for R rollouts of K positions on each of B graphs."""
  zeros = jnp.zeros((batch * config.num_heads * num_streams, length, config.width // config.num_heads))
  return (_for_decoding(config, KeysValues(zeros, zeros)),) * config.num_layers


def decode_step(
  config: Transformer, task: StarGraph, params: Any, tokens: jax.Array, index: jax.Array, prompt: LayersKeysValues,
  cache: LayersKeysValues,
) -> tuple[jax.Array, LayersKeysValues]:  # fmt: skip
  """Reads position `index` of every stream: tokens [B, R, 2] -> logits [B, R, V] and the cache with it added."""
  module = TransformerModule(config, task)
  position = (encoding.prompt_length(task) + index)[None, None]
  x, turns = module.apply({"params": params}, tokens, position, method="embed")
  turns = computed_once(index >= 0, turns)  # else sine and cosine in all that reads them, for every feature anew
  added: list[KeysValues] = []
  for i, (of_prompt, own) in enumerate(zip(prompt, cache, strict=True)):
    layer = {"params": jax.tree.map(lambda a, i=i: a[i], params["layers"])}
    x, with_position = cast(Any, Layer(config).apply(layer, x, turns, of_prompt, own, index, method="decode"))
    added.append(with_position)
  return cast(jax.Array, module.apply({"params": params}, x, method="logits")), tuple(added)
