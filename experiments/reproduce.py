"""Runs the experiments of a preset and holds their results against the registered claims.

  python -m experiments.reproduce --preset=quick

Into `--output_dir`: `report.html` (all of it on one page), `claims.csv` (the verdicts), `figures/`, `results/` (tidy
Parquet, config and provenance as JSON) and `checkpoints/`. A run that was stopped goes on where it was; a finished
experiment is not run again.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pandas as pd
from absl import flags

from experiments import binary, confidence, injected_loops, presets, proposition_one, risk_aversion, temporal_errors
from loopjax import claims, compilation_cache, report, seeds
from loopjax import config as configs

EXPERIMENTS = {
  "risk_aversion": risk_aversion,
  "proposition_one": proposition_one,
  "temporal_errors": temporal_errors,
  "injected_loops": injected_loops,
  "confidence": confidence,
}


def descriptions(experiments: Mapping[str, ModuleType]) -> dict[str, str]:
  """Experiment -> what its module says of it, for the report."""
  return {name: module.__doc__ or "" for name, module in experiments.items()}


def run(preset: str, output_dir: Path, num_seeds: int | None = None) -> pd.DataFrame:
  """Runs every experiment of the preset and returns the claims table, which it also writes and prints; then the report.

  Args:
    preset: `quick`, `standard` or `paper`.
    output_dir: where everything goes.
    num_seeds: seeds per condition instead of the preset's.
  """
  verdicts = []
  for name, experiment in EXPERIMENTS.items():
    began = time.monotonic()
    config = getattr(presets.PRESETS[preset], name)
    if num_seeds is not None:
      config = dataclasses.replace(config, num_seeds=num_seeds)
    print(f"\n== {name}, preset {preset}, {config.num_seeds} seeds a condition")
    frame = experiment.run(config, output_dir)
    verdicts.append(claims.evaluate(experiment.claims(), frame, preset))
    print(f"{name}: {time.monotonic() - began:.0f} s")
    claims.write_csv(pd.concat(verdicts, ignore_index=True), output_dir / "claims.csv")
  table = pd.concat(verdicts, ignore_index=True)
  print("\n== claims")
  print(table[["claim", "value", "low", "high", "bound", "direction", "published", "verdict"]].to_string(index=False))
  report.write(output_dir, output_dir / "report.html", descriptions(EXPERIMENTS))
  return table


def main() -> None:
  _ENABLE_SINKS()
  seeds.initialize_distributed()
  output_dir = Path(_OUTPUT_DIR.value or f"results/{_PRESET.value}")
  with binary.holding(output_dir):
    run(_PRESET.value, output_dir, _NUM_SEEDS.value)
  print(f"\nwritten to {output_dir}")


if __name__ == "__main__":
  seeds.use_all_cores()
  compilation_cache.enable()
  _PRESET = flags.DEFINE_enum("preset", "quick", list(presets.PRESETS), "Sizes of the experiments.")
  _OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where everything goes; results/<preset> by default.")
  _NUM_SEEDS = flags.DEFINE_integer("num_seeds", None, "Seeds a condition instead of the preset's.", lower_bound=1)
  _ENABLE_SINKS = binary.sinks_flag()
  configs.run_main(main)
