"""A sweep's folder: which units there are, and the results of those that are done.

    sweep.json              what the sweep is, and the names of its units in order
    units/<name>/unit.json  config and provenance of a unit that is done, and what it took
                /rows.parquet   its results, written last: a unit is done once it is there
                /lock           held by the process that is at it; stays, since a lock removed is no lock
                /work/          what a unit not yet done has: checkpoints, training curves

Every file is written under a temporary name and renamed, so that a process killed at any moment leaves nothing half.
"""

from __future__ import annotations

import contextlib
import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import pandas as pd

from loopjax import results
from loopjax.runtime import config as configs
from loopjax.runtime import files
from loopjax.runtime.provenance import provenance
from loopjax.sweep import tables
from loopjax.sweep.units import SEED_FIELDS, Unit

Compute = Callable[[Any, Path], pd.DataFrame]  # an experiment's: config and folder for checkpoints -> rows


def claim(folder: Path, experiment: str, base: Any, grid: Mapping[str, Sequence[Any]], units: Sequence[Unit]) -> None:
  """Writes `sweep.json`, or checks that the folder is of this sweep.

  Raises:
    ValueError: the folder is of another sweep; nothing is overwritten.
  """
  fixed = results.flatten(configs.to_json(base))
  fixed = {name: value for name, value in fixed.items() if name not in {*grid, *SEED_FIELDS}}
  sweep = {
    "experiment": experiment, "grid": {field: list(values) for field, values in grid.items()}, "fixed": fixed,
    "units": [unit.name for unit in units],
  }  # fmt: skip
  path = folder / tables.SWEEP
  if path.exists():
    results.check_same_config(path, files.read_json(path), sweep)
  else:
    files.write_json(sweep, path)


def unit_folder(folder: Path, unit: Unit) -> Path:
  """Where a sweep in `folder` keeps this unit."""
  return folder / tables.UNITS / unit.name


def is_done(folder: Path, unit: Unit) -> bool:
  """Whether the unit's results lie there; files that cannot be read do not count, and are made anew."""
  try:
    tables.read_unit(unit_folder(folder, unit))
  except (FileNotFoundError, ValueError):
    return False
  return True


def is_finished(folder: Path, unit: Unit, *, keep_work: bool) -> bool:
  """Whether nothing is left to do: a process may have been killed between the results and the removal of its work."""
  return is_done(folder, unit) and (keep_work or not (unit_folder(folder, unit) / "work").exists())


def run_unit(folder: Path, unit: Unit, compute: Compute, *, keep_work: bool) -> bool:
  """Computes a unit, from its last checkpoint where it has one, unless it is done.

  Args:
    folder: the sweep's.
    unit: the unit.
    compute: the experiment's.
    keep_work: whether checkpoints, training curves and further tables stay once it is done.

  Returns:
    Whether it is done now; else another process is at it.

  Raises:
    ValueError: the rows are not those of the unit's seeds. Whatever `compute` raises.
  """
  home = unit_folder(folder, unit)
  with contextlib.ExitStack() as held:
    try:
      held.enter_context(files.locked(home))
    except files.Locked:
      return False
    if not is_done(folder, unit):
      _compute(home, unit, compute)
    if not keep_work and (home / "work").exists():
      shutil.rmtree(home / "work")
  return True


def _compute(home: Path, unit: Unit, compute: Compute) -> None:
  for left in home.glob("*.tmp-*"):  # by a process that was killed; nobody else writes here while we hold the lock
    left.unlink()
  began, is_fresh = time.monotonic(), not (home / "work" / "checkpoints").exists()
  frame = compute(unit.config, home / "work")
  tables.check_seeds(home, frame, unit.seed_numbers)
  taken = time.monotonic() - began
  config = configs.to_json(unit.config)
  about = {
    "experiment": unit.experiment, "config": config, "provenance": provenance(),
    "seconds": round(taken, 1) if is_fresh else None,  # the rest of a run that was stopped tells no rate
    "peak_bytes": _peak_bytes(),
  }  # fmt: skip
  files.write_json(about, home / tables.ABOUT)
  files.write_parquet(frame, home / tables.ROWS, results.identity(unit.experiment, config))


def _peak_bytes() -> int:
  """The most memory that this process has taken: of a device where the devices have their own, else of the machine."""
  peak = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
  kilobyte = 1 if sys.platform == "darwin" else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte if peak is None else peak
