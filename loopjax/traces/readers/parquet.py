"""Rows of a Parquet file as records, a few at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

BATCH = 16  # rows


def rows(path: str, limit: int, progress: Callable[[int], Any]) -> Iterator[dict[str, Any] | None]:
  """The rows of a file; None for one that is larger than the limit.

  Args:
    path: the file.
    limit: the most bytes of a row.
    progress: gets the rows read, as a position between 0 and the file's size in bytes, after each batch.

  Raises:
    ValueError: it is no readable Parquet.
  """
  import pyarrow as pa
  import pyarrow.parquet as pq

  try:
    with pq.ParquetFile(path, pre_buffer=False) as file:
      size, num, done = os.path.getsize(path), max(file.metadata.num_rows, 1), 0
      for batch in file.iter_batches(BATCH, use_threads=False):
        yield from batch.to_pylist() if batch.nbytes <= limit else _one_by_one(batch, limit)
        done += batch.num_rows
        progress(size * done // num)
  except (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
    raise ValueError(f"is no readable Parquet: {' '.join(str(error).split())[:200]}") from None


def _one_by_one(batch: Any, limit: int) -> Iterator[dict[str, Any] | None]:
  for index in range(batch.num_rows):
    row = batch.slice(index, 1)
    yield None if row.nbytes > limit else row.to_pylist()[0]
