"""The host loop that trains many students: chunks, progress, NaN report, saving, signals, resumption.

Between chunks the loop returns to Python to log and save. A run stopped at any moment goes on from its last checkpoint
to the very parameters of an uninterrupted run.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import tqdm
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from loopjax import results
from loopjax.runtime import compilation_cache, devices, files, memory, seeds
from loopjax.runtime.config import require
from loopjax.training import checkpoints, metric_sinks
from loopjax.training.step import Metrics, Objective, Training, TrainState, run_chunk

SECONDS_PER_CHUNK = 2.0
SECONDS_PER_SAVE = 60.0


class Trained(NamedTuple):
  """Trained students, in the order in which their seeds were given.

  Attributes:
    state: leaves [S, ...] on the mesh, S padded as `seeds.place` does.
    is_finite: [S] bool on the host; False where loss, gradients or parameters became NaN or infinite: such a seed is
      left out of results.
    history: one row per seed and chunk: step, row (index of the seed), loss, gradient_norm.
  """

  state: TrainState
  is_finite: np.ndarray
  history: pd.DataFrame


def train(
  objective: Objective,
  config: Training,
  state: TrainState,
  mesh: Mesh,
  *,
  num_seeds: int,
  until: int | None = None,
  folder: str | os.PathLike[str] | None = None,
  run_config: Mapping[str, Any] | None = None,
  labels: Sequence[Mapping[str, float]] | None = None,
  description: str = "training",
) -> Trained:
  """Trains students until `config.num_steps` or `until`, from the last checkpoint in `folder` where there is one.

  Args:
    objective: what to train for.
    config: the training config.
    state: initial states on `mesh`; its memory is used up.
    mesh: from `devices.device_mesh`.
    num_seeds: S, the students that count; `state` may be padded.
    until: the step to stop at, on the way of the whole schedule; a later call goes on from there.
    folder: where checkpoints go; None: nothing is saved.
    run_config: what makes this run, as JSON; a folder of another run is refused.
    labels: what the metric sinks call each student, as in `metric_sinks.Run`; their row by default.
    description: what the progress bar says.

  Raises:
    ValueError: `folder` belongs to another config, or its checkpoint has other shapes or is past `until`; a metric
      sink is enabled, and there is no folder.
    SystemExit: after SIGINT or SIGTERM, once the state is saved; code 128 + the signal's number.
  """
  end = config.num_steps if until is None else until
  require(1 <= end <= config.num_steps, "until", end, f"1 to training.num_steps={config.num_steps}")
  state, history = _resume(state, mesh, num_seeds, folder, run_config)
  step = int(np.max(seeds.to_host(state.step, num_seeds)))
  require(step <= end, "until", end, f"at least {step}, where these students are ({folder})")
  if step == end:
    return _trained(state, history, num_seeds)
  leaves, structure = jax.tree.flatten(checkpoints.abstract(state))
  run = _compile(objective, config, mesh, tuple(leaves), structure)
  bar = tqdm.tqdm(
    total=end * num_seeds, initial=step * num_seeds, desc=description, unit=" seed-steps",
    disable=jax.process_index() != 0, mininterval=1.0 if sys.stderr.isatty() else 30.0, miniters=1,
  )  # fmt: skip
  saver = _Saver(folder, run_config, num_seeds, last_step=step)
  sinks = metric_sinks.writing(folder, labels or [{"row": i} for i in range(num_seeds)], run_config or {}, step)
  chunk_steps, stop_signal = 1, 0
  with bar, _signals() as received, memory.named_when_exhausted(_memory_advice(config)), sinks as write:
    while step < end and not stop_signal:
      chunk_steps = _largest(min(chunk_steps, end - step))
      began = time.monotonic()
      state, metrics = run(state, jnp.int32(chunk_steps))
      history.append(_chunk_frame(step + chunk_steps, seeds.to_host(metrics, num_seeds)))
      write(history[-1])
      step += chunk_steps
      bar.update(chunk_steps * num_seeds)
      bar.set_postfix_str(_loss_text(history[-1]))
      chunk_steps = _next_chunk(chunk_steps, time.monotonic() - began)
      saver.maybe_save(step, state, history)
      stop_signal = _largest(received[0] if received else 0)
    saver.save(step, state, history)
  if stop_signal:
    raise SystemExit(128 + stop_signal)
  return _trained(state, history, num_seeds)


def _trained(state: TrainState, history: list[pd.DataFrame], num_seeds: int) -> Trained:
  frame = pd.concat(history, ignore_index=True)
  return Trained(state, finite_rows(frame, state.params, num_seeds), frame)


@functools.lru_cache(maxsize=seeds.PROGRAMS)
def _compile(
  objective: Objective, config: Training, mesh: Mesh, leaves: tuple[jax.ShapeDtypeStruct, ...], structure: Any
) -> jax.stages.Compiled:
  """The program of a chunk of any length, for states of these leaves; says what it takes of the devices' memory."""
  data_axis = devices.DATA if mesh.shape[devices.DATA] > 1 else None

  def chunk(one: TrainState, num_steps: jax.Array) -> tuple[TrainState, Metrics]:
    return run_chunk(objective, config, one, num_steps, data_axis=data_axis)

  run = seeds.map_seeds(chunk, mesh, donate=True)
  with memory.named_when_exhausted(_memory_advice(config)):
    compiled = run.lower(jax.tree.unflatten(structure, leaves), jnp.int32(1)).compile()
  compilation_cache.publish()  # a kill from here on costs no compilation
  text = memory.estimate(compiled, _memory_advice(config))  # refuses on every process, or the others would wait
  if jax.process_index() == 0:
    tqdm.tqdm.write(text, file=sys.stderr)
  return compiled


def _memory_advice(config: Training) -> str:
  return (
    f"lower training.rows_per_step={config.rows_per_step} or training.streams_per_row={config.streams_per_row}, "
    "set model.remat=True, or give each device fewer seeds"
  )


def _next_chunk(num_steps: int, seconds: float) -> int:
  """Chunks of about `SECONDS_PER_CHUNK`, growing at most fourfold at once: the first also holds the compilation."""
  return max(1, min(4 * num_steps, int(num_steps * SECONDS_PER_CHUNK / max(seconds, 1e-6))))


def _largest(number: int) -> int:
  """The largest of the processes' numbers, on every process: they must run the same chunks, save and stop together."""
  if jax.process_count() == 1:
    return number
  return int(np.max(multihost_utils.process_allgather(np.int32(number))))


def _chunk_frame(step: int, metrics: Metrics) -> pd.DataFrame:
  return pd.DataFrame({
    "step": step, "row": np.arange(len(metrics.loss)), "loss": metrics.loss, "gradient_norm": metrics.gradient_norm,
    "trained_positions": metrics.trained_positions,
  })  # fmt: skip


def _loss_text(frame: pd.DataFrame) -> str:
  finite = np.isfinite(frame["loss"])
  lost = f", {np.sum(~finite)} not finite" if not finite.all() else ""
  return f"loss {frame['loss'][finite].mean():.4f}{lost}"


def finite_rows(history: pd.DataFrame, params: Any, num_seeds: int) -> np.ndarray:
  """Which seeds stayed finite in loss, gradients and parameters [S, ...], [S]; names the others in the log."""
  numbers = np.isfinite(history["loss"]) & np.isfinite(history["gradient_norm"])
  so_far = numbers.groupby(history["row"]).all().reindex(range(num_seeds), fill_value=True).to_numpy()
  is_finite = so_far & seeds.to_host(_finite_parameters(params), num_seeds)
  for row in np.flatnonzero(~is_finite):
    bad = history.loc[(history["row"] == row) & ~numbers, "step"]
    when = f"loss or gradient were not finite by step {bad.iloc[0]}" if len(bad) else "its parameters are not finite"
    logging.warning("seed row %d left out: %s", row, when)
  return is_finite


@jax.jit
def _finite_parameters(params: Any) -> jax.Array:
  """Of every row of the leaves [S, ...] whether all of its numbers are finite, [S]."""
  of_leaves = [jnp.all(jnp.isfinite(leaf), axis=tuple(range(1, leaf.ndim))) for leaf in jax.tree.leaves(params)]
  return jnp.all(jnp.stack(of_leaves), axis=0)


def _resume(
  state: TrainState, mesh: Mesh, num_seeds: int, folder: Any, run_config: Mapping[str, Any] | None
) -> tuple[TrainState, list]:
  """The last checkpoint's state and history, or those given where there is none."""
  if folder is None:
    return state, []
  with contextlib.suppress(FileNotFoundError):
    results.check_same_config(folder, checkpoints.load_config(folder), run_config)
  loaded = _load(folder, state, mesh, num_seeds)
  if loaded is None:
    return state, []
  state, step = loaded
  tqdm.tqdm.write(f"resuming from step {step} in {folder}", file=sys.stderr)
  history = results.read_frame(Path(folder) / "history.parquet")
  return state, [history[history["step"] <= step]]


def _load(folder: Any, state: TrainState, mesh: Mesh, num_seeds: int) -> tuple[TrainState, int] | None:
  """The last checkpoint on this mesh, whose devices may be more or fewer than those that saved it."""
  shapes = checkpoints.saved_shapes(folder)
  if shapes is None or shapes.get("step") == state.step.shape:
    return checkpoints.load(folder, state)
  row = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), state)
  return checkpoints.load_rows(folder, row, num_seeds, mesh)


class _Saver:
  """Saves state and history into a folder, at most every `SECONDS_PER_SAVE`."""

  def __init__(self, folder: Any, run_config: Any, num_seeds: int, last_step: int):
    self.folder, self.run_config, self.num_seeds = folder, run_config, num_seeds
    self.last_step, self.last_time = last_step, time.monotonic()

  def maybe_save(self, step: int, state: TrainState, history: list[pd.DataFrame]) -> None:
    if _largest(int(time.monotonic() - self.last_time > SECONDS_PER_SAVE)):
      self.save(step, state, history)

  def save(self, step: int, state: TrainState, history: list[pd.DataFrame]) -> None:
    if self.folder is None or step == self.last_step:
      return
    # History first: a checkpoint must find its own; rows past its step are dropped on resuming.
    if jax.process_index() == 0:
      files.write_parquet(pd.concat(history, ignore_index=True), Path(self.folder) / "history.parquet")
    checkpoints.save(self.folder, step, state, config=self.run_config)
    self.last_step, self.last_time = step, time.monotonic()


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
  """Collects SIGINT and SIGTERM in the list that it gives; a second signal acts at once."""
  received: list[int] = []
  previous: dict[int, Any] = {}

  def restore() -> None:
    for number, handler in previous.items():
      signal.signal(number, handler)

  def receive(number: int, frame: Any) -> None:
    del frame
    received.append(number)
    logging.warning("signal %d: saving after this chunk; once more stops at once", number)
    restore()

  for number in (signal.SIGINT, signal.SIGTERM):
    with contextlib.suppress(ValueError):  # not in the main thread: then signals are not ours to take
      previous[number] = signal.signal(number, receive)
  try:
    yield received
  finally:
    restore()
