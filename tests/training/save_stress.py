"""Kills processes in the middle of saving and looks whether what they left can be read: minutes, so a script, no test.

  python -m tests.training.save_stress --num_kills=50

A child saves one state after another, as training does (`history.parquet`, then a checkpoint) or as a sweep does with
the results of a unit (`unit.json`, then `rows.parquet`), and says when a save begins and ends. It is killed at a random
moment of a save; the next one goes on in the same folder. What is there after a kill must be, bit for bit, the state of
the save that was struck, or the one before. Both follow from their step.
"""

from __future__ import annotations

import collections
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from absl import flags

from loopjax import results
from loopjax.runtime import command_line, devices, files, seeds
from loopjax.training import checkpoints, runner
from loopjax.training.step import TrainState

NUM_SEEDS, NUM_DEVICES = 4, 2
UNDISTURBED = 3  # saves of every child, by which the length of one is known


def state_at(step: int) -> TrainState:
  """A state of the size that 4 students of width 64 and 2 layers have."""
  rng = np.random.default_rng(step)
  weights = [
    {str(i): jnp.asarray(rng.random((NUM_SEEDS, 64, 64 + i), np.float32)) for i in range(24)} for _ in range(3)
  ]
  keys = jax.vmap(jax.random.key)(jnp.full(NUM_SEEDS, step))
  return TrainState(jnp.full(NUM_SEEDS, step, jnp.int32), weights[0], tuple(weights[1:]), keys, (), ())


def frame_at(step: int) -> pd.DataFrame:
  """A row for each step so far, as a history has."""
  return pd.DataFrame({"step": np.arange(1, step + 1), "loss": np.arange(1, step + 1) / 7})


def rows_at(step: int) -> pd.DataFrame:
  """A table of a few hundred kilobytes."""
  return pd.DataFrame({"seed": np.arange(20_000), "value": np.random.default_rng(step).normal(size=20_000)})


def save_training(folder: Path, step: int) -> None:
  """By the runner's own saver."""
  placed = seeds.place(state_at(step), devices.device_mesh())
  runner._Saver(folder, {"width": 64}, NUM_SEEDS, step - 1).save(step, placed, [frame_at(step)])


def read_training(folder: Path) -> int:
  """The step of what is there; raises where that is not a state that was saved."""
  loaded = checkpoints.load(folder, state_at(0))
  if loaded is None:
    return 0
  state, step = loaded
  check(checkpoints.load_config(folder) == {"width": 64}, "another config")
  for found, expected in zip(jax.tree.leaves(state), jax.tree.leaves(state_at(step)), strict=True):
    check(_bytes(found) == _bytes(expected), f"the checkpoint is not that of step {step}")
  history = results.read_frame(folder / "history.parquet")
  check(history[history["step"] <= step].equals(frame_at(step)), f"the history is not that of step {step}")
  return step


def _bytes(leaf: jax.Array) -> bytes:
  is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  return np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes()


def save_unit(folder: Path, step: int) -> None:
  """In the order in which `sweep.store` writes."""
  files.write_json({"step": step, "more": [step] * 1_000}, folder / "unit.json")
  files.write_parquet(rows_at(step), folder / "rows.parquet")


def read_unit(folder: Path) -> int:
  """As `read_training`; the rows are written last, so that `unit.json` may be a step ahead."""
  if not (folder / "rows.parquet").exists():
    return 0
  about, rows = files.read_json(folder / "unit.json"), results.read_frame(folder / "rows.parquet")
  check(about["more"] == [about["step"]] * 1_000, "unit.json is of two steps")
  for step in (about["step"], about["step"] - 1):
    if rows.equals(rows_at(step)):
      return step
  raise AssertionError(f"the rows are not those of step {about['step']} or the one before")


def check(passes: bool, problem: str) -> None:
  if not passes:
    raise AssertionError(problem)


class Kind(NamedTuple):
  """A kind of save: how a step is saved, and which step is there to be read."""

  save: Callable[[Path, int], None]
  read: Callable[[Path], int]


KINDS = {"training": Kind(save_training, read_training), "unit": Kind(save_unit, read_unit)}


def save_for_ever(kind: str, folder: Path, said: Connection) -> None:
  """What a child does; says (step, whether its save has ended, when) twice a save."""
  jax.config.update("jax_num_cpu_devices", NUM_DEVICES)
  step = KINDS[kind].read(folder)
  while True:
    step += 1
    said.send((step, False, time.monotonic()))
    KINDS[kind].save(folder, step)
    said.send((step, True, time.monotonic()))


class Kill(NamedTuple):
  """One kill: the step whose save was under way, or had just ended; how far, of how long a save, in seconds."""

  step: int
  in_mid_save: bool
  after: float
  of: float


def kill(kind: str, folder: Path, context: Any, rng: random.Random) -> Kill:
  """Starts a child, and kills it at a random moment of the save that follows its undisturbed ones."""
  heard, said = context.Pipe(duplex=False)
  child = context.Process(target=save_for_ever, args=(kind, folder, said))
  child.start()
  said.close()
  times = [heard.recv() for _ in range(2 * UNDISTURBED + 1)]
  begun = [when for _, _, when in times]
  usual = statistics.median(end - begin for begin, end in zip(begun[:-1:2], begun[1::2], strict=True))
  time.sleep(max(0.0, begun[-1] + rng.uniform(0, usual) - time.monotonic()))
  child.kill()
  killed = time.monotonic()
  child.join()
  try:
    while True:
      times.append(heard.recv())
  except EOFError:
    step, has_ended, _ = times[-1]
  began = next(when for number, _, when in times if number == step)
  return Kill(step, not has_ended, killed - began, usual)


def stress(kind: str, num_kills: int, rng: random.Random) -> collections.Counter[str]:
  """Kills until so many have struck in mid-save; counts what they left."""
  context = multiprocessing.get_context("forkserver")  # imports all beforehand: a child starts at once
  context.set_forkserver_preload(["loopjax.training.runner", "pyarrow.parquet"])
  folder = Path(tempfile.mkdtemp(prefix="save_stress_")) / "run"
  counts: collections.Counter[str] = collections.Counter()
  while counts["in mid-save"] < num_kills:
    struck = kill(kind, folder, context, rng)
    counts["in mid-save" if struck.in_mid_save else "between saves"] += 1
    left = sum("tmp" in path.name for path in folder.iterdir())
    found = KINDS[kind].read(folder)
    allowed = (struck.step - 1, struck.step) if struck.in_mid_save else (struck.step,)
    check(found in allowed, f"{struck}: step {found} is there, expected one of {allowed}")
    if struck.in_mid_save:
      counts["loaded"] += 1
      counts["the step before" if found < struck.step else "the step itself"] += 1
    moment = f"{struck.after * 1e3:.0f} ms into a save of about {struck.of * 1e3:.0f}"
    print(f"{kind}: {moment}, step {struck.step}: {found} is there, {left} temporary files beside", flush=True)
  return counts


def main() -> None:
  rng = random.Random(_SEED.value)
  for kind in KINDS:
    try:
      print(kind, dict(stress(kind, _NUM_KILLS.value, rng)), flush=True)
    except (AssertionError, ValueError) as error:
      sys.exit(f"FAIL: {kind}: {error}")


if __name__ == "__main__":
  _NUM_KILLS = flags.DEFINE_integer("num_kills", 50, "Kills in the middle of a save, of each kind.", lower_bound=1)
  _SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")
  command_line.run_main(main)
