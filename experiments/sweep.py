"""Runs an experiment over a grid of settings and many seeds, in units that can be stopped, shared and run anywhere.

  python -m experiments.sweep --experiment=temporal_errors --preset=quick --grid=task.chain_length=2,3 \\
    --grid=training.learning_rate=1e-3,3e-3 --num_seeds=128 --seeds_per_unit=32 --output_dir=results/sweep

Run again, it goes on where it was. `loopjax.sweep.load(output_dir)` is all that is there as one table, and
`loopjax.sweep.merge(output_dir, file)` one file once it is complete. `docs/sweeps.md` has clusters and exit codes.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from absl import flags

from experiments import binary, registry
from experiments.experiment import PRESETS, Experiment
from loopjax.runtime import command_line, compilation_cache, devices, files
from loopjax.runtime import config as configs
from loopjax.runtime.config import require
from loopjax.star_graph.sharing import Trainer
from loopjax.sweep import launch, ray_launcher, store, tables, units
from loopjax.sweep.launch import Outcome, State
from loopjax.sweep.units import Unit


def compute(experiment: Experiment, config: Any, folder: Path) -> pd.DataFrame:
  """The main table of an experiment; its students and further tables are left in `folder`."""
  frames = experiment.measure(config, Trainer(folder, devices.device_mesh()))
  for name, frame in frames.items():
    if name != experiment.name:
      files.write_parquet(frame, folder / "results" / f"{name}.parquet")
  return frames[experiment.name]


def plan(folder: Path, todo: Sequence[Unit], grid: Mapping[str, Sequence[Any]]) -> str:
  """What a run would do: its units, and what those that are done tell of memory and time."""
  if not todo:
    return "no units"
  frame = pd.DataFrame([_row(folder, unit, grid) for unit in todo])
  known = frame["seconds_per_seed"].notna().any()
  for column in ("seconds_per_seed", "gigabytes"):  # of units of the same program where there are, else of any
    same = frame.groupby("program")[column].transform("median")
    frame[column] = frame[column].fillna(same).fillna(frame[column].median())
  left = frame[frame["state"] != "done"]
  seconds = (left["seconds_per_seed"] * left["seeds"]).sum()
  lines = [
    frame[["unit", "where", "state"]].to_string(index=False),
    f"{len(frame) - len(left)} of {len(frame)} units done, {left['seeds'].sum()} seeds left",
    f"time: about {launch.duration(seconds)} one after another" if known else "time: known once a unit is done",
    f"memory: at most {frame['gigabytes'].max():.1f} GB a unit" if known else "memory: known once a unit is done",
  ]
  return "\n".join(lines)


def _row(folder: Path, unit: Unit, grid: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
  home, about = store.unit_folder(folder, unit), {}
  state = "begun" if (home / "work").exists() else "to do"
  if store.is_done(folder, unit):
    state, about = "done", tables.read_unit(home).about
  rate = (about.get("seconds") or np.nan) / len(unit.seed_numbers)
  return {
    "unit": unit.name, "where": units.describe(unit, grid), "state": state, "seeds": len(unit.seed_numbers),
    "program": units.program(unit), "seconds_per_seed": rate, "gigabytes": about.get("peak_bytes", np.nan) / 1e9,
  }  # fmt: skip


def run_here(
  experiment: Experiment,
  config: Any,
  grid: Mapping[str, Sequence[Any]],
  folder: str | os.PathLike[str],
  *,
  num_seeds: int,
  seeds_per_unit: int,
) -> list[Outcome]:
  """Runs a sweep in this process, or goes on with it, and prints a line for each unit.

  Args:
    experiment: what is run at each point.
    config: its settings, apart from those of the grid.
    grid: field of the config -> values.
    folder: of the sweep.
    num_seeds: at each point of the grid.
    seeds_per_unit: how many of them train together.

  Returns:
    What became of the units that are not done.

  Raises:
    ValueError: the grid is not of this config; the folder is of another sweep.
  """
  folder = Path(folder)
  everything = units.make_units(
    experiment.name, config, grid, first_seed=0, num_seeds=num_seeds, seeds_per_unit=seeds_per_unit
  )
  store.claim(folder, experiment.name, config, grid, everything)
  todo = [unit for unit in everything if not store.is_finished(folder, unit, keep_work=False)]
  of_unit = functools.partial(compute, experiment)
  return launch.follow(launch.run_here(folder, todo, of_unit, keep_work=False), todo, grid)


def _outcomes(folder: Path, todo: Sequence[Unit]) -> Iterator[Outcome]:
  of_unit = functools.partial(compute, registry.EXPERIMENTS[_EXPERIMENT.value])
  keep_work = _KEEP_CHECKPOINTS.value
  if _LAUNCHER.value == "here":
    return launch.run_here(folder, todo, of_unit, keep_work=keep_work)
  return ray_launcher.run_on_ray(
    folder, todo, of_unit, keep_work=keep_work, address=_RAY_ADDRESS.value, resources=resources(_RAY_RESOURCES.value),
    retries=_RAY_RETRIES.value,
  )  # fmt: skip


def resources(words: Sequence[str]) -> dict[str, float]:
  """What a unit takes, from words such as `CPU=2`; `ValueError` where one is not a name with an amount."""
  parts = [word.partition("=") for word in words]
  amounts = [pd.to_numeric(amount, errors="coerce") for _, _, amount in parts]
  allowed = "name=amount,..., such as CPU=2,GPU=1, amounts at least 0"
  require(all(0 <= amount <= configs.LARGEST for amount in amounts), "ray_resources", ",".join(words), allowed)
  return {name: float(amount) for (name, _, _), amount in zip(parts, amounts, strict=True)}


def _run(folder: Path, ours: Sequence[Unit], grid: Mapping[str, Sequence[Any]]) -> None:
  """Runs what is not finished; exits with 1 where units fail."""
  with launch.exit_on_signals():
    todo = [unit for unit in ours if not store.is_finished(folder, unit, keep_work=_KEEP_CHECKPOINTS.value)]
    print(f"{len(ours) - len(todo)} of {len(ours)} units were done before", file=sys.stderr)
    not_done = launch.follow(_outcomes(folder, todo), todo, grid)
  failed = [outcome for outcome in not_done if outcome.state == State.FAILED]
  if failed:
    print(f"error: {len(failed)} units failed, first {failed[0].unit.name}: {failed[0].error}", file=sys.stderr)
    sys.exit(1)


def main() -> None:
  folder, grid = Path(_OUTPUT_DIR.value), units.parse_grid(_GRID.value)
  base = registry.EXPERIMENTS[_EXPERIMENT.value].at(_PRESET.value)
  num_seeds = base.num_seeds if _NUM_SEEDS.value is None else _NUM_SEEDS.value
  everything = units.make_units(
    _EXPERIMENT.value, base, grid, first_seed=_FIRST_SEED.value, num_seeds=num_seeds,
    seeds_per_unit=_SEEDS_PER_UNIT.value,
  )  # fmt: skip
  ours = units.shard(everything, _SHARD_INDEX.value, _NUM_SHARDS.value)
  if _DRY_RUN.value:
    print(plan(folder, ours, grid))
    return
  _ENABLE_SINKS()
  store.claim(folder, _EXPERIMENT.value, base, grid, everything)
  _run(folder, ours, grid)


if __name__ == "__main__":
  devices.use_all_cores()
  compilation_cache.enable()
  _EXPERIMENT = flags.DEFINE_enum("experiment", None, list(registry.EXPERIMENTS), "What is run.", required=True)
  _PRESET = flags.DEFINE_enum("preset", "quick", list(PRESETS), "Its settings.")
  _GRID = flags.DEFINE_multi_string("grid", [], "field=value,value,... of the config; a single value sets the field.")
  _NUM_SEEDS = flags.DEFINE_integer("num_seeds", None, "Seeds at each point of the grid; the config's by default.")
  _FIRST_SEED = flags.DEFINE_integer("first_seed", 0, "The first of them.")
  _SEEDS_PER_UNIT = flags.DEFINE_integer("seeds_per_unit", 32, "Seeds that train together.")
  _OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/sweep", "The sweep's folder.")
  _DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the units, and how long those left may take.")
  _KEEP_CHECKPOINTS = flags.DEFINE_bool("keep_checkpoints", False, "Keep what a unit leaves beside its rows too.")
  _SHARD_INDEX = flags.DEFINE_integer("shard_index", None, "Which part of the units; SLURM_ARRAY_TASK_ID's by default.")
  _NUM_SHARDS = flags.DEFINE_integer("num_shards", None, "Of how many parts; SLURM_ARRAY_TASK_COUNT by default.")
  _LAUNCHER = flags.DEFINE_enum("launcher", "here", ["here", "ray"], "Who runs the units.")
  _RAY_ADDRESS = flags.DEFINE_string("ray_address", None, "The cluster; by default one on this machine is started.")
  _RAY_RESOURCES = flags.DEFINE_list("ray_resources", ["CPU=1"], "What a unit takes: CPU=2,GPU=1 or TPU=4.")
  _RAY_RETRIES = flags.DEFINE_integer("ray_retries", 3, "How often a unit is tried again whose worker died.", 0)
  _ENABLE_SINKS = binary.sinks_flag()
  command_line.run_main(main)
