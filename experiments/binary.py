"""What the binary of an experiment ends with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags

from loopjax import compilation_cache, seeds
from loopjax import config as configs


def run_experiment(name: str, default: Any, run: Callable[[Any, Path], object]) -> None:
  """Defines `--output_dir` and a flag for every field of the config `default`, then runs `run(config, output_dir)`."""
  seeds.use_all_cores()
  compilation_cache.enable()
  output_dir = flags.DEFINE_string("output_dir", f"results/{name}", "Where results, figures and checkpoints go.")
  config_of_flags = configs.flags(default)

  def main() -> None:
    config = config_of_flags()
    seeds.initialize_distributed()
    run(config, Path(output_dir.value))

  configs.run_main(main)
