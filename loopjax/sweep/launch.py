"""Runs the units of a sweep in this process, one after another, and tells how far it is, whoever runs them."""

from __future__ import annotations

import contextlib
import enum
import os
import signal
import sys
import time
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from loopjax.sweep import store
from loopjax.sweep.store import Compute
from loopjax.sweep.units import Unit, describe


class State(enum.Enum):
  """What became of a unit."""

  DONE = "done"
  ELSEWHERE = "being run by another process"
  FAILED = "failed"


class Outcome(NamedTuple):
  """What became of a unit, and where it failed the one line that says why."""

  unit: Unit
  state: State
  error: str = ""


def run_here(folder: Path, units: Sequence[Unit], compute: Compute, *, keep_work: bool) -> Iterator[Outcome]:
  """Runs units one after another; one that fails does not keep the others from running."""
  for unit in units:
    try:
      is_done = store.run_unit(folder, unit, compute, keep_work=keep_work)
    except Exception as error:  # whatever is wrong with this unit: hours of others may follow
      logging.debug("unit %s:", unit.name, exc_info=True)
      yield Outcome(unit, State.FAILED, f"{type(error).__name__}: {' '.join(str(error).split())}")
    else:
      yield Outcome(unit, State.DONE if is_done else State.ELSEWHERE)


def follow(outcomes: Iterable[Outcome], units: Sequence[Unit], grid: Mapping[str, Sequence[Any]]) -> list[Outcome]:
  """Prints a line for every outcome as it comes, with the time left, and returns those that are not done."""
  began, seeds_done, not_done = time.monotonic(), 0, []
  num_seeds = sum(len(unit.seed_numbers) for unit in units)
  for number, outcome in enumerate(outcomes, start=1):
    seeds_done += len(outcome.unit.seed_numbers)
    left = (time.monotonic() - began) / seeds_done * (num_seeds - seeds_done)
    said = f"{outcome.state.value}{outcome.error and ': '}{outcome.error}"
    line = f"unit {number} of {len(units)}, {describe(outcome.unit, grid)}: {said}; about {duration(left)} left"
    print(line, file=sys.stderr, flush=True)
    if outcome.state != State.DONE:
      not_done.append(outcome)
  return not_done


def duration(seconds: float) -> str:
  """Such as `40 s`, `12 min` or `3.5 h`."""
  if seconds < 90:
    return f"{seconds:.0f} s"
  return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _is_inside_jax(frame: types.FrameType | None) -> bool:
  while frame is not None:
    if frame.f_globals.get("__name__", "").partition(".")[0] == "jax":
      return True
    frame = frame.f_back
  return False


@contextlib.contextmanager
def exit_on_signals() -> Iterator[None]:
  """SIGTERM and SIGINT raise `SystemExit(128 + number)` where we are, so that files are closed and removed on the way.

  Inside of jax they end the process with that code at once: an exception thrown into its compiler crashes it. While
  students train the runner takes the signals instead: it saves first.
  """

  received: list[int] = []

  def leave(number: int, frame: types.FrameType | None) -> None:
    if _is_inside_jax(frame):
      sys.stderr.flush()
      os._exit(128 + number)
    received.append(number)
    raise SystemExit(128 + number)

  previous: dict[int, Callable[..., Any] | int | None] = {}
  for stop in (signal.SIGTERM, signal.SIGINT):
    previous[stop] = signal.signal(stop, leave)
  try:
    yield
  except SystemExit as error:  # raised inside of Ray it comes out with another code
    raise SystemExit(128 + received[0] if received else error.code) from None
  finally:
    for number, handler in previous.items():
      signal.signal(number, handler)
