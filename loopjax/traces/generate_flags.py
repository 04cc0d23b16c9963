"""The flags of `loopjax-traces generate`, and settings from them: a preset's, then those that are given."""

from __future__ import annotations

import argparse
import re
from typing import Any

from loopjax.runtime.config import require

EPILOG = """PROBLEMS are files with a problem a record: JSONL, JSON or Parquet with the fields problem, id and answer.
The key of the variable OPENAI_API_KEY is sent. The same command goes on after a stop. The exit status is 0 where all
responses are there, 1 where some failed, 2 where a flag or a file is not as it must be or the server is gone. See
docs/traces.md."""

SETTINGS: dict[str, dict[str, Any]] = {
  "base_url": dict(help="address of the server, with /v1 where it has that; http://localhost:8000/v1 by default"),
  "model": dict(help="the server's name of the model, or a name of the preset"),
  "temperatures": dict(metavar="T,T", help="separated by commas; 0,0.5,1 by default"),
  "samples": dict(type=int, help="responses to a problem at a temperature; 20 by default"),
  "top_p": dict(type=float, help="the share of probability that is sampled from; 1 by default"),
  "max_tokens": dict(type=int, help="at which a response is cut; 4096 by default"),
  "seed": dict(type=int, help="from which each request's seed follows; 0 by default"),
  "no_seed": dict(action="store_true", help="send no seeds, for servers that refuse them"),
  "logprobs": dict(action="store_true", help="ask for the log-probabilities of the emitted tokens"),
  "template": dict(help="the user's message, with {problem} where the problem is to stand; that alone by default"),
  "extra_body": dict(metavar="JSON", help='more fields of a request, as {"repeat_penalty": 1.0}; null takes one out'),
  "stop_on_loop": dict(action="store_true", help="stream, and stop a response where a locked cycle has begun"),
  "loop_length": dict(type=int, help="units that such a cycle has at least; 30 by default"),
}
OTHERS: dict[str, dict[str, Any]] = {
  "preset": dict(default="", help="settings and models by name: paper, or a JSON file; flags go over them"),
  "output": dict(default="", metavar="FILE", help="the file of responses; the model's name with .jsonl by default"),
  "concurrency": dict(type=int, default=8, help="requests at a time; 8 by default"),
  "timeout": dict(type=float, default=3600.0, help="seconds of a try of a request; 3600 by default"),
  "retries": dict(type=int, default=5, help="tries after the first, with growing waits; 5 by default"),
}


def add(parser: argparse.ArgumentParser) -> None:
  """Adds the flags."""
  parser.add_argument("files", nargs="+", metavar="PROBLEMS", help="what to ask")
  for name, options in (SETTINGS | OTHERS).items():
    parser.add_argument(f"--{name}", **{"default": None, **options})


def run(arguments: argparse.Namespace) -> int:
  """What the command does."""
  from loopjax.traces import generate, questions

  settings = _settings(arguments)
  patience = generate.Patience(arguments.concurrency, arguments.timeout, arguments.retries)
  output = arguments.output or re.sub(r"[^\w.-]", "_", settings.model.rpartition("/")[2]) + ".jsonl"
  return generate.main(settings, questions.read(arguments.files), output, patience)


def _settings(arguments: argparse.Namespace) -> Any:
  from loopjax.traces import plan

  preset = plan.preset(arguments.preset) if arguments.preset else {"settings": {}, "models": {}}
  given = {name: getattr(arguments, name) for name in SETTINGS if getattr(arguments, name) is not None}
  if "temperatures" in given:
    given["temperatures"] = _numbers(given["temperatures"])
  if given.pop("no_seed", False):
    given["send_seed"] = False
  named = {"base_url": "http://localhost:8000/v1", "model": ""} | preset["settings"] | given
  known = ", ".join(preset["models"])
  require(bool(named["model"]), "model", "", f"given: one of {known}" if known else "given: the server's name of it")
  named["model"] = preset["models"].get(named["model"], named["model"])
  named["temperatures"] = tuple(named.get("temperatures", plan.Settings.temperatures))
  return plan.Settings(**named)


def _numbers(text: str) -> tuple[float, ...]:
  try:
    return tuple(float(one) for one in text.split(","))
  except ValueError:
    raise ValueError(f"temperatures={text!r} is not allowed: must be numbers, separated by commas") from None
