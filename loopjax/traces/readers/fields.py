"""What readers share: the fields of a record that hold texts, ids, log-probabilities, endings, names and labels."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from loopjax.traces.trace import Ending

Record = Mapping[str, Any]

_ENDINGS = {
  **dict.fromkeys(
    ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "stop_str", "tool_calls", "function_call", "completed",
     "complete", "finished"), Ending.FINISHED),
  **dict.fromkeys(
    ("length", "max_tokens", "max_output_tokens", "model_length", "max_length", "length_current"), Ending.LENGTH),
  **dict.fromkeys(("repetition", "repetition_detected"), Ending.REPETITION),
}  # fmt: skip
PROBLEMS = (
  "problem_id",
  "question_id",
  "task_id",
  "doc_id",
  "unique_id",
  "problem_idx",
  "problem_index",
  "problem_name",
)
_SAMPLES = ("sample", "sample_id", "sample_index", "sample_idx", "completion_id", "rollout", "rollout_id", "epoch")
_MODELS = ("model", "model_name", "model_id", "generator")
_PROMPTS = ("prompt", "problem", "question", "query", "instruction", "input")
_LABELS = ("label", "correct", "is_correct", "score", "accuracy", "acc", "exact_match", "reward", "passed")
_THOUGHTS, _TEXTS = ("reasoning", "thinking", "redacted_thinking"), ("text", "output_text", "input_text")
_LARGEST_ID = 2**63


class Source(NamedTuple):
  """Where a record stands."""

  file: str
  line: int


class Content(NamedTuple):
  """The two parts of a message."""

  reasoning: str
  answer: str


def is_list(value: Any) -> TypeGuard[list[Any] | tuple[Any, ...]]:
  """Whether a value is a list of a JSON file or of a Parquet file."""
  return isinstance(value, list | tuple)


def first(record: Record, names: Iterable[str]) -> Any:
  """The value of the first of the names that the record has with a value other than null."""
  return next((record[name] for name in names if record.get(name) is not None), None)


def text(value: Any, name: str = "text") -> str:
  """A string; null is empty.

  Raises:
    ValueError: it is something else.
  """
  if value is None:
    return ""
  if not isinstance(value, str):
    raise ValueError(f"{name} is {_kind(value)}, not a string")
  return value


def mapping(value: Any, name: str) -> Record:
  """An object.

  Raises:
    ValueError: it is something else.
  """
  if not isinstance(value, Mapping):
    raise ValueError(f"{name} is {_kind(value)}, not an object")
  return value


def items(value: Any, name: str) -> Sequence[Any]:
  """A list; null is empty.

  Raises:
    ValueError: it is something else.
  """
  if value is None:
    return []
  if not is_list(value):
    raise ValueError(f"{name} is {_kind(value)}, not a list")
  return value


def _kind(value: Any) -> str:
  names = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a string",
    dict: "an object",
    list: "a list",
  }
  return "null" if value is None else names.get(type(value), type(value).__name__)


def number(value: Any) -> float | None:
  """A finite number, also one in a string; None for everything else."""
  try:
    found = float(value)
  except (TypeError, ValueError, OverflowError):
    return None
  return found if math.isfinite(found) else None


def count(value: Any) -> int | None:
  """A whole number from 0 on, also one in a string; None for everything else."""
  found = number(value)
  return int(found) if found is not None and found == int(found) and 0 <= found < 2**53 else None


def ids(value: Any, name: str = "token_ids") -> np.ndarray | None:
  """Token ids [L] int64; None for null.

  Raises:
    ValueError: it is no list of whole numbers.
  """
  if value is None:
    return None
  whole = is_list(value) and all(type(one) is int and -_LARGEST_ID <= one < _LARGEST_ID for one in value)
  if not whole:
    raise ValueError(f"{name} is not a list of token ids")
  return np.array(value, np.int64)


def logprobs(values: Iterable[Any]) -> np.ndarray:
  """Log-probabilities [L] float64; NaN for what is no number or positive, and for -9999, servers' "unlikely"."""
  found = np.array([math.nan if (one := number(value)) is None else one for value in values], np.float64)
  found[(found > 1e-3) | (found <= -9999)] = math.nan
  return np.minimum(found, 0)


def ending(reason: Any) -> Ending:
  """The ending for a finish reason; a dict (SGLang's) has it under `type`."""
  if isinstance(reason, Mapping):
    reason = reason.get("type")
  return _ENDINGS.get(reason.lower(), Ending.UNKNOWN) if isinstance(reason, str) else Ending.UNKNOWN


def content(value: Any) -> Content:
  """The parts of a message's content: a string, null, or blocks of type text, reasoning or thinking.

  Raises:
    ValueError: it is something else.
  """
  if not is_list(value):
    return Content("", text(value, "content"))
  parts: tuple[list[str], list[str]] = ([], [])
  for block in value:
    if isinstance(block, str):
      parts[1].append(block)
      continue
    kind = mapping(block, "a block of content").get("type")
    if kind in _THOUGHTS:
      parts[0].append(text(first(block, ("reasoning", "thinking", "text", "summary"))))
    elif kind in _TEXTS or "text" in block:
      parts[1].append(text(block.get("text")))
  return Content("".join(parts[0]), "".join(parts[1]))


def message(value: Any) -> Content:
  """The parts of an assistant's message: `reasoning` or `reasoning_content` beside `content`, and tool calls as text.

  Raises:
    ValueError: it is no message.
  """
  value = mapping(value, "message")
  parts = content(value.get("content"))
  reasoning = text(first(value, ("reasoning", "reasoning_content", "thinking")), "reasoning")
  calls = "".join(_call(call) for call in items(value.get("tool_calls"), "tool_calls"))
  return Content(reasoning or parts.reasoning, parts.answer + calls)


def _call(call: Any) -> str:
  """A tool call as one line of text, so that calls that repeat are text that repeats."""
  call = mapping(call, "tool call")
  function = call.get("function")
  body = function if isinstance(function, Mapping) else call
  arguments = body.get("arguments")
  if not isinstance(arguments, str):
    arguments = json.dumps(arguments, ensure_ascii=False)
  return f"{body.get('name') or function} {arguments}\n"


def prompt(value: Any) -> str:
  """A prompt as text: a string, or the text of the last user's message; empty for everything else."""
  if isinstance(value, str):
    return value
  if is_list(value):
    asked = [
      one for one in value if isinstance(one, Mapping) and str(one.get("role", one.get("from"))).lower() in _ASKS
    ]
    for one in reversed(asked):
      found = one.get("content", one.get("value", one.get("text")))
      return found if isinstance(found, str) else content(found).answer if is_list(found) else ""
  return ""


_ASKS = ("user", "human")


def record_prompt(record: Record) -> str:
  """What a record says was asked, under one of the usual names."""
  return prompt(first(record, (*_PROMPTS, "messages")))


def problem(record: Record, asked: str, source: Source) -> str:
  """The name of a record's problem: its own, else a digest of what was asked, else its id, else its place."""
  named = first(record, PROBLEMS)
  if isinstance(named, str | int):
    return str(named)
  if asked:
    return digest(asked)
  own = first(record, ("id", "uuid", "idx", "index"))
  return str(own) if isinstance(own, str | int) else f"{source.file}:{source.line}"


def digest(asked: str) -> str:
  """A short name of a text: equal texts, equal names."""
  return "prompt " + hashlib.sha1(asked.strip().encode("utf-8", "replace"), usedforsecurity=False).hexdigest()[:10]


def model(record: Record) -> str:
  """The model's name, or the empty string."""
  named = first(record, _MODELS)
  return named if isinstance(named, str) else ""


def temperature(record: Record) -> float | None:
  """The temperature, by itself or among the sampling parameters."""
  for place in (record, *(record.get(name) for name in ("sampling_params", "sampling", "params", "generation_config"))):
    if isinstance(place, Mapping) and (found := number(place.get("temperature"))) is not None and found >= 0:
      return found
  return None


def sample(record: Record) -> int | None:
  """The number among the responses to the problem."""
  return count(first(record, _SAMPLES))


def label(value: Any) -> float | None:
  """How right a response is, from 0 to 1; None for what is no such number."""
  if isinstance(value, str):
    value = {"true": 1, "false": 0, "correct": 1, "incorrect": 0, "c": 1, "i": 0}.get(value.lower(), value)
  found = number(value)
  return found if found is not None and 0 <= found <= 1 else None


def record_label(record: Record) -> float | None:
  """A record's label under one of the usual names."""
  return label(first(record, _LABELS))


def at(values: Any, index: int) -> Any:
  """Entry `index` of a list, None where there is none."""
  return values[index] if is_list(values) and index < len(values) else None


def token_id(token: Any) -> int | None:
  """The id in a token that reads `token_id:123`, as vLLM writes it on request."""
  match = re.fullmatch(r"token_id:(\d{1,18})", token) if isinstance(token, str) else None
  return int(match[1]) if match else None
