"""The settings of `experiments.risk_aversion`, and what its conditions are called."""

from __future__ import annotations

import dataclasses

from loopjax.models.transformer import Transformer
from loopjax.runtime import seeds
from loopjax.runtime.config import check_fields, require, require_temperatures
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import row_length
from loopjax.training.step import Training


@dataclasses.dataclass(frozen=True)
class RiskAversion:
  """Settings of the experiment.

  Attributes:
    easy: the easy task; its explore_prob is that of its condition with exploration.
    hard: the hard task, likewise.
    model: the students' architecture.
    training: how they are trained.
    hard_steps: steps of the students of the hard graph; 0 stands for those of `training`.
    easy_goal_first: whether easy students with exploration begin with the parameters of those without: exploration
      hides the goal from a small student that has not found it yet (docs/learning.md).
    temperatures: of the rollouts.
    num_seeds: students per condition.
    first_seed: their first seed; a block of seeds has the rows that it has in a larger run.
    num_graphs: graphs that each student walks, once per temperature.
  """

  easy: StarGraph = StarGraph(chain_length=3, explore_prob=0.5, max_steps=64)
  hard: StarGraph = StarGraph(chain_length=5, explore_prob=0.5, max_steps=64)
  model: Transformer = Transformer()
  training: Training = Training()
  hard_steps: int = 0
  easy_goal_first: bool = False
  temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
  num_seeds: int = 6
  first_seed: int = 0
  num_graphs: int = 256

  def __post_init__(self) -> None:
    check_fields(self)
    seeds.block(self.first_seed, self.num_seeds)
    require(self.num_graphs >= 1, "num_graphs", self.num_graphs, "at least 1")
    require(self.hard_steps >= 0, "hard_steps", self.hard_steps, "at least 0")
    require_temperatures(self.temperatures)
    for name in ("easy", "hard"):
      explore = getattr(self, name).explore_prob
      require(explore > 0, f"{name}.explore_prob", explore, "above 0: the condition without exploration comes beside")
    for tasks in self.tasks().values():
      for task in tasks:
        task.check_prefers_forward()
        row_length(task, self.training)

  def tasks(self) -> dict[str, list[StarGraph]]:
    """Per hardness the tasks without and with exploration."""
    both = {"easy": self.easy, "hard": self.hard}
    return {name: [dataclasses.replace(task, explore_prob=0.0), task] for name, task in both.items()}


def condition_name(hardness: str, exploration: bool) -> str:
  """Such as `hard, with exploration`."""
  return f"{hardness}, {'with' if exploration else 'without'} exploration"
