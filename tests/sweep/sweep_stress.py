"""Kills sweeps at random moments and looks whether anything of it shows: minutes, so a script and no test.

  python -m tests.sweep.sweep_stress --num_kills=20

First 8 units in one process, killed again and again and run on; then 8 shards at once, of which 3 are killed and run
again. Both must end with the merged file of an uninterrupted sweep, byte for byte.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from absl import app, flags

from loopjax import sweep

_NUM_KILLS = flags.DEFINE_integer("num_kills", 20, "Kills of the one process.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")

ROOT = Path(__file__).parents[2]
NUM_UNITS = 8


def start(folder: Path, *shard: int) -> subprocess.Popen[bytes]:
  """A sweep of units of one seed; returns once its first line shows that it is at work."""
  settings = {"JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
  command = [sys.executable, "-m", "tests.sweep.sweep_experiment", str(folder), "1", *map(str, shard)]
  return subprocess.Popen(
    command, env={**os.environ, **settings}, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
  )


def run_for(child: subprocess.Popen[bytes], seconds: float) -> int:
  """Kills a process so long after its first line, unless it ends before; its exit code."""
  child.stderr.readline()
  try:
    _, said = child.communicate(timeout=seconds)
  except subprocess.TimeoutExpired:
    child.send_signal(signal.SIGKILL)
    _, said = child.communicate()
  if child.returncode not in (0, -signal.SIGKILL):
    print(said.decode(errors="replace")[-2000:])
  return child.returncode


def check(what: str, passes: bool) -> None:
  print(f"{'pass' if passes else 'FAIL'}: {what}", flush=True)
  if not passes:
    sys.exit(1)


def merged(folder: Path) -> bytes:
  path = folder.with_suffix(".parquet")
  frame = sweep.merge(folder, path)
  check(f"{folder.name}: {len(frame)} rows, none twice", not frame.duplicated(["scale", "seed"]).any())
  return path.read_bytes()


def killed(folder: Path, seconds: float, rng: random.Random) -> None:
  """One kill at a random moment within `seconds` of work; what is there must be readable, and only what is done."""
  code = run_for(start(folder), rng.uniform(0, seconds))
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    rows = len(sweep.load(folder))
  done, half = (len(list(folder.glob(f"units/*/{name}"))) for name in ("rows.parquet", "**/*tmp*"))
  check(f"exit {code}, {rows} rows of {done} units, {half} temporary files", rows == done and code in (-9, 0))


def main(argv: list[str]) -> None:
  del argv
  rng = random.Random(_SEED.value)
  root = Path(tempfile.mkdtemp(prefix="sweep_stress_"))
  child = start(root / "whole")
  child.stderr.readline()
  began = time.monotonic()
  check("uninterrupted: exit 0", run_for(child, 3600) == 0)
  seconds = time.monotonic() - began
  whole = merged(root / "whole")

  for _ in range(_NUM_KILLS.value):
    killed(root / "killed", seconds / NUM_UNITS, rng)
  check("run to its end: exit 0", run_for(start(root / "killed"), 3600) == 0)
  check(f"{_NUM_KILLS.value} kills: the same file", merged(root / "killed") == whole)

  shards = [start(root / "shards", index, NUM_UNITS) for index in range(NUM_UNITS)]
  codes = [run_for(child, rng.uniform(0, 1) if index < 3 else 3600) for index, child in enumerate(shards)]
  again = [start(root / "shards", index, NUM_UNITS) for index, code in enumerate(codes) if code]
  check(f"shards: exits {codes}, then 0", all(run_for(child, 3600) == 0 for child in again))
  check("shards: the same file", merged(root / "shards") == whole)


if __name__ == "__main__":
  app.run(main)
