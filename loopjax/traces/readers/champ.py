"""The CHAMP corpus, `v0.json` of `champ-dataset`: problems -> conversations -> messages {role, text, error}.

A conversation is named `MODEL|SETTING`. Its responses are the messages of role `Model.MODEL`; those of role
`Imputation` were written in. `LENGTH_CURRENT` marks a response that the length limit cut. Under `LENGTH_PREVIOUS`
nothing was asked, since an earlier response had been cut: that is a request without a response.

Source: Y. Mao, Y. Kim, Y. Zhou, "CHAMP: A Competition-level Dataset for Fine-Grained Analyses of LLMs' Mathematical
Reasoning Capabilities" (2024), and the package's `__init__.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from loopjax.traces.readers import fields
from loopjax.traces.readers.fields import Record, Source
from loopjax.traces.trace import Ending, Kind, Problem, Trace

NAME = "champ"
FIRST_KEY, PATH = "problems", ("problems", "*")


def matches(record: Record) -> bool:
  """Whether a record is one of the problems."""
  return isinstance(record.get("conversations"), dict) and "identifier" in record


def read(record: Record, source: Source) -> Iterator[Trace | Problem]:
  """A trace for each message of a model, in all conversations about a problem."""
  for name, conversation in fields.mapping(record["conversations"], "conversations").items():
    asked = ""
    listed = fields.items(fields.mapping(conversation, "conversation").get("messages"), "messages")
    for index, message in enumerate(fields.mapping(one, "message") for one in listed):
      role, text = fields.text(message.get("role"), "role"), fields.text(message.get("text"))
      if not role.startswith("Model."):
        asked = text
      elif message.get("error") == "LENGTH_PREVIOUS":
        why = f"{name}, message {index}: not asked, an earlier response was cut"
        yield Problem(source.file, source.line, why, Kind.FAILED)
      else:
        yield Trace(
          problem=str(record["identifier"]),
          model=role.removeprefix("Model."),
          prompt=asked,
          answer=text,
          ending=Ending.LENGTH if message.get("error") == "LENGTH_CURRENT" else Ending.FINISHED,
          file=source.file,
          line=source.line,
        )
