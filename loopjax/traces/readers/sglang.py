"""SGLang's `/generate`: `text`, `output_ids` and `meta_info`; a list of such where n > 1.

Example: {"text": "4", "output_ids": [19], "meta_info": {"id": "a", "finish_reason": {"type": "length", "length": 1},
  "output_token_logprobs": [[-0.1, 19, null]]}}
Source: SGLang, "Native APIs" and "Sampling parameters" in its documentation.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from loopjax.traces.readers import fields
from loopjax.traces.readers.fields import Record, Source
from loopjax.traces.trace import Problem, Trace

NAME = "sglang"


def matches(record: Record) -> bool:
  """Whether a record is one such response."""
  return isinstance(record.get("meta_info"), dict) and ("text" in record or "output_ids" in record)


def read(record: Record, source: Source) -> Iterator[Trace | Problem]:
  """One trace."""
  about = fields.mapping(record.get("meta_info"), "meta_info")
  asked = fields.record_prompt(record)
  ids = fields.ids(record.get("output_ids"), "output_ids")
  stored = fields.items(about.get("output_token_logprobs"), "output_token_logprobs")
  pairs = [pair for pair in stored if fields.is_list(pair) and len(pair) >= 2]
  if ids is None and pairs and len(pairs) == len(stored):
    ids = fields.ids([pair[1] for pair in pairs], "output_token_logprobs")
  yield Trace(
    problem=fields.problem(record, asked, source),
    sample=fields.sample(record),
    model=fields.model(record) or fields.model(about),
    temperature=fields.temperature(record),
    prompt=asked,
    reasoning=fields.text(record.get("reasoning_text"), "reasoning_text"),
    answer=fields.text(record.get("text")),
    ids=ids,
    logprobs=_logprobs(pairs),
    ending=fields.ending(about.get("finish_reason")),
    label=fields.record_label(record),
    file=source.file,
    line=source.line,
    key=about["id"] if isinstance(about.get("id"), str) else None,
  )


def _logprobs(pairs: list) -> np.ndarray | None:
  return fields.logprobs(pair[0] for pair in pairs) if pairs else None
