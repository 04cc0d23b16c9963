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
from typing import Any

import pandas as pd
from absl import flags

from experiments import (
  binary,
  confidence,
  fixed_graph,
  injected_loops,
  plan,
  presets,
  proposition_one,
  risk_aversion,
  temporal_errors,
)
from loopjax import claims, report
from loopjax.runtime import compilation_cache, devices
from loopjax.runtime import config as configs

EXPERIMENTS = {
  "risk_aversion": risk_aversion,
  "proposition_one": proposition_one,
  "temporal_errors": temporal_errors,
  "fixed_graph": fixed_graph,
  "injected_loops": injected_loops,
  "confidence": confidence,
}


def descriptions(experiments: Mapping[str, ModuleType]) -> dict[str, str]:
  """Experiment -> what its module says of it, for the report."""
  return {name: module.__doc__ or "" for name, module in experiments.items()}


def settings(preset: str, num_seeds: int | None = None) -> dict[str, Any]:
  """Experiment -> its config at the preset, with another number of seeds a condition where one is given."""
  configs_of = {name: getattr(presets.PRESETS[preset], name) for name in EXPERIMENTS}
  if num_seeds is None:
    return configs_of
  return {name: dataclasses.replace(config, num_seeds=num_seeds) for name, config in configs_of.items()}


def run(preset: str, output_dir: Path, num_seeds: int | None = None) -> pd.DataFrame:
  """Runs every experiment of the preset and returns the claims table, which it also writes and prints; then the report.

  Args:
    preset: `quick`, `standard` or `paper`.
    output_dir: where everything goes.
    num_seeds: seeds per condition instead of the preset's.
  """
  verdicts = []
  for name, config in settings(preset, num_seeds).items():
    began, experiment = time.monotonic(), EXPERIMENTS[name]
    print(f"\n== {name}, preset {preset}, {config.num_seeds} seeds a condition")
    frame = experiment.run(config, output_dir)
    verdicts.append(claims.evaluate(experiment.claims(config), frame, preset))
    print(f"{name}: {time.monotonic() - began:.0f} s")
    table = claims.adjust_families(pd.concat(verdicts, ignore_index=True))
    claims.write_csv(table, output_dir / "claims.csv")
  print("\n== claims")
  print(table[SHOWN].to_string(index=False))
  report.write(output_dir, output_dir / "report.html", descriptions(EXPERIMENTS))
  return table


SHOWN = ["claim", "value", "low", "high", "null", "predicted", "bound", "direction", "published", "verdict"]
SHOWN += ["holm_verdict", "unfit_because"]


def main() -> None:
  _ENABLE_SINKS()
  devices.initialize_distributed()
  output_dir = Path(_OUTPUT_DIR.value or f"results/{_PRESET.value}")
  if _DRY_RUN.value:
    asked = plan.requests(EXPERIMENTS, settings(_PRESET.value, _NUM_SEEDS.value))
    print(plan.describe(asked, output_dir, devices.device_mesh()))
    return
  with binary.holding(output_dir):
    run(_PRESET.value, output_dir, _NUM_SEEDS.value)
  print(f"\nwritten to {output_dir}")


if __name__ == "__main__":
  devices.use_all_cores()
  compilation_cache.enable()
  _PRESET = flags.DEFINE_enum("preset", "quick", list(presets.PRESETS), "Sizes of the experiments.")
  _OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where everything goes; results/<preset> by default.")
  _NUM_SEEDS = flags.DEFINE_integer("num_seeds", None, "Seeds a condition instead of the preset's.", lower_bound=1)
  _DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print what would be trained, and about how long it would take.")
  _ENABLE_SINKS = binary.sinks_flag()
  configs.run_main(main)
