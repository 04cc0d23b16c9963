"""Readers, one format a file: records in, `Trace` and `Problem` out, one at a time.

`read` takes files, folders and patterns, finds how each file is packed and laid out, and finds the format record by
record, so that one file may mix formats. Records stand one a line, in a list, in one large document or in Parquet rows.
Nothing is unpickled or evaluated. Memory is bounded by `LIMIT` times a constant, whatever the files hold.

To add a format, write a module with `NAME`, `matches(record)` and `read(record, source)`, and put it in `READERS`.
"""

from __future__ import annotations

from loopjax.traces.readers.reading import LIMIT, READERS, find_files, read, read_file

__all__ = ["LIMIT", "READERS", "find_files", "read", "read_file"]
