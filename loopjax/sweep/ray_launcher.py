"""Runs the units of a sweep on a Ray cluster: each a task in a worker process of its own, tried again where that dies.

Ray is an extra: `pip install loopjax[cluster]`. All machines must see the sweep's folder under the same path.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from loopjax.runtime import compilation_cache
from loopjax.sweep import launch
from loopjax.sweep.launch import Outcome, State
from loopjax.sweep.store import Compute
from loopjax.sweep.units import Unit
from loopjax.training import metric_sinks

SECONDS_TO_SAVE = 300.0  # which stopped tasks are given


def run_on_ray(
  folder: Path, units: Sequence[Unit], compute: Compute, *, keep_work: bool, address: str | None,
  resources: Mapping[str, float], retries: int,
) -> Iterator[Outcome]:  # fmt: skip
  """Runs all units as tasks, as many at once as the cluster has room for; outcomes in the order in which they end.

  Leaving the iterator early, as on a signal, has the tasks save and end first.

  Args:
    folder: the sweep's, on a disk that all machines share.
    units: to be run.
    compute: the experiment's, importable on the machines.
    keep_work: as in `store.run_unit`.
    address: of the cluster; None starts one on this machine, or joins that of RAY_ADDRESS.
    resources: what a task takes, such as {"CPU": 2, "GPU": 1} or {"TPU": 4}.
    retries: how often a unit is tried again whose worker died.

  Raises:
    ValueError: Ray is not installed, or no cluster answers.
  """
  ray = _connect(address)
  # A process that ran jax keeps its memory and devices: max_calls ends it with its unit.
  task = ray.remote(max_calls=1, max_retries=retries, **_options(resources))(_run_unit)
  cores = max(1, int(resources.get("CPU", 1)))
  same = (compute, keep_work, cores, metric_sinks.enabled())
  pending = {task.remote(folder.absolute(), unit, *same): unit for unit in units}
  try:
    while pending:
      finished, _ = ray.wait(list(pending), num_returns=1, timeout=1.0)  # signals are seen between waits
      for reference in finished:
        yield _outcome(ray, reference, pending.pop(reference))
  finally:
    for reference in pending:
      ray.cancel(reference)  # a SIGINT: the runner saves
    if pending:
      ray.wait(list(pending), num_returns=len(pending), timeout=SECONDS_TO_SAVE)
    ray.shutdown()


def _outcome(ray: Any, reference: Any, unit: Unit) -> Outcome:
  try:
    return ray.get(reference)
  except ray.exceptions.RayError as error:
    return Outcome(unit, State.FAILED, " ".join(str(error).split()))


def _connect(address: str | None) -> Any:
  try:
    import ray
  except ImportError as error:
    raise ValueError("launcher='ray' needs Ray: pip install loopjax[cluster]") from error
  on_sigterm, is_new = signal.getsignal(signal.SIGTERM), address in (None, "local")
  try:
    ray.init(address=address, include_dashboard=False if is_new else None, log_to_driver=False)
  except ConnectionError as error:
    raise ValueError(f"ray_address={address!r}: no cluster answers: {error}") from error
  signal.signal(signal.SIGTERM, on_sigterm)  # Ray puts its own, with another exit code
  return ray


def _options(resources: Mapping[str, float]) -> dict[str, Any]:
  """Ray's options: CPUs and GPUs have names of their own."""
  named = {"CPU": "num_cpus", "GPU": "num_gpus"}
  options: dict[str, Any] = {named[name]: amount for name, amount in resources.items() if name in named}
  return {"num_cpus": 1} | options | {"resources": {k: v for k, v in resources.items() if k not in named}}


def _run_unit(
  folder: Path, unit: Unit, compute: Compute, keep_work: bool, cores: int, sinks: Sequence[str]
) -> Outcome:  # fmt: skip
  """What a worker does."""
  if "JAX_NUM_CPU_DEVICES" not in os.environ:
    jax.config.update("jax_num_cpu_devices", cores)  # not all of the machine's: others run beside us
  compilation_cache.enable()
  metric_sinks.enable(sinks)
  (outcome,) = launch.run_here(folder, [unit], compute, keep_work=keep_work)
  return outcome
