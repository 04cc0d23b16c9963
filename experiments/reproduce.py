"""Runs the experiments of a preset and holds their results against the registered claims.

  python -m experiments.reproduce --preset=quick

Into `--output_dir`: `report.html` (all of it on one page), `claims.csv` (the verdicts), `figures/`, `results/` (tidy
Parquet, config and provenance as JSON) and `checkpoints/`. A run that was stopped goes on where it was; a finished
experiment is not run again.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from absl import flags, logging

from experiments import binary, experiment, plan, registry
from experiments.experiment import PRESETS, Experiment
from loopjax import claims, report
from loopjax.report import folder
from loopjax.runtime import command_line, compilation_cache, devices
from loopjax.runtime import config as configs


def descriptions() -> dict[str, str]:
  """Experiment -> what its module says of it, for the report."""
  return {name: one.about for name, one in registry.EXPERIMENTS.items()}


def chosen(preset: str, only: Sequence[str] = (), num_seeds: int | None = None) -> list[tuple[Experiment, Any]]:
  """The experiments that are run, with their configs.

  Args:
    preset: `quick`, `standard` or `paper`.
    only: their names; by default all that claim something at the preset.
    num_seeds: seeds per condition instead of the preset's.
  """
  names = list(dict.fromkeys(only)) or list(registry.claiming(preset))
  for name in names:
    configs.require(name in registry.EXPERIMENTS, "only", name, f"some of {list(registry.EXPERIMENTS)}")
  pairs = [(registry.EXPERIMENTS[name], registry.EXPERIMENTS[name].at(preset)) for name in names]
  if num_seeds is None:
    return pairs
  return [(one, dataclasses.replace(config, num_seeds=num_seeds)) for one, config in pairs]


def _other_verdicts(output_dir: Path, pairs: Sequence[tuple[Experiment, Any]]) -> pd.DataFrame | None:
  """The verdicts that lie in the folder from runs of other experiments; None where there are none."""
  path, ours = output_dir / "claims.csv", {claim.name for one, config in pairs for claim in one.claims(config)}
  if not path.exists():
    return None
  found = folder.read_claims(path)
  return found[~found["claim"].isin(ours)]


def run(preset: str, output_dir: Path, pairs: Sequence[tuple[Experiment, Any]]) -> pd.DataFrame:
  """Runs experiments and returns the claims table, which it also writes; prints what it says; then the report.

  Verdicts of other experiments, which a run with other names has left in the folder, stay in the table.

  Args:
    preset: the name under which claims are judged.
    output_dir: where everything goes.
    pairs: from `chosen`.
  """
  verdicts = [_other_verdicts(output_dir, pairs)]
  for number, (one, config) in enumerate(pairs, start=1):
    began = time.monotonic()
    print(f"\n== {one.name} ({number} of {len(pairs)}), preset {preset}, {config.num_seeds} seeds a condition")
    tables, text = experiment.run(one, config, output_dir)
    logging.info("%s\n%s", one.name, text)
    verdicts.append(claims.evaluate(one.claims(config), one.rows(tables), preset))
    print(f"{one.name}: {time.monotonic() - began:.0f} s")
    table = claims.adjust_families(pd.concat(verdicts, ignore_index=True))
    claims.write_csv(table, output_dir / "claims.csv")
  print(f"\n{report.conclusion(table)}\n")
  report.write(output_dir, output_dir / "report.html", descriptions())
  return table


def main() -> None:
  _ENABLE_SINKS()
  devices.initialize_distributed()
  output_dir = Path(_OUTPUT_DIR.value or f"results/{_PRESET.value}")
  pairs = chosen(_PRESET.value, _ONLY.value, _NUM_SEEDS.value)
  if _DRY_RUN.value:
    print(plan.describe(plan.requests(pairs), output_dir, devices.device_mesh()))
    unknown = [one.name for one, config in pairs if not one.requests(config)]
    if unknown:
      print(f"not in this plan, since they do not name their students beforehand: {', '.join(unknown)}")
    return
  with binary.holding(output_dir):
    run(_PRESET.value, output_dir, pairs)
  print(f"all of it on one page: {output_dir / 'report.html'}")
  print(
    f"claims: {output_dir / 'claims.csv'}; figures and tables beside it; --verbosity=1 prints the tables over seeds"
  )


if __name__ == "__main__":
  devices.use_all_cores()
  compilation_cache.enable()
  _PRESET = flags.DEFINE_enum("preset", "quick", list(PRESETS), "Sizes of the experiments.")
  _ONLY = flags.DEFINE_list("only", [], "Experiments to run, with commas; all that claim something by default.")
  _OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where everything goes; results/<preset> by default.")
  _NUM_SEEDS = flags.DEFINE_integer("num_seeds", None, "Seeds a condition instead of the preset's.", lower_bound=1)
  _DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print what would be trained, and about how long it would take.")
  _ENABLE_SINKS = binary.sinks_flag()
  command_line.run_main(main)
