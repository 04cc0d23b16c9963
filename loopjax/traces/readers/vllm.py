"""vLLM's `RequestOutput`, as people write it from offline runs: `outputs[]` of {index, text, token_ids, ...}.

Log-probabilities come as a list of {token id: {logprob, rank, decoded_token}}, ids as strings in JSON, or as flat
parallel lists (`FlatLogprobs`: `start_indices`, `token_ids`, `logprobs`).

Example: {"request_id": "0", "prompt": "2+2?", "outputs": [{"index": 0, "text": "4", "token_ids": [19],
  "cumulative_logprob": -0.1, "logprobs": [{"19": {"logprob": -0.1, "rank": 1}}], "finish_reason": "stop"}]}
Source: vLLM, `vllm/outputs.py` and `vllm/logprobs.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from loopjax.traces.readers import fields
from loopjax.traces.readers.fields import Record, Source
from loopjax.traces.trace import Problem, Trace

NAME = "vllm"


def matches(record: Record) -> bool:
  """Whether a record is a `RequestOutput`."""
  outputs = record.get("outputs")
  first = fields.at(outputs, 0)
  return isinstance(first, dict) and ("text" in first or "token_ids" in first)


def read(record: Record, source: Source) -> Iterator[Trace | Problem]:
  """A trace for each output."""
  asked = fields.record_prompt(record)
  problem = fields.problem(record, asked, source)
  request = record.get("request_id")
  outputs = fields.items(record.get("outputs"), "outputs")
  for index, output in enumerate(fields.mapping(one, "output") for one in outputs):
    ids = fields.ids(output.get("token_ids"))
    own = output.get("index", index)
    yield Trace(
      problem=problem,
      sample=fields.count(own) if len(outputs) > 1 else fields.sample(record),
      model=fields.model(record),
      temperature=fields.temperature(record),
      prompt=asked,
      reasoning=fields.text(fields.first(output, ("reasoning", "reasoning_content")), "reasoning"),
      answer=fields.text(output.get("text")),
      ids=ids,
      logprobs=_logprobs(output.get("logprobs"), ids),
      ending=fields.ending(output.get("finish_reason")),
      label=fields.record_label(output if fields.record_label(output) is not None else record),
      file=source.file,
      line=source.line,
      key=None if request is None else f"{request}#{own}",
    )


def _logprobs(stored: Any, ids: np.ndarray | None) -> np.ndarray | None:
  """Those of the emitted ids, [L]."""
  if ids is None or not stored:
    return None
  if isinstance(stored, dict):
    return _flat(stored, ids)
  if not isinstance(stored, list) or not isinstance(stored[0], dict | None.__class__):
    return fields.logprobs(stored) if isinstance(stored, list) else None
  return fields.logprobs(_of_id(entry, int(one)) for entry, one in zip(stored, ids, strict=False))


def _of_id(entry: Any, one: int) -> Any:
  if not isinstance(entry, dict):
    return None
  found = entry.get(str(one), entry.get(one))
  return found.get("logprob") if isinstance(found, dict) else found


def _flat(stored: Record, ids: np.ndarray) -> np.ndarray | None:
  """From flat lists; the emitted id stands first among those of its position."""
  starts, values, named = (stored.get(name) for name in ("start_indices", "logprobs", "token_ids"))
  if not (fields.is_list(starts) and fields.is_list(values) and fields.is_list(named)):
    return None
  chosen = [
    fields.at(values, start) if isinstance(start, int) and start >= 0 and fields.at(named, start) == one else None
    for start, one in zip(starts, ids.tolist(), strict=False)
  ]
  return fields.logprobs(chosen)
