"""`samples_*.jsonl` of lm-evaluation-harness: one line per document **and filter**, so a response may stand twice.

`resps` is [request][repeat]. The file has neither ids nor finish reasons. A chat model's reasoning was dropped before
it was written, and null became an empty string: such a response is lost. The task is in the file's name, the model in
its folder's, the temperature among the arguments.

Example: {"doc_id": 0, "doc": {}, "target": "4", "arguments": {"gen_args_0": {"arg_0": "2+2?", "arg_1":
  {"temperature": 0.6}}}, "resps": [["4", "5"]], "filtered_resps": ["4"], "filter": "none", "exact_match": 1.0}
Source: lm-evaluation-harness, `lm_eval/evaluator.py` and `lm_eval/loggers/evaluation_tracker.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loopjax.traces.readers import fields
from loopjax.traces.readers.fields import Record, Source
from loopjax.traces.trace import Kind, Problem, Trace

NAME = "lm_eval"


def matches(record: Record) -> bool:
  """Whether a record is a line of such a file."""
  return "resps" in record and "doc_id" in record


def read(record: Record, source: Source) -> Iterator[Trace | Problem]:
  """A trace for each request and repeat; multiple choice's log-likelihoods are no responses."""
  named = re.fullmatch(r"samples_(.+?)(?:_\d{4}-\d\d-\d\dT.*)?\.jsonl.*", Path(source.file).name)
  problem = f"{named[1]}/{record['doc_id']}" if named else str(record["doc_id"])
  requests = [one if fields.is_list(one) else [one] for one in fields.items(record["resps"], "resps")]
  repeat, is_alone = 0, sum(map(len, requests)) == 1  # a metric of several responses is no label of one
  for index, request in enumerate(requests):
    asked, settings = _arguments(record.get("arguments"), index)
    for response in request:
      if not isinstance(response, str | None.__class__):
        yield Problem(source.file, source.line, "resps holds no text: a task without generation", Kind.FAILED)
        return
      yield Trace(
        problem=problem,
        sample=repeat,
        model=fields.model(record) or Path(source.file).resolve().parent.name,
        temperature=fields.temperature(settings),
        prompt=asked,
        answer=fields.text(response),
        label=_label(record) if is_alone else None,
        file=source.file,
        line=source.line,
        key=f"{problem}#{repeat}",
      )
      repeat += 1


def _arguments(stored: Any, index: int) -> tuple[str, Record]:
  """Prompt and generation settings of a request, from {gen_args_0: {arg_0, arg_1}} or from lists."""
  if isinstance(stored, dict):
    one = stored.get(f"gen_args_{index}")
    pair = [one.get("arg_0"), one.get("arg_1")] if isinstance(one, dict) else []
  else:
    one = fields.at(stored, index)
    pair = list(one) if fields.is_list(one) else []
  asked, settings = fields.at(pair, 0), fields.at(pair, 1)
  return fields.prompt(asked), settings if isinstance(settings, dict) else {}


def _label(record: Record) -> float | None:
  """The first of the line's metrics that is a label."""
  listed = record.get("metrics")
  names = listed if fields.is_list(listed) else ("exact_match", "acc", "pass@1", "score")
  labels = (fields.label(record.get(name)) for name in names if isinstance(name, str))
  return next((one for one in labels if one is not None), None)
