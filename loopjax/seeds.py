"""From a function of one seed to many seeds over all devices of all processes: the only place that knows of seeds.

Seeds are split over the mesh axis `seed` by `shard_map`, so that a device runs its own seeds and no others; on a device
they run by `vmap` or `lax.map`. A second mesh axis `data` splits the batch of one big student.

Shapes: S seeds, the leading axis of every mapped leaf.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from loopjax.config import environment_number, require

SEED, DATA = "seed", "data"
PROGRAMS = 8  # of a kind that are kept compiled: runs that differ in traced values alone share one

# XLA leaves matrix products to the YNN library, but sums are left to it as well by default, and those over rows, as in
# the gradient of a norm's scale, then take ten times as long: a tenth of a train step.
CPU_COMPILER_OPTIONS: dict[str, str | int | bool] = {
  "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
}
# Compiles in a quarter to half of the time and runs three to five times as long; results differ by rounding.
_BRIEF_OPTIONS = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
_BRIEF_POSITIONS = 2**14  # of a student: tens of students then run for less than the compilation saves


_runs_long = False


def expect_long_runs() -> None:
  """Has every program of this process compiled well: for thousands of seeds no program takes less time than that."""
  global _runs_long  # noqa: PLW0603
  _runs_long = True


def is_brief(num_positions: int) -> bool:
  """Whether a student reads so few positions that the program is better compiled quickly than well.

  Count those of one student: how many students run beside must not change its results, not even by rounding.
  """
  return num_positions <= _BRIEF_POSITIONS


def compiler_options(*, brief: bool) -> dict[str, str | int | bool] | None:
  """For `jax.jit`, on a CPU; `brief`: for a program that takes less time to run than to compile."""
  if jax.default_backend() != "cpu":
    return None
  return CPU_COMPILER_OPTIONS | (_BRIEF_OPTIONS if brief and not _runs_long else {})


def block(first_seed: int, num_seeds: int) -> range:
  """`num_seeds` seeds from `first_seed` on; `ValueError` where there are none, or they are no keys of jax."""
  require(num_seeds >= 1, "num_seeds", num_seeds, "at least 1")
  require(0 <= first_seed <= 2**31 - num_seeds, "first_seed", first_seed, f"0 to 2^31 - num_seeds={num_seeds}")
  return range(first_seed, first_seed + num_seeds)


def use_all_cores() -> None:
  """One simulated device per core where jax runs on the CPU, unless the user chose; call before the first use of jax.

  A core then runs seeds of its own without waiting for the others inside every operation.
  """
  if "JAX_NUM_CPU_DEVICES" not in os.environ and "xla_force_host_platform_device_count" not in os.environ.get(
    "XLA_FLAGS", ""
  ):
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))


def initialize_distributed() -> None:
  """Joins the other processes where the usual environment names several; else does nothing.

  That is JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or what SLURM's srun and Open MPI's mpirun set.

  Raises:
    ValueError: some of these variables are set without the others, or one that must be a whole number is none.
  """
  if any(os.environ.get(name) for name in _OWN):
    why = f"{', '.join(_OWN)} belong together"
    address = os.environ.get(_OWN[0], "")
    require(bool(address), _OWN[0], address, f"the first process's host:port: {why}")
    num_processes, process_id = (environment_number(name, why) for name in _OWN[1:])
    require(process_id < num_processes, _OWN[2], process_id, f"below {_OWN[1]}={num_processes}")
    jax.distributed.initialize(address, num_processes, process_id)
  elif any(_is_launched(*variables) for variables in _LAUNCHERS):
    jax.distributed.initialize()


_OWN = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_LAUNCHERS = (  # how many processes there are; where they meet; which of them this is
  ("SLURM_NTASKS", "SLURM_STEP_NODELIST", ("SLURM_JOB_ID", "SLURM_PROCID", "SLURM_LOCALID")),
  ("OMPI_COMM_WORLD_SIZE", "OMPI_MCA_orte_hnp_uri", ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK")),
)


def _is_launched(size: str, place: str, numbers: Sequence[str]) -> bool:
  """Whether a launcher started several processes; `ValueError` where it left out what they need to find each other."""
  if not os.environ.get(size) or environment_number(size, "it counts the processes") <= 1:
    return False
  why = f"{size}={os.environ[size]}; start all processes with srun or mpirun, or set {size}=1"
  for name in numbers:
    environment_number(name, why)
  require(bool(os.environ.get(place)), place, os.environ.get(place, ""), f"set: {why}")
  return True


def device_mesh(num_data: int = 1) -> Mesh:
  """All devices as a mesh [seed, data]; raises `ValueError` where `num_data` does not divide their number."""
  num_devices = jax.device_count()
  require(num_data >= 1 and num_devices % num_data == 0, "num_data", num_data, f"a divisor of {num_devices} devices")
  return jax.make_mesh((num_devices // num_data, num_data), (SEED, DATA), axis_types=(AxisType.Auto, AxisType.Auto))


def place(tree: Any, mesh: Mesh) -> Any:
  """Puts `tree` [S, ...] on the mesh, seeds over devices. S is first padded to a multiple of the devices.

  The padding repeats the last seed; `to_host` cuts it off again. Every process gives the same `tree`.
  """
  num_devices = mesh.shape[SEED]
  sharding = NamedSharding(mesh, PartitionSpec(SEED))

  def pad(leaf: jax.Array) -> jax.Array:
    missing = -leaf.shape[0] % num_devices
    return jnp.concatenate([leaf] + [leaf[-1:]] * missing) if missing else leaf

  def put(leaf: jax.Array) -> jax.Array:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      return jax.random.wrap_key_data(put(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
    whole = np.asarray(leaf)  # every process has it, and gives its own devices their rows
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

  return jax.tree.map(lambda leaf: put(pad(leaf)), tree)


def to_host(tree: Any, num_seeds: int) -> Any:
  """The first `num_seeds` of every leaf as NumPy arrays, on every process."""
  if jax.process_count() > 1:
    tree = multihost_utils.process_allgather(tree, tiled=True)
  return jax.tree.map(lambda leaf: np.asarray(leaf)[:num_seeds], tree)


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

  return jax.jit(sharded, donate_argnums=(0,) if donate else (), compiler_options=compiler_options(brief=brief))
