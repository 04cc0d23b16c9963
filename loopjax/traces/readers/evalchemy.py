"""evalchemy's results: one JSON document, `results.{task}.examples[].model_outputs[]`, texts alone.

Example: {"results": {"AIME24": {"examples": [{"id": 3, "problem": "2+2?", "model_outputs": ["4"]}]}}}
Source: evalchemy, `eval/eval.py` and its benchmarks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from loopjax.traces.readers import fields
from loopjax.traces.readers.fields import Record, Source
from loopjax.traces.trace import Problem, Trace

NAME = "evalchemy"
FIRST_KEY, PATH = "results", ("results", "*", "examples", "*")  # of the document; the path to its records


def matches(record: Record) -> bool:
  """Whether a record is one of the examples."""
  return "model_outputs" in record or ("model_output" in record and "answer" in record)


def read(record: Record, source: Source) -> Iterator[Trace | Problem]:
  """A trace for each output."""
  asked = fields.record_prompt(record)
  outputs = record.get("model_outputs", record.get("model_output"))
  outputs = [outputs] if isinstance(outputs, str) or outputs is None else fields.items(outputs, "model_outputs")
  labels = record.get("labels", record.get("scores"))
  for index, output in enumerate(outputs):
    own = fields.label(fields.at(labels, index))
    yield Trace(
      problem=fields.problem(record, asked, source),
      sample=index,
      model=fields.model(record) or Path(source.file).resolve().parent.name,
      temperature=fields.temperature(record),
      prompt=asked,
      answer=fields.text(output),
      label=own if own is not None or len(outputs) > 1 else fields.record_label(record),
      file=source.file,
      line=source.line,
    )
