"""OpenR1-Math: `generations[]` beside `finish_reasons[]`, `is_reasoning_complete[]` and `correctness_math_verify[]`.

Example: {"problem": "2+2?", "uuid": "a", "generations": ["<think>2+2</think>4"], "finish_reasons": ["stop"],
  "is_reasoning_complete": [true], "correctness_math_verify": [true]}
Source: the data card of open-r1/OpenR1-Math-220k.
"""

from __future__ import annotations

from collections.abc import Iterator

from loopjax.traces.readers import fields
from loopjax.traces.readers.fields import Record, Source
from loopjax.traces.trace import Problem, Trace

NAME = "openr1"


def matches(record: Record) -> bool:
  """Whether a record has a list of generations."""
  return fields.is_list(record.get("generations"))


def read(record: Record, source: Source) -> Iterator[Trace | Problem]:
  """A trace for each generation."""
  asked = fields.record_prompt(record)
  for index, generation in enumerate(record["generations"]):
    complete = fields.at(record.get("is_reasoning_complete"), index)
    yield Trace(
      problem=fields.problem(record, asked, source),
      sample=index,
      model=fields.model(record),
      temperature=fields.temperature(record),
      prompt=asked,
      answer=fields.text(generation, "generation"),
      ending=fields.ending(fields.at(record.get("finish_reasons"), index)),
      label=fields.label(fields.at(record.get("correctness_math_verify"), index)),
      file=source.file,
      line=source.line,
      thought_is_complete=complete if isinstance(complete, bool) else None,
    )
