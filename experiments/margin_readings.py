"""What may a "margin" be (arXiv 2512.12895)? Three readings of it, on the task where nothing is hard to learn.

`visited`: the teacher's walks prefer children not yet visited. `goal`: they prefer the goal's child, so that the
teacher itself is another one, which knows the way. `loss`: the walks stay uniform, and the loss asks for the margin
(`remedies.margin_loss`), more of it with more weight. The published points stand beside both teachers that they may
mean. Errors are always measured against the teacher whose walks a student learnt: under `loss` the wanted preference
counts as an error, and under `goal` persistence is no failure, since the teacher repeats the goal's child as well.

  python -m experiments.margin_readings --output_dir=/tmp/margin_readings
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from experiments import exact, published
from experiments.experiment import Experiment, Tables, main
from loopjax import plotting, statistics
from loopjax.analysis import repetition
from loopjax.analysis.repetition import ROLLOUTS
from loopjax.analysis.visits import check_errors_defined
from loopjax.models.transformer import Transformer
from loopjax.remedies.margin_loss import MarginLoss
from loopjax.runtime import seeds
from loopjax.runtime.config import check_fields, require, require_temperatures
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import row_length
from loopjax.star_graph.sharing import Obtain, Request
from loopjax.training.step import Training

NAME = "margin_readings"
MEASURES = ("persistence", "correlation", "reached", "broken", "cut", "returns", "response_length")
NONE, VISITED, GOAL, LOSS = "none", "visited", "goal", "loss"


@dataclasses.dataclass(frozen=True)
class MarginReadings:
  """Settings of the experiment; by default those of `standard`.

  Attributes:
    task: without any margin; it has students of its own, the first condition.
    visited_margins: of the teacher, against children already visited; a condition each.
    goal_margins: of the teacher, towards the goal's child; a condition each.
    loss_margin: of the loss, in nats. The default is about what visited_margin = 0.1 is to five children.
    loss_weights: of the loss margin beside the cross entropy; a condition each.
    model: the students' architecture.
    training: how they are trained.
    temperatures: of the rollouts.
    num_seeds: students per condition.
    first_seed: their first seed; a block of seeds has the rows that it has in a larger run.
    num_graphs: graphs that each student walks.
    walks_per_graph: rollouts of each graph at each temperature, and teacher walks on it.
  """

  task: StarGraph = StarGraph(num_chains=5, chain_length=3, max_steps=64, reset_prob=0.0, explore_prob=1.0)
  visited_margins: tuple[float, ...] = (0.05, 0.1)
  goal_margins: tuple[float, ...] = (0.05, 0.1)
  loss_margin: float = 0.5
  loss_weights: tuple[float, ...] = (0.003, 0.03, 0.3)
  model: Transformer = Transformer(num_layers=2, num_heads=4, width=64)
  training: Training = Training(num_steps=2_000, rows_per_step=16, learning_rate=3e-3)
  temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
  num_seeds: int = 4
  first_seed: int = 0
  num_graphs: int = 128
  walks_per_graph: int = 4

  def __post_init__(self) -> None:
    check_fields(self)
    for name in ("visited_margins", "goal_margins", "loss_weights"):
      values = getattr(self, name)
      require(min(values, default=0) > 0, name, values, "one or more above 0")
    for name in ("visited_margin", "goal_margin"):
      require(getattr(self.task, name) == 0, f"task.{name}", getattr(self.task, name), f"0: set {name}s")
    require(self.loss_margin > 0, "loss_margin", self.loss_margin, "above 0")
    require_temperatures(self.temperatures)
    seeds.block(self.first_seed, self.num_seeds)
    for name, least in (("num_seeds", 1), ("num_graphs", 2), ("walks_per_graph", 2)):
      require(getattr(self, name) >= least, name, getattr(self, name), f"at least {least}")
    row_length(self.task, self.training)
    for condition in self.conditions():
      check_errors_defined(condition.task)

  def conditions(self) -> list[Condition]:
    """All of them differ in traced numbers alone."""
    replace = dataclasses.replace
    return [
      Condition(NONE, 0.0, self.task),
      *(Condition(VISITED, m, replace(self.task, visited_margin=m)) for m in self.visited_margins),
      *(Condition(GOAL, m, replace(self.task, goal_margin=m)) for m in self.goal_margins),
      *(Condition(LOSS, weight, self.task) for weight in self.loss_weights),
    ]


class Condition(NamedTuple):
  """One reading at one strength: the margin, or the weight of the loss margin."""

  reading: str
  strength: float
  task: StarGraph

  @property
  def name(self) -> str:
    if self.reading == NONE:
      return "no margin"
    return f"loss, weight {self.strength:g}" if self.reading == LOSS else f"{self.reading} {self.strength:g}"

  @property
  def loss_weight(self) -> float:
    return self.strength if self.reading == LOSS else 0.0


def measure(config: MarginReadings, obtain: Obtain) -> dict[str, pd.DataFrame]:
  """The tables: `margin_readings`, a row per condition, seed and group of walks (rollouts at a temperature, or the
  teacher's walks); and the history of training."""
  conditions = config.conditions()
  numbers = seeds.block(config.first_seed, config.num_seeds)
  labels: dict[str, list[Any]] = {
    "condition": [x.name for x in conditions], "reading": [x.reading for x in conditions],
    "strength": [x.strength for x in conditions],
  }  # fmt: skip
  objectives = [MarginLoss(condition.loss_weight, config.loss_margin) for condition in conditions]
  tasks = [condition.task for condition in conditions]
  group = obtain(Request(NAME, tasks, config.model, config.training, numbers, labels, objectives))
  summary = repetition.evaluate_repetition(
    group, temperatures=config.temperatures, num_graphs=config.num_graphs,
    walks_per_graph=config.walks_per_graph, num_lags=1, seed=0,
  ).summary  # fmt: skip
  return {NAME: group.label(summary), f"{NAME}_history": group.label(group.history)}


def _columns(config: MarginReadings) -> dict[str, list[str]]:
  """The figure's columns: title -> conditions, each beside students without a margin."""
  titles = {
    VISITED: "against visited children", GOAL: "towards the goal", LOSS: f"{config.loss_margin:g} nats in the loss"
  }  # fmt: skip
  none, *others = config.conditions()
  return {
    f"Margin {title}": [none.name, *(other.name for other in others if other.reading == reading)]
    for reading, title in titles.items()
  }


def _published(config: MarginReadings) -> pd.DataFrame:
  """The paper's points, beside both teachers that they may mean; none but for five children."""
  points = published.margin()
  shown = []
  for condition in config.conditions():
    if condition.reading != LOSS and config.task.num_chains == 5:
      rows = points[points["margin"] == condition.strength]
      is_said = (condition.reading == NONE) & (rows["temperature"] == 0)
      persistence = np.where(is_said, published.PERSISTENCE, np.nan)
      is_same = config.task.max_steps == published.CUT
      shown.append(rows.assign(condition=condition.name, persistence=persistence, same_cut=is_same))
  return pd.concat([points.head(0).assign(condition="", persistence=np.nan), *shown], ignore_index=True)


def _save_figure(config: MarginReadings, frame: pd.DataFrame, folder: Path) -> None:
  rollouts = frame[frame["walks"] == ROLLOUTS]
  tasks = {condition.name: condition.task for condition in config.conditions()}
  theory = exact.teacher_rows(tasks, config.temperatures, persistence=True)
  figure = plotting.temperature_grid(rollouts, MEASURES, _columns(config), theory=theory, published=_published(config))
  plotting.save(figure, folder / NAME)


def table(frame: pd.DataFrame) -> str:
  """Mean and 95% interval over seeds, a row per condition and group of walks."""
  columns = ["persistence", "chance", "correlation", "other_walks_correlation", *MEASURES[2:]]
  return statistics.describe_groups(frame, ["condition", "walks", "temperature"], columns).to_string()


def show(config: MarginReadings, tables: Tables, figures: Path) -> str:
  """The figure and the table."""
  _save_figure(config, tables[NAME], figures)
  return table(tables[NAME])


PRESETS = {
  "quick": MarginReadings(
    task=StarGraph(num_chains=4, chain_length=2, max_steps=24, reset_prob=0.0, explore_prob=1.0),
    visited_margins=(0.1,),
    goal_margins=(0.1,),
    loss_weights=(0.3,),
    model=Transformer(num_layers=2, width=64),
    training=Training(num_steps=800, rows_per_step=16, learning_rate=3e-3),
    temperatures=(0.0, 0.5, 1.0),
    num_graphs=64,
    walks_per_graph=2,
  ),  # fmt: skip
  "standard": MarginReadings(),
}

EXPERIMENT = Experiment(NAME, __doc__, PRESETS, measure, show)

if __name__ == "__main__":
  main(EXPERIMENT)
