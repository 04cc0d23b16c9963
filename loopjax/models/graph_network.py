"""A graph network: what a node's surroundings in the prompt's graph are, as seen from a walk with its goal marked.

Nodes start alike, but for a mark on the goal of the walk. In a round every node reads the embeddings of its parents and
of its children (message passing, arXiv 1704.01212). After k rounds it knows what lies within k edges of it. Labels say
which node is which, and are not read. So nodes that an automorphism of the marked graph maps to each other have the
same embedding (labelling trick, arXiv 2010.16103). Without the mark these are all chains. With it they are the wrong
ones. Random features tell these apart too (arXiv 2002.03155).

Nodes stand under their labels. A label that is not on the graph is a node without edges.

Shapes: B rows, P prompt positions, E edges, N walks of a row, V labels, F random features, D features of a node.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from loopjax.models.transformer import Dense
from loopjax.star_graph.graph import StarGraph


def adjacency(task: StarGraph, prompt: jax.Array) -> jax.Array:
  """The edges that prompts [B, P, 2] list, from parent to child, [B, V, V] with 1.0 where there is one."""
  ends = prompt if task.encoding == "edge" else jnp.stack([prompt[:, 0::2, 0], prompt[:, 1::2, 0]], axis=-1)
  one_hot = jax.nn.one_hot(ends, task.vocabulary_size)
  return jnp.einsum("bep,bec->bpc", one_hot[:, :, 0], one_hot[:, :, 1])


def random_features(draws: jax.Array, num_labels: int, num_features: int) -> jax.Array:
  """Standard normal numbers [B, N, V, F] of the walks whose random bits are `draws` [B, N], uint32."""

  def of_walk(draw: jax.Array) -> jax.Array:
    return jax.random.normal(jax.random.fold_in(jax.random.key(0), draw), (num_labels, num_features))

  return jax.vmap(jax.vmap(of_walk))(draws)


class Round(nn.Module):
  """Every node reads its parents and its children once: [B, N, V, D] -> [B, N, V, D]."""

  dtype: Any

  @nn.compact
  def __call__(self, nodes: jax.Array, edges: jax.Array) -> jax.Array:
    own = nn.RMSNorm()(nodes)
    of_parents = jnp.einsum("bpc,bnpd->bncd", edges, own)
    of_children = jnp.einsum("bpc,bncd->bnpd", edges, own)
    read = jnp.concatenate([own, of_parents, of_children], axis=-1)
    return nodes + jax.nn.relu(Dense(nodes.shape[-1], self.dtype)(read))


class GraphNetwork(nn.Module):
  """The embeddings of all nodes, as each walk of a row sees them.

  Attributes:
    num_rounds: of message passing.
    width: D.
    dtype: of the maps' operands; messages are summed up in float32.
  """

  num_rounds: int
  width: int
  dtype: Any

  @nn.compact
  def __call__(self, edges: jax.Array, marks: jax.Array, features: jax.Array) -> jax.Array:
    """Edges [B, V, V], marks [B, N, V] and random features [B, N, V, F], F perhaps 0 -> [B, N, V, D]."""
    given = jnp.concatenate([jnp.stack([marks, 1 - marks], axis=-1), features], axis=-1)
    nodes = Dense(self.width, self.dtype)(given)
    for _ in range(self.num_rounds):
      nodes = Round(self.dtype)(nodes, edges)
    return nn.RMSNorm()(nodes)
