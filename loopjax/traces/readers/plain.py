"""Plain records: `text`, or `prompt` and one of `response`, `completion`, `output`, ...; ids as `token_ids`.

Also read where they are there: `reasoning`, `finish_reason`, `logprobs`, `model`, `temperature`, `problem_id`, `sample`
and a label such as `correct`. A list of texts is a list of samples. A null text is a lost response.

Example: {"problem_id": "aime-3", "model": "m", "temperature": 0, "response": "4", "finish_reason": "stop"}
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loopjax.traces.readers import fields
from loopjax.traces.readers.fields import Record, Source
from loopjax.traces.trace import Problem, Trace

NAME = "plain"
_TEXTS = (
  "response", "completion", "output", "generation", "answer_text", "generated_text", "model_output", "prediction",
  "content", "text", "solution_text", "responses", "completions",
)  # fmt: skip
_IDS = ("token_ids", "output_ids", "output_token_ids", "completion_ids", "ids")
_ENDINGS = ("finish_reason", "stop_reason", "ending", "done_reason")
_THOUGHTS = ("reasoning", "reasoning_content", "thinking", "thought")


def matches(record: Record) -> bool:
  """Whether a record has a text or ids under one of the usual names."""
  return any(name in record for name in (*_TEXTS, *_IDS, *_THOUGHTS))


def read(record: Record, source: Source) -> Iterator[Trace | Problem]:
  """One trace, or one for each text of a list."""
  found = fields.first(record, _TEXTS)
  if isinstance(found, dict):
    found = fields.message(found).answer
  texts = list(found) if fields.is_list(found) else [found]
  for index, text in enumerate(texts):
    yield _trace(record, text, index if len(texts) > 1 else fields.sample(record), len(texts) == 1, source)


def _trace(record: Record, text: Any, sample: int | None, is_alone: bool, source: Source) -> Trace:
  asked = fields.record_prompt(record)
  named = fields.first(record, fields.PROBLEMS)
  has_key = is_alone and named is not None and sample is not None
  stored = record.get("logprobs", record.get("token_logprobs"))
  flat = fields.is_list(stored) and not any(fields.is_list(one) or isinstance(one, dict) for one in stored)
  return Trace(
    problem=fields.problem(record, asked, source),
    sample=sample,
    model=fields.model(record),
    temperature=fields.temperature(record),
    prompt=asked,
    reasoning=fields.text(fields.first(record, _THOUGHTS), "reasoning"),
    answer=fields.text(text, "response"),
    ids=fields.ids(fields.first(record, _IDS)) if is_alone else None,
    logprobs=fields.logprobs(stored) if flat and is_alone else None,
    ending=fields.ending(fields.first(record, _ENDINGS)),
    label=fields.record_label(record),
    file=source.file,
    line=source.line,
    key=f"{named}#{sample}" if has_key else None,
  )
