"""Responses of the Responses API: `output[]` of reasoning and message items, and a `status`.

Example: {"object": "response", "id": "resp_1", "model": "m", "status": "incomplete",
  "incomplete_details": {"reason": "max_output_tokens"}, "output": [{"type": "reasoning", "summary": [],
  "content": [{"type": "reasoning_text", "text": "Wait"}]}]}
Source: the OpenAI API reference, Responses.
"""

from __future__ import annotations

from collections.abc import Iterator

from loopjax.traces.readers import fields
from loopjax.traces.readers.fields import Record, Source
from loopjax.traces.trace import Ending, Problem, Trace

NAME = "responses"


def matches(record: Record) -> bool:
  """Whether a record is one response of this API."""
  return isinstance(record.get("output"), list) and ("status" in record or record.get("object") == "response")


def read(record: Record, source: Source) -> Iterator[Trace | Problem]:
  """One trace."""
  asked = fields.record_prompt(record)
  named = record.get("id")
  yield trace(record, source, fields.problem(record, asked, source), asked, named if isinstance(named, str) else None)


def trace(body: Record, source: Source, problem: str, asked: str, key: str | None) -> Trace:
  """The trace of a response's body."""
  reasoning, answer = _parts(body)
  return Trace(
    problem=problem,
    sample=fields.sample(body),
    model=fields.model(body),
    temperature=fields.temperature(body),
    prompt=asked,
    reasoning=reasoning,
    answer=answer,
    ending=_ending(body),
    label=fields.record_label(body),
    file=source.file,
    line=source.line,
    key=key,
  )


def _parts(body: Record) -> tuple[str, str]:
  reasoning, answer = [], []
  for item in (fields.mapping(one, "an item of output") for one in fields.items(body.get("output"), "output")):
    if item.get("type") == "reasoning":
      blocks = [*fields.items(item.get("content"), "content")] or [*fields.items(item.get("summary"), "summary")]
      reasoning += [fields.text(block.get("text")) for block in blocks if isinstance(block, dict)]
    elif item.get("type") == "message":
      parts = fields.content(item.get("content"))
      answer.append(parts.answer)
    elif item.get("type") == "function_call":
      answer.append(f"{item.get('name')} {item.get('arguments')}\n")
  return "".join(reasoning), "".join(answer)


def _ending(body: Record) -> Ending:
  if body.get("status") == "completed":
    return Ending.FINISHED
  details = body.get("incomplete_details")
  return fields.ending(details.get("reason")) if isinstance(details, dict) else Ending.UNKNOWN
