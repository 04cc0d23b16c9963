"""Makes traces: asks a server for every problem, temperature and sample, and appends each response to a file.

Requests run beside each other. A run that was stopped, by whatever, goes on when it is started again: what the file has
is not asked for again.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.metadata
import platform
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from loopjax.runtime.config import require
from loopjax.traces import plan, request, text
from loopjax.traces.journal import Journal
from loopjax.traces.plan import Job, Settings
from loopjax.traces.questions import Question

IN_A_ROW = 20  # requests that fail one after the other end a run: something is wrong with all


@dataclasses.dataclass(frozen=True)
class Patience:
  """How requests are made. Nothing of it decides what a response can be, so it may differ when a run goes on.

  Attributes:
    concurrency: requests at a time.
    timeout: seconds of a try.
    retries: tries after the first.
  """

  concurrency: int = 8
  timeout: float = 3600.0
  retries: int = 5

  def __post_init__(self) -> None:
    require(1 <= self.concurrency <= 1000, "concurrency", self.concurrency, "from 1 to 1000")
    require(0 < self.timeout <= 1e6, "timeout", self.timeout, "above 0, at most 1e6 seconds")
    require(self.retries >= 0, "retries", self.retries, "at least 0")


@dataclasses.dataclass
class Outcome:
  """What a run came to.

  Attributes:
    wanted: responses asked for, by this run and those before.
    there: of those, in the file.
    failed: requests of this run that have no response.
    why: of the first that failed.
    bare: responses of this run without the log-probabilities that were asked for.
    signal: that stopped the run; None where none did.
  """

  wanted: int
  there: int = 0
  failed: int = 0
  why: str = ""
  bare: int = 0
  signal: int | None = None


def generate(settings: Settings, questions: Sequence[Question], output: str, patience: Patience) -> Outcome:
  """Makes the responses that the file does not have yet.

  Args:
    settings: what is asked for.
    questions: the problems.
    output: the file, JSON Lines of the chat API's responses; settings are kept beside it, in `output.settings`.
    patience: how requests are made.

  Raises:
    ValueError: the client is missing, the file is of another run, no request can be answered, or too many fail.
    OSError: the system refuses to write.
  """
  request.client(settings, patience.timeout)  # before a file is made
  details = {"client": dataclasses.asdict(patience), "versions": _versions()}
  journal = Journal(output, plan.identity(settings, questions), details)
  outcome = Outcome(len(settings.temperatures) * settings.samples * len(questions))
  progress = text.Progress(outcome.wanted, done="done")
  try:
    missing = (job for job in plan.jobs(settings, questions) if job.key not in journal.keys)
    asyncio.run(_Run(settings, patience, journal, missing, outcome, progress).until_done())
  except asyncio.CancelledError:
    require(outcome.signal is not None, "signal", None, "what ended this run")
  finally:
    progress.close()
    journal.close()
    outcome.there = len(journal.keys)
  return outcome


def _versions() -> dict[str, str | None]:
  found: dict[str, str | None] = {"python": platform.python_version()}
  for package in ("loopjax", "openai"):
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      found[package] = None
  return found


@dataclasses.dataclass
class _Run:
  """Workers that take jobs from one iterator."""

  settings: Settings
  patience: Patience
  journal: Journal
  missing: Iterator[Job]
  outcome: Outcome
  progress: text.Progress
  in_a_row: int = 0

  async def until_done(self) -> None:
    self._catch_signals()
    self.progress(len(self.journal.keys), len(self.journal.keys))
    async with request.client(self.settings, self.patience.timeout) as server:
      workers = [asyncio.create_task(self._work(server)) for _ in range(self.patience.concurrency)]
      try:
        await asyncio.gather(*workers)
      finally:
        for worker in workers:
          worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

  def _catch_signals(self) -> None:
    """A first Ctrl-C or SIGTERM ends the run after the line that is being written; a second acts as ever."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def stop(number: int) -> None:
      self.outcome.signal = number
      for one in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(one)
      task.cancel()

    for one in (signal.SIGINT, signal.SIGTERM):
      loop.add_signal_handler(one, stop, one)

  async def _work(self, server: Any) -> None:
    for job in self.missing:
      try:
        record = await request.fetch(
          server, self.settings, job, timeout=self.patience.timeout, retries=self.patience.retries
        )
      except request.Failed as error:
        self._count_failure(job, str(error))
        continue
      self.in_a_row = 0
      self.journal.append(record)
      self.outcome.bare += self.settings.logprobs and not record["choices"][0].get("logprobs")
      self.progress(len(self.journal.keys), len(self.journal.keys))

  def _count_failure(self, job: Job, why: str) -> None:
    self.outcome.failed += 1
    self.in_a_row += 1
    self.outcome.why = self.outcome.why or why
    if self.in_a_row >= IN_A_ROW:
      raise ValueError(f"{self.in_a_row} requests failed in a row, the last, {' '.join(map(str, job.key))}: {why}")


def told(outcome: Outcome, output: str) -> str:
  """The outcome as a line."""
  line = f"{output}: {outcome.there} of {outcome.wanted} responses"
  if outcome.signal is not None:
    return f"{line}; stopped, the same command goes on from here"
  if outcome.failed:
    return f"{line}; {outcome.failed} failed, the same command tries them again. The first: {outcome.why}"
  return line


def main(settings: Settings, questions: Sequence[Question], output: str, patience: Patience) -> int:
  """Runs, and says how it went; 0 where all responses are there, 1 where some failed, 128 + n after signal n."""
  outcome = generate(settings, questions, output, patience)
  is_done = outcome.there >= outcome.wanted
  if outcome.bare:
    print(f"{output}: {outcome.bare} responses came without log-probabilities; see docs/traces.md", file=sys.stderr)
  print(told(outcome, output), file=sys.stdout if is_done else sys.stderr)
  if outcome.signal is not None:
    return 128 + outcome.signal
  return 0 if is_done else 1
