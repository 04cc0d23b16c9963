"""The table of responses: its columns, and the parts in which it is written.

A part is a Parquet file with rows of one input file, written whole or not at all. Its metadata say what of the file
gave no response, and whether it is the file's last part.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopjax.runtime import files

if TYPE_CHECKING:  # a quarter of a second to import, and a half more to make a table
  import pyarrow as pa

  from loopjax.traces.columns import Row

COLUMNS = {
  "file": "string",
  "line": "int64",
  "problem": "string",
  "sample": "int64",
  "model": "string",
  "temperature": "float64",
  "ending": "string",
  "label": "float64",
  "units": "string",
  "num_units": "int64",
  "recurrence_count": "int64",
  "recurrence_onset": "int64",
  "recurrence_fired": "int64",
  "recurrence_covered": "float64",
  "cycle_onset": "int64",
  "cycle_end": "int64",
  "cycle_period": "int64",
  "cycle_repetitions": "float64",
  "cycle_is_tail": "bool",
  "loop_class": "string",
  "reasoning_units": "int64",
  "reasoning_class": "string",
  "answer_units": "int64",
  "answer_class": "string",
  "num_opened": "int64",
  "num_closed": "int64",
  "is_unclosed": "bool",
  "counts": "list<int64>",
  "confidence": "list<float64>",
  "prompt": "string",
  "excerpt": "string",
}  # -> the type, as Arrow names it
SHOWN = ("prompt", "excerpt")  # for the page alone, not in the table of responses
_ABOUT = b"loopjax.part"


def _schema(names: Iterable[str]) -> pa.Schema:
  import pyarrow as pa

  types = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
  types |= {f"list<{name}>": pa.list_(types[name]) for name in ("int64", "float64")}
  return pa.schema([(name, types[COLUMNS[name]]) for name in names])


def write_part(path: Path, rows: Sequence[Row], about: Mapping[str, Any]) -> None:
  """Writes a part by a temporary name; a column that a row does not have is null there.

  Args:
    path: the file.
    rows: a mapping of `COLUMNS` each.
    about: what `read_part` shall give beside the rows.
  """
  import pyarrow as pa
  import pyarrow.parquet as pq

  schema = _schema(COLUMNS).with_metadata({_ABOUT: json.dumps(about)})
  table = pa.Table.from_pydict({name: [row.get(name) for row in rows] for name in COLUMNS}, schema=schema)
  files.write_atomically(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))


def read_part(path: Path) -> tuple[list[Row], dict[str, Any]]:
  """The rows of a part, and what was written about it.

  Raises:
    ValueError: one line that names the file, where it is no part.
  """
  import pyarrow as pa
  import pyarrow.parquet as pq

  try:
    table = pq.read_table(path)
    return table.to_pylist(), json.loads(table.schema.metadata[_ABOUT])
  except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
    raise ValueError(f"{path}: is no part of a scan: {' '.join(str(error).split())[:200]}") from None


def write(path: Path, parts: Sequence[Path], samples: Sequence[int]) -> None:
  """Writes the tidy table of responses by a temporary name: the parts' rows without the columns `SHOWN`.

  Args:
    path: the file.
    parts: the files of the parts, in order.
    samples: the column `sample`, of all rows.
  """
  import pyarrow as pa
  import pyarrow.parquet as pq

  schema = _schema(name for name in COLUMNS if name not in SHOWN)

  def write_all(temporary: Path) -> None:
    done = 0
    with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
      for part in parts:
        table = pq.read_table(part, columns=schema.names).replace_schema_metadata(None)
        own = pa.array(samples[done : done + len(table)], pa.int64())
        writer.write_table(table.set_column(schema.get_field_index("sample"), "sample", own))
        done += len(table)

  files.write_atomically(path, write_all)


class Numbers:
  """Gives each response a number among those of one model and temperature to one problem, across files.

  It is the file's own where that is free, else the smallest from the count of those before on.
  """

  def __init__(self) -> None:
    self._taken: dict[tuple, set[int]] = {}

  def number(self, row: Row) -> int:
    """The number of the next response."""
    taken = self._taken.setdefault((row["model"], row["temperature"], row["problem"]), set())
    own = row["sample"]
    if own is None or own in taken:
      own = len(taken)
      while own in taken:
        own += 1
    taken.add(own)
    return own
