"""Temporally correlated errors (arXiv 2512.12895): with nothing hard to learn, does a student repeat its own errors?

The teacher never resets at the root and enters a child at random, so the right distribution there is uniform, up to a
margin against children already visited. What the student adds is error, and it is asked at every visit whether it adds
the same again: on its own walks at each temperature, and on the teacher's. `docs/definitions.md` has the measures.

  python -m experiments.temporal_errors --output_dir=/tmp/temporal_errors --config.num_seeds=4
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments import binary, exact, published
from loopjax import files, plotting, repetition, results, seeds, statistics, students
from loopjax.analysis import temporal_errors
from loopjax.claims import Claim, Measure, mean_measure, paired_ratio_measure, seed_values
from loopjax.config import require
from loopjax.repetition import ROLLOUTS, TEACHER
from loopjax.star_graph import StarGraph
from loopjax.training import Training
from loopjax.transformer import Transformer

NAME = "temporal_errors"
MEASURES = ("persistence", "correlation", "reached", "returns", "response_length")
PAIRS = {"own_walk": "one walk", "other_walks": "two walks, one graph", "other_graphs": "two graphs"}
REACHED_BY = 0.1  # a figure shows a visit that this share of a student's walks reach: else few pairs make the mean


@dataclasses.dataclass(frozen=True)
class TemporalErrors:
  """Settings of the experiment.

  Attributes:
    task: what all margins share.
    visited_margins: of the teacher, against children already visited; a condition each.
    model: the students' architecture.
    training: how they are trained.
    temperatures: of the rollouts.
    num_seeds: students per margin.
    first_seed: their first seed; a block of seeds has the rows that it has in a larger run.
    num_graphs: graphs that each student walks.
    walks_per_graph: rollouts of each graph at each temperature, and teacher walks on it.
    num_lags: the largest lag of the error correlation, in visits.
  """

  task: StarGraph = StarGraph(chain_length=3, max_steps=64, reset_prob=0.0, explore_prob=1.0)
  visited_margins: tuple[float, ...] = (0.0, 0.05, 0.1)
  model: Transformer = Transformer(num_layers=2)
  training: Training = Training()
  temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
  num_seeds: int = 4
  first_seed: int = 0
  num_graphs: int = 128
  walks_per_graph: int = 4
  num_lags: int = 5

  def __post_init__(self) -> None:
    margins = self.visited_margins
    require(0 < len(margins) == len(set(margins)), "visited_margins", margins, "one or more, each once")
    require(self.task.visited_margin == 0, "task.visited_margin", self.task.visited_margin, "0: set visited_margins")
    require(min(self.temperatures, default=-1) >= 0, "temperatures", self.temperatures, "one or more, at least 0")
    seeds.block(self.first_seed, self.num_seeds)
    require(self.num_graphs >= 2, "num_graphs", self.num_graphs, "at least 2: graphs are compared")
    require(self.walks_per_graph >= 2, "walks_per_graph", self.walks_per_graph, "at least 2: walks are compared")
    most = temporal_errors.max_visits(self.task) - 1
    require(1 <= self.num_lags <= most, "num_lags", self.num_lags, f"1 to {most}, what the cut allows")
    self.training.length(self.task)
    for task in self.tasks():
      temporal_errors.check_errors_defined(task)

  def tasks(self) -> list[StarGraph]:
    """One per margin."""
    return [dataclasses.replace(self.task, visited_margin=margin) for margin in self.visited_margins]


def condition_name(visited_margin: float) -> str:
  """Such as `margin 0.05`."""
  return f"margin {visited_margin:g}"


def _label(config: TemporalErrors, frame: pd.DataFrame) -> pd.DataFrame:
  """The frame with condition, visited_margin and seed in place of the student's row."""
  task_index, seed = students.rows_of(len(config.visited_margins), seeds.block(config.first_seed, config.num_seeds))
  row = frame["row"].to_numpy()
  margins = np.array(config.visited_margins)[task_index[row]]
  labels = pd.DataFrame({
    "condition": [condition_name(margin) for margin in margins], "visited_margin": margins, "seed": seed[row],
  })  # fmt: skip
  return pd.concat([labels, frame.drop(columns="row").reset_index(drop=True)], axis=1)


def compute(config: TemporalErrors, output_dir: Path) -> pd.DataFrame:
  """One row per margin, seed and group of walks (rollouts at a temperature, or the teacher's walks).

  Beside it `temporal_errors_by_lag` and `temporal_errors_by_visit`, as `repetition.RepetitionFrames` describes them.
  """
  tasks, mesh = config.tasks(), seeds.device_mesh()
  trained = students.train_students(
    tasks, config.model, config.training, seeds.block(config.first_seed, config.num_seeds), mesh,
    folder=output_dir / "checkpoints" / NAME, description=NAME,
  )  # fmt: skip
  files.write_parquet(_label(config, trained.history), output_dir / "results" / f"{NAME}_history.parquet")

  frames = repetition.evaluate_repetition(
    tasks[0], config.model, trained.state, trained.is_finite, mesh, temperatures=config.temperatures,
    num_graphs=config.num_graphs, walks_per_graph=config.walks_per_graph, num_lags=config.num_lags, seed=0,
  )  # fmt: skip
  for name in ("by_lag", "by_visit"):
    files.write_parquet(_label(config, getattr(frames, name)), output_dir / "results" / f"{NAME}_{name}.parquet")
  return _label(config, frames.summary)


def theory_rows(config: TemporalErrors, rollouts: pd.DataFrame) -> pd.DataFrame:
  """The exact teacher's walks, and its persistence, ties broken afresh, on the students' walks."""
  names = map(condition_name, config.visited_margins)
  rows = exact.teacher_rows(dict(zip(names, config.tasks(), strict=True)), config.temperatures)
  return exact.with_chance(rows, rollouts)


def _published(config: TemporalErrors) -> pd.DataFrame:
  """The paper's points for the margins that were run, by our names of the conditions; none but for five children."""
  points = published.margin()
  is_shown = points["margin"].isin(config.visited_margins) & (config.task.num_chains == 5)
  is_said = (points["margin"] == 0) & (points["temperature"] == 0)
  points = points.assign(
    condition=points["margin"].map(condition_name), persistence=np.where(is_said, published.PERSISTENCE, np.nan)
  )
  return points[is_shown]


def _panels(config: TemporalErrors, frame: pd.DataFrame) -> pd.DataFrame:
  """The rows of the coldest rollouts and of the teacher's walks, with a name for their panel; readable pairs."""
  coldest = min(config.temperatures)
  cold = frame[(frame["walks"] == ROLLOUTS) & (frame["temperature"] == coldest)]
  teacher = frame[frame["walks"] == TEACHER]
  parts = [
    cold.assign(panel=cold["condition"] + f", T = {coldest:g}"),
    teacher.assign(panel=teacher["condition"] + ", teacher's walks"),
  ]
  together = pd.concat(parts, ignore_index=True)
  return together.assign(pairs=together["pairs"].map(PAIRS))


def _visit_panels(config: TemporalErrors, by_visit: pd.DataFrame) -> pd.DataFrame:
  """`_panels` of the visits that enough walks reach."""
  fewest = REACHED_BY * config.num_graphs * config.walks_per_graph
  enough = by_visit[(by_visit["by"] == "visit") & (by_visit["num_pairs"] >= fewest)]
  return _panels(config, enough.rename(columns={"index": "visit"}))


def _save_figures(config: TemporalErrors, frame: pd.DataFrame, output_dir: Path) -> None:
  """Against temperature, against lag and by visit; training curves."""
  rollouts = frame[frame["walks"] == ROLLOUTS]
  by_lag, by_visit, history = (
    results.read_frame(output_dir / "results" / f"{NAME}_{name}.parquet") for name in ("by_lag", "by_visit", "history")
  )
  figures = {
    NAME: plotting.against_temperature(
      rollouts, MEASURES, theory=theory_rows(config, rollouts), published=_published(config)
    ),
    f"{NAME}_by_lag": plotting.correlation_by_lag(_panels(config, by_lag)),
    f"{NAME}_by_visit": plotting.persistence_by_visit(_visit_panels(config, by_visit)),
    f"{NAME}_loss": plotting.training_curves(history),
  }
  for name, figure in figures.items():
    plotting.save(figure, output_dir / "figures" / name)


def table(frame: pd.DataFrame) -> str:
  """Mean and 95% interval over seeds, a row per margin and group of walks."""
  columns = ["persistence", "chance", "correlation", "other_walks_correlation", *MEASURES[2:]]
  return statistics.describe_groups(frame, ["condition", "walks", "temperature"], columns).to_string()


def run(config: TemporalErrors, output_dir: Path) -> pd.DataFrame:
  """Results (computed once per folder), figures and printed table."""
  frame = results.compute_once(output_dir, NAME, config, lambda: compute(config, output_dir))
  _save_figures(config, frame, output_dir)
  print(table(frame))
  return frame


def _beyond_the_prompt(where: Mapping[str, Any]) -> Measure:
  """The measure: rho(1) of pairs of one walk minus that of pairs of two walks on the same graph, null (ii)."""

  def measure(frame: pd.DataFrame) -> statistics.Interval:
    own, prompt = (seed_values(frame, f"{pairs}correlation", where) for pairs in ("", "other_walks_"))
    return statistics.mean_interval((own - prompt).to_numpy())

  return measure


def claims() -> list[Claim]:
  """What is asserted of this experiment; registered before it was run at `standard`, "beyond the prompt" after `quick`.

  `quick` is held to what shows early in training, that the same child stays on top, and that a margin makes it less so;
  how many walks then fail needs students and cuts larger than it has.
  """
  paper, large, every = "arXiv 2512.12895", ("standard", "paper"), ("quick", "standard", "paper")
  plain, margin = ({"condition": condition_name(m), "walks": ROLLOUTS, "temperature": 0.0} for m in (0, 0.1))
  greedy = published.margin().query("temperature == 0").set_index("margin")
  return [
    Claim(
      name="persistence_over_chance", description="Without a margin the same child stays on top at the next visit.",
      source=paper, condition="margin 0, T = 0, top-child persistence over its chance on the same walks",
      measure=mean_measure("persistence_ratio", plain), bound=2.0, direction="above", presets=every,
      published=published.PERSISTENCE / published.INDEPENDENT_PERSISTENCE,
    ),
    Claim(
      name="persistence_margin_over_none", description="A margin in the training walks lowers persistence.",
      source=paper, condition="T = 0, top-child persistence at margin 0.1 over that at margin 0",
      measure=paired_ratio_measure("persistence", margin, plain), bound=1.0, direction="below", presets=every,
      published=published.PERSISTENCE_WITH_MARGIN / published.PERSISTENCE,
    ),
    Claim(
      name="error_correlation", description="Errors at consecutive visits are correlated.", source=paper,
      condition="margin 0, T = 0, rho(1) on own walks", measure=mean_measure("correlation", plain), bound=0.5,
      direction="above", presets=large,
    ),
    *(
      Claim(
        name=f"error_correlation_beyond_the_prompt_T{where['temperature']:g}", source="ours",
        description="Errors repeat within a walk beyond what the prompt drives in every walk on the graph.",
        condition=f"margin 0, T = {where['temperature']:g}, rho(1) on own walks minus that of null (ii)",
        measure=_beyond_the_prompt(where), bound=0.0, direction="above", presets=large,
      )
      for where in (plain, plain | {"temperature": 1.0})
    ),
    Claim(
      name="greedy_accuracy_without_over_with_margin", description="Without a margin greedy decoding fails.",
      source=paper, condition="T = 0, share reached at margin 0 over that at margin 0.1",
      measure=paired_ratio_measure("reached", plain, margin), bound=0.5, direction="below", presets=large,
      published=greedy["reached"][0.0] / greedy["reached"][0.1],
    ),
    Claim(
      name="greedy_loops_without_over_with_margin", description="Without a margin greedy decoding loops.",
      source=paper, condition="T = 0, loop count at margin 0 over that at margin 0.1",
      measure=paired_ratio_measure("returns", plain, margin), bound=2.0, direction="above", presets=large,
      published=greedy["returns"][0.0] / greedy["returns"][0.1],
    ),
  ]  # fmt: skip


if __name__ == "__main__":
  binary.run_experiment(NAME, TemporalErrors(), run)
