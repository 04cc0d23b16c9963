"""What the binary of an experiment ends with."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import jax
from absl import flags

from loopjax.runtime import files
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
