"""Reads every response of some files, measures it, and keeps a row of each; a run that was stopped goes on.

With an output folder, rows are written in parts as they come, so that memory holds one part and the columns of the
summary. A part is named by the number of its file and its own. A second run with the same files and settings leaves out
files that are done, and reads past the rows that a file has in parts already.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from loopjax.runtime import files
from loopjax.traces import columns, measure, readers, table
from loopjax.traces.columns import Columns, Row
from loopjax.traces.trace import Kind, Problem, Trace

ROWS, SECONDS = 1000, 30.0  # of a part: at most so many rows, and not much longer in the making
LAYOUT = 1  # of the parts; another number where columns or measures change, so that old parts are not mixed with new
NAMED = 1000  # problems of a kind that are kept with their text; all are counted


class Stopped(ValueError):
  """A record cannot be read, and the scan is strict."""


@dataclasses.dataclass
class Problems:
  """What gave no response.

  Attributes:
    counts: how many of each `Kind`.
    named: kind -> the first of them, `file:line: why`, at most `NAMED`; none of duplicates.
  """

  counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
  named: dict[str, list[str]] = dataclasses.field(default_factory=dict)

  def add(self, problem: Problem) -> None:
    """Counts a problem, and names it."""
    self.counts[str(problem.kind)] += 1
    if problem.kind is not Kind.DUPLICATE:
      self._name(str(problem.kind), [measure.clean(str(problem))])

  def update(self, other: Problems) -> None:
    """Adds another file's."""
    self.counts.update(other.counts)
    for kind, named in other.named.items():
      self._name(kind, named)

  def _name(self, kind: str, named: Sequence[str]) -> None:
    known = self.named.setdefault(kind, [])
    known += named[: NAMED - len(known)]


@dataclasses.dataclass(frozen=True)
class Source:
  """What is read, and how.

  Attributes:
    files: the files, each once.
    format: a name of `readers.READERS`; empty to find it.
    limit: the most bytes of a record.
    model: for responses whose file does not name their model; `{file}` and `{folder}` stand for the names of theirs.
    temperature: for responses whose file does not name theirs.
    strict: whether a record that cannot be read ends the scan.
  """

  files: tuple[str, ...]
  format: str = ""
  limit: int = readers.LIMIT
  model: str = ""
  temperature: float | None = None
  strict: bool = False

  def completed(self, trace: Trace) -> Trace:
    """The trace with what its file does not say."""
    changes: dict[str, Any] = {}
    if not trace.model and self.model:
      path = Path(trace.file).resolve()
      changes["model"] = self.model.replace("{file}", path.name.split(".")[0]).replace("{folder}", path.parent.name)
    if trace.temperature is None and self.temperature is not None:
      changes["temperature"] = self.temperature
    return dataclasses.replace(trace, **changes) if changes else trace


Progress = Callable[[int, int], Any]  # bytes that are read, responses


class _Part(NamedTuple):
  """Rows of one file; its problems are with its last part."""

  rows: Sequence[Row]
  problems: Problems
  is_last: bool


def scan(
  source: Source, settings: measure.Settings, output_dir: Path | None = None, progress: Progress = lambda *_: None
) -> tuple[Columns, Problems]:
  """Measures every response.

  Args:
    source: the files.
    settings: the measures.
    output_dir: where `responses.parquet` and the folder `parts` shall lie; None to write nothing. A caller holds it
      with `files.locked`.
    progress: is told of every response.

  Returns:
    The columns of the summary, and what gave no response.

  Raises:
    Stopped: a record cannot be read, and the source is strict.
    ValueError: the folder has the parts of another scan.
  """
  folder = None if output_dir is None else output_dir / "parts"
  if folder is not None:
    _hold(folder, source, settings)
  numbers, problems, kept = table.Numbers(), Problems(), []
  for part in _all_parts(source, settings, folder, progress):
    kept.append(columns.of_rows([{**row, "sample": numbers.number(row)} for row in part.rows]))
    problems.update(part.problems)
  found = columns.joined(kept)
  if output_dir is not None:
    table.write(output_dir / "responses.parquet", part_files(output_dir), found["sample"].astype(int).tolist())
  return found, problems


def part_files(output_dir: Path) -> list[Path]:
  """The parts of a scan, in the order of its rows."""
  return sorted((output_dir / "parts").glob("*.parquet"))


def _all_parts(source: Source, settings: measure.Settings, folder: Path | None, progress: Progress) -> Iterator[_Part]:
  """Every part of every file: those that lie there, then those that are still to be made."""
  before = responses = 0  # bytes of the files before, rows so far
  for index, file in enumerate(source.files):
    lying = [] if folder is None else sorted(folder.glob(f"{index:05d}-*.parquet"))
    rows, done = 0, False
    for part in map(_lying, lying):
      rows, done = rows + len(part.rows), part.is_last
      yield part
    made = iter(()) if done else _parts(source, settings, file, rows, _shifted(progress, before, responses))
    for number, part in enumerate(made, len(lying)):
      if folder is not None:
        _write(folder / f"{index:05d}-{number:05d}.parquet", part)
      rows += len(part.rows)
      yield part
    before, responses = before + os.path.getsize(file), responses + rows
    progress(before, responses)


def _shifted(progress: Progress, before: int, responses: int) -> Progress:
  return lambda position, num: progress(before + position, responses + num)


def _lying(path: Path) -> _Part:
  rows, about = table.read_part(path)
  return _Part(rows, Problems(collections.Counter(about["counts"]), about["named"]), about["is_last"])


def _write(path: Path, part: _Part) -> None:
  about = {"is_last": part.is_last, "counts": part.problems.counts, "named": part.problems.named}
  table.write_part(path, part.rows, about)


def _parts(source: Source, settings: measure.Settings, file: str, skip: int, progress: Progress) -> Iterator[_Part]:
  """The parts of a file without its first `skip` responses."""
  rows: list[Row] = []
  problems, num, since, position = Problems(), 0, time.monotonic(), [0]
  for found in readers.read_file(file, source.format, source.limit, lambda at: position.__setitem__(0, at)):
    one = _measurable(found)
    if isinstance(one, Problem):
      problems.add(one)
      if source.strict and one.kind is Kind.UNREADABLE:
        raise Stopped(str(one))
      continue
    num += 1
    if num <= skip:
      continue
    rows.append(measure.row(source.completed(one), settings))
    progress(position[0], num)
    if len(rows) == ROWS or time.monotonic() - since > SECONDS:
      yield _Part(rows, Problems(), is_last=False)
      rows, since = [], time.monotonic()
  yield _Part(rows, problems, is_last=True)


def _measurable(one: Trace | Problem) -> Trace | Problem:
  """A response as it is, or a problem where it is too long to be measured."""
  why = None if isinstance(one, Problem) else measure.refusal(one)
  return one if why is None else Problem(one.file, one.line, why)


def _hold(folder: Path, source: Source, settings: measure.Settings) -> None:
  """Makes the folder of parts for these files and settings, or finds it made for them."""
  about = [[os.path.abspath(file), os.path.getsize(file), os.stat(file).st_mtime_ns] for file in source.files]
  reading = {name: value for name, value in dataclasses.asdict(source).items() if name not in ("files", "strict")}
  identity = json.loads(json.dumps({"layout": LAYOUT, "files": about, **reading, **dataclasses.asdict(settings)}))
  path = folder / "identity.json"
  if path.exists():
    if files.read_json(path) != identity:
      why = "of other files, with other settings, or by another version"
      raise ValueError(f"{folder.parent}: has another scan ({why}); choose another folder")
  else:
    files.write_json(identity, path)
