"""Results of a batch, OpenAI's or vLLM's: `custom_id`, `response` {status_code, body}, `error`, a line a request.

The body is a response of the chat, completions or Responses API. A line with an error, or with another status than 200,
has no response: it is a request that failed. The problem is the `custom_id` without a sample's number at its end, as in
`aime-3-sample-12`.

Example: {"custom_id": "a", "response": {"status_code": 200, "body": {"choices": [...]}}, "error": null}
Source: the OpenAI API reference, Batch; vLLM, `vllm/entrypoints/openai/run_batch.py`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from loopjax.traces.readers import chat, fields, responses_api
from loopjax.traces.readers.fields import Record, Source
from loopjax.traces.trace import Kind, Problem, Trace

NAME = "openai_batch"
_SAMPLE = re.compile(r"(.+?)[-_:/#.](?:s|sample|n|run|rollout)[-_]?(\d{1,9})", re.DOTALL)


def matches(record: Record) -> bool:
  """Whether a record is a line of a batch's results."""
  return "custom_id" in record and ("response" in record or "error" in record)


def read(record: Record, source: Source) -> Iterator[Trace | Problem]:
  """The traces of a line, or the request that failed."""
  answered = record.get("response")
  failure = _failure(record)
  if failure is not None:
    yield Problem(source.file, source.line, failure, Kind.FAILED)
    return
  body = fields.mapping(fields.mapping(answered, "response").get("body"), "response.body")
  named = str(record["custom_id"])
  match = _SAMPLE.fullmatch(named)
  problem, sample = (match[1], int(match[2])) if match else (named, None)
  for trace in _traces(body, source, problem, named):
    yield dataclasses.replace(trace, sample=sample) if trace.sample is None else trace


def _traces(body: Record, source: Source, problem: str, key: str) -> Iterator[Trace]:
  asked = fields.record_prompt(body)
  if responses_api.matches(body):
    yield responses_api.trace(body, source, problem, asked, key)
  else:
    yield from chat.choices(body, source, problem, asked, key)


def _failure(record: Record) -> str | None:
  """Why a request has no response; None where it has one."""
  error, answered = record.get("error"), record.get("response")
  if error:
    return f"the request failed: {_shortened(error)}"
  if answered is None:
    return "the request has no response"
  status = answered.get("status_code", 200) if isinstance(answered, dict) else 200
  return None if status == 200 else f"the request failed with status {status!r}"


def _shortened(error: object) -> str:
  message = error.get("message", error) if isinstance(error, dict) else error
  return " ".join(str(message).split())[:200]
