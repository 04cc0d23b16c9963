"""What tests of students begin with: packed teacher rows, random rows, and parameters without the time to make them.

Shapes: B rows.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from loopjax.models import transformer
from loopjax.models.transformer import Transformer
from loopjax.star_graph import encoding, teacher
from loopjax.star_graph.encoding import Row
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.streams import stream_length


@functools.cache
def sample_packed(task: StarGraph, rows: int, streams: int, length: int) -> Row:
  """A batch of packed teacher rows, fields [B, ...]; kept, since the sampler takes seconds to compile."""
  probabilities = teacher.teacher_probabilities(task)
  sample = lambda key: encoding.sample_row(task, probabilities, key, num_streams=streams, length=length, packed=True)
  return jax.jit(jax.vmap(sample))(jax.random.split(jax.random.key(0), rows))


def random_batch(task: StarGraph, rows: int, streams: int) -> Row:
  """Rows of random tokens, one walk of the longest length in each stream."""
  rng = np.random.default_rng(0)
  length, num_prompt = stream_length(task), encoding.prompt_length(task)
  limits = (task.vocabulary_size, encoding.num_ids(task))
  tokens = lambda *shape: jnp.asarray(np.stack([rng.integers(limit, size=shape) for limit in limits], axis=-1))
  zeros = jnp.zeros((rows, streams, length), jnp.int32)
  return Row(
    prompt=tokens(rows, num_prompt),
    inputs=tokens(rows, streams, length),
    positions=zeros + num_prompt + np.arange(length)[None, None],
    segments=zeros, targets=zeros, weights=zeros, nodes=zeros, labels=jnp.zeros((rows, task.num_nodes), jnp.int32),
  )  # fmt: skip


def shapes_of(model: Transformer, task: StarGraph):
  return jax.eval_shape(lambda key: transformer.init_params(model, task, key), jax.random.key(0))


def random_params(model: Transformer, task: StarGraph, seed: int = 0):
  """Parameters with no structure (norm scales differ too), without the seconds that `init_params` takes to compile."""
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    if path[-1].key == "scale":
      return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32)
    deviation = leaf.shape[-2] ** -0.5 if path[-1].key == "kernel" else 1.0
    return jnp.asarray(deviation * rng.normal(size=leaf.shape), jnp.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes_of(model, task))


def walks_alone(batch: Row, length: int) -> tuple[Row, list[tuple[int, int, np.ndarray]]]:
  """Each walk of a packed batch as a row of its own with one stream, and where it was: (row, stream, its positions)."""
  fields = jax.tree.map(np.asarray, batch)
  where = []
  for row, stream in np.ndindex(fields.segments.shape[:2]):
    segments = fields.segments[row, stream]
    where += [(row, stream, np.flatnonzero(segments == walk)) for walk in np.unique(segments)]

  def alone(name, value):
    if name in ("prompt", "labels"):
      return np.stack([value[row] for row, _, _ in where])
    out = np.zeros((len(where), 1, length, *value.shape[3:]), value.dtype)
    for i, (row, stream, positions) in enumerate(where):
      out[i, 0, : len(positions)] = value[row, stream, positions]
    return out

  given = {name: value for name, value in fields._asdict().items() if value is not None}
  arranged = Row(**{name: jnp.asarray(alone(name, value)) for name, value in given.items()})
  return arranged._replace(segments=jnp.zeros_like(arranged.segments)), where


def equations(jaxpr) -> list:
  """All equations of a jaxpr, those of inner ones included."""
  found = []
  for equation in jaxpr.eqns:
    found.append(equation)
    for parameter in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
      inner = getattr(parameter, "jaxpr", parameter)
      found += equations(inner) if hasattr(inner, "eqns") else []
  return found
