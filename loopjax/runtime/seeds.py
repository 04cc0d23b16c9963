"""From a function of one seed to many seeds over all devices of all processes: the only place that knows of seeds.

Seeds are split over the mesh axis `seed` by `shard_map`, so that a device runs its own seeds and no others; on a device
they run by `vmap` or `lax.map`. A second mesh axis `data` splits the batch of one big student.

Shapes: S seeds, the leading axis of every mapped leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from loopjax.runtime.config import require
from loopjax.runtime.devices import SEED, compiler_options

PROGRAMS = 32  # of a kind that are kept compiled: runs that differ in traced values alone share one


def block(first_seed: int, num_seeds: int) -> range:
  """`num_seeds` seeds from `first_seed` on; `ValueError` where there are none, or they are no keys of jax."""
  require(num_seeds >= 1, "num_seeds", num_seeds, "at least 1")
  require(0 <= first_seed <= 2**31 - num_seeds, "first_seed", first_seed, f"0 to 2^31 - num_seeds={num_seeds}")
  return range(first_seed, first_seed + num_seeds)


def place(tree: Any, mesh: Mesh) -> Any:
  """Puts `tree` [S, ...] on the mesh, seeds over devices. S is first padded to a multiple of the devices.

  The padding repeats the last seed; `to_host` cuts it off again. Every process gives the same `tree`.
  """
  num_devices = mesh.shape[SEED]
  sharding = NamedSharding(mesh, PartitionSpec(SEED))

  def put(leaf: jax.Array) -> jax.Array:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      return jax.random.wrap_key_data(put(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
    whole = np.asarray(leaf)  # every process has it, and gives its own devices their rows
    padding = [whole[-1:]] * (-len(whole) % num_devices)
    whole = np.concatenate([whole, *padding]) if padding else whole  # by jax it would be a program for each shape
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

  return jax.tree.map(put, tree)


def to_host(tree: Any, num_seeds: int) -> Any:
  """The first `num_seeds` of every leaf as NumPy arrays, on every process."""
  return jax.tree.map(lambda leaf: _whole(leaf)[:num_seeds], tree)


def _whole(leaf: Any) -> np.ndarray:
  """The array on the host, with what other processes hold of it."""
  is_spread = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
  return np.asarray(multihost_utils.process_allgather(leaf, tiled=True) if is_spread else leaf)


def join_rows(parts: Sequence[tuple[Any, slice | Sequence[int]]], mesh: Mesh) -> Any:
  """From several trees [S, ...] of one structure the rows named beside each, one after the other, on the mesh.

  By way of the host: by jax it would be a program for every choice of rows.
  """

  def join(*leaves: jax.Array) -> Any:
    if jax.dtypes.issubdtype(leaves[0].dtype, jax.dtypes.prng_key):
      return jax.random.wrap_key_data(join(*map(jax.random.key_data, leaves)), impl=jax.random.key_impl(leaves[0]))
    chosen = (rows if isinstance(rows, slice) else np.asarray(rows, int) for _, rows in parts)
    return np.concatenate([_whole(leaf)[rows] for leaf, rows in zip(leaves, chosen, strict=True)])

  return place(jax.tree.map(join, *(tree for tree, _ in parts)), mesh)


def map_seeds(
  function: Callable[..., Any], mesh: Mesh, *, seeds_per_batch: int | None = None, donate: bool = False,
  brief: bool = False,
) -> jax.stages.Wrapped:  # fmt: skip
  """Maps `function(mapped, *shared)` over the seeds of `mapped` [S, ...]; compiled, each device running its own seeds.

  What comes back is a program of its own, with compiler options: not to be called under another `jit`.

  Args:
    function: of one seed. May use the mesh axis `data`; its results must then agree over that axis.
    mesh: from `device_mesh`.
    seeds_per_batch: seeds that a device runs at once by `vmap`; the batches follow each other. By default 1 on a CPU,
      where `vmap` turns matrix products into slower batched ones, and all on accelerators.
    donate: whether the memory of `mapped` may be used for the results.
    brief: whether the program takes less time to run than to compile: it is then compiled quickly.
  """
  if seeds_per_batch is None and jax.default_backend() == "cpu":
    seeds_per_batch = 1

  def local(mapped: Any, *shared: Any) -> Any:
    def one(seed: Any) -> Any:
      return function(seed, *shared)

    if seeds_per_batch is None:
      return jax.vmap(one)(mapped)
    return jax.lax.map(one, mapped, batch_size=None if seeds_per_batch == 1 else seeds_per_batch)

  # check_vma=False: with it, gradients of parameters created inside would be summed over devices without a word.
  def sharded(mapped: Any, *shared: Any) -> Any:
    specs = (PartitionSpec(SEED), *(PartitionSpec() for _ in shared))
    return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(SEED), check_vma=False)(
      mapped, *shared
    )

  name = getattr(function, "__qualname__", "sharded")  # a partial has none
  sharded.__name__ = name.replace(".<locals>", "")  # what a profile calls the program
  return jax.jit(sharded, donate_argnums=(0,) if donate else (), compiler_options=compiler_options(brief=brief))
