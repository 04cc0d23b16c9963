"""PyTorch students in processes of their own, in the variant that runs fastest."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
from collections.abc import Callable
from typing import Any

from experiments.benchmarks.peers.worker_processes import end_with_parent


class TorchWorkers:
  """PyTorch in processes of its own: its threads and ours do not meet, and several students can train side by side."""

  def __init__(self, variant: Any, make: Callable[..., Any], *arguments: Any):
    context = multiprocessing.get_context("spawn")
    self.variant = variant
    count = variant.num_processes
    self.pools = [concurrent.futures.ProcessPoolExecutor(1, context, end_with_parent) for _ in range(count)]
    self._all(_make, make, *arguments)

  def _all(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    return [done.result() for done in [pool.submit(function, *arguments) for pool in self.pools]]

  def rate(self, *arguments: Any) -> float:
    """The sum of the processes' rates, measured at once."""
    return sum(self._all(_rate, *arguments))

  def close(self) -> None:
    for pool in self.pools:
      pool.shutdown()


_made: Any = None  # what a worker process holds


def _make(make: Callable[..., Any], *arguments: Any) -> None:
  global _made  # noqa: PLW0603  a worker process has one
  _made = make(*arguments)


def _rate(*arguments: Any) -> float:
  return _made.rate(*arguments)


def best_torch(make: Callable[..., Any], arguments: tuple[Any, ...], last: tuple[Any, ...], call: tuple[Any, ...]):
  """The workers of the variant of PyTorch with the highest rate; `make(*arguments, variant, *last)` builds one."""
  from experiments.benchmarks.peers.torch_student import Variant

  cores = len(os.sched_getaffinity(0))
  best, best_rate = None, 0.0
  for num_processes, num_threads in {(1, cores), (cores, 1)}:
    for autocast, compiled in ((False, False), (True, False), (False, True)):
      variant = Variant(num_processes, num_threads, autocast, compiled)
      workers = TorchWorkers(variant, make, *arguments, variant, *last)
      workers.rate(*call)  # warms up and compiles
      rate = workers.rate(*call)
      print(f"  PyTorch, {variant}: {rate:,.0f}", flush=True)
      best, best_rate, worse = (workers, rate, best) if rate > best_rate else (best, best_rate, workers)
      if worse is not None:
        worse.close()
  return best
