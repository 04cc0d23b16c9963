"""s1K: thought and answer of one or several models under `{model}_thinking_trajectory` and `{model}_attempt`.

s1K-1.1 has `deepseek_...` and `gemini_...`; s1K has `thinking_trajectories[]` and `attempt`.

Example: {"question": "2+2?", "deepseek_thinking_trajectory": "2 and 2", "deepseek_attempt": "4"}
Source: the data cards of simplescaling/s1K and simplescaling/s1K-1.1.
"""

from __future__ import annotations

from collections.abc import Iterator

from loopjax.traces.readers import fields
from loopjax.traces.readers.fields import Record, Source
from loopjax.traces.trace import Problem, Trace

NAME = "s1k"
_THOUGHT, _ANSWER = "_thinking_trajectory", "_attempt"


def matches(record: Record) -> bool:
  """Whether a record has such a thought."""
  return "thinking_trajectories" in record or any(key.endswith(_THOUGHT) for key in record if isinstance(key, str))


def read(record: Record, source: Source) -> Iterator[Trace | Problem]:
  """A trace for each model, or for each thought."""
  asked = fields.record_prompt(record)
  problem = fields.problem(record, asked, source)
  for name in [key.removesuffix(_THOUGHT) for key in record if isinstance(key, str) and key.endswith(_THOUGHT)]:
    thought, answer = record[f"{name}{_THOUGHT}"], record.get(f"{name}{_ANSWER}")
    grade = {"yes": 1.0, "no": 0.0}.get(str(record.get(f"{name}_grade")).lower())
    if thought is not None or answer is not None:
      yield _trace(problem, asked, thought, answer, source, model=name, label=grade)
  for thought in fields.items(record.get("thinking_trajectories"), "thinking_trajectories"):
    yield _trace(problem, asked, thought, record.get("attempt"), source, model=fields.model(record), label=None)


def _trace(
  problem: str, asked: str, thought: object, answer: object, source: Source, model: str, label: float | None
) -> Trace:  # fmt: skip
  return Trace(
    problem=problem,
    model=model,
    prompt=asked,
    reasoning=fields.text(thought, "thinking_trajectory"),
    answer=fields.text(answer, "attempt"),
    label=label,
    file=source.file,
    line=source.line,
  )
