"""What a sweep costs beyond its students: 128 seeds at 12 settings of the smallest one, 100 steps each.

  python -m experiments.benchmarks.sweep_overhead --output_dir=/tmp/sweep_overhead

The same students are trained four times, by processes that compile all anew: by `experiments.sweep` (swept), by the
experiment without a sweep, unit by unit (looped) or all students of one program in one call (called), and by
`students.train_students` alone, nothing saved and nothing evaluated (bare). So small a student is the worst case:
whatever lies around training takes the same time for large ones. Times are of the clock and of the CPU; only the latter
mean much beside other work.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from absl import flags

from experiments import sweep, temporal_errors
from experiments.benchmarks.peers.worker_processes import end_with_parent
from experiments.temporal_error_conditions import TemporalErrors
from loopjax.runtime import command_line, compilation_cache, devices, files, seeds
from loopjax.runtime import config as configs
from loopjax.star_graph import students
from loopjax.sweep import tables, units

FIXED = [
  "task.num_chains=3", "task.chain_length=1", "task.max_steps=16", "model.num_layers=1", "model.width=16",
  "model.num_heads=1", "training.num_steps=100", "training.rows_per_step=2", "temperatures=[0]", "num_graphs=2",
  "walks_per_graph=2", "num_lags=1",
]  # fmt: skip
GRID = ["model.positions=rotary,none", "visited_margins=[0],[0.05],[0.1],[0.15],[0.2],[0.25]"]
SEEDS_PER_UNIT = 32


def swept(folder: Path, num_seeds: int) -> None:
  """As a user would."""
  command = [sys.executable, "-m", "experiments.sweep", "--experiment=temporal_errors", f"--output_dir={folder}"]
  grid = [f"--grid={text}" for text in [*FIXED, *GRID]]
  sizes = [f"--num_seeds={num_seeds}", f"--seeds_per_unit={SEEDS_PER_UNIT}"]
  subprocess.run([*command, *grid, *sizes], check=True)


def looped(folder: Path, num_seeds: int) -> None:
  """The sweep's units in its order, by nothing but the experiment."""
  for unit in units.make_units(
    "temporal_errors", _base(), _grid(), first_seed=0, num_seeds=num_seeds, seeds_per_unit=SEEDS_PER_UNIT
  ):
    sweep.compute(temporal_errors.EXPERIMENT, unit.config, folder / unit.name)


def called(folder: Path, num_seeds: int) -> None:
  """One call for each program."""
  for number, config in enumerate(_whole_configs(num_seeds)):
    sweep.compute(temporal_errors.EXPERIMENT, config, folder / str(number))


def bare(folder: Path, num_seeds: int) -> None:
  del folder
  for config in _whole_configs(num_seeds):
    numbers = seeds.block(config.first_seed, config.num_seeds)
    students.train_students(config.tasks(), config.model, config.training, numbers, devices.device_mesh())


def _base() -> TemporalErrors:
  return configs.replace(TemporalErrors(), {name: values[0] for name, values in units.parse_grid(FIXED).items()})


def _grid() -> dict[str, list[Any]]:
  return units.parse_grid(GRID)


def _whole_configs(num_seeds: int) -> list[TemporalErrors]:
  """A config for each program: all margins, all seeds."""
  margins = [margin for (margin,) in _grid()["visited_margins"]]
  whole = configs.replace(_base(), {"visited_margins": margins, "num_seeds": num_seeds})
  return [configs.replace(whole, {"model.positions": positions}) for positions in _grid()["model.positions"]]


def _in_a_process(function: Callable[[Path, int], None], folder: Path, num_seeds: int) -> None:
  with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_initialize) as pool:
    pool.submit(function, folder, num_seeds).result()


def _initialize() -> None:
  end_with_parent()
  devices.use_all_cores()
  compilation_cache.enable()


def timed(run: Callable[[], None]) -> tuple[float, float]:
  """Seconds that the processes which `run` starts take, from nothing to their ends: of the clock, and of the CPU."""

  def now() -> tuple[float, float]:
    times = os.times()
    return time.monotonic(), times.children_user + times.children_system

  before = now()
  with tempfile.TemporaryDirectory() as cache:
    os.environ["XDG_CACHE_HOME"] = cache
    run()
  wall, cpu = (after - earlier for after, earlier in zip(now(), before, strict=True))
  return wall, cpu


def peaks(folder: Path) -> list[float]:
  """The most memory that was taken by the end of each unit, in the order in which they ran, in GB."""
  names = tables.read_sweep(folder)["units"]
  return [files.read_json(folder / tables.UNITS / name / tables.ABOUT)["peak_bytes"] / 1e9 for name in names]


def main() -> None:
  folder, num_seeds = Path(_OUTPUT_DIR.value), _NUM_SEEDS.value
  rows = {}
  runs: dict[str, Callable[[], None]] = {
    "swept": lambda: swept(folder / "sweep", num_seeds),
    "looped": lambda: _in_a_process(looped, folder / "looped", num_seeds),
    "called": lambda: _in_a_process(called, folder / "called", num_seeds),
    "bare": lambda: _in_a_process(bare, folder, num_seeds),
  }
  for name, run in runs.items():
    rows[name] = timed(run)
    print(name, rows[name], flush=True)
  frame = pd.DataFrame(rows, index=["wall", "cpu"]).T
  steps = sum(len(config.tasks()) * num_seeds * config.training.num_steps for config in _whole_configs(num_seeds))
  frame["seed_steps_per_second"] = steps / frame["wall"]
  print(frame.to_string(float_format="{:,.1f}".format))
  overhead = frame.loc["swept"] / frame.loc["looped"] - 1
  print(
    f"the sweep takes {overhead['wall']:.1%} more time, and {overhead['cpu']:.1%} more of the CPU, than its units alone"
  )
  print("GB at most, after each unit:", *map("{:.2f}".format, peaks(folder / "sweep")))


if __name__ == "__main__":
  _OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/sweep_overhead", "Where results go; must be new.")
  _NUM_SEEDS = flags.DEFINE_integer("num_seeds", 128, "At each of the 12 settings.", 1)
  command_line.run_main(main)
