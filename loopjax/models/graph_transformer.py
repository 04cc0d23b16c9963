"""The student with a graph network beside it: it sees from a node's embedding where the node lies towards the goal.

A graph network reads the prompt's edges with the walk's goal marked (`graph_network`). Its embedding of a node is added
where the walk reads that node's label. And a label's logit gets the product of its node's embedding and a query that
the student makes at each position. So at r the student can ask for the child on the goal's chain, before it has been
there. Child and goal are l - 1 edges apart: so many rounds tell the goal's child from the others, fewer do not.

Random features are numbers drawn once a walk for every node. They say nothing about graph or goal. They differ between
chains that are alike otherwise, so students at temperature 0 need not take the same one in every walk. They are
randomness, as a temperature is.

What to know before use:

- The rest is the student as it is, with the same initial parameters.
- In training the random features follow from the row's key. A walking student draws them from the graph, its number,
  and the column.
- An objective whose rows are not those of `teacher_forcing` calls `with_draws` on them.
- A student with hints (`remedies.hinted`) is not supported when it walks.

Shapes: B rows or graphs, P prompt positions, R streams, L stream positions, W walks of a stream, V labels, M model
width, D features of a node.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from loopjax.models import decoding, graph_network
from loopjax.models.transformer import (
  Dense,
  LayersKeysValues,
  Output,
  Transformer,
  TransformerModule,
  module_of,
)
from loopjax.runtime import config as configs
from loopjax.runtime.config import require
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import StarGraph

_OF_DRAWS = 2**31 - 11  # folded into a row's key, far from what splitting it gives to graph and walks


@dataclasses.dataclass(frozen=True)
class GraphTransformer(Transformer):
  """A student's architecture with a graph network.

  Attributes:
    graph_rounds: of message passing; 0 leaves every node its mark and its random features.
    node_width: D, the features of a node.
    random_features: how many random features a node has; 0: all follows from graph and goal.
  """

  graph_rounds: int = 3
  node_width: int = 8
  random_features: int = 0

  def __post_init__(self) -> None:
    super().__post_init__()
    require(self.node_width >= 1, "model.node_width", self.node_width, "at least 1")
    for name in ("graph_rounds", "random_features"):
      require(getattr(self, name) >= 0, f"model.{name}", getattr(self, name), "at least 0")


def matched(plain: Transformer, task: StarGraph, *, random_features: int = 0) -> GraphTransformer:
  """A student with a graph network, to be compared with the plain one: as many rounds as a chain has nodes.

  It has the same layers. At width 64 with two layers the graph network adds 2% of the parameters and 3% to 7% of the
  floating point operations of a training step. Deeper and wider students get less of both.
  """
  fields = {field.name: getattr(plain, field.name) for field in dataclasses.fields(Transformer)}
  return GraphTransformer(**fields, graph_rounds=task.chain_length, random_features=random_features)


def from_json(data: Mapping[str, Any], name: str) -> Transformer:
  """The architecture with the fields in `data`, with a graph network where there are any of its fields."""
  kind = GraphTransformer if "graph_rounds" in data else Transformer
  return configs.from_json(kind, data, name)


def most_walks(task: StarGraph, length: int) -> int:
  """W, the walks that begin in a stream of `length` positions at most: the shortest enters one chain, the goal's."""
  shortest = task.chain_length + (1 if task.goal_hidden else 2)
  return length // shortest + 1


class GraphTransformerModule(TransformerModule):
  """The student with its graph network as a Flax module."""

  config: GraphTransformer

  def setup(self) -> None:
    super().setup()
    config, dtype = self.config, jnp.dtype(self.config.matmul_dtype)
    self.graph_network = graph_network.GraphNetwork(config.graph_rounds, config.node_width, dtype)
    self.node_in, self.node_query = Dense(config.width, dtype), Dense(config.node_width, dtype)

  def nodes(self, prompt: jax.Array, marks: jax.Array, draws: jax.Array | None) -> jax.Array:
    """Embeddings [B, N, V, D] for N walks on each of the prompts [B, P, 2], given marks [B, N, V] and bits [B, N]."""
    num_features, features = self.config.random_features, jnp.zeros((*marks.shape, 0))
    if num_features > 0:
      require(draws is not None, "model.random_features", num_features, "0 where rows have no draws (`with_draws`)")
      features = graph_network.random_features(cast(jax.Array, draws), marks.shape[-1], num_features)
    return self.graph_network(graph_network.adjacency(self.task, prompt), marks, features)

  def beside(self, nodes: jax.Array, labels: jax.Array) -> jax.Array:
    """What is added to the embeddings [..., M] of tokens with `labels` [...], given all nodes' [..., V, D]."""
    one_hot = jax.nn.one_hot(labels, self.task.vocabulary_size)
    return self.node_in(jnp.einsum("...v,...vd->...d", one_hot, nodes))

  def logits_from(self, hidden: jax.Array, nodes: jax.Array) -> jax.Array:
    """Logits [..., V], given what the head reads, [..., M], and all nodes' embeddings [..., V, D]."""
    query = self.node_query(hidden) / self.config.node_width**0.5
    return self.head(hidden) + jnp.einsum("...d,...vd->...v", query, nodes)

  def read_last(self, x: jax.Array, nodes: jax.Array) -> jax.Array:
    """Logits of the residual stream [..., M] after all layers."""
    return self.logits_from(self.final_norm(x), nodes)

  def __call__(self, row: encoding.Row) -> Output:
    nodes = self._nodes_of_row(row)
    hidden, *activations = self.read_row(row, self.beside(nodes, row.inputs[..., 0]))
    return Output(self.logits_from(hidden, nodes), hidden, *activations)

  def _nodes_of_row(self, row: encoding.Row) -> jax.Array:
    """The embeddings of all nodes at every position, as its own walk sees them, [B, R, L, V, D].

    A walk is told its goal by its first input alone. So nothing here depends on what comes later, or on other walks.
    """
    task, (batch, num_streams, length) = self.task, row.segments.shape
    own = jax.nn.one_hot(row.segments, most_walks(task, length))
    first = own * (row.positions == row.prompt.shape[1])[..., None]
    goals = jax.nn.one_hot(row.inputs[..., 0], task.vocabulary_size)
    goals *= (row.inputs[..., 1] == encoding.goal_id(task))[..., None]
    marks = jnp.einsum("brlw,brlv->brwv", first, goals).reshape(batch, -1, task.vocabulary_size)
    draws = row.draws
    if draws is not None:
      draws = jnp.max(jnp.where(first > 0, draws[..., None], 0), axis=2).reshape(batch, -1)
    nodes = self.nodes(row.prompt, marks, draws)
    return jnp.einsum("brlw,brwvd->brlvd", own, nodes.reshape(batch, num_streams, -1, *nodes.shape[2:]))


@module_of.register(GraphTransformer)
def _module(config: GraphTransformer, task: StarGraph, with_activations: bool = False) -> GraphTransformerModule:
  return GraphTransformerModule(config, task, with_activations)


def reads_draws(model: Transformer) -> bool:
  """Whether rows for this student need `Row.draws`."""
  return isinstance(model, GraphTransformer) and model.random_features > 0


def with_draws(model: Transformer, row: encoding.Row, key: jax.Array) -> encoding.Row:
  """A training row with the random bits of its walks where the student reads them; `key` is the row's."""
  if not reads_draws(model):
    return row
  return row._replace(draws=jax.random.bits(jax.random.fold_in(key, _OF_DRAWS), row.segments.shape))


def with_walking_draws(model: Transformer, rows: encoding.Row) -> encoding.Row:
  """Rows [B, ...] of one walk a stream with the random bits that these walks have when the student walks itself."""
  if not reads_draws(model):
    return rows
  draws = walking_draws(rows.prompt, rows.segments.shape[1])
  return rows._replace(draws=jnp.broadcast_to(draws[..., None], rows.segments.shape))


def walking_draws(prompt: jax.Array, num_streams: int) -> jax.Array:
  """The random bits [B, R] of walks on prompts [B, P, 2]: pseudo-random, from the graph, its number and the column."""
  keys = encoding.graph_keys(prompt.reshape(len(prompt), -1))
  return jax.vmap(lambda key: jax.random.bits(key, (num_streams,)))(keys)


class GraphPrompt(NamedTuple):
  """What decoding keeps of the prompts: keys and values, and the tokens [B, P, 2], which the graph network reads."""

  layers: LayersKeysValues
  tokens: jax.Array


class GraphCache(NamedTuple):
  """What decoding keeps of the walks: keys and values, and all nodes' embeddings [B, R, V, D] once they have begun."""

  layers: LayersKeysValues
  nodes: jax.Array | None


@decoding.read_prompt.register(GraphTransformer)
def _read_prompt(config: GraphTransformer, task: StarGraph, params: Any, prompt: jax.Array) -> GraphPrompt:
  return GraphPrompt(decoding.read_prompt.dispatch(Transformer)(config, task, params, prompt), prompt)


@decoding.empty_cache.register(GraphTransformer)
def _empty_cache(config: GraphTransformer, batch: int, num_streams: int, length: int) -> GraphCache:
  return GraphCache(decoding.empty_cache.dispatch(Transformer)(config, batch, num_streams, length), None)


@decoding.read_goals.register(GraphTransformer)
def _read_goals(
  config: GraphTransformer, task: StarGraph, params: Any, goals: jax.Array | None, prompt: GraphPrompt,
  cache: GraphCache,
) -> GraphCache:  # fmt: skip
  batch = len(prompt.tokens)
  num_streams = len(cache.layers[0].keys) // (batch * config.num_heads)
  marks = jnp.zeros((batch, num_streams, task.vocabulary_size))
  marks = marks if goals is None else jax.nn.one_hot(goals[..., 0], task.vocabulary_size)
  draws = walking_draws(prompt.tokens, num_streams) if reads_draws(config) else None
  nodes = module_of(config, task).apply({"params": params}, prompt.tokens, marks, draws, method="nodes")
  cache = cache._replace(nodes=cast(jax.Array, nodes))
  return cache if goals is None else _decode_step(config, task, params, goals, jnp.int32(0), prompt, cache)[1]


@decoding.decode_step.register(GraphTransformer)
def _decode_step(
  config: GraphTransformer, task: StarGraph, params: Any, tokens: jax.Array, index: jax.Array, prompt: GraphPrompt,
  cache: GraphCache,
) -> tuple[jax.Array, GraphCache]:  # fmt: skip
  require(cache.nodes is not None, "model", config, "a Transformer here: walks are not begun by `decoding.read_goals`")
  module, nodes = module_of(config, task), cast(jax.Array, cache.nodes)
  beside = cast(jax.Array, module.apply({"params": params}, nodes, tokens[..., 0], method="beside"))
  x, layers = decoding.read_position(config, task, params, tokens, index, prompt.layers, cache.layers, beside)
  logits = module.apply({"params": params}, x, nodes, method="read_last")
  return cast(jax.Array, logits), GraphCache(layers, nodes)
