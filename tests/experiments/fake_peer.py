"""A peer in place of PyTorch's students, and a benchmark of it, for tests that kill it."""

from __future__ import annotations

import collections
import os
import sys
import time

from experiments.benchmarks.peers.torch_workers import TorchWorkers

Variant = collections.namedtuple("Variant", ["num_processes"])


class FakePeer:
  """Says that it is there, then measures for as long as it is asked to."""

  def __init__(self, name: str):
    os.write(1, f"{name}\n".encode())

  def rate(self, seconds: float) -> float:
    time.sleep(seconds)
    return 2.0


if __name__ == "__main__":
  workers = TorchWorkers(Variant(2), FakePeer, "made")
  os.write(1, b"measures\n")
  os.write(1, f"{workers.rate(float(sys.argv[1]))}\n".encode())
  time.sleep(3600)  # idle
