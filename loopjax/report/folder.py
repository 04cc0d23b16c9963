"""What lies in a results folder, read file by file: a bad file is a line in `problems`, and the rest is read on."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import pandas as pd

from loopjax import claims, results
from loopjax.report import leaderboard
from loopjax.runtime.config import require

Value = TypeVar("Value")


class Table(NamedTuple):
  """The size of a Parquet file of results; `num_seeds` is 0 where it has no column `seed`."""

  num_rows: int
  num_columns: int
  num_seeds: int


class Folder(NamedTuple):
  """The content of a results folder, by file name without suffix.

  Attributes:
    claims: `claims.csv`; None where it cannot be read.
    figures: the SVG files' text.
    runs: the JSON files of `results/`: dicts with config and provenance, and wall_seconds where known.
    tables: the Parquet files of `results/`.
    boards: those of them that are leaderboards.
  """

  claims: pd.DataFrame | None
  figures: dict[str, str]
  runs: dict[str, dict[str, Any]]
  tables: dict[str, Table]
  boards: Mapping[str, pd.DataFrame] = MappingProxyType({})


def attempt(problems: list[str], read: Callable[[], Value]) -> Value | None:
  """What `read` gives; where it raises `ValueError` or `OSError`, None, and its message as one line in `problems`."""
  try:
    return read()
  except FileNotFoundError as error:
    problems.append(f"{error.filename}: is not there" if error.filename else _one_line(error))
  except (ValueError, OSError) as error:
    problems.append(_one_line(error))
  return None


def _one_line(error: Exception) -> str:
  return " ".join(str(error).split())


def read(path: str | os.PathLike[str], problems: list[str]) -> Folder:
  """Everything that a report shows but the students; what cannot be read is named in `problems`.

  Raises:
    ValueError: there is no such folder.
  """
  path = Path(path)
  require(path.is_dir(), "results_dir", str(path), "a folder that exists, such as `reproduce` writes it")
  tables = _read_all(path / "results", ".parquet", _read_table, problems)
  return Folder(
    claims=attempt(problems, lambda: read_claims(path / "claims.csv")),
    figures=_read_all(path / "figures", ".svg", _read_text, problems),
    runs=_read_all(path / "results", ".json", results.read_record, problems),
    tables=tables,
    boards=_read_boards(path / "results", list(tables), problems),
  )


def _read_boards(folder: Path, tables: list[str], problems: list[str]) -> dict[str, pd.DataFrame]:
  """The leaderboards among the tables that could be read; most folders have none."""
  paths = [folder / f"{name}.parquet" for name in tables if name.endswith(leaderboard.SUFFIX)]
  found = {path.stem: attempt(problems, lambda path=path: leaderboard.read(path)) for path in paths}  # type: ignore[misc]
  return {name: board for name, board in found.items() if board is not None}


def _read_all(folder: Path, suffix: str, read: Callable[[Path], Value], problems: list[str]) -> dict[str, Value]:
  paths = sorted(folder.glob(f"*{suffix}"))
  if not paths:
    problems.append(f"{folder}: has no {suffix} file")
  found = {path.stem: attempt(problems, lambda path=path: read(path)) for path in paths}  # type: ignore[misc]
  return {name: value for name, value in found.items() if value is not None}


def _read_text(path: Path) -> str:
  try:
    return path.read_text(encoding="utf-8")
  except UnicodeDecodeError as error:
    raise ValueError(f"{path}: is not text in UTF-8: {error}") from error


def _read_table(path: Path) -> Table:
  frame = results.read_frame(path)
  try:
    num_seeds = frame["seed"].nunique() if "seed" in frame.columns else 0
  except TypeError as error:  # of lists
    raise ValueError(f"{path}: column 'seed' holds what is no number: {error}") from error
  return Table(len(frame), len(frame.columns), num_seeds)


def read_claims(path: Path) -> pd.DataFrame:
  """The verdicts in `claims.csv`; a one-line `ValueError` where it cannot be read."""
  try:
    frame = pd.read_csv(path)
  except ValueError as error:  # pandas' errors, and those of decoding, are
    raise ValueError(f"{path}: is not a readable CSV file: {error}") from error
  missing = [column for column in claims.COLUMNS if column not in frame.columns]
  if missing:
    raise ValueError(f"{path}: has no column {missing[0]!r}; it must have {', '.join(claims.COLUMNS)}")
  texts = [column for column in claims.COLUMNS if column not in claims.NUMBERS]
  frame[texts] = frame[texts].astype(object).fillna("").astype(str)
  for column in claims.NUMBERS:
    try:
      frame[column] = pd.to_numeric(frame[column]).astype(float)
    except (ValueError, TypeError) as error:
      raise ValueError(f"{path}: column {column!r} holds what is no number: {error}") from error
  return frame
