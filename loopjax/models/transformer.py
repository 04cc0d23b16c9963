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

from loopjax.models import attention
from loopjax.models.attention import KeysValues
from loopjax.models.computed_once import computed_once
from loopjax.models.products import product
from loopjax.runtime.config import check_fields, require, untold
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import StarGraph

# A scan copies what each iteration reads and leaves behind: a fifth of a train step at width 64, at width 768 a tenth
# even with four layers an iteration. Twelve take no longer to compile than three times four. Deeper students go in a
# loop, and so does remat, where without one XLA would keep what is to be computed again.
LAYERS_PER_ITERATION = 12

# One for every layer. Apart, not stacked: a product reads a whole array where it lies, but a copy of a part of one.
LayersKeysValues = tuple[KeysValues, ...]


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
    spare_ids: second ids of tokens that no prompt and no walk has: a remedy may tell them.
  """

  num_layers: int = 3
  num_heads: int = 4
  width: int = 64
  mlp_ratio: int = 4
  positions: str = "rotary"
  prompt_attention: str = "causal"
  matmul_dtype: str = "float32"
  remat: bool = False
  spare_ids: int = untold(0)

  def __post_init__(self) -> None:
    check_fields(self, "model")
    for name in ("num_layers", "num_heads", "width", "mlp_ratio"):
      require(getattr(self, name) >= 1, f"model.{name}", getattr(self, name), "at least 1")
    require(self.spare_ids >= 0, "model.spare_ids", self.spare_ids, "at least 0")
    heads = self.num_heads
    require(self.width % heads == 0, "model.width", self.width, f"divisible by model.num_heads={heads}")
    even = self.positions != "rotary" or (self.width // heads) % 2 == 0
    require(even, "model.width", self.width, f"an even multiple of model.num_heads={heads} for rotary positions")
    require(self.positions in ("rotary", "learned", "none"), "model.positions", self.positions, "rotary, learned, none")
    for name, allowed in (("prompt_attention", ("causal", "bidirectional")), ("matmul_dtype", ("float32", "bfloat16"))):
      require(getattr(self, name) in allowed, f"model.{name}", getattr(self, name), ", ".join(allowed))


class Output(NamedTuple):
  """What a forward pass gives, of the streams' positions.

  Attributes:
    logits: [B, R, L, V].
    hidden: [B, R, L, D], the normed residual stream after all layers, from which the head makes the logits.
    residual: on request, the residual stream after every layer, [M, B, R, L, D]; else None.
    attention: on request, attention weights over prompt, then stream, [M, B, H, R, L, P + L]; else None.
  """

  logits: jax.Array
  hidden: jax.Array
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
  """One layer: over a row or a prompt in `__call__`, over one more position of each stream in `decode`.

  A row's prompt and streams go through the maps as one, and are told apart in attention alone.
  """

  config: Transformer
  with_activations: bool = False

  def setup(self) -> None:
    width, dtype = self.config.width, jnp.dtype(self.config.matmul_dtype)
    self.attention_norm, self.mlp_norm = nn.RMSNorm(), nn.RMSNorm()
    self.query_key_value, self.attention_out = Dense(3 * width, dtype), Dense(width, dtype)
    self.mlp_in, self.mlp_out = Dense(self.config.mlp_ratio * width, dtype), Dense(width, dtype)

  def _heads(self, x: jax.Array, turns: attention.Turns | None) -> tuple[jax.Array, KeysValues]:
    """Query, keys and values [B, H, T, F] of `x` [B, T, D]."""
    heads = x.shape[:-1] + (self.config.num_heads, self.config.width // self.config.num_heads)
    parts = jnp.split(self.query_key_value(self.attention_norm(x)), 3, axis=-1)
    query, keys, values = (jnp.moveaxis(part.reshape(heads), 2, 1) for part in parts)
    if turns is not None:
      query, keys = attention.rotate(query, turns), attention.rotate(keys, turns)
    return query, KeysValues(keys, values)

  def _add(self, x: jax.Array, mixed: jax.Array) -> jax.Array:
    """The residual stream [B, T, D] after attention, given its mixed values [B, H, T, F], and after the MLP."""
    x = x + self.attention_out(jnp.moveaxis(mixed, 1, 2).reshape(x.shape))
    return x + self.mlp_out(jnp.square(jax.nn.relu(self.mlp_in(self.mlp_norm(x)))))

  def __call__(
    self, x: jax.Array, turns: attention.Turns | None, mask: attention.Masks | jax.Array
  ) -> tuple[jax.Array, tuple[KeysValues, tuple[jax.Array, jax.Array] | None]]:
    """The residual stream after it, keys and values, and activations; `mask` is a row's, or a prompt's [P, P] alone."""
    dtype = jnp.dtype(self.config.matmul_dtype)
    query, own = self._heads(x, turns)
    if not isinstance(mask, attention.Masks):
      return self._add(x, attention.attend_prompt(dtype, query, own, mask)), (own, None)
    x = self._add(x, attention.attend_row(dtype, query, own, mask))
    if not self.with_activations:
      return x, (own, None)
    weights = attention.attention_weights(dtype, *attention.split_row(query, own, mask)[1], mask.streams)
    return x, (own, (x, weights))

  def decode(
    self, x: jax.Array, turns: attention.Turns | None, prompt: KeysValues, cache: KeysValues, index: jax.Array
  ) -> tuple[jax.Array, KeysValues]:
    """Position `index` of every stream, [B, R, D]; and the cache with its keys and values added."""
    query, own = self._heads(x, turns)
    cache = _write(cache, own, index)
    is_past = jnp.arange(cache.keys.shape[1]) <= index
    return self._add(x, attention.attend_from_cache(query, cache, prompt, is_past)), cache


def _write(cache: KeysValues, new: KeysValues, index: jax.Array) -> KeysValues:
  """The cache [N, K, F] of a layer with `new` [B, H, R, F] as position `index`."""

  def write(old: jax.Array, x: jax.Array) -> jax.Array:
    x = x.astype(old.dtype).reshape(len(old), 1, -1)
    return jax.lax.dynamic_update_slice_in_dim(old, x, index, axis=1)

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
    self.num_second_ids = encoding.num_ids(task) + config.spare_ids
    self.second_embedding = self.param("second_embedding", init, (self.num_second_ids, config.width))
    if config.positions == "learned":
      shape = (encoding.max_positions(task), config.width)
      self.position_embedding = self.param("position_embedding", nn.initializers.normal(0.1), shape)
    layer = nn.remat(Layer, prevent_cse=False) if config.remat else Layer
    # The check traces a layer once more. Fresh students keep it: their draws depend on how often a layer is traced.
    self.layers = nn.scan(
      layer, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=nn.broadcast, length=config.num_layers,
      unroll=1 if config.remat else LAYERS_PER_ITERATION, check_constancy_invariants=self.is_initializing(),
    )(config, self.with_activations)  # fmt: skip
    self.final_norm = nn.RMSNorm()
    self.head = Dense(task.vocabulary_size, dtype=jnp.dtype(config.matmul_dtype))

  def embed(self, tokens: jax.Array, positions: jax.Array) -> tuple[jax.Array, attention.Turns | None]:
    """The residual stream of tokens [B, T, 2] at `positions` [B or 1, T] before all layers, and their turns."""
    config = self.config
    # As matrix products: the gradient of a gather is a scatter, slow on every platform at these sizes.
    first = jax.nn.one_hot(tokens[..., 0], self.task.vocabulary_size)
    second = jax.nn.one_hot(tokens[..., 1], self.num_second_ids)
    x = first @ self.first_embedding + second @ self.second_embedding
    if config.positions == "learned":
      x += self.position_embedding[positions]
    is_rotary = config.positions == "rotary"
    return x, attention.turns(positions, config.width // config.num_heads) if is_rotary else None

  def logits(self, x: jax.Array) -> jax.Array:
    """Of the residual stream [..., D] after all layers."""
    return self.head(self.hidden(x))

  def hidden(self, x: jax.Array) -> jax.Array:
    """What the head reads of the residual stream [..., D] after all layers."""
    return self.final_norm(x)

  def _prompt_mask(self, length: int) -> jax.Array:
    mask = jnp.ones((length, length), bool)
    return jnp.tril(mask) if self.config.prompt_attention == "causal" else mask

  def read_prompt(self, prompt: jax.Array) -> KeysValues:
    """Keys and values [M, B, H, P, F] of prompts [B, P, 2]."""
    length = prompt.shape[1]
    x, turns = self.embed(prompt, jnp.arange(length)[None])
    _, (own, _) = self.layers(x, turns, self._prompt_mask(length).T)
    return own

  def __call__(self, row: encoding.Row) -> Output:
    hidden, *activations = self.read_row(row)
    return Output(self.head(hidden), hidden, *activations)

  def read_row(
    self, row: encoding.Row, beside: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
    """What `Output` holds but for the logits; `beside` [B, R, L, D] is added to the embeddings of the streams."""
    batch, num_streams, length = row.segments.shape
    num_prompt = row.prompt.shape[1]
    tokens = jnp.concatenate([row.prompt, row.inputs.reshape(batch, -1, 2)], axis=1)
    of_prompt = jnp.broadcast_to(jnp.arange(num_prompt), (batch, num_prompt))
    positions = jnp.concatenate([of_prompt, row.positions.reshape(batch, -1)], axis=1)
    x, turns = self.embed(tokens, positions)
    if beside is not None:
      x += jnp.pad(beside.reshape(batch, -1, x.shape[-1]), [(0, 0), (num_prompt, 0), (0, 0)])
    mask = attention.row_masks(self._prompt_mask(num_prompt), segment_mask(row.segments))
    itself = mask.streams[0, 0, -1, -1]  # of the last key and query: true, as every position attends to itself
    x, (_, activations) = self.layers(x, *computed_once(itself, (turns, mask)))

    def of_streams(x: jax.Array) -> jax.Array:
      return x[..., num_prompt:, :].reshape(x.shape[:-2] + (num_streams, length, x.shape[-1]))

    residual, weights = (None, None) if activations is None else activations
    residual = None if residual is None else of_streams(residual)
    return self.final_norm(of_streams(x)), residual, weights


@functools.singledispatch
def module_of(config: Transformer, task: StarGraph, with_activations: bool = False) -> TransformerModule:
  """The student as a Flax module; an architecture that is built on this one registers its own."""
  return TransformerModule(config, task, with_activations)


def segment_mask(segments: jax.Array) -> jax.Array:
  """Which positions of its stream a position may attend to, [B, R, L, L]: the earlier ones of its own walk."""
  length = segments.shape[-1]
  causal = jnp.tril(jnp.ones((length, length), bool))
  return (segments[..., :, None] == segments[..., None, :]) & causal[None, None]


@functools.partial(jax.jit, static_argnames=("config", "task"), inline=True)
def init_params(config: Transformer, task: StarGraph, key: jax.Array) -> Any:
  """Fresh parameters of one student, float32. Without `jit`, Flax would compile each of its operations alone."""
  tokens = jnp.zeros((1, 1, 1), jnp.int32)
  row = encoding.Row(
    prompt=jnp.zeros((1, encoding.prompt_length(task), 2), jnp.int32), inputs=jnp.zeros((1, 1, 1, 2), jnp.int32),
    positions=tokens, segments=tokens, targets=tokens, weights=tokens, nodes=tokens,
    labels=jnp.zeros((1, task.num_nodes), jnp.int32), draws=tokens,
  )  # fmt: skip
  return module_of(config, task).init(key, row)["params"]


def apply(config: Transformer, task: StarGraph, params: Any, row: encoding.Row, *, activations: bool = False) -> Output:
  """The full forward pass of a batch of rows: logits at every stream position, none on the prompt.

  Args:
    config: the student's architecture.
    task: the task; its sizes.
    params: parameters of one student.
    row: fields with a leading batch axis B.
    activations: whether to return residual stream and attention weights as well.
  """
  return cast(Output, module_of(config, task, activations).apply({"params": params}, row))
