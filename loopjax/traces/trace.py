"""One response of a language model, as every reader gives it, whatever file it comes from.

Shapes: L token ids.
"""

from __future__ import annotations

import dataclasses
import enum

import numpy as np

OPENING, CLOSING = "<think>", "</think>"


class Ending(enum.StrEnum):
  """How a response ended.

  Attributes:
    FINISHED: the model stopped by itself.
    LENGTH: the length limit cut it; its length is a lower bound.
    REPETITION: the engine stopped it since it repeated itself.
    LOST: its text is empty or null, and the file has no ids. Nobody knows whether it looped.
    UNKNOWN: the file does not say.
  """

  FINISHED = "finished"
  LENGTH = "length"
  REPETITION = "repetition"
  LOST = "lost"
  UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, eq=False)
class Trace:
  """One response.

  Attributes:
    problem: the name of what was asked; responses to one problem share it, also across files.
    sample: the number among the responses to the problem, where the file has one.
    model: the model's name; empty where the file does not say.
    temperature: at which it was sampled; None where the file does not say.
    prompt: what was asked, as far as the file has it.
    reasoning: the thought, with its closing `</think>` where the text has one.
    answer: what follows the thought. `reasoning + answer` is the response.
    ids: [L] int64, the response's token ids; None where the file has none.
    logprobs: [L] float64, natural logarithms of the probabilities of the emitted tokens, NaN where one is unknown.
    ending: how it ended.
    label: how right it is, from 0 to 1; None where the file does not say.
    file: the path of the file.
    line: the line, counted from 1; in a file without lines the record.
    key: names the response in its file where the file does, so that a line written twice counts once.
    thought_is_complete: whether the file says that the thought was closed; None where it does not say.
  """

  problem: str
  sample: int | None = None
  model: str = ""
  temperature: float | None = None
  prompt: str = ""
  reasoning: str = ""
  answer: str = ""
  ids: np.ndarray | None = None
  logprobs: np.ndarray | None = None
  ending: Ending = Ending.UNKNOWN
  label: float | None = None
  file: str = ""
  line: int = 0
  key: str | None = None
  thought_is_complete: bool | None = None

  def __post_init__(self) -> None:
    """Parts a text at its first `</think>`, and calls a response without text and ids lost."""
    if not self.reasoning and CLOSING in self.answer:
      thought, marker, answer = self.answer.partition(CLOSING)
      object.__setattr__(self, "reasoning", thought + marker)
      object.__setattr__(self, "answer", answer)
    has_ids = self.ids is not None and len(self.ids) > 0
    if not self.text and not has_ids:
      object.__setattr__(self, "ending", Ending.LOST)

  @property
  def text(self) -> str:
    """Reasoning and answer together."""
    return self.reasoning + self.answer

  @property
  def num_opened(self) -> int:
    """How many `<think>` the response has."""
    return self.text.count(OPENING)

  @property
  def num_closed(self) -> int:
    """How many `</think>` the response has."""
    return self.text.count(CLOSING)

  @property
  def is_unclosed(self) -> bool | None:
    """Whether a thought was opened and never closed; None where nothing tells of a thought, or the text is lost.

    A thought is opened by `<think>` in the response or at the end of the prompt. Where the file keeps reasoning apart
    and without markers, it is unclosed if no answer follows.
    """
    if self.ending is Ending.LOST:
      return None
    if self.thought_is_complete is not None:
      return not self.thought_is_complete
    if self.num_closed:
      return self.text.rfind(OPENING) > self.text.rfind(CLOSING)
    if self.num_opened or self.prompt.rstrip().endswith(OPENING):
      return True
    return not self.answer.strip() if self.reasoning else None


class Kind(enum.StrEnum):
  """Why a record gives no response.

  Attributes:
    UNREADABLE: it cannot be read.
    FAILED: it tells of a request that failed, or was never made.
    DUPLICATE: it repeats a response of its file, as after a run that was resumed.
  """

  UNREADABLE = "unreadable"
  FAILED = "failed"
  DUPLICATE = "duplicate"


@dataclasses.dataclass(frozen=True)
class Problem:
  """A record that gives no response, and why.

  Attributes:
    file: the path of the file.
    line: the line, counted from 1; 0 where it is about the whole file.
    why: one line.
    kind: what is the matter.
  """

  file: str
  line: int
  why: str
  kind: Kind = Kind.UNREADABLE

  def __str__(self) -> str:
    """`file:line: why`."""
    return f"{self.file}:{self.line}: {self.why}" if self.line else f"{self.file}: {self.why}"
