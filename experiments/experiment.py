"""What all experiments share: one question, its settings at each preset, its measure, its figures, its claims.

An experiment is a value, entered once, in `registry`. From that it can be run alone, by `reproduce`, in sweeps and in
worlds of known truth, and stands in the report.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from absl import flags

from experiments import binary
from loopjax import results
from loopjax.claims import Claim
from loopjax.runtime import command_line, compilation_cache, devices
from loopjax.runtime import config as configs
from loopjax.star_graph.sharing import Obtain, Request, Trainer

flags.disclaim_key_flags()  # what `main` defines belongs to the experiment's binary, and stands in its --help

PRESETS = ("quick", "standard", "paper")
Tables = dict[str, pd.DataFrame]


@dataclasses.dataclass(frozen=True)
class Experiment:
  """One question.

  Attributes:
    name: of flags, tables and the report.
    about: what it asks, its module's docstring.
    presets: preset -> config. All configs are of one class, with the fields num_seeds and first_seed; an experiment
      need not be in every preset.
    measure: (config, where students come from) -> tables. The main one has the experiment's name, with which the names
      of the others begin.
    show: (config, tables, figures' folder) draws the figures and gives the table over seeds, as text.
    requests: the groups of students that the claims need, as `measure` obtains them; none where no claim is made.
    claims: what is asserted, given the config.
    read: what the claims read of the tables; the main one by default.
  """

  name: str
  about: str
  presets: Mapping[str, Any]
  measure: Callable[[Any, Obtain], Tables]
  show: Callable[[Any, Tables, Path], str]
  requests: Callable[[Any], Sequence[Request]] = lambda config: ()
  claims: Callable[[Any], list[Claim]] = lambda config: []
  read: Callable[[Tables], pd.DataFrame] | None = None

  def rows(self, tables: Tables) -> pd.DataFrame:
    """What the claims read of the tables."""
    return tables[self.name] if self.read is None else self.read(tables)

  @property
  def default(self) -> Any:
    """The config whose values the binary's flags show: that of the smallest preset."""
    return next(iter(self.presets.values()))

  def at(self, preset: str) -> Any:
    """The config at a preset.

    Raises:
      ValueError: it is not in that preset.
    """
    configs.require(preset in self.presets, "preset", preset, f"one of {list(self.presets)} for {self.name}")
    return self.presets[preset]


def run(experiment: Experiment, config: Any, output_dir: Path) -> tuple[Tables, str]:
  """The tables (computed once per folder), and the table over seeds as text; draws the figures."""
  trainer = Trainer(output_dir, devices.device_mesh())
  tables = results.compute_once(output_dir, experiment.name, config, lambda: experiment.measure(config, trainer))
  return tables, experiment.show(config, tables, output_dir / "figures")


def main(experiment: Experiment) -> None:
  """The binary of one experiment: `--preset`, `--output_dir`, `--sinks`, and a flag for every field of the config."""
  devices.use_all_cores()
  compilation_cache.enable()
  name = experiment.name
  preset = flags.DEFINE_enum("preset", next(iter(experiment.presets)), list(experiment.presets), "Sizes to start from.")
  output_dir = flags.DEFINE_string("output_dir", f"results/{name}", "Where results, figures and checkpoints go.")
  enable_sinks, changed = binary.sinks_flag(), command_line.flags(experiment.default)

  def work() -> None:
    config = changed(experiment.at(preset.value))
    enable_sinks()
    devices.initialize_distributed()
    with binary.holding(Path(output_dir.value)):
      _, text = run(experiment, config, Path(output_dir.value))
    print(f"{text}\n\nwritten to {output_dir.value}")

  command_line.run_main(work)
