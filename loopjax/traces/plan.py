"""What a run of `generate` asks for: settings, the requests that they stand for, and what makes two runs the same."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from loopjax.loops.cycles import MIN_LENGTH
from loopjax.runtime import config
from loopjax.runtime.config import require
from loopjax.traces.journal import Key
from loopjax.traces.questions import Question

PAPER = "paper"
_PLACE = "{problem}"
_OURS = ("model", "messages", "stream", "n", "temperature", "seed")  # what extra_body must not change


@dataclasses.dataclass(frozen=True)
class Settings:
  """All that decides what a response can be. Every sampling parameter is sent, so that no server's default acts.

  Attributes:
    model: the name under which the server knows the model.
    base_url: the server's address, with `/v1` where it has that.
    temperatures: each 0 or above.
    samples: responses to a problem at a temperature.
    top_p: the share of probability that is sampled from; 1 is all.
    max_tokens: at which a response is cut.
    seed: from which each request's seed follows, with its problem, temperature and sample.
    send_seed: whether requests have seeds; some servers refuse them.
    logprobs: whether log-probabilities of the emitted tokens are asked for.
    template: the user's message; `{problem}` stands for the problem.
    extra_body: further fields of every request, a JSON object, such as '{"repeat_penalty": 1.0}'. They go over ours;
      null takes a field out.
    stop_on_loop: whether a response is stopped where a locked cycle has begun.
    loop_length: units that such a cycle has at least.
  """

  model: str
  base_url: str
  temperatures: tuple[float, ...] = (0.0, 0.5, 1.0)
  samples: int = 20
  top_p: float = 1.0
  max_tokens: int = 4096
  seed: int = 0
  send_seed: bool = True
  logprobs: bool = False
  template: str = _PLACE
  extra_body: str = "{}"
  stop_on_loop: bool = False
  loop_length: int = MIN_LENGTH

  def __post_init__(self) -> None:
    config.check_fields(self)
    require(bool(self.model), "model", self.model, "the name of a model")
    require(self.base_url.startswith(("http://", "https://")), "base_url", self.base_url, "an address, http://...")
    config.require_temperatures(self.temperatures)
    for name in ("samples", "max_tokens", "loop_length"):
      require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
    require(0 < self.top_p <= 1, "top_p", self.top_p, "above 0, at most 1")
    require(_PLACE in self.template, "template", self.template, f"a text with {_PLACE}")
    self.extra()

  def extra(self) -> dict[str, Any]:
    """The further fields of a request."""
    try:
      found = json.loads(self.extra_body)
    except ValueError:
      found = None
    require(isinstance(found, dict), "extra_body", self.extra_body, 'a JSON object, as {"repeat_penalty": 1.0}')
    taken = [name for name in _OURS if name in found]
    require(not taken, "extra_body", self.extra_body, f"without {', '.join(taken)}")
    return found


class Job(NamedTuple):
  """One request."""

  question: Question
  temperature: float
  sample: int

  @property
  def key(self) -> Key:
    """Names its response."""
    return Key(self.question.name, self.temperature, self.sample)


def jobs(settings: Settings, questions: Sequence[Question]) -> Iterator[Job]:
  """All requests, a first sample of everything before a second: what a stopped run has is balanced."""
  for sample in range(settings.samples):
    for temperature in settings.temperatures:
      for question in questions:
        yield Job(question, temperature, sample)


def prompt(settings: Settings, question: Question) -> str:
  """The user's message."""
  return settings.template.replace(_PLACE, question.text)


def seed(settings: Settings, job: Job) -> int | None:
  """The request's seed, from 0 to 2^31 - 1; None where none is sent."""
  if not settings.send_seed:
    return None
  name = json.dumps([settings.seed, *job.key])
  return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") >> 1


def body(settings: Settings, job: Job) -> dict[str, Any]:
  """The request's fields."""
  own = seed(settings, job)
  fields = {
    "model": settings.model,
    "messages": [{"role": "user", "content": prompt(settings, job.question)}],
    "n": 1,
    "temperature": job.temperature,
    "top_p": settings.top_p,
    "max_tokens": settings.max_tokens,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "stream": settings.stop_on_loop,
    "seed": own,
    "logprobs": True if settings.logprobs else None,
    **settings.extra(),
  }
  return {name: value for name, value in fields.items() if value is not None}


def identity(settings: Settings, questions: Sequence[Question]) -> dict[str, Any]:
  """What two runs must share to write one file: settings and problems, as JSON."""
  asked = json.dumps(questions)
  return {
    **config.to_json(settings),
    "extra_body": settings.extra(),
    "template_sha256": _hash(settings.template),
    "problems": {"number": len(questions), "sha256": _hash(asked)},
  }


def _hash(text: str) -> str:
  return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def preset(name: str) -> dict[str, Any]:
  """A preset: `settings`, by the names of `Settings`, and `models`, short name -> the server's.

  Args:
    name: `paper`, or the path of a JSON file with the same layout.

  Raises:
    ValueError: there is no such preset, or it has another layout.
  """
  from loopjax.runtime import files

  path = Path(__file__).with_name("paper.json") if name == PAPER else Path(name)
  require(path.is_file(), "preset", name, f"{PAPER}, or a JSON file")
  found = files.read_json(path)
  known = {field.name for field in dataclasses.fields(Settings)}
  right = isinstance(found, dict) and set(found.get("settings", {})) <= known and isinstance(found.get("models"), dict)
  require(right, "preset", name, "a JSON file with settings and models; see docs/traces.md")
  return found
