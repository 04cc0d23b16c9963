"""An output folder: results once computed are kept, and never mixed with those of another config.

`results/<name>.json` holds config and provenance and is written first, so that it claims the folder;
`results/<name>.parquet` is written when all is done, and the JSON then gains `wall_seconds`: the time of the run that
finished it, without what an earlier one that was stopped had spent. Further tables of the same run lie
beside it, `results/<name>_<suffix>.parquet`. Every Parquet file carries the identity of its run.
`figures/` and `checkpoints/` lie beside.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from absl import logging

from loopjax.runtime import config as configs
from loopjax.runtime import files
from loopjax.runtime.provenance import git_commit, provenance


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
  """The leaves of a nested dict by dotted name."""
  if not isinstance(tree, dict):
    return {prefix: tree}
  leaves: dict[str, Any] = {}
  for name, value in tree.items():
    leaves |= flatten(value, f"{prefix}.{name}" if prefix else name)
  return leaves


def check_same_config(path: str | os.PathLike[str], found: Any, expected: Any) -> None:
  """Raises a one-line `ValueError` naming `path` and the first field in which two configs (JSON values) differ."""
  there, here = flatten(found), flatten(expected)
  differing = sorted(name for name in {*there, *here} if there.get(name) != here.get(name))
  if differing:
    name = differing[0]
    raise ValueError(
      f"{path} holds another run: {name}={there.get(name)!r} there, {here.get(name)!r} asked for; "
      "choose another output folder"
    )


def identity(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
  """What tells the results of one run from those of another: the experiment, its config as JSON, a hash of both."""
  both = {"experiment": name, "config": dict(config)}
  return both | {"hash": hashlib.sha256(json.dumps(both, sort_keys=True).encode()).hexdigest()}


def check_identity(path: str | os.PathLike[str], expected: Mapping[str, Any]) -> None:
  """Raises a one-line `ValueError` unless the Parquet file is readable and carries this identity."""
  found = files.read_identity(path)
  if not isinstance(found, dict):
    raise ValueError(f"{path}: does not tell which run it is of; remove it to have it computed again")
  check_same_config(path, {key: value for key, value in found.items() if key != "tables"}, dict(expected))


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
  """The JSON file of a run.

  Raises:
    FileNotFoundError: there is none.
    ValueError: one line: it is not JSON, or no object with the objects config and provenance.
  """
  record = files.read_json(path)
  if not isinstance(record, dict) or any(not isinstance(record.get(part), dict) for part in ("config", "provenance")):
    raise ValueError(f"{path}: is not of a run: it must be an object with the objects config and provenance")
  return record


def claim(output_dir: str | os.PathLike[str], name: str, config: Any) -> None:
  """Writes config and provenance of the run `name`, or checks that the folder is of this config.

  Where other code worked in the folder before, one line warns of it; the record lists every commit, `git_commits`.

  Raises:
    ValueError: the folder holds a run of another config, or files that cannot be read; nothing is overwritten.
  """
  path = Path(output_dir) / "results" / f"{name}.json"
  plain = configs.to_json(config)
  table = path.with_suffix(".parquet")
  if table.exists():
    check_identity(table, identity(name, plain))
  if path.exists():
    record = read_record(path)
    check_same_config(path, record["config"], plain)
    _add_commit(path, record)
  else:
    files.write_json({"config": plain, "provenance": provenance() | {"git_commits": [git_commit()]}}, path)


def _add_commit(path: Path, record: dict[str, Any]) -> None:
  """Adds the commit of this code to the record's, and warns where it is not the only one."""
  origin, commit = record["provenance"], git_commit()
  known = origin.get("git_commits", [origin.get("git_commit")])
  if commit not in known:
    files.write_json(record | {"provenance": origin | {"git_commits": [*known, commit]}}, path)
  others = [str(other) for other in known if other != commit]
  if others:
    logging.warning("%s: code of commit %s worked here before, now that of %s does", path, ", ".join(others), commit)


def compute_once(
  output_dir: str | os.PathLike[str], name: str, config: Any, compute: Callable[[], Mapping[str, pd.DataFrame]]
) -> dict[str, pd.DataFrame]:
  """The tables of the run `name`, by name: read where they lie complete in the folder, else computed and written.

  `compute` gives the main table, which is called `name`, and further ones, whose names begin with it.

  Raises:
    ValueError: the folder holds a run of another config, or a table that is missing, damaged or of another run.
  """
  claim(output_dir, name, config)
  folder, whose = Path(output_dir) / "results", identity(name, configs.to_json(config))
  main, record = folder / f"{name}.parquet", folder / f"{name}.json"
  if main.exists():
    print(f"{main} is complete: read, not run again")
    return {table: _read_table(folder, table, whose) for table in files.read_identity(main)["tables"]}
  began = time.monotonic()
  tables = dict(compute())
  files.write_json(read_record(record) | {"wall_seconds": round(time.monotonic() - began, 1)}, record)
  for table in sorted(tables, key=lambda table: table == name):  # the main one last: all is there once it is
    files.write_parquet(tables[table], folder / f"{table}.parquet", whose | {"tables": list(tables)})
  return tables


def _read_table(folder: Path, table: str, whose: Mapping[str, Any]) -> pd.DataFrame:
  path = folder / f"{table}.parquet"
  try:
    check_identity(path, whose)
    return read_frame(path)
  except ValueError as error:
    raise ValueError(f"{error}; without {whose['experiment']}.parquet, all are computed again") from error


def read_frame(path: str | os.PathLike[str]) -> pd.DataFrame:
  """A Parquet file; a one-line `ValueError` naming it where it cannot be read."""
  try:
    return pd.read_parquet(path)
  except (OSError, ValueError, pa.ArrowException) as error:
    raise ValueError(f"{path}: is not readable Parquet: {' '.join(str(error).split())}") from error
