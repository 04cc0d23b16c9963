"""From paths to traces: finds files, how they are laid out, and the format of each record."""

from __future__ import annotations

import glob
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from loopjax.runtime.config import require
from loopjax.traces.readers import (
  champ,
  chat,
  documents,
  evalchemy,
  inspect_log,
  lighteval,
  lm_eval,
  openai_batch,
  opening,
  openr1,
  parquet,
  plain,
  responses_api,
  s1k,
  sglang,
  sharegpt,
  vllm,
)  # fmt: skip
from loopjax.traces.readers.fields import Source
from loopjax.traces.trace import Kind, Problem, Trace

LIMIT = 64 * 2**20  # bytes of a line, a record, a row, a member of a zip; parsed, JSON takes up to 27 times as much
_ORDER = (
  openai_batch, lighteval, lm_eval, sglang, vllm, responses_api, chat, champ, evalchemy, openr1, s1k, sharegpt, plain,
)  # fmt: skip
READERS: dict[str, ModuleType] = {module.NAME: module for module in (*_ORDER, inspect_log)}  # detection in this order
_DOCUMENTS = (champ, evalchemy)
_SUFFIXES = (".jsonl", ".json", ".ndjson", ".parquet", ".eval", ".jsonl.gz", ".json.gz", ".jsonl.zst", ".json.zst")
_BROKEN = (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError)

Found = Iterator[Trace | Problem]
Progress = Callable[[int], Any]


def find_files(paths: Sequence[str]) -> list[str]:
  """The files that paths stand for, each once: files, folders (files with a known ending, at any depth) and patterns.

  Raises:
    ValueError: a path that leads to no file.
  """
  found: dict[str, str] = {}
  for path in paths:
    files = [path] if os.path.isfile(path) else _inside(path)
    require(bool(files), "FILES", path, f"a file, or a folder or pattern with files that end in {', '.join(_SUFFIXES)}")
    for file in files:
      found.setdefault(os.path.realpath(file), file)
  return list(found.values())


def _inside(path: str) -> list[str]:
  if os.path.isdir(path):
    return sorted(str(file) for file in Path(path).rglob("*") if file.is_file() and file.name.endswith(_SUFFIXES))
  matches = sorted(glob.glob(path, recursive=True))
  return [file for match in matches for file in ([match] if os.path.isfile(match) else _inside(match))]


def read(paths: Sequence[str], format: str = "", limit: int = LIMIT) -> Found:
  """The traces of files, folders and patterns, in order; see `read_file`."""
  for file in find_files(paths):
    yield from read_file(file, format, limit)


def read_file(path: str, format: str = "", limit: int = LIMIT, progress: Progress = lambda position: None) -> Found:
  """The traces of one file. What cannot be read comes as a `Problem`, and reading goes on where it can.

  Args:
    path: the file.
    format: a name of `READERS`; where empty, the format is found record by record.
    limit: the most bytes of a record.
    progress: gets the position in the file, in bytes.

  Raises:
    ValueError: an unknown format.
  """
  require(format in READERS or not format, "format", format, f"one of {', '.join(READERS)}")
  seen: set[int] = set()
  try:
    for one in _read(path, format, limit, progress):
      yield _repeats(one, seen) or one
  except (ValueError, OSError) as error:
    why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    yield Problem(path, 0, " ".join(why.split()))


def _repeats(one: Trace | Problem, seen: set[int]) -> Problem | None:
  """A problem where the file has named the same response before."""
  if isinstance(one, Problem) or one.key is None:
    return None
  name = hash((one.model, one.temperature, one.key))
  if name in seen:
    return Problem(one.file, one.line, f"{one.key!r} is there already", Kind.DUPLICATE)
  seen.add(name)
  return None


def _read(path: str, format: str, limit: int, progress: Progress) -> Found:
  begin = opening.magic(path)
  if format == inspect_log.NAME or begin == opening.ZIP or path.endswith(".eval"):
    yield from inspect_log.read_file(path, limit)
  elif begin == opening.PARQUET:
    for number, row in enumerate(parquet.rows(path, limit, progress), 1):
      yield from _too_long(path, number, limit) if row is None else _of_value(row, Source(path, number), format)
  elif not begin:
    yield Problem(path, 0, "is empty")
  else:
    yield from _read_json(path, format, limit, progress)


def _too_long(path: str, number: int, limit: int) -> Found:
  yield Problem(path, number, f"is longer than {limit / 2**20:g} MiB; see --max_mebibytes")


def _read_json(path: str, format: str, limit: int, progress: Progress) -> Found:
  content = opening.pieces(path, progress)
  head = next(content, b"").removeprefix(b"\xef\xbb\xbf")
  content, where = itertools.chain([head], content), _path(head)
  if where is None:
    for number, line in opening.lines(content, limit):
      yield from _too_long(path, number, limit) if line is None else _of_bytes(line, Source(path, number), format)
    return
  number = 0
  for number, record in enumerate(documents.records(content, where, limit), 1):
    yield from _of_bytes(record, Source(path, number), format)
  if number == 0:
    yield Problem(path, 0, "has no responses that a reader knows")


def _path(head: bytes) -> tuple[str, ...] | None:
  """The path to the records of a document; None where records stand one a line."""
  first, _, rest = head.lstrip().partition(b"\n")
  key = re.match(rb'\{\s*"(\w+)"', head.lstrip())
  for module in _DOCUMENTS:
    if key and key[1].decode() == module.FIRST_KEY:
      return module.PATH
  if not first.startswith((b"{", b"[")):
    return None
  if _is_json(first) or not rest:
    return None if first.startswith(b"{") or rest.strip() else ("*",)
  if first.startswith(b"["):
    return ("*",)
  return None if rest.lstrip().startswith((b"{", b"[")) else ()


def _is_json(content: bytes) -> bool:
  try:
    json.loads(content)
  except (ValueError, RecursionError):
    return False
  return True


def _of_bytes(content: bytes, source: Source, format: str) -> Found:
  try:
    value = json.loads(content.decode("utf-8"))
  except UnicodeDecodeError as error:
    yield Problem(*source, f"is not UTF-8: byte 0x{content[error.start]:02x} at {error.start}")
  except json.JSONDecodeError as error:
    yield Problem(*source, f"is not JSON: {error.msg} at character {error.pos}")
  except RecursionError:
    yield Problem(*source, "is nested too deeply")
  except ValueError as error:  # a number of thousands of digits
    yield Problem(*source, f"is not JSON: {error}")
  else:
    yield from _of_value(value, source, format)


def _of_value(value: Any, source: Source, format: str) -> Found:
  """The traces of a record, or of a list of records."""
  for record in value if isinstance(value, list) and value else [value]:
    yield from _of_record(record, source, format)


def _of_record(record: Any, source: Source, format: str) -> Found:
  if not isinstance(record, dict):
    yield Problem(*source, f"is no object but {json.dumps(record)[:40]}")
    return
  try:
    reader = READERS[format] if format else next((one for one in _ORDER if one.matches(record)), None)
    if reader is None:
      yield Problem(*source, f"has no format that a reader knows; its keys: {', '.join(map(str, record))[:100]}")
    else:
      yield from list(reader.read(record, source))  # all of a record or nothing
  except _BROKEN as error:
    why = str(error) if isinstance(error, ValueError) else f"its layout differs: {type(error).__name__} {error}"
    yield Problem(*source, " ".join(why.split())[:200])
