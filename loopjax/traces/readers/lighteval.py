"""lighteval's details, Parquet: `doc`, `metric` and `model_response`; older ones have flat columns.

From 0.10 on a row has `model_response` {text[], output_tokens[][], reasonings[], ...}. Up to 0.9 it has `predictions`,
`cont_tokens`, ...; in 0.6 every cell is the text of a Python value. Such a cell is parsed as a literal and never
evaluated. The file has no finish reasons. The model is the folder above the date's.

Example: {"doc": {"query": "2+2?", "id": "3"}, "metric": {"exact_match": 1.0}, "model_response": {"text": ["4"],
  "output_tokens": [[19]], "reasonings": [null]}}
Source: lighteval, `lighteval/logging/info_loggers.py` and `lighteval/models/model_output.py`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loopjax.traces.readers import fields
from loopjax.traces.readers.fields import Record, Source
from loopjax.traces.trace import Problem, Trace

NAME = "lighteval"
LONGEST_LITERAL = 4 * 2**20  # characters; a parsed cell takes about a hundred bytes a character


def matches(record: Record) -> bool:
  """Whether a record is a row of such details."""
  return ("model_response" in record and "doc" in record) or {"predictions", "cont_tokens"} <= record.keys()


def read(record: Record, source: Source) -> Iterator[Trace | Problem]:
  """A trace for each text of the row."""
  doc, metric = _object(record.get("doc")), _object(record.get("metric", record.get("metrics")))
  if "model_response" in record:
    response = _object(record["model_response"])
    texts, listed, thoughts = (response.get(name) for name in ("text", "output_tokens", "reasonings"))
  else:
    texts, listed, thoughts = _literal(record["predictions"]), _literal(record["cont_tokens"]), None
  asked = fields.prompt(doc.get("query")) or fields.prompt(_literal(record.get("full_prompt")))
  problem = _problem(doc, record, asked, source)
  texts = [texts] if isinstance(texts, str) else fields.items(texts, "text")
  for index, text in enumerate(texts):
    yield Trace(
      problem=problem,
      sample=index,
      model=fields.model(record) or _model(source.file),
      temperature=fields.temperature(record),
      prompt=asked,
      reasoning=fields.text(fields.at(thoughts, index), "reasonings"),
      answer=fields.text(text),
      ids=_ids(listed, index, len(texts)),
      label=_label(metric) if len(texts) == 1 else None,
      file=source.file,
      line=source.line,
    )


def _literal(cell: Any) -> Any:
  """A cell that is the text of a Python list, dict or None as that value; every other cell as it is.

  Raises:
    ValueError: it is too long, or no literal.
  """
  if not isinstance(cell, str) or not re.match(r"\s*(?:[\[({]|None\s*$)", cell):
    return cell
  if len(cell) > LONGEST_LITERAL:
    raise ValueError(f"a cell of {len(cell)} characters is too long to parse: at most {LONGEST_LITERAL}")
  try:
    return ast.literal_eval(cell)
  except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
    raise ValueError("a cell begins as a Python value and is none") from None


def _object(cell: Any) -> Record:
  found = _literal(cell)
  return found if isinstance(found, dict) else {}


def _ids(listed: Any, index: int, num: int) -> Any:
  """Of text `index`, where there is a list for each text and it is not empty."""
  one = fields.at(listed, index) if fields.is_list(listed) and len(listed) == num else None
  return fields.ids(one, "output_tokens") if fields.is_list(one) and len(one) else None


def _problem(doc: Record, record: Record, asked: str, source: Source) -> str:
  named = re.fullmatch(r"details_(.+?)(?:_\d{4}-\d\d-\d\dT.*)?\.parquet", Path(source.file).name)
  own = doc.get("id")
  if named and isinstance(own, str | int) and str(own):
    return f"{named[1]}/{own}"
  return fields.problem(record, asked, source)


def _model(file: str) -> str:
  """From details/{model}/{date}/details_{task}_{date}.parquet, a model that may have a `/`."""
  parts = Path(file).resolve().parts[:-2]
  below = len(parts) - parts[::-1].index("details") if "details" in parts else len(parts)
  return "/".join(parts[below:])


def _label(metric: Record) -> float | None:
  labels = (fields.label(value) for value in metric.values())
  return next((one for one in labels if one is not None), None)
