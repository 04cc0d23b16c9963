"""Kills `reproduce --preset=quick` at random moments, lets it go on, and compares its tables with an undisturbed run's.

Not a test of the suite: it takes as long as two runs of `quick`.

  python -m tests.experiments.reproduce_stress --undisturbed=results/quick --kills=6
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from absl import app, flags

_UNDISTURBED = flags.DEFINE_string(
  "undisturbed", None, "A folder that `reproduce --preset=quick` wrote.", required=True
)
_KILLS = flags.DEFINE_integer("kills", 6, "How often it is killed.")
_SECONDS = flags.DEFINE_list("seconds", ["15", "60"], "Between which a run is killed, after its start.")


def run(folder: Path, seconds: float | None) -> str:
  """Runs `quick` into the folder, killed after so many seconds unless it has ended; what became of it."""
  command = [sys.executable, "-m", "experiments.reproduce", "--preset=quick", f"--output_dir={folder}"]
  process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  began = time.monotonic()
  try:
    code = process.wait(timeout=seconds)
  except subprocess.TimeoutExpired:
    process.send_signal(signal.SIGKILL)
    process.wait()
    return f"killed after {time.monotonic() - began:.0f} s"
  return f"ended with {code} after {time.monotonic() - began:.0f} s"


def compare(expected: Path, found: Path) -> int:
  """Prints each table and whether it is the same; the number of those that are not. Histories differ in chunks."""
  different = 0
  for path in sorted((expected / "results").glob("*.parquet")):
    if path.stem.endswith("_history"):
      continue
    try:
      pd.testing.assert_frame_equal(pd.read_parquet(path), pd.read_parquet(found / "results" / path.name))
      print(f"{path.name}: the same")
    except (AssertionError, OSError) as error:
      different += 1
      print(f"{path.name}: differs: {' '.join(str(error).split())[:200]}")
  return different


def main(_: list[str]) -> None:
  low, high = map(float, _SECONDS.value)
  rng = random.Random(0)
  with tempfile.TemporaryDirectory() as folder:
    for number in range(_KILLS.value):
      print(f"run {number + 1}: {run(Path(folder), rng.uniform(low, high))}", flush=True)
    print(f"last run: {run(Path(folder), None)}", flush=True)
    sys.exit(1 if compare(Path(_UNDISTURBED.value), Path(folder)) else 0)


if __name__ == "__main__":
  app.run(main)
