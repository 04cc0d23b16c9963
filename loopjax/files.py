"""Files that are either whole or not there: every writer writes beside its target and renames."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # half a second to import, and whoever has a frame has it already
  import pandas as pd


def write_atomically(path: str | os.PathLike[str], write: Callable[[Path], object]) -> None:
  """Lets `write` fill a temporary file, then renames it to `path`: readers see the old content or the new, never half.

  The temporary file lies in the same folder (a rename across file systems is a copy) and ends in `.tmp-<pid>`. It is
  removed if `write` raises; a killed process leaves it behind, where it does no harm. Folders are made as needed. One
  process must not write the same path from two threads at once.

  Args:
    path: where the file shall lie; what lies there is replaced.
    write: writes the whole file to the path it is given.

  Raises:
    Whatever `write` or the file system raises; `path` is then as it was.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
  try:
    write(temporary)
    _flush(temporary)
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)
  _flush(path.parent)  # the rename itself


def _flush(path: Path) -> None:
  """Has the content of a file, or the names in a folder, survive a power cut."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def write_json(value: Any, path: str | os.PathLike[str]) -> None:
  """Writes `value` as indented JSON, atomically.

  Raises:
    ValueError: `value` holds what strict JSON cannot: another type than dict, list, str, number, bool and None, or a
      NaN or infinity (other readers refuse them).
  """
  try:
    text = json.dumps(value, indent=2, allow_nan=False)
  except (TypeError, ValueError) as error:
    raise ValueError(f"{path}: cannot be written as JSON: {error}") from error
  write_atomically(path, lambda temporary: temporary.write_text(text + "\n", encoding="utf-8"))


def read_json(path: str | os.PathLike[str]) -> Any:
  """The value in a JSON file.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: one line that names the file and the place in it, where the content is not JSON in UTF-8.
  """
  try:
    return json.loads(Path(path).read_text(encoding="utf-8"))
  except (ValueError, RecursionError) as error:  # JSONDecodeError, UnicodeDecodeError; brackets without end
    raise ValueError(f"{path}: is not JSON: {error}") from error


def write_parquet(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
  """Writes `frame` as Parquet, atomically. The index is left out: a tidy frame has what matters in columns."""
  write_atomically(path, lambda temporary: frame.to_parquet(temporary, engine="pyarrow", index=False))
