"""What one response becomes: a row of measures, and an excerpt that shows its loop.

Units are the response's token ids where the file has them, else its words; or characters, words or tokens throughout.
Positions are in units, but those of an excerpt, which are in characters.

Shapes: L units.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
from typing import Any, NamedTuple

import numpy as np

from loopjax.loops import describe as loops
from loopjax.loops import ngrams, units
from loopjax.runtime.config import require
from loopjax.traces.trace import Ending, Trace

UNITS = ("ids", "characters", "words")
STAIRCASE = (5, 10, 20, 30, 50, 100, 200, 400)  # the n of the (n, k) map
MOST = 2**22  # characters of a text, or ids: a million tokens; more would take too much memory
LOOPS = ("recurrence", "locked cycle", "run")  # a variant is mostly a list of cases: docs/traces.md says how often
MARKED = (*LOOPS, "variant")  # whose turns are marked in the text, and whose onset is known
BIN, BEFORE, AFTER = 16, 16, 64  # of the confidence about the onset: tokens a bin, bins before, bins after
_AROUND, _TURNS_SHOWN, _MOST_SHOWN = 300, 2.2, 2400  # of an excerpt, in characters; in turns; in characters


@dataclasses.dataclass(frozen=True)
class Settings:
  """What is measured.

  Attributes:
    units: "ids" (those of the file, else words), "characters" or "words".
    tokenizer: a file of the library tokenizers, whose tokens are the units of every text; empty for none.
    n: units of an n-gram.
    k: the count from which on an n-gram is a recurrence.
    min_length: units that a locked cycle, a variant or an enumeration has at least.
  """

  units: str = "ids"
  tokenizer: str = ""
  n: int = 30
  k: int = 20
  min_length: int = 30

  def __post_init__(self) -> None:
    if self.tokenizer:
      require(os.path.isfile(self.tokenizer), "tokenizer", self.tokenizer, "a file that is there")
      is_there = importlib.util.find_spec("tokenizers") is not None
      require(is_there, "tokenizer", self.tokenizer, "left out, or the library tokenizers installed")
    require(self.units in UNITS, "units", self.units, f"one of {', '.join(UNITS)}")
    require(self.n >= 1, "n", self.n, "at least 1")
    require(self.k >= 2, "k", self.k, "at least 2")
    require(self.min_length >= 1, "min_length", self.min_length, "at least 1")


class Sequence(NamedTuple):
  """A response as units: `kind` names them; `text_units` is None where they are the file's ids."""

  kind: str
  ids: np.ndarray
  digits: np.ndarray | None
  text_units: units.Units | None


class Span(NamedTuple):
  """A loop in a text, in characters: where it begins and ends, and where its turns begin."""

  start: int
  end: int
  turns: list[int]


def refusal(trace: Trace) -> str | None:
  """Why a response is not measured: it is longer than `MOST`; None where it is."""
  lengths = {"characters": len(trace.text), "ids": 0 if trace.ids is None else len(trace.ids)}
  over = next(((num, unit) for unit, num in lengths.items() if num > MOST), None)
  return f"has a response of {over[0]} {over[1]}: at most {MOST} are measured" if over else None


def sequence(trace: Trace, settings: Settings) -> Sequence:
  """The units of a response."""
  if settings.tokenizer:
    split = units.tokens(trace.text, settings.tokenizer)
    return Sequence("tokens", split.ids, split.digits, split)
  if settings.units == "ids" and trace.ids is not None:
    return Sequence("ids", trace.ids, None, None)
  kind = "characters" if settings.units == "characters" else "words"
  split = units.characters(trace.text) if kind == "characters" else units.words(trace.text)
  return Sequence(kind, split.ids, split.digits, split)


def row(trace: Trace, settings: Settings) -> dict[str, Any]:
  """The row of a response: the columns of `table.SCHEMA`. The measures of a lost response are null."""
  about = _about(trace)
  if trace.ending is Ending.LOST:
    return about
  seq = sequence(trace, settings)
  steps = {one.n: one for one in ngrams.staircase(seq.ids, sorted({*STAIRCASE, settings.n}), settings.k)}
  report = _report(seq.ids, seq.digits, settings, steps[settings.n])
  measures = {field: getattr(report, field) for field in _MEASURES}
  counts = [steps[n].count for n in STAIRCASE]
  return {
    **about,
    **measures,
    **_parts(trace, seq, report.loop_class, settings),
    "units": seq.kind,
    "num_units": len(seq.ids),
    "counts": counts,
    "confidence": confidence(trace.logprobs, len(seq.ids), onset(report)) if seq.kind == "ids" else None,
    "excerpt": _excerpt(trace, seq, report, settings),
  }


_MEASURES = (
  "recurrence_count", "recurrence_onset", "recurrence_fired", "recurrence_covered", "cycle_onset", "cycle_end",
  "cycle_period", "cycle_repetitions", "cycle_is_tail", "loop_class",
)  # fmt: skip


def _about(trace: Trace) -> dict[str, Any]:
  """The columns that need no measuring; text that UTF-8 cannot write, lone surrogates, becomes `?`."""
  return {
    "file": clean(trace.file),
    "line": trace.line,
    "problem": clean(trace.problem),
    "sample": trace.sample,
    "model": clean(trace.model),
    "temperature": trace.temperature,
    "ending": str(trace.ending),
    "label": trace.label,
    "num_opened": trace.num_opened,
    "num_closed": trace.num_closed,
    "is_unclosed": trace.is_unclosed,
    "prompt": clean(trace.prompt[: 2 * _AROUND]),
    "excerpt": "[]",
  }


def clean(text: str) -> str:
  """The text with `?` for each lone surrogate: as long as before, and UTF-8 can write it."""
  return text.encode("utf-8", "replace").decode("utf-8")


def _report(
  ids: np.ndarray, digits: np.ndarray | None, settings: Settings, repeated: ngrams.Recurrence | None = None
) -> loops.LoopReport:
  return loops.describe(
    ids, n=settings.n, k=settings.k, min_length=settings.min_length, digits=digits, repeated=repeated
  )


def _parts(trace: Trace, seq: Sequence, loop_class: str, settings: Settings) -> dict[str, Any]:
  """Length and class of reasoning and of answer, each apart; null where ids stand for both together."""
  if not trace.reasoning or not trace.answer:
    inside, outside = ("reasoning", "answer") if trace.reasoning else ("answer", "reasoning")
    return {f"{inside}_units": len(seq.ids), f"{inside}_class": loop_class, f"{outside}_units": 0}
  if seq.text_units is None or seq.digits is None:
    return {}
  cut = int(np.searchsorted(seq.text_units.starts[:-1], len(trace.reasoning)))
  found: dict[str, Any] = {}
  for name, part in (("reasoning", slice(None, cut)), ("answer", slice(cut, None))):
    found[f"{name}_units"] = len(seq.ids[part])
    found[f"{name}_class"] = _report(seq.ids[part], seq.digits[part], settings).loop_class
  return found


def onset(report: loops.LoopReport) -> int | None:
  """Where the loop begins, in units; None where there is none. The locked cycle's onset comes first."""
  if report.loop_class not in MARKED:
    return None
  if report.cycle_onset is not None:
    return report.cycle_onset
  return report.variant.start if report.variant else report.recurrence_onset


def confidence(logprobs: np.ndarray | None, length: int, start: int | None) -> list[float] | None:
  """The mean probability of the emitted tokens in bins about the loop's onset.

  Args:
    logprobs: [L], natural logarithms, NaN where unknown.
    length: L; other numbers of log-probabilities cannot be aligned.
    start: the onset; None where there is no loop.

  Returns:
    `BEFORE + AFTER` means over `BIN` tokens each, the onset at the beginning of bin `BEFORE`; NaN where there is no
    token. None where there is nothing to align.
  """
  if logprobs is None or start is None or len(logprobs) != length:
    return None
  around = np.full((BEFORE + AFTER) * BIN, np.nan)
  shift = BEFORE * BIN - start  # of position i in the response to i + shift in `around`
  first, last = max(0, -shift), min(length, len(around) - shift)
  around[first + shift : last + shift] = np.exp(logprobs[first:last])
  known = ~np.isnan(around).reshape(-1, BIN)
  sums = np.where(known, np.nan_to_num(around).reshape(-1, BIN), 0).sum(1)
  num = known.sum(1)
  return np.where(num > 0, sums / np.maximum(num, 1), np.nan).tolist()


def _excerpt(trace: Trace, seq: Sequence, report: loops.LoopReport, settings: Settings) -> str:
  """The excerpt. Where the units are ids, the loop is found again in the words of the text; without a text ids show."""
  if report.loop_class not in MARKED:
    return excerpt(trace.text or _written(seq.ids), None)
  if seq.text_units is not None:
    return excerpt(trace.text, _characters(report, seq.text_units.starts, settings.n))
  if not trace.text:
    starts = np.cumsum([0, *(len(str(one)) + 1 for one in seq.ids.tolist())])
    return excerpt(_written(seq.ids), _characters(report, starts, settings.n))
  split = units.words(trace.text)
  return excerpt(trace.text, _characters(_report(split.ids, split.digits, settings), split.starts, settings.n))


def _written(ids: np.ndarray) -> str:
  return "".join(f"{one} " for one in ids.tolist())


def _characters(report: loops.LoopReport, starts: np.ndarray, n: int) -> Span | None:
  if report.cycle_onset is not None and report.cycle_end is not None and report.cycle_period is not None:
    start, end = report.cycle_onset, report.cycle_end
    turns = np.arange(start, end, report.cycle_period)
  elif report.variant and report.loop_class in MARKED:
    start, end = report.variant.start, report.variant.end
    turns = np.linspace(start, end, report.variant.turns, endpoint=False).astype(int)
  elif report.recurrence_onset is not None and report.recurrence_fired is not None:
    start, end = report.recurrence_onset, report.recurrence_fired
    turns = np.array([start, end - n])
  else:
    return None
  return Span(int(starts[start]), int(starts[end]), starts[turns].tolist())


def excerpt(full: str, span: Span | None) -> str:
  """What the page shows of a response, as JSON: [segments, loop, length].

  A segment is [place, text]: the beginning, the neighbourhood of the onset, and the end. The loop is null or
  [start, end, turns], turns being the places inside of the segments where a turn begins. All places are in characters.
  """
  text, parts = clean(full), [(0, 2 * _AROUND), (len(full) - _AROUND, len(full))]
  if span:
    period = (span.end - span.start) / max(len(span.turns), 1)
    shown = min(max(_TURNS_SHOWN * period, 2 * _AROUND), _MOST_SHOWN)
    parts.append((span.start - _AROUND, span.start + int(shown)))
  segments = [(start, text[start:end]) for start, end in _merged(parts, len(text))]
  if span is None:
    return json.dumps([segments, None, len(text)])
  inside = [place for place in span.turns if any(start <= place < start + len(part) for start, part in segments)]
  return json.dumps([segments, [span.start, span.end, inside], len(text)])


def _merged(parts: list[tuple[int, int]], length: int) -> list[tuple[int, int]]:
  """Stretches in order, cut to [0, length); those that touch or overlap are one."""
  merged: list[tuple[int, int]] = []
  for start, end in sorted((max(0, start), min(length, end)) for start, end in parts):
    if merged and start <= merged[-1][1]:
      merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
    elif end > start:
      merged.append((start, end))
  return merged
