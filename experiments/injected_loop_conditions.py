"""The settings of `experiments.injected_loops`, and what its conditions are called."""

from __future__ import annotations

import dataclasses

from loopjax.analysis import loop_confidence
from loopjax.models.transformer import Transformer
from loopjax.runtime import seeds
from loopjax.runtime.config import check_fields, require, require_conditions, require_temperatures
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import row_length
from loopjax.training.step import Training

CLEAN = "clean"


@dataclasses.dataclass(frozen=True)
class InjectedLoops:
  """Settings of the experiment.

  Attributes:
    task: clean, with resets.
    shares: of the training walks that are injected loops; the first is 0.
    model: the students' architecture.
    training: how they are trained.
    num_seeds: students per share.
    first_seed: their first seed; a block of seeds has the rows that it has in a larger run.
    temperatures: of the rollouts.
    num_graphs: graphs that each student walks, once per temperature.
    num_cycles: pure s-r-s cycles after which the reset probability is read: 0, 1, ... to one less.
    repetitions: of a loop, at which the distribution of confidence is told; the cohort lasts to the largest.
  """

  task: StarGraph = StarGraph(chain_length=3, max_steps=128, explore_prob=0.5)
  shares: tuple[float, ...] = (0.0, 1e-3)
  model: Transformer = Transformer(num_layers=2)
  training: Training = Training()
  num_seeds: int = 6
  first_seed: int = 0
  temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
  num_graphs: int = 256
  num_cycles: int = 16
  repetitions: tuple[int, ...] = (1, 2, 5, 10)

  def __post_init__(self) -> None:
    check_fields(self)
    require(self.num_graphs >= 1, "num_graphs", self.num_graphs, "at least 1")
    require_conditions("shares", self.shares)
    require(self.shares[0] == 0, "shares", self.shares, "0 first, then others")
    require_temperatures(self.temperatures)
    require(
      self.task.reset_prob > 0, "task.reset_prob", self.task.reset_prob, "above 0: else the posterior never starts"
    )
    require(self.task.injected_share == 0, "task.injected_share", self.task.injected_share, "0: set shares")
    require(self.task.injected_kind == "root", "task.injected_kind", self.task.injected_kind, "'root', s-r-s loops")
    most = (self.task.max_steps - 1) // 2
    require(1 <= self.num_cycles <= most, "num_cycles", self.num_cycles, f"1 to {most}, what the cut allows")
    seeds.block(self.first_seed, self.num_seeds)
    self.task.check_prefers_forward()
    row_length(self.task, self.training)
    most = loop_confidence.max_repetitions(self.task)
    within = len(self.repetitions) > 0 and min(self.repetitions) >= 1 and max(self.repetitions) <= most
    require(within, "repetitions", self.repetitions, f"one or more within 1 to {most}, what the cut allows")

  def tasks(self) -> dict[float, StarGraph]:
    """One per share."""
    return {share: dataclasses.replace(self.task, injected_share=share) for share in self.shares}


def condition_name(share: float) -> str:
  """Such as `0.1% injected`."""
  return f"{100 * share:g}% injected" if share > 0 else CLEAN
