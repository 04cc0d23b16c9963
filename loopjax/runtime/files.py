"""Files that are either whole or not there: every writer writes beside its target and renames; and locked folders."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # half a second to import, and whoever has a frame has it already
  import pandas as pd

_IDENTITY = b"loopjax.identity"  # in a Parquet file's metadata


class Locked(ValueError):
  """Another process works in the folder."""


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[None]:
  """Holds a folder, which is made as needed, for whoever is in the context.

  The system keeps the lock, on the folder's file `lock`, and lets go of it whichever way the process ends. The file
  stays: were it removed, a process that waits to open it and one that makes it anew would both hold "the" lock.

  Raises:
    Locked: one line: it is held already, by another process or by another context of this one.
    ValueError: one line: the path, or what should be a folder above it, is a file.
  """
  folder = Path(folder)
  _make_folder(folder)
  with open(folder / "lock", "w") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise Locked(f"{folder}: another process works there; wait for its end, or choose another folder") from None
    yield


def _make_folder(folder: Path) -> None:
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except (FileExistsError, NotADirectoryError) as error:
    raise ValueError(f"{folder}: cannot be a folder, since it is a file or lies in one") from error


def write_atomically(path: str | os.PathLike[str], write: Callable[[Path], object]) -> None:
  """Lets `write` fill a temporary file, then renames it to `path`: readers see the old content or the new, never half.

  The temporary file lies in the same folder (a rename across file systems is a copy) and ends in `.tmp-<pid>`. It is
  removed if `write` raises; a killed process leaves it behind, where it does no harm. Folders are made as needed. One
  process must not write the same path from two threads at once.

  Args:
    path: where the file shall lie; what lies there is replaced.
    write: writes the whole file to the path it is given.

  Raises:
    ValueError: what should be the file's folder is a file. Whatever `write` or the file system raises; `path` is then
      as it was.
  """
  path = Path(path)
  _make_folder(path.parent)
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


def write_parquet(
  frame: pd.DataFrame, path: str | os.PathLike[str], identity: Mapping[str, Any] | None = None
) -> None:  # fmt: skip
  """Writes `frame` as Parquet, atomically. The index is left out: a tidy frame has what matters in columns.

  Args:
    frame: the rows.
    path: the file.
    identity: what the rows are the results of, as `results.identity` gives it; the file's metadata keep it.
  """
  import pyarrow as pa
  import pyarrow.parquet as pq

  table = pa.Table.from_pandas(frame, preserve_index=False)
  if identity is not None:
    table = table.replace_schema_metadata({**table.schema.metadata, _IDENTITY: json.dumps(identity)})
  write_atomically(path, lambda temporary: pq.write_table(table, temporary))


def read_identity(path: str | os.PathLike[str]) -> Any:
  """The identity with which `write_parquet` wrote a file; None where it has none.

  Raises:
    ValueError: one line that names the file, where it cannot be read.
  """
  import pyarrow as pa
  import pyarrow.parquet as pq

  try:
    text = (pq.read_schema(path).metadata or {}).get(_IDENTITY)
    return None if text is None else json.loads(text)
  except (OSError, ValueError, RecursionError, pa.ArrowException) as error:
    raise ValueError(f"{path}: is not readable Parquet: {' '.join(str(error).split())}") from error
