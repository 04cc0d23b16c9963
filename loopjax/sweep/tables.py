"""The results of a sweep as one tidy frame: `load` reads what is there, `merge` vouches that it is all.

Rows have the experiment's columns (`seed` among them) and a column for each field of the config by dotted name,
tuples as text (`0.0,1.0`). `first_seed` and `num_seeds`, which say how seeds were cut into units, are left out: the
frame is the same however they were.

Folders may hold anything: files are read as JSON and Parquet, nothing is unpickled.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from loopjax import results
from loopjax.runtime import files
from loopjax.sweep.units import SEED_FIELDS, unit_name

SWEEP, UNITS, ABOUT, ROWS = "sweep.json", "units", "unit.json", "rows.parquet"

Folder = str | os.PathLike[str]


class DoneUnit(NamedTuple):
  """A unit read from its folder.

  Attributes:
    about: what `unit.json` holds: experiment, config, provenance, seconds, peak_bytes.
    rows: its results with the config's columns.
  """

  about: dict[str, Any]
  rows: pd.DataFrame

  @property
  def seed_numbers(self) -> range:
    first, count = (self.about["config"][name] for name in SEED_FIELDS)
    return range(first, first + count)


def read_unit(folder: Path) -> DoneUnit:
  """The unit of this folder, if it is done.

  Raises:
    FileNotFoundError: it is not done.
    ValueError: one line that names the file that cannot be read, or does not belong there.
  """
  if not (folder / ROWS).exists():
    raise FileNotFoundError(f"{folder}: not done")
  about = _read_about(folder)
  path = _regular(folder / ROWS)
  try:
    with path.open("rb") as file:
      frame = pq.ParquetFile(file).read().to_pandas(ignore_metadata=True)
  except (OSError, ValueError, pa.ArrowException) as error:
    raise ValueError(f"{path}: is not readable Parquet: {_line(error)}") from error
  results.check_identity(path, results.identity(about["experiment"], about["config"]))
  unit = DoneUnit(about, _with_config(path, frame, about["config"]))
  check_seeds(path, frame, unit.seed_numbers)
  return unit


def _read_about(folder: Path) -> dict[str, Any]:
  path = _regular(folder / ABOUT)
  about = files.read_json(path)
  try:
    name = unit_name(about["experiment"], about["config"])
  except (TypeError, KeyError, IndexError, AttributeError) as error:
    raise ValueError(f"{path}: is not about a unit of a sweep") from error
  if name != folder.name:
    raise ValueError(f"{path}: is about unit {name}, not {folder.name}")
  return about


def _regular(path: Path) -> Path:
  """The path of a file to be read; a pipe would keep us waiting, a folder be read whole."""
  if not path.is_file():
    raise ValueError(f"{path}: is not a file")
  return path


def _line(error: Exception) -> str:
  return " ".join(str(error).split())


def check_seeds(path: Path, frame: pd.DataFrame, expected: range) -> None:
  """Raises a one-line `ValueError` where the rows are not of these seeds."""
  known = "seed" in frame and pd.api.types.is_integer_dtype(frame["seed"])
  found = sorted(set(frame["seed"].tolist())) if known else []
  if len(found) != len(expected) or found != list(expected):
    raise ValueError(f"{path}: has rows of seeds {_few(found)}, expected {_few(expected)}")


def _few(items: Sequence[Any]) -> str:
  """The first of many."""
  return ", ".join(map(str, items[:5])) + (f" and {len(items) - 5} more" if len(items) > 5 else "") or "none"


def _with_config(path: Path, frame: pd.DataFrame, config: dict[str, Any]) -> pd.DataFrame:
  leaves = {name: value for name, value in results.flatten(config).items() if name not in SEED_FIELDS}
  both = sorted(leaves.keys() & set(frame.columns))
  if both:
    raise ValueError(f"{path}: has the columns {_few(both)}, which are fields of the config too")
  columns = {name: _flag_text(value) if isinstance(value, list) else value for name, value in leaves.items()}
  return pd.concat([pd.DataFrame(columns, index=frame.index), frame], axis=1)


def _flag_text(values: Sequence[Any]) -> str:
  return ",".join(map(str, values))


def load(folder: Folder) -> pd.DataFrame:
  """All results that lie in a sweep's folder, finished or not; what cannot be read is left out with a warning each.

  Raises:
    FileNotFoundError: there is no such folder.
  """
  folder = Path(folder)
  if not folder.is_dir():
    raise FileNotFoundError(f"{folder}: there is no such folder")
  frames = []
  for home in _unit_folders(folder):
    try:
      frames.append(read_unit(home).rows)
    except FileNotFoundError:
      continue  # still to be done
    except (OSError, ValueError) as error:
      warnings.warn(_line(error), stacklevel=2)
  return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _unit_folders(folder: Path) -> list[Path]:
  """In the sweep's order, or all by name where that cannot be read; warns of what does not belong there."""
  found = sorted(folder.glob(f"{UNITS}/*"))
  try:
    names = read_sweep(folder)["units"]
  except (OSError, ValueError) as error:
    warnings.warn(_line(error), stacklevel=3)
    names = [path.name for path in found if path.is_dir()]
  for path in found:
    if path.name not in names or not path.is_dir():
      warnings.warn(f"{path}: does not belong to the sweep", stacklevel=3)
  homes = {path.name: path for path in found if path.is_dir()}
  return [homes[name] for name in names if name in homes]


def read_sweep(folder: Path) -> dict[str, Any]:
  """What `sweep.json` holds: experiment, grid, fixed (the other fields), units (their names, in order).

  Raises:
    FileNotFoundError: there is none.
    ValueError: one line where it is not what a sweep writes.
  """
  sweep = files.read_json(folder / SWEEP)
  kinds = {"experiment": str, "grid": dict, "fixed": dict, "units": list}
  if not isinstance(sweep, dict) or any(not isinstance(sweep.get(name), kind) for name, kind in kinds.items()):
    raise ValueError(f"{folder / SWEEP}: is not of a sweep")
  if not all(isinstance(name, str) for name in sweep["units"]):
    raise ValueError(f"{folder / SWEEP}: units are not names")
  return sweep


def merge(folders: Folder | Sequence[Folder], output: Folder) -> pd.DataFrame:
  """Writes all rows of a sweep as one Parquet file, once it is certain that they are all there, each once.

  Args:
    folders: one folder, or several of one sweep run in parts: shards on separate disks, or other seeds or values of the
      same grid, so that rows together are one table.
    output: the Parquet file.

  Raises:
    FileNotFoundError: a folder is not of a sweep.
    ValueError: one line that names what is missing, there twice, of another config or not readable; nothing is written.
  """
  paths = [Path(folder) for folder in ([folders] if isinstance(folders, str | os.PathLike) else folders)]
  sweeps = [read_sweep(path) for path in paths]
  _check_one_sweep(paths, sweeps)
  homes = _homes(paths, list(dict.fromkeys(name for sweep in sweeps for name in sweep["units"])))
  units = [read_unit(home) for home in homes]
  _check_seeds_once(homes, units)
  frame = pd.concat([unit.rows for unit in units], ignore_index=True)
  files.write_parquet(frame, output)
  return frame


def _check_one_sweep(paths: Sequence[Path], sweeps: Sequence[dict[str, Any]]) -> None:
  """The folders' sweeps agree in all but the values of the grid and the seeds."""
  if not paths:
    raise ValueError("merge: no folders are given")

  def shared(sweep: dict[str, Any]) -> dict[str, Any]:
    return {"experiment": sweep["experiment"], "grid": sorted(sweep["grid"]), "fixed": sweep["fixed"]}

  for path, sweep in zip(paths, sweeps, strict=True):
    results.check_same_config(path / SWEEP, shared(sweep), shared(sweeps[0]))


def _homes(paths: Sequence[Path], expected: Sequence[str]) -> list[Path]:
  """The folder of every expected unit."""
  done: dict[str, list[Path]] = {}
  for home in sorted(home for path in paths for home in path.glob(f"{UNITS}/*") if (home / ROWS).exists()):
    done.setdefault(home.name, []).append(home)
  for problem, names in {
    "are of no sweep merged here (mixed configs)": [name for name in done if name not in expected],
    "are missing (gaps)": [name for name in expected if name not in done],
    "are done twice (duplicates)": [name for name in done if len(done[name]) > 1],
  }.items():
    if names:
      where = ", ".join(map(str, done.get(names[0], paths)))
      raise ValueError(f"{len(names)} of {len(expected)} units {problem}: {_few(names)}; see {where}")
  return [done[name][0] for name in expected]


def _check_seeds_once(homes: Sequence[Path], units: Sequence[DoneUnit]) -> None:
  """No seed of one config lies in two units, as happens where seeds were cut in two ways."""
  owners: dict[tuple[str, int], Path] = {}
  for home, unit in zip(homes, units, strict=True):
    for seed in unit.seed_numbers:
      first = owners.setdefault((home.name.partition("_")[0], seed), home)
      if first != home:
        raise ValueError(f"seed {seed} is done twice (duplicates): in {first} and {home}")
