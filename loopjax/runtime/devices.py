"""Devices and processes: how many there are, their mesh, and how programs are compiled for them."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh

from loopjax.runtime.config import environment_number, require

SEED, DATA = "seed", "data"

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
  """For `jax.jit`, on a CPU; `brief`: for a program that takes less time to run than to compile.

  Options that this version of XLA does not have are left out.
  """
  if jax.default_backend() != "cpu":
    return None
  wanted = CPU_COMPILER_OPTIONS | (_BRIEF_OPTIONS if brief and not _runs_long else {})
  return {option: value for option, value in wanted.items() if _is_known(option, value)}


@functools.cache
def _is_known(option: str, value: str | int | bool) -> bool:
  """Whether XLA has a compile option: it is asked to compile next to nothing with it."""
  try:
    jax.jit(lambda x: x, compiler_options={option: value}).lower(0.0).compile()
  except jax.errors.JaxRuntimeError:
    return False
  return True


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
