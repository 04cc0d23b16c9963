"""What the binary of an experiment ends with."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from absl import flags

from loopjax.runtime import compilation_cache, devices, files
from loopjax.runtime import config as configs
from loopjax.training import metric_sinks

flags.disclaim_key_flags()  # what is defined here belongs to the binary that asks for it, and stands in its --help


def sinks_flag() -> Callable[[], None]:
  """Defines `--sinks`; what it returns enables the sinks that the flag names."""
  about = "Where training's metrics go while it runs: " + ", ".join(metric_sinks.SINKS) + "; several with commas."
  names = flags.DEFINE_list("sinks", [], about)
  return lambda: metric_sinks.enable(names.value)


def holding(folder: Path) -> contextlib.AbstractContextManager[None]:
  """Holds an output folder while a run works in it; of the processes of one run the first does that for all.

  Raises:
    ValueError: another run works there, or the path is a file.
  """
  return files.locked(folder) if jax.process_index() == 0 else contextlib.nullcontext()


def run_experiment(name: str, default: Any, run: Callable[[Any, Path], object]) -> None:
  """Runs `run(config, output_dir)`; defines `--output_dir`, `--sinks` and a flag for every field of `default`."""
  devices.use_all_cores()
  compilation_cache.enable()
  output_dir = flags.DEFINE_string("output_dir", f"results/{name}", "Where results, figures and checkpoints go.")
  enable_sinks, config_of_flags = sinks_flag(), configs.flags(default)

  def main() -> None:
    config = config_of_flags()
    enable_sinks()
    devices.initialize_distributed()
    with holding(Path(output_dir.value)):
      run(config, Path(output_dir.value))

  configs.run_main(main)
