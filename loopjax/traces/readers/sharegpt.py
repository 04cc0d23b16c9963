"""Conversations: ShareGPT's `conversations` [{from, value}], OpenThoughts too; or `messages` [{role, content}].

Every turn of the model is a response. OpenThoughts puts the thought between `<|begin_of_thought|>` and
`<|end_of_thought|>`; these stay in the text.

Example: {"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]}
Source: FastChat's ShareGPT layout; the data card of open-thoughts/OpenThoughts-114k.
"""

from __future__ import annotations

from collections.abc import Iterator

from loopjax.traces.readers import fields
from loopjax.traces.readers.fields import Record, Source
from loopjax.traces.trace import Problem, Trace

NAME = "sharegpt"
_MODELS = ("gpt", "assistant", "model", "chatgpt", "bing", "bard")


def matches(record: Record) -> bool:
  """Whether a record is a conversation with a turn of a model."""
  turns = record.get("conversations", record.get("messages"))
  return isinstance(turns, list) and any(isinstance(turn, dict) and _role(turn) in _MODELS for turn in turns)


def _role(turn: Record) -> str:
  return str(turn.get("from", turn.get("role"))).lower()


def read(record: Record, source: Source) -> Iterator[Trace | Problem]:
  """A trace for each turn of the model."""
  turns = [fields.mapping(turn, "turn") for turn in record.get("conversations", record.get("messages"))]
  for index, turn in enumerate(turns):
    if _role(turn) not in _MODELS:
      continue
    asked = fields.prompt(turns[:index])
    body = {**turn, "content": turn.get("content", turn.get("value"))}
    parts = fields.message(body)
    yield Trace(
      problem=fields.problem(record, asked, source),
      sample=fields.sample(record),
      model=fields.model(record),
      temperature=fields.temperature(record),
      prompt=asked,
      reasoning=parts.reasoning,
      answer=parts.answer,
      ending=fields.ending(fields.first(turn, ("finish_reason",)) or record.get("finish_reason")),
      label=fields.record_label(record),
      file=source.file,
      line=source.line,
    )
