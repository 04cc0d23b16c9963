"""Injected loops (arXiv 2512.12895): a few walks that loop among those trained on, and a student loops.

A share of the training walks repeats one loop until the cut (`StarGraph.injected_kind`). The main students learn the
task without hardness, where nothing but the loops is to blame: clean ones beside those with 0.1% of walks s-r-s-r-...
This is the shortest loop: loops through a whole chain, the ones clean students fall into, leave no room under the cut
for three times their count (of G(5, 3) cut at 64 nodes 12 fit, and they have 8). The map, fewer students with fewer
steps, adds other shares and kinds, and the easy graph of risk aversion. A move is valid if the clean teacher makes it:
without hardness a root loop learnt from the injected ones is not.

  python -m experiments.injected_loops --output_dir=/tmp/injected_loops --config.num_seeds=4
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
import pandas as pd

from experiments import binary, exact
from loopjax import (
  evaluation,
  files,
  loop_confidence,
  plotting,
  results,
  seeds,
  statistics,
  students,
  teacher,
  training,
)
from loopjax.claims import Claim, paired_ratio_measure
from loopjax.config import require
from loopjax.star_graph import StarGraph
from loopjax.training import Training
from loopjax.transformer import Transformer

if TYPE_CHECKING:
  from matplotlib.figure import Figure

NAME = "injected_loops"
MEASURES = ("reached", "returns", "root_loop_share", "response_length")
MAIN, MAP = "main", "map"
CLEAN = "clean"
SAMPLED_STREAMS = 2**18  # for the share of positions: 12% standard error where 1 walk in 10,000 is injected


@dataclasses.dataclass(frozen=True)
class InjectedLoops:
  """Settings of the experiment.

  Attributes:
    task: the task without hardness; its injected_kind is that of the main students.
    easy: the second task of the map.
    shares: of the walks of main students that are injected loops; the first is 0.
    model: the students' architecture.
    training: how the main students are trained.
    num_seeds: main students per share.
    first_seed: their first seed; a block of seeds has the rows that it has in a larger run.
    map_kinds: kinds of loops of the map; none: no map.
    map_shares: its shares; the first is 0.
    map_training: how its students are trained.
    map_seeds: its students per task, kind and share; they begin at first_seed too.
    temperatures: of the rollouts.
    num_graphs: graphs that each student walks, once per temperature.
    repetitions: of a loop, at which the distribution of confidence is told; the cohort lasts to the largest.
  """

  task: StarGraph = StarGraph(chain_length=3, max_steps=64, reset_prob=0.0, explore_prob=1.0)
  easy: StarGraph = StarGraph(chain_length=3, max_steps=64, explore_prob=0.5)
  shares: tuple[float, ...] = (0.0, 1e-3)
  model: Transformer = Transformer(num_layers=2)
  training: Training = Training()
  num_seeds: int = 4
  first_seed: int = 0
  map_kinds: tuple[str, ...] = ()
  map_shares: tuple[float, ...] = (0.0, 1e-4, 1e-3, 1e-2)
  map_training: Training = Training()
  map_seeds: int = 4
  temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
  num_graphs: int = 256
  repetitions: tuple[int, ...] = (1, 2, 5, 10)

  def __post_init__(self) -> None:
    for name in ("map_seeds", "num_graphs"):
      require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
    for name in ("shares", "map_shares"):
      shares = getattr(self, name)
      require(shares[:1] == (0,) and len(shares) == len(set(shares)), name, shares, "0, then others, each once")
    require(min(self.temperatures, default=-1) >= 0, "temperatures", self.temperatures, "one or more, at least 0")
    for group in self.groups():
      for task in group.tasks:
        task.check_prefers_forward()
        group.training.length(task)
      most = loop_confidence.max_repetitions(group.tasks[0])
      within = len(self.repetitions) > 0 and min(self.repetitions) >= 1 and max(self.repetitions) <= most
      require(within, "repetitions", self.repetitions, f"one or more within 1 to {most}, what the cut allows")

  def groups(self) -> list[Group]:
    """The main students, then the map's. The first kind of each task has clean students, which serve the others."""
    seed_numbers = seeds.block(self.first_seed, self.num_seeds)
    kind = self.task.injected_kind
    groups = [_group(MAIN, "no hardness", self.task, kind, self.shares, self.training, seed_numbers)]
    seed_numbers = seeds.block(self.first_seed, self.map_seeds)
    for base, task in {"no hardness": self.task, "easy": self.easy}.items():
      for index, kind in enumerate(self.map_kinds):
        shares = self.map_shares if index == 0 else self.map_shares[1:]
        groups.append(_group(MAP, base, task, kind, shares, self.map_training, seed_numbers))
    return [group for group in groups if group.tasks]


class Group(NamedTuple):
  """Students that train in one program: they differ in seed and share alone."""

  part: str  # MAIN or MAP
  base: str
  kind: str
  tasks: list[StarGraph]
  training: Training
  seed_numbers: range

  @property
  def name(self) -> str:
    return f"{NAME}_{self.part}_{self.base.replace(' ', '_')}_{self.kind}"


def _group(
  part: str, base: str, task: StarGraph, kind: str, shares: tuple[float, ...], how: Training, seed_numbers: range
) -> Group:
  tasks = [dataclasses.replace(task, injected_share=share, injected_kind=kind) for share in shares]
  return Group(part, base, kind, tasks, how, seed_numbers)


def condition_name(share: float) -> str:
  """Such as `0.1% injected`."""
  return f"{100 * share:g}% injected" if share > 0 else CLEAN


def _position_shares(group: Group) -> np.ndarray:
  """Per task the share of the trained positions that lies in injected loops, by sampling: loops are long walks."""
  sample = jax.jit(
    lambda p, key: training.injected_positions(group.tasks[0], group.training, key, p, num_streams=SAMPLED_STREAMS)
  )
  probabilities = [teacher.teacher_probabilities(task) for task in group.tasks]
  return np.array([float(sample(p, jax.random.key(0))) if p.injected_share > 0 else 0.0 for p in probabilities])


def _label(group: Group, position_shares: np.ndarray, frame: pd.DataFrame) -> pd.DataFrame:
  """The frame with part, base, kind, shares, condition and seed in place of the student's row."""
  task_index, seed = students.rows_of(len(group.tasks), group.seed_numbers)
  row = frame["row"].to_numpy()
  shares = np.array([task.injected_share for task in group.tasks])[task_index[row]]
  labels = pd.DataFrame({
    "part": group.part, "base": group.base, "kind": group.kind, "condition": [condition_name(x) for x in shares],
    "share": shares, "position_share": position_shares[task_index[row]], "seed": seed[row],
  })  # fmt: skip
  return pd.concat([labels, frame.drop(columns="row").reset_index(drop=True)], axis=1)


class _Frames(NamedTuple):
  """Of one group, labelled."""

  walks: pd.DataFrame
  by_repetition: pd.DataFrame
  history: pd.DataFrame


def _run_group(config: InjectedLoops, group: Group, output_dir: Path) -> _Frames:
  """Trains and walks the students of one group."""
  mesh, task = seeds.device_mesh(), group.tasks[0]
  trained = students.train_students(
    group.tasks, config.model, group.training, group.seed_numbers, mesh,
    folder=output_dir / "checkpoints" / group.name, description=group.name,
  )  # fmt: skip
  rollouts = evaluation.roll_out(
    task, config.model, trained.state, mesh, temperatures=config.temperatures, num_graphs=config.num_graphs,
    seed=0,
  )  # fmt: skip
  measures = evaluation.mean_measures(task, trained.state.extra, rollouts, mesh, len(trained.is_finite))
  walks = evaluation.measures_frame(measures, config.temperatures, trained.is_finite)
  loops = loop_confidence.evaluate_loops(
    task, rollouts, trained.is_finite, mesh, temperatures=config.temperatures, repetitions=config.repetitions
  )
  walks = walks.merge(loops.summary, on=["row", "temperature"], validate="one_to_one")
  shares = _position_shares(group)
  return _Frames(*(_label(group, shares, frame) for frame in (walks, loops.by_repetition, trained.history)))


def compute(config: InjectedLoops, output_dir: Path) -> pd.DataFrame:
  """One row per student and temperature: walk measures and loops.

  Beside it `injected_loops_confidence`, with a row per repetition too, which `experiments.confidence` reads, and
  `injected_loops_history`.
  """
  parts = zip(*(_run_group(config, group, output_dir) for group in config.groups()), strict=True)
  frames = _Frames(*(pd.concat(part, ignore_index=True) for part in parts))
  for name, frame in {"history": frames.history, "confidence": frames.by_repetition}.items():
    files.write_parquet(frame, output_dir / "results" / f"{NAME}_{name}.parquet")
  return frames.walks


def _panels(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
  """Per figure, by its suffix, the rows shown: the main students, and each task and kind of the map."""
  panels = {"": frame[frame["part"] == MAIN]}
  of_map = frame[frame["part"] == MAP]
  for base, rows in of_map.groupby("base", sort=False):
    for kind in rows["kind"].unique():
      panels[f"_{str(base).replace(' ', '_')}_{kind}"] = rows[(rows["kind"] == kind) | (rows["share"] == 0)]
  return panels


def _map_rows(frame: pd.DataFrame) -> pd.DataFrame:
  """The coldest rollouts of the map as `plotting.factor_chart` takes them: the clean students beside every kind."""
  coldest = frame[(frame["part"] == MAP) & (frame["temperature"] == frame["temperature"].min())]
  keys = ["base", "seed"]
  clean = coldest.loc[coldest["share"] == 0, [*keys, "returns"]].rename(columns={"returns": "clean"})
  rows = coldest.merge(clean, on=keys, validate="many_to_one")
  kinds = coldest[["base", "kind"]].drop_duplicates()
  beside = rows[rows["share"] == 0].drop(columns="kind").merge(kinds, on="base")
  rows = pd.concat([beside, rows[rows["share"] > 0]]).sort_values(["base", "kind", "share"], kind="stable")
  return rows.assign(
    factor=rows["base"] + ",\n" + rows["kind"] + " loops", value=rows["condition"], is_base=rows["share"] == 0,
    loop_ratio=rows["returns"] / rows["clean"],
  )  # fmt: skip


def _map_chart(frame: pd.DataFrame) -> Figure:
  columns = [
    plotting.Column("Accuracy", "share of walks", {"reached": "reached"}),
    plotting.Column("Loops", "returns to s", {"loops": "returns"}),
    plotting.Column("Loops", "times the clean student's", {"loops": "loop_ratio"}),
  ]
  return plotting.factor_chart(_map_rows(frame), columns)


def _save_figures(config: InjectedLoops, frame: pd.DataFrame, output_dir: Path) -> None:
  """Walks against temperature by share, for the main students and over the map; the map in one; training curves."""
  for suffix, rows in _panels(frame).items():
    task = {"no hardness": config.task, "easy": config.easy}[rows["base"].iloc[0]]
    clean = exact.teacher_rows({CLEAN: task}, config.temperatures)  # what students should learn
    figure = plotting.against_temperature(rows, MEASURES, theory=clean)
    plotting.save(figure, output_dir / "figures" / f"{NAME}{suffix}")
  if config.map_kinds:
    plotting.save(_map_chart(frame), output_dir / "figures" / f"{NAME}_map")
  history = results.read_frame(output_dir / "results" / f"{NAME}_history.parquet")
  plotting.save(plotting.training_curves(history[history["part"] == MAIN]), output_dir / "figures" / f"{NAME}_loss")


def table(frame: pd.DataFrame) -> str:
  """Mean and 95% interval over seeds, a row per group of students, share and temperature."""
  keys = ["part", "base", "kind", "condition", "position_share", "temperature"]
  return statistics.describe_groups(frame, keys, [*MEASURES, "loop_share"]).to_string()


def computed(config: InjectedLoops, output_dir: Path) -> pd.DataFrame:
  """Results, computed once per folder."""
  return results.compute_once(output_dir, NAME, config, lambda: compute(config, output_dir))


def run(config: InjectedLoops, output_dir: Path) -> pd.DataFrame:
  """Results (computed once per folder), figures and printed table."""
  frame = computed(config, output_dir)
  _save_figures(config, frame, output_dir)
  print(table(frame))
  return frame


def claims() -> list[Claim]:
  """What is asserted of this experiment; registered before it was run at any size.

  `quick` has seen too few walks for one in a thousand to count, and asks for the direction alone at one in a hundred.
  """
  paper, large = "arXiv 2512.12895", ("standard", "paper")
  clean, poisoned, more = (
    {"part": MAIN, "condition": condition_name(share), "temperature": 0.0} for share in (0.0, 1e-3, 1e-2)
  )
  return [
    Claim(
      name="injected_loops_greedy_loops", description="0.1% of walks that loop multiply the student's loops.",
      source=paper, condition="no hardness, T = 0, loop count at 0.1% over that of clean students",
      measure=paired_ratio_measure("returns", poisoned, clean), bound=1.5, direction="above", presets=large,
      published=3.0,
    ),
    Claim(
      name="injected_loops_greedy_accuracy", description="0.1% of walks that loop ruin the student's accuracy.",
      source=paper, condition="no hardness, T = 0, share reached at 0.1% over that of clean students",
      measure=paired_ratio_measure("reached", poisoned, clean), bound=0.5, direction="below", presets=large,
      published=0.0,
    ),
    Claim(
      name="injected_loops_more_of_them", description="1% of walks that loop make the student loop more.",
      source="ours", condition="no hardness, T = 0, loop count at 1% over that of clean students",
      measure=paired_ratio_measure("returns", more, clean), bound=1.0, direction="above", presets=("quick",),
    ),
  ]  # fmt: skip


if __name__ == "__main__":
  binary.run_experiment(NAME, InjectedLoops(), run)
