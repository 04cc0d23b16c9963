"""Seed-steps per second against the number of seeds, on 1, 2, 4 simulated devices; and what a second start costs.

Every point is a process of its own. The first time that a number of devices and seeds is run its programs are compiled,
into a compilation cache that is empty at first; the second time they are found there.

  python -m experiments.benchmarks.throughput --output_dir=/tmp/throughput
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import pandas as pd
from absl import flags

from experiments import risk_aversion
from experiments.benchmarks.peers.worker_processes import end_with_parent
from loopjax import plotting
from loopjax.runtime import command_line, compilation_cache, devices, files, seeds
from loopjax.star_graph import students
from loopjax.star_graph.objective import teacher_forcing
from loopjax.training.step import run_chunk

if TYPE_CHECKING:
  from matplotlib.figure import Figure

SECONDS = 10.0  # of one measurement


def measure(num_seeds: int, cache: Path, began: float) -> dict[str, float]:
  """Trains `quick`'s easy students; `began` is when this process was asked for, in seconds since the epoch.

  Returns:
    first_step: seconds from `began` to the end of the first step of all seeds; then seed_steps: per second.
  """
  compilation_cache.enable(cache)
  settings = risk_aversion.PRESETS["quick"]
  task, model, config = settings.easy, settings.model, settings.training
  mesh = devices.device_mesh()
  objective = teacher_forcing(task, model, config)
  run = seeds.map_seeds(lambda state, steps: run_chunk(objective, config, state, steps), mesh, donate=True)
  state = students.initial_states([task], model, config, range(num_seeds), mesh)

  def timed(steps: int) -> float:
    nonlocal state
    start = time.monotonic()
    state, metrics = run(state, jnp.int32(steps))
    jax.block_until_ready(metrics)
    return time.monotonic() - start

  timed(1)
  first_step = time.time() - began
  steps = max(1, round(SECONDS / timed(1)))
  return {"first_step": first_step, "seed_steps": steps * num_seeds / timed(steps)}


def _in_a_process(devices: int, num_seeds: int, cache: Path) -> dict[str, float]:
  os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)  # ours is empty at first
  os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}  # read when the process imports jax
  with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), end_with_parent) as pool:
    return pool.submit(measure, num_seeds, cache, time.time()).result()


def figure(frame: pd.DataFrame) -> Figure:
  """Throughput against seeds, a line for each number of devices."""
  import matplotlib.pyplot as plt  # half a second, which would count as a start's

  drawn, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
  for count, rows in frame.groupby("devices"):
    axes.plot(rows["num_seeds"], rows["seed_steps"], marker="o", label=f"{count}")
  axes.set(xscale="log", xlabel="seeds", ylabel="seed-steps per second", ylim=(0, None))
  axes.set_xticks(sorted(set(frame["num_seeds"])), [str(n) for n in sorted(set(frame["num_seeds"]))])
  axes.legend(title="devices")
  return drawn


def main() -> None:
  output_dir, rows = Path(_OUTPUT_DIR.value), []
  with tempfile.TemporaryDirectory() as cache:
    for devices in map(int, _DEVICES.value):
      for num_seeds in map(int, _NUM_SEEDS.value):
        first, second = (_in_a_process(devices, num_seeds, Path(cache)) for _ in range(2))
        rows.append({"devices": devices, "num_seeds": num_seeds, "seed_steps": second["seed_steps"],
                     "first_start": first["first_step"], "second_start": second["first_step"]})  # fmt: skip
        print(rows[-1], flush=True)
  frame = pd.DataFrame(rows)
  files.write_parquet(frame, output_dir / "results" / "throughput.parquet")
  plotting.save(figure(frame), output_dir / "figures" / "throughput")
  print(frame.to_string(index=False, float_format="{:,.1f}".format))


if __name__ == "__main__":
  _OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/throughput", "Where table and figure go.")
  _DEVICES = flags.DEFINE_list("devices", ["1", "2", "4"], "Numbers of simulated devices.")
  _NUM_SEEDS = flags.DEFINE_list("num_seeds", ["1", "4", "16", "64"], "Numbers of seeds.")
  command_line.run_main(main)
