"""The student: a decoder-only Flax transformer over rows of a prompt and R streams (see `encoding`).

A layer is pre-norm attention and a squared-ReLU MLP. The prompt is read once; its keys and values
serve all streams of the row, in training as in decoding. Layers are scanned, a few at a time, so compile time does not
grow with depth.

Shapes: B batch, P prompt positions, R streams, L positions of a stream, K positions of the cache, T positions read in
this call (P + R L of a row, P of a prompt, R in decoding), M layers, H heads, F = D / H, D model width, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from loopjax import attention, encoding
from loopjax.attention import KeysValues
from loopjax.computed_once import computed_once
from loopjax.config import require
from loopjax.products import product
from loopjax.star_graph import StarGraph

# A scan copies what each iteration reads and leaves behind: a fifth of a train step at width 64, at width 768 a tenth
# even with four layers an iteration. Twelve take no longer to compile than three times four. Deeper students go in a
# loop, and so does remat, where without one XLA would keep what is to be computed again.
LAYERS_PER_ITERATION = 12


@dataclasses.dataclass(frozen=True)
class Transformer:
  """The student's architecture.

  Attributes:
    num_layers: M.
    num_heads: H; the width is divisible by it.
    width: D, the residual stream.
    mlp_ratio: the MLP's hidden width over D.
    positions: `rotary`, `learned` or `none`.
    prompt_attention: `causal` or `bidirectional`, of the prompt to itself.
    matmul_dtype: operands of matrix products, `float32` or `bfloat16`; they accumulate in float32.
    remat: whether a layer's activations are computed again in the backward pass instead of being kept.
  """

  num_layers: int = 3
  num_heads: int = 4
  width: int = 64
  mlp_ratio: int = 4
  positions: str = "rotary"
  prompt_attention: str = "causal"
  matmul_dtype: str = "float32"
  remat: bool = False

  def __post_init__(self) -> None:
    for name in ("num_layers", "num_heads", "width", "mlp_ratio"):
      require(getattr(self, name) >= 1, f"model.{name}", getattr(self, name), "at least 1")
    heads = self.num_heads
    require(self.width % heads == 0, "model.width", self.width, f"divisible by model.num_heads={heads}")
    even = self.positions != "rotary" or (self.width // heads) % 2 == 0
    require(even, "model.width", self.width, f"an even multiple of model.num_heads={heads} for rotary positions")
    require(self.positions in ("rotary", "learned", "none"), "model.positions", self.positions, "rotary, learned, none")
    attention = self.prompt_attention
    require(attention in ("causal", "bidirectional"), "model.prompt_attention", attention, "causal, bidirectional")
    dtype = self.matmul_dtype
    require(dtype in ("float32", "bfloat16"), "model.matmul_dtype", dtype, "float32, bfloat16")


class Output(NamedTuple):
  """What a forward pass gives, of the streams' positions.

  Attributes:
    logits: [B, R, L, V].
    residual: on request, the residual stream after every layer, [M, B, R, L, D]; else None.
    attention: on request, attention weights over prompt, then stream, [M, B, H, R, L, P + L]; else None.
  """

  logits: jax.Array
  residual: jax.Array | None = None
  attention: jax.Array | None = None


def kernel_init(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
  """A kernel [D, E], uniform with deviation 1 / sqrt(3 D), PyTorch's default for linear maps.

  A scale found by measurement: docs/learning.md.
  """
  bound = shape[0] ** -0.5
  return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


class Dense(nn.Module):
  """A linear map without bias whose product runs in `dtype`."""

  features: int
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    kernel = self.param("kernel", kernel_init, (x.shape[-1], self.features))
    return product("...d,de->...e", self.dtype, x, kernel)


class Layer(nn.Module):
  """One layer: over a whole row, over a prompt alone, or, given a cache, over one position of each stream.

  A row's prompt and streams go through the maps as one, and are told apart in attention alone. `mask` says which keys a
  query may attend to: `attention.Masks` of a row, [P, P] of a prompt alone, keys first, and given a cache [K].

  The cache of all layers is handed on from layer to layer, each writing and then reading its own part: so XLA sees that
  it can stay where it is.
  """

  config: Transformer
  with_activations: bool = False

  @nn.compact
  def __call__(
    self, carry: tuple[jax.Array, KeysValues | None], prompt: KeysValues | None, layer: jax.Array,
    turns: attention.Turns | None, mask: attention.Masks | jax.Array, cache_index: jax.Array | int,
  ) -> tuple[tuple[jax.Array, KeysValues | None], tuple[KeysValues, tuple[jax.Array, jax.Array] | None]]:  # fmt: skip
    x, cache = carry
    config, dtype = self.config, jnp.dtype(self.config.matmul_dtype)
    dense = functools.partial(Dense, dtype=dtype)
    normed = nn.RMSNorm(name="attention_norm")(x)
    projected = dense(3 * config.width, name="query_key_value")(normed)
    heads = x.shape[:-1] + (config.num_heads, config.width // config.num_heads)
    query, keys, values = (jnp.moveaxis(part.reshape(heads), 2, 1) for part in jnp.split(projected, 3, axis=-1))
    if turns is not None:
      query, keys = attention.rotate(query, turns), attention.rotate(keys, turns)
    own = KeysValues(keys, values)
    if isinstance(mask, attention.Masks):
      mixed = attention.attend_row(dtype, query, own, mask)
    elif cache is None or prompt is None:
      mixed = attention.attend_prompt(dtype, query, own, mask)
    else:
      cache = _write(cache, own, layer, cache_index)
      mixed = attention.attend_from_cache(query, KeysValues(*(part[layer] for part in cache)), prompt, mask)
    x = x + dense(config.width, name="attention_out")(jnp.moveaxis(mixed, 1, 2).reshape(x.shape))
    hidden = dense(config.mlp_ratio * config.width, name="mlp_in")(nn.RMSNorm(name="mlp_norm")(x))
    x = x + dense(config.width, name="mlp_out")(jnp.square(jax.nn.relu(hidden)))
    if not self.with_activations or not isinstance(mask, attention.Masks):
      return (x, cache), (own, None)
    weights = attention.attention_weights(dtype, *attention.split_row(query, own, mask)[1], mask.streams)
    return (x, cache), (own, (x, weights))


def _write(cache: KeysValues, new: KeysValues, layer: jax.Array, index: jax.Array | int) -> KeysValues:
  """The cache [M, B, H, R, K, F] with `new` [B, H, R, F] as position `index` of one layer."""
  zero = jnp.int32(0)
  where = (layer, zero, zero, zero, jnp.int32(index), zero)

  def write(old: jax.Array, x: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_slice(old, x[None, :, :, :, None].astype(old.dtype), where)

  return jax.tree.map(write, cache, new)


class TransformerModule(nn.Module):
  """The student as a Flax module; use it through `init_params`, `apply`, `read_prompt` and `decode_step`."""

  config: Transformer
  task: StarGraph
  with_activations: bool = False

  def setup(self) -> None:
    config, task = self.config, self.task
    init = nn.initializers.normal(1.0)
    self.first_embedding = self.param("first_embedding", init, (task.vocabulary_size, config.width))
    self.second_embedding = self.param("second_embedding", init, (encoding.num_ids(task), config.width))
    if config.positions == "learned":
      shape = (encoding.max_positions(task), config.width)
      self.position_embedding = self.param("position_embedding", nn.initializers.normal(0.1), shape)
    layer = nn.remat(Layer, prevent_cse=False) if config.remat else Layer
    self.layers = nn.scan(
      layer,
      variable_axes={"params": 0},
      split_rngs={"params": True},
      in_axes=(0, 0, nn.broadcast, nn.broadcast, nn.broadcast),
      length=config.num_layers,
      unroll=1 if config.remat else LAYERS_PER_ITERATION,
    )(config, self.with_activations)
    self.final_norm = nn.RMSNorm()
    self.head = Dense(task.vocabulary_size, dtype=jnp.dtype(config.matmul_dtype))

  def _embed(self, tokens: jax.Array, positions: jax.Array) -> jax.Array:
    # As matrix products: the gradient of a gather is a scatter, slow on every platform at these sizes.
    first = jax.nn.one_hot(tokens[..., 0], self.task.vocabulary_size)
    second = jax.nn.one_hot(tokens[..., 1], encoding.num_ids(self.task))
    x = first @ self.first_embedding + second @ self.second_embedding
    return x + self.position_embedding[positions] if self.config.positions == "learned" else x

  def _turns(self, positions: jax.Array) -> attention.Turns | None:
    config = self.config
    return attention.turns(positions, config.width // config.num_heads) if config.positions == "rotary" else None

  def _prompt_mask(self, length: int) -> jax.Array:
    mask = jnp.ones((length, length), bool)
    return jnp.tril(mask) if self.config.prompt_attention == "causal" else mask

  def _read(
    self, tokens: jax.Array, positions: jax.Array, mask: attention.Masks | jax.Array, prompt: KeysValues | None = None,
    cache: KeysValues | None = None, cache_index: jax.Array | int = 0,
  ) -> Any:  # fmt: skip
    """Tokens [B, T, 2] at `positions` [B or 1, T] through all layers: what `Layer` gives, stacked."""
    layers, turns = jnp.arange(self.config.num_layers), self._turns(positions)
    if isinstance(mask, attention.Masks):
      itself = mask.streams[0, 0, -1, -1]  # of the last key and query: true, as every position attends to itself
      mask, turns = computed_once(itself, (mask, turns))
    return self.layers((self._embed(tokens, positions), cache), prompt, layers, turns, mask, cache_index)

  def read_prompt(self, prompt: jax.Array) -> KeysValues:
    length = prompt.shape[1]
    _, (own, _) = self._read(prompt, jnp.arange(length)[None], self._prompt_mask(length).T)
    return cast(KeysValues, own)

  def decode_step(
    self, tokens: jax.Array, position: jax.Array, prompt: KeysValues, cache: KeysValues, index: jax.Array
  ) -> tuple[jax.Array, KeysValues]:
    mask = jnp.arange(cache.keys.shape[4]) <= index
    (x, cache), _ = self._read(tokens, position[None, None], mask, prompt, cache, index)
    return self.head(self.final_norm(x)), cache

  def __call__(self, row: encoding.Row) -> Output:
    batch, num_streams, length = row.segments.shape
    num_prompt = row.prompt.shape[1]
    tokens = jnp.concatenate([row.prompt, row.inputs.reshape(batch, -1, 2)], axis=1)
    of_prompt = jnp.broadcast_to(jnp.arange(num_prompt), (batch, num_prompt))
    positions = jnp.concatenate([of_prompt, row.positions.reshape(batch, -1)], axis=1)
    mask = attention.row_masks(self._prompt_mask(num_prompt), segment_mask(row.segments))
    (x, _), (_, activations) = self._read(tokens, positions, mask)

    def of_streams(x: jax.Array) -> jax.Array:
      return x[..., num_prompt:, :].reshape(x.shape[:-2] + (num_streams, length, x.shape[-1]))

    residual, weights = (None, None) if activations is None else activations
    residual = None if residual is None else of_streams(residual)
    return Output(self.head(self.final_norm(of_streams(x))), residual, weights)


def segment_mask(segments: jax.Array) -> jax.Array:
  """Which positions of its stream a position may attend to, [B, R, L, L]: the earlier ones of its own walk."""
  length = segments.shape[-1]
  causal = jnp.tril(jnp.ones((length, length), bool))
  return (segments[..., :, None] == segments[..., None, :]) & causal[None, None]


def init_params(config: Transformer, task: StarGraph, key: jax.Array) -> Any:
  """Fresh parameters of one student, float32."""
  tokens = jnp.zeros((1, 1, 1), jnp.int32)
  row = encoding.Row(
    prompt=jnp.zeros((1, encoding.prompt_length(task), 2), jnp.int32),
    inputs=jnp.zeros((1, 1, 1, 2), jnp.int32),
    positions=tokens, segments=tokens, targets=tokens, weights=tokens, nodes=tokens,
    labels=jnp.zeros((1, task.num_nodes), jnp.int32),
  )  # fmt: skip
  return TransformerModule(config, task).init(key, row)["params"]


def apply(config: Transformer, task: StarGraph, params: Any, row: encoding.Row, *, activations: bool = False) -> Output:
  """The full forward pass of a batch of rows: logits at every stream position, none on the prompt.

  Args:
    config: the student's architecture.
    task: the task; its sizes.
    params: parameters of one student.
    row: fields with a leading batch axis B.
    activations: whether to return residual stream and attention weights as well.
  """
  return cast(Output, TransformerModule(config, task, activations).apply({"params": params}, row))


def _for_decoding(config: Transformer, x: KeysValues) -> KeysValues:
  """Keys and values in the type in which a decoding step reads them: converted once, not at every step.

  A CPU, whatever its units, has XLA widen bfloat16 where one query meets many keys: there float32 is kept.
  """
  dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.dtype(config.matmul_dtype)
  return jax.tree.map(lambda a: a.astype(dtype), x)


def read_prompt(config: Transformer, task: StarGraph, params: Any, prompt: jax.Array) -> KeysValues:
  """Keys and values of the prompts [B, P, 2], for `decode_step`: computed once, shared by all rollouts of a graph."""
  module = TransformerModule(config, task)
  return _for_decoding(config, cast(KeysValues, module.apply({"params": params}, prompt, method="read_prompt")))


def empty_cache(config: Transformer, batch: int, num_streams: int, length: int) -> KeysValues:
  """Zeros [M, B, H, R, K, F] for R rollouts of K positions on each of B graphs."""
  zeros = jnp.zeros((config.num_layers, batch, config.num_heads, num_streams, length, config.width // config.num_heads))
  return _for_decoding(config, KeysValues(zeros, zeros))


def decode_step(
  config: Transformer, task: StarGraph, params: Any, tokens: jax.Array, index: jax.Array, prompt: KeysValues,
  cache: KeysValues,
) -> tuple[jax.Array, KeysValues]:  # fmt: skip
  """Reads position `index` of every stream: tokens [B, R, 2] -> logits [B, R, V] and the cache with it added."""
  module = TransformerModule(config, task)
  inputs = (tokens, encoding.prompt_length(task) + index, prompt, cache, index)
  return cast(tuple[jax.Array, KeysValues], module.apply({"params": params}, *inputs, method="decode_step"))
