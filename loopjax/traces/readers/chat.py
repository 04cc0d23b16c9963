"""Responses of the chat and the completions API: `choices` with a `message`, or with a `text`.

A choice may also have `token_ids` (vLLM), and log-probabilities in either API's layout: `logprobs.content[]` of
{token, logprob}, or flat lists `tokens` and `token_logprobs`. A token that reads `token_id:123` gives its id.

Example: {"id": "chatcmpl-1", "model": "m", "choices": [{"message": {"content": "4"}, "finish_reason": "stop"}]}
Source: the OpenAI API reference, chat and completions; vLLM's OpenAI-compatible server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from loopjax.traces.readers import fields
from loopjax.traces.readers.fields import Record, Source
from loopjax.traces.trace import Problem, Trace

NAME = "chat"


def matches(record: Record) -> bool:
  """Whether a record is one response of either API."""
  choices = record.get("choices")
  first = fields.at(choices, 0)
  return isinstance(first, dict) and ("message" in first or "text" in first)


def read(record: Record, source: Source) -> Iterator[Trace | Problem]:
  """A trace for each choice."""
  asked = fields.record_prompt(record)
  problem = fields.problem(record, asked, source)
  named = record.get("id")
  yield from choices(record, source, problem, asked, named if isinstance(named, str) else None)


def choices(body: Record, source: Source, problem: str, asked: str, key: str | None) -> Iterator[Trace]:
  """A trace for each choice of a response's body."""
  found = fields.items(body.get("choices"), "choices")
  for index, choice in enumerate(found):
    yield _trace(body, fields.mapping(choice, "choice"), index, len(found), source, problem, asked, key)


def _trace(
  body: Record, choice: Record, index: int, num: int, source: Source, problem: str, asked: str, key: str | None
) -> Trace:  # fmt: skip
  if choice.get("message") is not None:
    parts = fields.message(choice["message"])
  else:
    reasoning = fields.text(fields.first(choice, ("reasoning", "reasoning_content")), "reasoning")
    parts = fields.Content(reasoning, fields.text(choice.get("text")))
  own = choice.get("index", index)
  ids, logprobs = tokens(choice)
  return Trace(
    problem=problem,
    sample=fields.count(own) if num > 1 else fields.sample(body),
    model=fields.model(body),
    temperature=fields.temperature(body),
    prompt=asked,
    reasoning=parts.reasoning,
    answer=parts.answer,
    ids=ids,
    logprobs=logprobs,
    ending=fields.ending(choice.get("finish_reason")),
    label=fields.record_label(body),
    file=source.file,
    line=source.line,
    key=None if key is None else f"{key}#{own}",
  )


def tokens(choice: Record) -> tuple[np.ndarray | None, np.ndarray | None]:
  """Ids and log-probabilities of a choice, [L] each, as far as it has them."""
  ids = fields.ids(choice.get("token_ids"))
  stored = choice.get("logprobs")
  if not isinstance(stored, dict):
    return ids, None
  names, values = _listed(stored)
  if ids is None and names:
    read_ids = [fields.token_id(name) for name in names]
    ids = None if None in read_ids else np.array(read_ids, np.int64)
  return ids, fields.logprobs(values) if values else None


def _listed(stored: Record) -> tuple[list[Any], list[Any]]:
  """The tokens and their log-probabilities, from either layout."""
  entries = stored.get("content")
  if isinstance(entries, list):
    entries = [entry for entry in entries if isinstance(entry, dict)]
    return [entry.get("token") for entry in entries], [entry.get("logprob") for entry in entries]
  names, values = stored.get("tokens"), stored.get("token_logprobs")
  return list(names) if isinstance(names, list) else [], list(values) if isinstance(values, list) else []
