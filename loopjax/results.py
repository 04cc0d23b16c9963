"""An output folder: results once computed are kept, and never mixed with those of another config.

`results/<name>.json` holds config and provenance and is written first, so that it claims the folder;
`results/<name>.parquet` is written when all is done, and the JSON then gains `wall_seconds`: the time of the run that
finished it, without what an earlier one that was stopped had spent. `figures/` and `checkpoints/` lie beside.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from loopjax import config as configs
from loopjax import files
from loopjax.provenance import provenance


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


def claim(output_dir: str | os.PathLike[str], name: str, config: Any) -> None:
  """Writes config and provenance of the run `name`, or checks that the folder is of this config.

  Raises:
    ValueError: the folder holds a run of another config; nothing is overwritten.
  """
  path = Path(output_dir) / "results" / f"{name}.json"
  plain = configs.to_json(config)
  if path.exists():
    check_same_config(path, files.read_json(path).get("config"), plain)
  else:
    files.write_json({"config": plain, "provenance": provenance()}, path)


def compute_once(
  output_dir: str | os.PathLike[str], name: str, config: Any, compute: Callable[[], pd.DataFrame]
) -> pd.DataFrame:
  """The results `name` of `config`: read where they lie complete in the folder, else computed and written.

  Raises:
    ValueError: the folder holds a run of another config, or its Parquet file cannot be read.
  """
  claim(output_dir, name, config)
  path = Path(output_dir) / "results" / f"{name}.parquet"
  if path.exists():
    print(f"{path} is complete: read, not run again")
    return read_frame(path)
  began = time.monotonic()
  frame = compute()
  record = path.with_suffix(".json")
  files.write_json(files.read_json(record) | {"wall_seconds": round(time.monotonic() - began, 1)}, record)
  files.write_parquet(frame, path)
  return frame


def read_frame(path: str | os.PathLike[str]) -> pd.DataFrame:
  """A Parquet file; a one-line `ValueError` naming it where it cannot be read."""
  try:
    return pd.read_parquet(path)
  except (OSError, ValueError) as error:  # pyarrow's errors are both
    raise ValueError(f"{path}: is not a readable Parquet file: {error}") from error
