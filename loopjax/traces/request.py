"""One request to an OpenAI-compatible server, by the official client: tried again where that can help.

A streamed response is put together as the whole one would have been, so that both are one format: the chat API's.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from loopjax.traces import grading, plan
from loopjax.traces.plan import Job, Settings
from loopjax.traces.stopping import LoopWatch

if TYPE_CHECKING:
  import openai

FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds before the second try, doubled for each further one, and the most
_LATER = (408, 409, 425, 429)  # statuses, besides 500 and above, that may be others at another time
_NEVER = (401, 403, 404)  # statuses that every other request would get too


class Failed(Exception):
  """This request has no response; others may have."""


class Hopeless(ValueError):
  """No request can have a response: the server is gone, refuses the key, or does not know the model."""


def client(settings: Settings, timeout: float) -> openai.AsyncOpenAI:
  """The official client. The key is that of the variable OPENAI_API_KEY; a server of one's own needs none.

  Raises:
    ValueError: it is not installed.
  """
  import os

  try:
    import openai
  except ImportError:
    raise ValueError('generate needs the package openai: pip install "loopjax[generate]"') from None
  key = os.environ.get("OPENAI_API_KEY") or "none"
  return openai.AsyncOpenAI(base_url=settings.base_url, api_key=key, max_retries=0, timeout=timeout)


async def fetch(
  server: openai.AsyncOpenAI, settings: Settings, job: Job, *, timeout: float, retries: int
) -> dict[str, Any]:  # fmt: skip
  """The record of a job: the server's response, with what it belongs to.

  Args:
    server: the client.
    settings: of the run.
    job: what to ask.
    timeout: seconds of a try.
    retries: tries after the first.

  Raises:
    Failed: the last try failed, or none can help.
    Hopeless: see there.
  """
  for attempt in range(retries + 1):
    try:
      async with asyncio.timeout(timeout):
        return _record(settings, job, await _response(server, settings, job))
    except Exception as error:  # what the network raises has no common class
      wait = _wait(error, attempt, attempt == retries)
    await asyncio.sleep(wait)
  raise AssertionError("the last try returns or raises")


def _wait(error: Exception, attempt: int, is_last: bool) -> float:
  """Seconds until the next try; raises where there is none."""
  import openai

  status = error.status_code if isinstance(error, openai.APIStatusError) else None
  told = "no answer in time" if _is_late(error) else " ".join(f"{type(error).__name__}: {error}".split())[:200]
  if status in _NEVER:
    raise Hopeless(told) from error
  if status is not None and status < 500 and status not in _LATER:
    raise Failed(told) from error
  if is_last and isinstance(error, openai.APIConnectionError) and not _is_late(error):
    raise Hopeless(f"the server does not answer: {told}") from error
  if is_last:
    raise Failed(told) from error
  asked = error.response.headers.get("retry-after", "") if isinstance(error, openai.APIStatusError) else ""
  wait = FIRST_WAIT * 2**attempt * random.uniform(0.75, 1.25)  # not all at once
  return min(max(wait, float(asked) if asked.isdecimal() else 0.0), LONGEST_WAIT)


def _is_late(error: Exception) -> bool:
  import openai

  return isinstance(error, TimeoutError | openai.APITimeoutError)


async def _response(server: openai.AsyncOpenAI, settings: Settings, job: Job) -> dict[str, Any]:
  fields = plan.body(settings, job)
  own = {name: fields.pop(name) for name in ("model", "messages", "stream")}
  answered: Any = await server.chat.completions.create(**own, extra_body=fields)
  if own["stream"]:
    async with answered:
      return await _streamed(answered, settings)
  if not hasattr(answered, "to_dict"):
    raise ValueError(f"the server's answer is no response of the chat API: {str(answered)[:80]!r}")
  return answered.to_dict(warnings=False)


async def _streamed(chunks: Any, settings: Settings) -> dict[str, Any]:
  """The response, up to where a locked cycle has begun."""
  assembly, watch = Assembly(), LoopWatch(settings.loop_length)
  async for chunk in chunks:
    text, ids = assembly.add(chunk.to_dict(warnings=False))
    cycle = watch.add(text, ids)
    if cycle is not None and not assembly.is_finished:
      loop = {"onset": cycle.start, "period": cycle.period, "length": cycle.length, "units": watch.units}
      return {**assembly.response("repetition"), "loop": loop}
  return assembly.response()


class Assembly:
  """Puts the pieces of a streamed response together."""

  def __init__(self) -> None:
    self._head: dict[str, Any] = {}
    self._parts: dict[str, list[str]] = {"content": []}
    self._ids: list[int] = []
    self._logprobs: list[Any] = []
    self._end: str | None = None

  @property
  def is_finished(self) -> bool:
    """Whether the server has said how the response ended."""
    return self._end is not None

  def add(self, chunk: dict[str, Any]) -> tuple[str, list[int]]:
    """Takes in a piece, and gives its text and its token ids."""
    choices = chunk.get("choices") or [{}]
    told = {name: value for name, value in chunk.items() if value is not None}
    self._head.update((name, value) for name, value in told.items() if name not in ("choices", "object"))
    choice = choices[0]
    self._end = choice.get("finish_reason") or self._end
    ids = choice.get("token_ids") or []
    self._ids += ids
    self._logprobs += (choice.get("logprobs") or {}).get("content") or []
    pieces = [(name, one) for name, one in (choice.get("delta") or {}).items() if isinstance(one, str)]
    texts = [(name, one) for name, one in pieces if name not in ("role", "reasoning_content")]
    texts = texts if any(name == "reasoning" for name, _ in texts) else [one for one in pieces if one[0] != "role"]
    for name, one in texts:
      self._parts.setdefault(name, []).append(one)
    return "".join(one for _, one in texts), ids

  def response(self, end: str | None = None) -> dict[str, Any]:
    """The whole response, of the given ending or the server's.

    Raises:
      ValueError: there is neither: the stream broke off.
    """
    if not (end or self._end):
      raise ValueError("the stream broke off")
    message = {"role": "assistant", **{name: "".join(parts) for name, parts in self._parts.items()}}
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": end or self._end}
    if self._ids:
      choice["token_ids"] = self._ids
    if self._logprobs:
      choice["logprobs"] = {"content": self._logprobs}
    return {**self._head, "object": "chat.completion", "choices": [choice]}


def _record(settings: Settings, job: Job, response: dict[str, Any]) -> dict[str, Any]:
  """A line of the file: the chat API's response, its own id and model's name as `server_...`, and what it answers."""
  choices = response.get("choices")
  if not (isinstance(choices, list) and choices and isinstance(choices[0], dict) and "message" in choices[0]):
    raise ValueError("the server's answer has no choices with a message")
  name, temperature, sample = job.key
  right = grading.is_right(choices[0]["message"].get("content") or "", job.question.answer)
  return {
    "id": f"{name} T={temperature:g} {sample}",
    "problem_id": name,
    "sample": sample,
    "temperature": temperature,
    "model": settings.model,
    "prompt": plan.prompt(settings, job.question),
    "reference": job.question.answer or None,
    **({} if right is None else {"correct": right}),
    "seed": plan.seed(settings, job),
    **{f"server_{key}" if key in ("id", "model") else key: value for key, value in response.items()},
  }
