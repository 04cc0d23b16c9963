"""The settings of `experiments.temporal_errors`, and what its conditions are called."""

from __future__ import annotations

import dataclasses

from loopjax.analysis.visits import check_errors_defined, max_visits
from loopjax.models.transformer import Transformer
from loopjax.runtime import seeds
from loopjax.runtime.config import check_fields, require, require_conditions, require_temperatures
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import row_length
from loopjax.training.step import Training

NAME = "temporal_errors"


@dataclasses.dataclass(frozen=True)
class TemporalErrors:
  """Settings of the experiment.

  Attributes:
    task: what all margins share.
    visited_margins: of the teacher, against children already visited; a condition each.
    drawings: of the fixed graph; seeds go round them. Empty where every prompt has a graph of its own.
    model: the students' architecture.
    training: how they are trained.
    temperatures: of the rollouts.
    num_seeds: students per margin, and per drawing.
    first_seed: their first seed; a block of seeds has the rows that it has in a larger run.
    num_graphs: graphs that each student walks.
    walks_per_graph: rollouts of each graph at each temperature, and teacher walks on it.
    num_lags: the largest lag of the error correlation, in visits.
  """

  task: StarGraph = StarGraph(chain_length=3, max_steps=64, reset_prob=0.0, explore_prob=1.0)
  visited_margins: tuple[float, ...] = (0.0, 0.05, 0.1)
  drawings: tuple[int, ...] = ()
  model: Transformer = Transformer(num_layers=2)
  training: Training = Training()
  temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
  num_seeds: int = 6
  first_seed: int = 0
  num_graphs: int = 128
  walks_per_graph: int = 4
  num_lags: int = 5

  def __post_init__(self) -> None:
    check_fields(self)
    margins = self.visited_margins
    require_conditions("visited_margins", margins)
    require(self.task.visited_margin == 0, "task.visited_margin", self.task.visited_margin, "0: set visited_margins")
    require_temperatures(self.temperatures)
    fixed = self.task.graph_fixed
    require(
      (len(self.drawings) > 0) == fixed, "drawings", self.drawings, f"given where task.graph_fixed={fixed} is set"
    )
    seeds.block(self.first_seed, self.num_seeds)
    require(self.num_graphs >= 2, "num_graphs", self.num_graphs, "at least 2: graphs are compared")
    require(self.walks_per_graph >= 2, "walks_per_graph", self.walks_per_graph, "at least 2: walks are compared")
    most = max_visits(self.task) - 1
    require(1 <= self.num_lags <= most, "num_lags", self.num_lags, f"1 to {most}, what the cut allows")
    row_length(self.task, self.training)
    for task in self.tasks():
      check_errors_defined(task)

  def tasks(self, drawing: int = 0) -> list[StarGraph]:
    """One per margin."""
    replace = dataclasses.replace
    return [replace(self.task, visited_margin=margin, graph_drawing=drawing) for margin in self.visited_margins]


def condition_name(visited_margin: float) -> str:
  """Such as `margin 0.05`."""
  return f"margin {visited_margin:g}"
