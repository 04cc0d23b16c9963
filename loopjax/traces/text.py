"""The summary as text for a terminal, and the line that tells of progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from loopjax.loops.describe import CLASSES

_KINDS = {
  "failed": ("tell of a request without a response", 3),
  "duplicate": ("repeat a response that was read before, and were left out", 0),
  "unreadable": ("could not be read", 20),
}  # kind of problem -> what is said of their number, and how many are shown
_KEYS = ("model", "T", "units")


def table(rows: Sequence[dict[str, Any]]) -> str:
  """The table: shares in percent with intervals, then the classes."""
  if not rows:
    return "no responses"
  lengths, shares = ("length: looping", "other"), ("cut %", "lost %", "unknown %", "unclosed %", "accuracy %")
  main: list[tuple[str, ...]] = [(*_KEYS, "responses", "problems", "recurrence %", "locked cycle %", *lengths, *shares)]
  main += [_main(row) for row in rows]
  classes: list[tuple[str, ...]] = [(*_KEYS, *(f"{name} %" for name in CLASSES))]
  classes += [(*_names(row), *(percent(row["classes"][name]) for name in CLASSES)) for row in rows]
  return "\n".join((_aligned(main), "", "Classes:", _aligned(classes)))


def _names(row: dict[str, Any]) -> tuple[str, str, str]:
  temperature = row["temperature"]
  return row["model"] or "unknown", "?" if temperature is None else f"{temperature:g}", row["units"]


def _main(row: dict[str, Any]) -> tuple[str, ...]:
  lengths = ("-" if row[name] is None else f"{row[name]:.0f}" for name in ("mean_length_looping", "mean_length_other"))
  loops = (percent(row[name]) for name in ("by_recurrence", "by_locked_cycle"))
  others = (percent(row[name], False) for name in ("cut", "lost", "unknown_ending", "unclosed_thought"))
  return (
    *_names(row), str(row["responses"]), str(row["problems"]), *loops, *lengths, *others, percent(row["accuracy"])
  )  # fmt: skip


def percent(share: dict[str, Any] | None, with_interval: bool = True) -> str:
  """A share in percent, with its interval where it has one."""
  if share is None:
    return "-"
  if not with_interval or share["low"] is None:
    return f"{100 * share['share']:.1f}"
  return f"{100 * share['share']:.1f} [{100 * share['low']:.1f}, {100 * share['high']:.1f}]"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
  """Columns of equal width, the first to the left and numbers to the right."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = ([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows)
  return "\n".join("  ".join(line).rstrip() for line in lines)


def comparisons(found: dict[str, Any]) -> str:
  """Student against teacher, and hard against easy problems, as lines; empty where there is neither."""
  lines = []
  for one in found["pair"]:
    temperature = "?" if one["temperature"] is None else f"{one['temperature']:g}"
    lines.append(
      f"{one['student']} against {one['teacher']} at T = {temperature}, {one['problems']} problems: "
      f"looping {100 * one['student_looping']:.1f}% and {100 * one['teacher_looping']:.1f}%, "
      f"difference {_value(one['difference'], 100)} points, ratio of lengths {_value(one['length_ratio'], 1)}"
    )
  for one in found["difficulty"]:
    model, temperature, _ = _names(one)
    kinds = f"{percent(one['hard'])}% on hard problems, {percent(one['easy'])}% on easy ones"
    lines.append(f"{model} at T = {temperature}: looping {kinds}")
  return "\n".join(lines)


def _value(interval: dict[str, float | None], scale: float) -> str:
  value, low, high = ("-" if one is None else f"{scale * one:.2f}" for one in interval.values())
  return f"{value} [{low}, {high}]"


def problems(counts: dict[str, int], named: dict[str, list[str]]) -> str:
  """What gave no response: of each kind the first by name, and the counts; empty where there is nothing."""
  lines: list[str] = []
  for kind, (text, num_shown) in _KINDS.items():
    lines += named.get(kind, [])[:num_shown]
    if counts.get(kind):
      lines.append(f"records that {text}: {counts[kind]}")
  return "\n".join(lines)


class Progress:
  """A line on a terminal, every half second; where the stream is no terminal, every half minute."""

  def __init__(self, total: int, stream: TextIO | None = None, done: str = "read"):
    stream = stream or sys.stderr
    self._total, self._stream, self._is_terminal, self._done = max(total, 1), stream, stream.isatty(), done
    self._start = self._shown = time.monotonic()
    self._first: int | None = None  # bytes that a run before had read, or its responses

  def __call__(self, position: int, responses: int) -> None:
    """Tells that so many bytes are read, or responses made, and how many responses there are."""
    now = time.monotonic()
    if self._first is None:
      self._first, self._start = position, now
    if now - self._shown < (0.5 if self._is_terminal else 30):
      return
    self._shown = now
    rate = (position - self._first) / max(now - self._start, 1e-9)
    left = f", {_duration((self._total - position) / rate)} left" if rate > 0 else ""
    self._write(f"{100 * min(position / self._total, 1):.0f}% {self._done}, {responses} responses{left}")

  def _write(self, line: str) -> None:
    end = "" if self._is_terminal else "\n"
    self._stream.write(("\r\x1b[K" if self._is_terminal else "") + line + end)
    self._stream.flush()

  def close(self) -> None:
    """Takes the line away."""
    if self._is_terminal:
      self._write("")


def _duration(seconds: float) -> str:
  if seconds < 90:
    return f"{seconds:.0f} s"
  return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
