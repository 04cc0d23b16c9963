"""Runs all claims of a preset through worlds whose truth is known: how often does each claim hold there?

A world gives an experiment students in place of trained ones (`loopjax.null_worlds`), at the preset's graphs, cuts,
temperatures and numbers of seeds, many times over with other seeds. A claim that names a world among those in which it
must not hold may hold there by chance in 2.5% of the replications. A cell is wrong if a binomial test says that it
holds more often, with Holm's correction over all such cells. Fitness is not looked at: most worlds would not pass.

  python -m experiments.null_worlds --preset=quick --output=null_worlds.csv

What is finished is kept in the file: a run that was stopped goes on there.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tqdm
from absl import flags

from experiments import registry
from experiments.experiment import PRESETS, Experiment
from loopjax import claim_measures, claims, statistics
from loopjax.claims import Claim
from loopjax.runtime import command_line, compilation_cache, devices, files
from loopjax.runtime.config import require
from loopjax.star_graph.null_worlds import WORLDS, Pretender

MOST_HOLDS = 0.025  # of the replications, by chance
LEVEL = 0.05  # of the tests, over all cells together
SEEDS_AT_ONCE = {"laws": 600, "networks": 60}  # their walks, and a network's keys and values, fit into memory
WITHOUT_LOOPS = {"loop posterior, traced": "exact teacher", "loop posterior, untraced": "memoryless"}
COLUMNS = ["claim", "world", "must_not_hold", "replications", "share_holds", "is_wrong"]


def replicated(config: Any, first: int, count: int) -> Any:
  """The config with the seeds of `count` replications, those from number `first` on."""
  size = config.num_seeds
  return dataclasses.replace(config, first_seed=config.first_seed + first * size, num_seeds=count * size)


def replication_seeds(experiment: Experiment, config: Any, count: int) -> np.ndarray:
  """The seeds of each replication, [replications, S]: from every group of students its share."""
  groups = {tuple(request.seed_numbers) for request in experiment.requests(config)}
  largest = max(map(len, groups))  # fewer are those of conditions too small for a verdict
  return np.concatenate([np.reshape(group, (count, -1)) for group in sorted(groups) if len(group) == largest], axis=1)


def holds(claim: Claim, frame: pd.DataFrame, seed_numbers: np.ndarray) -> np.ndarray:
  """Whether the claim holds in each replication, bool, given the seeds of each; False where it has no value."""
  try:
    values = claim.measure(frame)
  except claim_measures.NotRun:
    return np.zeros(len(seed_numbers), bool)
  by_replication = values.reindex(seed_numbers.ravel()).to_numpy(float).reshape(seed_numbers.shape)
  interval = statistics.median_interval(by_replication, axis=1)
  return np.asarray(interval.low > claim.bound if claim.direction == "above" else interval.high < claim.bound)


def _chunks(config: Any, world: str, replications: int) -> list[tuple[int, int]]:
  """First replication and number of replications of each part that is run at once."""
  at_once = max(1, SEEDS_AT_ONCE["networks" if WORLDS[world] is None else "laws"] // config.num_seeds)
  return [(first, min(at_once, replications - first)) for first in range(0, replications, at_once)]


def run_cells(
  experiment: Experiment, registered: list[Claim], config: Any, world: str, replications: int, bar: tqdm.tqdm
) -> pd.DataFrame:
  """One experiment in one world: a row per claim."""
  obtain, held = Pretender(world, devices.device_mesh()), []
  for first, count in _chunks(config, world, replications):
    part = replicated(config, first, count)
    frame = experiment.rows(experiment.measure(part, obtain))
    numbers = replication_seeds(experiment, part, count)
    held.append([holds(claim, frame, numbers) for claim in registered])
    bar.update(count)
  shares = np.concatenate(held, axis=1).mean(axis=1)
  return _rows(registered, world, replications, shares)


def _rows(registered: list[Claim], world: str, replications: int, shares: np.ndarray) -> pd.DataFrame:
  return pd.DataFrame({
    "claim": [claim.name for claim in registered], "world": world,
    "must_not_hold": [world in claim.must_not_hold for claim in registered], "replications": replications,
    "share_holds": shares,
  })  # fmt: skip


def _same_law(cells: pd.DataFrame, registered: list[Claim], experiment: Experiment, config: Any, world: str) -> Any:
  """The shares of another world whose students are the same here, since nothing is injected; None: there is none."""
  other = WITHOUT_LOOPS.get(world)
  is_clean = all(task.injected_share == 0 for request in experiment.requests(config) for task in request.tasks)
  if other is None or not is_clean:
    return None
  known = cells[cells["world"] == other].set_index("claim")["share_holds"]
  return known.reindex([claim.name for claim in registered]).to_numpy()


def judge_cells(cells: pd.DataFrame) -> pd.DataFrame:
  """The cells with the column is_wrong: whether a claim holds too often where it must not."""
  from scipy import stats

  p_values = np.full(len(cells), np.nan)
  for i, cell in enumerate(cells.itertuples()):
    if cell.must_not_hold:
      times = round(cell.share_holds * cell.replications)
      p_values[i] = stats.binomtest(times, cell.replications, MOST_HOLDS, alternative="greater").pvalue
  return cells.assign(is_wrong=statistics.holm(p_values) < LEVEL)[COLUMNS]


def _finished(path: Path, about: dict[str, Any]) -> pd.DataFrame:
  """The cells that an earlier run of the same settings has left in the file."""
  beside = path.with_suffix(".json")
  if not path.exists():
    files.write_json(about, beside)
    return pd.DataFrame(columns=COLUMNS)
  found = files.read_json(beside) if beside.exists() else None
  require(found == about, str(path), found, f"a file that is not there, or one made with {about}")
  return pd.read_csv(path)


def run(preset: str, path: Path, replications: int, network_replications: int) -> pd.DataFrame:
  """All claims of a preset through all worlds; writes the table after every experiment and world, and returns it."""
  about = {"preset": preset, "replications": replications, "network_replications": network_replications}
  cells = _finished(path, about)
  todo = [(world, experiment) for experiment in registry.claiming(preset).values() for world in WORLDS]
  counts = {world: network_replications if law is None else replications for world, law in WORLDS.items()}
  with tqdm.tqdm(total=sum(counts[world] for world, _ in todo), unit=" replications") as bar:
    for world, experiment in todo:
      config = experiment.at(preset)
      registered = [claim for claim in experiment.claims(config) if preset in claim.presets]
      bar.set_postfix_str(f"{experiment.name}, {world}")
      if {(claim.name, world) for claim in registered} <= set(zip(cells["claim"], cells["world"], strict=True)):
        bar.update(counts[world])
        continue
      cells = cells[~((cells["world"] == world) & cells["claim"].isin([claim.name for claim in registered]))]
      shares = _same_law(cells, registered, experiment, config, world)
      if shares is None:
        found = run_cells(experiment, registered, config, world, counts[world], bar)
      else:
        found = _rows(registered, world, counts[world], shares)
        bar.update(counts[world])
      cells = judge_cells(pd.concat([cells[COLUMNS[:-1]], found], ignore_index=True) if len(cells) else found)
      claims.write_csv(cells, path)
  return cells


def table(cells: pd.DataFrame) -> str:
  """Worlds by claims: how often each claim holds; * where it must not, ** where it holds too often."""
  marks = np.where(cells["is_wrong"], "**", np.where(cells["must_not_hold"], "*", ""))
  shown = cells.assign(text=[f"{share:.3f}{mark}" for share, mark in zip(cells["share_holds"], marks, strict=True)])
  return shown.pivot(index="claim", columns="world", values="text")[list(WORLDS)].to_string()


def main() -> None:
  cells = run(_PRESET.value, Path(_OUTPUT.value), _REPLICATIONS.value, _NETWORK_REPLICATIONS.value)
  print("share of replications in which a claim holds (* where it must not, ** where it does so too often)")
  print(table(cells))
  wrong = int(cells["is_wrong"].sum())
  print(f"{wrong} of {int(cells['must_not_hold'].sum())} cells in which a claim must not hold are wrong")
  print(f"written to {_OUTPUT.value}")


if __name__ == "__main__":
  devices.use_all_cores()
  devices.expect_long_runs()
  compilation_cache.enable()
  _PRESET = flags.DEFINE_enum("preset", "quick", list(PRESETS), "Sizes of the experiments.")
  _OUTPUT = flags.DEFINE_string("output", "null_worlds.csv", "The CSV file.")
  _REPLICATIONS = flags.DEFINE_integer("replications", 2_000, "Of the worlds that are laws.", lower_bound=1)
  _NETWORK_REPLICATIONS = flags.DEFINE_integer("network_replications", 100, "Of untrained networks.", lower_bound=1)
  command_line.run_main(main)
