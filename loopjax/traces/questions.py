"""What models are asked: problems with their names and answers, from JSONL, JSON, Parquet, or a file of traces.

A record has its problem under `problem`, `question`, `prompt` or the like, its name under `id` or `problem_id`, its
answer under `answer`; capitals do not matter. A record without a name is named by its number. Where records have no
such field, the file is read as one of traces, and its prompts are the problems.

Example: {"id": "2024-I-1", "problem": "Every morning Aya goes ...", "answer": "204"}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from loopjax.runtime.config import require
from loopjax.traces import readers
from loopjax.traces.readers import fields, opening, parquet
from loopjax.traces.trace import Trace

_TEXTS = ("problem", "question", "prompt", "query", "instruction", "input", "messages")
_NAMES = ("id", *fields.PROBLEMS)
_ANSWERS = ("answer", "expected_answer", "final_answer", "ground_truth", "target")


class Question(NamedTuple):
  """One problem.

  Attributes:
    name: what responses to it share; no other problem of a run has it.
    text: the problem, without a template around it.
    answer: the right answer; empty where the file has none.
  """

  name: str
  text: str
  answer: str = ""


def read(paths: Sequence[str]) -> list[Question]:
  """The problems of files, folders and patterns, in order, each once. With several files, names begin with the file's.

  Raises:
    ValueError: a path leads to no file, a file has no problem, or two problems have one name.
  """
  files, found = readers.find_files(paths), dict[str, Question]()
  for file in files:
    prefix = f"{Path(file).name.split('.')[0]}/" if len(files) > 1 else ""
    for one in _of_file(file):
      question = one._replace(name=prefix + one.name)
      if found.setdefault(question.name, question).text != question.text:
        raise ValueError(f"{file}: two problems have the name {question.name!r}")
  require(bool(found), "PROBLEMS", list(paths), "files with at least one problem")
  return list(found.values())


def _of_file(path: str) -> list[Question]:
  questions = []
  for number, record in enumerate(_records(path), 1):
    question = _of_record(record, number) if isinstance(record, dict) else None
    if question is None:
      return _prompts(path, number)
    questions.append(question)
  return questions


def _records(path: str) -> Iterator[Any]:
  if opening.magic(path) == opening.PARQUET:
    yield from parquet.rows(path, readers.LIMIT, lambda position: None)
    return
  content = b"".join(opening.pieces(path)).removeprefix(b"\xef\xbb\xbf")
  try:
    whole = json.loads(content)
    yield from whole if isinstance(whole, list) else [whole]
  except ValueError:
    for number, line in enumerate(content.split(b"\n"), 1):
      if line.strip():
        yield _parsed(line, f"{path}:{number}")


def _parsed(line: bytes, place: str) -> Any:
  try:
    return json.loads(line)
  except ValueError as error:
    raise ValueError(f"{place}: is not JSON: {error}") from None


def _of_record(record: dict[str, Any], number: int) -> Question | None:
  known = {str(key).lower(): value for key, value in record.items()}
  text = fields.prompt(fields.first(known, _TEXTS))
  name, answer = fields.first(known, _NAMES), fields.first(known, _ANSWERS)
  named = str(name) if isinstance(name, str | int) else str(number)
  return Question(named, text, str(answer) if isinstance(answer, str | int | float) else "") if text.strip() else None


def _prompts(path: str, number: int) -> list[Question]:
  """The problems of a file of traces."""
  traces = (one for one in readers.read_file(path) if isinstance(one, Trace) and one.prompt.strip())
  found = {one.problem: Question(one.problem, one.prompt) for one in traces}
  if not found:
    raise ValueError(f"{path}: record {number} has no problem; its field must be one of {', '.join(_TEXTS)}")
  return list(found.values())
