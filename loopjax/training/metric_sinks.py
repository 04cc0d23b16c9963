"""Metric sinks: the metrics of training, chunk by chunk, to TensorBoard or Weights & Biases, a curve per student.

A side channel. Results never depend on it: a sink that fails costs one warning and is left out from then on. Sinks
write beside the run's checkpoints, in `tensorboard/` and `wandb/`, and are resumed, kept and removed with them.

**TensorBoard** gets a run (a folder) per student. A process that resumes begins with a mark from which on earlier
events are void, so that no step shows twice although steps past the last checkpoint are trained again.

**Weights & Biases** gets a run per student, all of a training in one group, and not one run with metrics per student:
W&B advises at most 10,000 distinct metrics a project and draws a chart for each, whereas it draws a band over a group's
runs by itself, and filters by the runs' config, where condition and seed are. It also advises at most 10,000 runs a
project, and a run takes about half a second at the start: for hundreds of seeds take TensorBoard. What W&B was given
cannot be taken back, so that a run that is resumed leaves out steps up to the last one given. Offline
(WANDB_MODE=offline) each process leaves folders of its own, which `wandb sync` joins. Where W&B does not answer, the
warning comes after 90 s, and training then begins. WANDB_PROJECT names the project.

Shapes: S students.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import pandas as pd
from absl import logging

from loopjax.runtime import files
from loopjax.runtime.config import require

METRICS = ("loss", "gradient_norm", "trained_positions")
SECONDS_TO_UPLOAD = 10.0  # which W&B has at a run's end; what is left lies on disk for `wandb sync --include-online`


class Run(NamedTuple):
  """A training run as its sinks see it.

  Attributes:
    folder: its checkpoints'.
    labels: [S], what tells each student from the others: its seed, and the settings that differ between conditions.
    config: what makes the run, as JSON.
    step: the step that it goes on from; 0 where it is new.
  """

  folder: Path
  labels: Sequence[Mapping[str, float]]
  config: Mapping[str, Any]
  step: int

  def names(self) -> list[str]:
    """[S], such as `visited_margin=0.1,seed=3`."""
    return [",".join(f"{name}={value}" for name, value in label.items()) for label in self.labels]


class Sink(Protocol):
  """Takes the metrics of one run; made from its `Run`. Whatever it raises is reported, and it is not called again."""

  def write(self, frame: pd.DataFrame) -> None:
    """Takes a chunk: one row per student, in order, with the columns step, row and `METRICS`."""

  def close(self) -> None:
    """Is called once, after the last chunk."""


class TensorBoard:
  """An event file per student in `tensorboard/<name>/`, opened for each chunk alone: no threads, no limit on S."""

  def __init__(self, run: Run):
    from tensorboard.compat.proto import event_pb2

    file = f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"  # read in the order of their names
    self._paths = [run.folder / "tensorboard" / name / file for name in run.names()]
    restart = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    for path in self._paths:
      path.parent.mkdir(parents=True, exist_ok=True)
      self._append(path, file_version="brain.Event:2")
      self._append(path, step=run.step + 1, session_log=restart)  # events from this step on are void

  def write(self, frame: pd.DataFrame) -> None:
    from tensorboard.compat.proto import summary_pb2

    for path, row in zip(self._paths, frame.itertuples(), strict=True):
      values = [summary_pb2.Summary.Value(tag=name, simple_value=getattr(row, name)) for name in METRICS]
      self._append(path, step=row.step, summary=summary_pb2.Summary(value=values))

  def close(self) -> None:
    pass

  def _append(self, path: Path, **event: Any) -> None:
    from tensorboard.compat.proto import event_pb2
    from tensorboard.summary.writer.record_writer import RecordWriter

    with open(path, "ab") as file:
      RecordWriter(file).write(event_pb2.Event(wall_time=time.time(), **event).SerializeToString())


class WeightsAndBiases:
  """A W&B run per student. `wandb.json` beside the checkpoints has their common name and the last step given."""

  def __init__(self, run: Run):
    self._path = run.folder / "wandb.json"
    fresh: dict[str, Any] = {"id": secrets.token_hex(4), "last_step": 0}
    self._about: dict[str, Any] = files.read_json(self._path) if self._path.exists() else fresh
    files.write_json(self._about, self._path)
    self._runs = [self._init(run, row, name) for row, name in enumerate(run.names())]

  def _init(self, run: Run, row: int, name: str) -> Any:
    import wandb

    return wandb.init(
      project=os.environ.get("WANDB_PROJECT", "loopjax"), group=f"{run.folder.name} {self._about['id']}", name=name,
      id=f"{self._about['id']}-{row}", resume="allow", reinit="create_new", dir=run.folder,
      config={**run.config, **run.labels[row]},
      # Output and system metrics belong to no single student, and lines per run would bury the progress bar.
      settings=wandb.Settings(
        silent=True, console="off", x_disable_stats=True, finish_timeout=SECONDS_TO_UPLOAD
      ),
    )  # fmt: skip

  def write(self, frame: pd.DataFrame) -> None:
    step = int(frame["step"].iloc[0])
    if step <= self._about["last_step"]:
      return
    self._about["last_step"] = step
    files.write_json(self._about, self._path)  # first: a step may get lost, but none is given twice
    for run, values in zip(self._runs, frame[list(METRICS)].to_dict("records"), strict=True):
      run.log(values, step=step)

  def close(self) -> None:
    for run in self._runs:
      run.finish()


class _Kind(NamedTuple):
  package: str
  make: Callable[[Run], Sink]


SINKS = {"tensorboard": _Kind("tensorboard", TensorBoard), "wandb": _Kind("wandb", WeightsAndBiases)}
_enabled: list[str] = []


def enable(names: Sequence[str]) -> None:
  """Has every training of this process from here on write to the sinks of these names, and to no others.

  Raises:
    ValueError: a name is none of `SINKS`, or the sink's package is not installed.
  """
  for name in names:
    require(name in SINKS, "sinks", name, f"one of {', '.join(SINKS)}")
    try:
      importlib.import_module(SINKS[name].package)
    except ImportError as error:
      raise ValueError(f"sinks={name} needs a package that is not here: pip install loopjax[{name}]") from error
  _enabled[:] = names


def enabled() -> list[str]:
  """The names given to `enable`."""
  return list(_enabled)


@contextlib.contextmanager
def writing(
  folder: str | os.PathLike[str] | None, labels: Sequence[Mapping[str, float]], config: Mapping[str, Any], step: int
) -> Iterator[Callable[[pd.DataFrame], None]]:
  """Opens the enabled sinks for a run, gives what hands a chunk to them, and closes them; process 0 alone writes.

  Args:
    folder, labels, config, step: as in `Run`.

  Raises:
    ValueError: sinks are enabled, and there is no folder.
  """
  names = _enabled if jax.process_index() == 0 else []
  require(not names or folder is not None, "folder", folder, f"given for the sinks {', '.join(names)}")
  opened: dict[str, Sink] = {}
  for name in names:
    with _as_side_channel(name, opened):
      opened[name] = SINKS[name].make(Run(Path(str(folder)), labels, config, step))

  def write(frame: pd.DataFrame) -> None:
    for name, sink in list(opened.items()):
      with _as_side_channel(name, opened):
        sink.write(frame)

  yield write
  for name, sink in list(opened.items()):
    with _as_side_channel(name, opened):
      sink.close()


@contextlib.contextmanager
def _as_side_channel(name: str, opened: dict[str, Sink]) -> Iterator[None]:
  try:
    yield
  except Exception as error:  # a full disk, a network, a service: whatever it is, hours of training are worth more
    opened.pop(name, None)
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    logging.warning("sink %s stopped, and training goes on without it: %s", name, reason)
