"""What the binary of an experiment ends with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags

from loopjax import compilation_cache, metric_sinks, seeds
from loopjax import config as configs

flags.disclaim_key_flags()  # what is defined here belongs to the binary that asks for it, and stands in its --help


def sinks_flag() -> Callable[[], None]:
  """Defines `--sinks`; what it returns enables the sinks that the flag names."""
  about = "Where training's metrics go while it runs: " + ", ".join(metric_sinks.SINKS) + "; several with commas."
  names = flags.DEFINE_list("sinks", [], about)
  return lambda: metric_sinks.enable(names.value)


def run_experiment(name: str, default: Any, run: Callable[[Any, Path], object]) -> None:
  """Runs `run(config, output_dir)`; defines `--output_dir`, `--sinks` and a flag for every field of `default`."""
  seeds.use_all_cores()
  compilation_cache.enable()
  output_dir = flags.DEFINE_string("output_dir", f"results/{name}", "Where results, figures and checkpoints go.")
  enable_sinks, config_of_flags = sinks_flag(), configs.flags(default)

  def main() -> None:
    config = config_of_flags()
    enable_sinks()
    seeds.initialize_distributed()
    run(config, Path(output_dir.value))

  configs.run_main(main)
