"""What a program takes of a device's memory: said before it runs, and what to change where it is too much."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import jax


def needed(compiled: Any) -> int:
  """Bytes that a compiled program takes on each device: arguments, results and temporaries, by XLA's own plan.

  0 on a platform that makes no such plan.
  """
  plan = compiled.memory_analysis()
  if plan is None:
    return 0
  kept = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
  return kept + plan.temp_size_in_bytes


def available() -> int:
  """Bytes of one device; simulated devices share the machine's memory."""
  device = jax.local_devices()[0]
  limit = (device.memory_stats() or {}).get("bytes_limit")
  if limit is not None:
    return limit
  return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // jax.local_device_count()


def estimate(compiled: Any, advice: str) -> str:
  """One line on what the program needs.

  Args:
    compiled: what `jit(...).lower(...).compile()` gives.
    advice: which settings to change where it is too much.

  Raises:
    ValueError: it needs more than a device has.
  """
  text = f"memory: {needed(compiled) / 2**30:.2f} GiB of {available() / 2**30:.1f} GiB on each device"
  if needed(compiled) > available():
    raise ValueError(f"{text}; {advice}")
  return text


@contextlib.contextmanager
def named_when_exhausted(advice: str) -> Iterator[None]:
  """Turns an out-of-memory of a device into a `ValueError` of one line that gives the advice."""
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    raise ValueError(f"a device ran out of memory; {advice}") from error
