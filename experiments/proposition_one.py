"""Proposition 1 (arXiv 2512.12895): the student's next-node distribution at the root against the predicted one.

Chains of length 1, the goal hidden: the right child is indistinguishable from its look-alikes by construction. The
teacher goes back to s with probability p; the maximum-likelihood student should give p to s, (1 - p)/n to each child,
and s is its argmax iff p > 1/(n + 1).

  python -m experiments.proposition_one --output_dir=/tmp/proposition_one
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.experiment import Experiment, Tables, main
from experiments.fit import MOST_ABOVE, with_losses
from experiments.sizes import PAPER_STUDENT, small_student
from loopjax import plotting, statistics
from loopjax.analysis import root_distribution
from loopjax.claim_measures import Measure
from loopjax.claims import Claim, Fitness
from loopjax.models.transformer import Transformer
from loopjax.runtime import seeds
from loopjax.runtime.config import check_fields, require
from loopjax.star_graph import fitness, theory, tidy
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.null_worlds import TEACHERS
from loopjax.star_graph.objective import row_length
from loopjax.star_graph.sharing import Obtain, Request
from loopjax.star_graph.students import Students
from loopjax.training.step import Training

NAME = "proposition_one"
NEAR_LINE = 0.03  # cells this close to p = 1/(n + 1) are not asked for their phase


@dataclasses.dataclass(frozen=True)
class PropositionOne:
  """Settings of the experiment.

  Attributes:
    task: what all cells share.
    num_children: the n.
    cycle_probs: the p.
    model: the students' architecture.
    training: how they are trained.
    num_visits: visits to r at which a student is asked: the first, and after 1, 2, ... pure s-r-s cycles.
    num_seeds: students per cell.
    first_seed: their first seed; a block of seeds has the rows that it has in a larger run.
    num_graphs: prompts over which a student's measures are averaged.
  """

  task: StarGraph = StarGraph(chain_length=1, goal_hidden=True, max_steps=24)
  num_children: tuple[int, ...] = (2, 3, 5, 8)
  cycle_probs: tuple[float, ...] = (0.1, 0.15, 0.3, 0.5)
  model: Transformer = Transformer(num_layers=2)
  training: Training = Training()
  num_visits: int = 9
  num_seeds: int = 4
  first_seed: int = 0
  num_graphs: int = 1024

  def __post_init__(self) -> None:
    check_fields(self)
    require(len(self.num_children) > 0, "num_children", self.num_children, "one n or more")
    require(len(self.cycle_probs) > 0, "cycle_probs", self.cycle_probs, "one p or more")
    seeds.block(self.first_seed, self.num_seeds)
    require(self.num_graphs >= 1, "num_graphs", self.num_graphs, "at least 1")
    longest = (self.task.max_steps - 1) // 2
    require(1 <= self.num_visits <= longest, "num_visits", self.num_visits, f"1 to {longest}, what the cut allows")
    require(self.task.chain_length == 1, "task.chain_length", self.task.chain_length, "1 for Proposition 1")
    require(self.task.goal_hidden, "task.goal_hidden", self.task.goal_hidden, "True for Proposition 1")
    require(self.task.explore_prob == 0, "task.explore_prob", self.task.explore_prob, "0 for Proposition 1")
    for n in self.num_children:
      row_length(self.tasks(n)[0], self.training)

  def tasks(self, num_children: int) -> list[StarGraph]:
    """The tasks of one n, one per p."""
    return [dataclasses.replace(self.task, num_chains=num_children, reset_prob=p) for p in self.cycle_probs]


def requests(config: PropositionOne) -> list[Request]:
  """The groups of students: one per n, all p and seeds in one program."""
  numbers = seeds.block(config.first_seed, config.num_seeds)

  def conditions(n: int) -> dict[str, Sequence[float]]:
    return {"n": [n] * len(config.cycle_probs), "p": config.cycle_probs}

  return [
    Request(f"{NAME}_{n}", config.tasks(n), config.model, config.training, numbers, conditions(n))
    for n in config.num_children
  ]


def _measure_group(config: PropositionOne, group: Students, obtain: Obtain) -> pd.DataFrame:
  """The rows of one n."""
  measures = root_distribution.evaluate_root(group, num_graphs=config.num_graphs, num_visits=config.num_visits, seed=0)
  frame = tidy.frame(group.is_finite, measures._asdict(), {"visit": np.arange(1, config.num_visits + 1)})
  if not obtain.claims_only:
    losses = fitness.evaluate_losses(group, num_graphs=config.num_graphs, seed=0)
    frame = with_losses(frame, losses)
  return group.label(frame)


def measure(config: PropositionOne, obtain: Obtain) -> dict[str, pd.DataFrame]:
  """The table `proposition_one`, a row per n, p, seed and visit: measures averaged over prompts."""
  parts = [_measure_group(config, obtain(request), obtain) for request in requests(config)]
  return {NAME: pd.concat(parts, ignore_index=True)}


def table(frame: pd.DataFrame) -> str:
  """Mean and 95% interval over seeds at visit 1, a row per cell, with the predicted phase."""
  first = frame[frame["visit"] == 1]
  columns = ["cycle_probability", "invalid_mass", "total_variation", "cycle_is_argmax"]
  rows = statistics.describe_groups(first, ["n", "p"], columns, ".4f")
  rows["predicted"] = [str(theory.argmax_phase(p, n)) for n, p in rows.index]
  return rows.to_string()


def show(config: PropositionOne, tables: Tables, figures: Path) -> str:
  """Panels against p, the phase diagram, and the table."""
  del config
  frame = tables[NAME]
  plotting.save(plotting.proposition_panels(frame), figures / NAME)
  plotting.save(plotting.phase_diagram(frame), figures / f"{NAME}_phase_diagram")
  return table(frame)


def _worst_cell(error: Callable[[pd.DataFrame], pd.Series]) -> Measure:
  """The measure: a seed's worst cell at visit 1 under `error` (rows -> values, larger is worse).

  A cell that is not known makes the seed unknown.
  """

  def measure(frame: pd.DataFrame) -> pd.Series:
    first = frame[frame["visit"] == 1]
    return error(first).groupby(first["seed"]).agg(lambda values: values.max(skipna=False))

  return measure


def _off_the_line(frame: pd.DataFrame) -> pd.DataFrame:
  """The rows of the cells that are asked for their phase."""
  return frame[(frame["p"] - 1 / (frame["n"] + 1)).abs() > NEAR_LINE]


def _phase_error(rows: pd.DataFrame) -> pd.Series:
  """The share of prompts with the wrong argmax."""
  return (rows["cycle_is_argmax"] - (rows["p"] > 1 / (rows["n"] + 1))).abs()


def _greedy_teacher_is_wrong(cell: tuple[int, float, int]) -> float:
  """How often the exact teacher, which enters the goal's child with 1 - p, has another argmax than the solution."""
  n, p, _ = cell
  return 0.0 if p < 1 / (n + 1) or p > 0.5 else 0.5 if p == 0.5 else 1.0


def claims(config: PropositionOne) -> list[Claim]:
  """What is asserted of this experiment: students are the solution, up to errors that are small beside those of `null`,
  students that give every label the same probability, or that know the goal."""
  cells = [(n, p, config.tasks(n)[0].vocabulary_size) for n in config.num_children for p in config.cycle_probs]
  condition = "visit 1, the worst cell (p, n) of each seed"
  knows_no_solution = ("untrained", *TEACHERS)
  fit = Fitness(
    name="loss above the memoryless learner's, worst cell", at_most=MOST_ABOVE,
    measure=_worst_cell(lambda rows: rows["loss_above_memoryless"]),
  )  # fmt: skip
  claim = functools.partial(
    Claim, source="arXiv 2512.12895, Proposition 1", direction="below", family="Proposition 1", predicted=0.0,
    fitness=(fit,),
  )  # fmt: skip
  of_phase = _worst_cell(_phase_error)
  return [
    claim(
      name="proposition_one_cycle_probability", description="The student gives p to the cycle.",
      condition=f"{condition}: |cycle probability - p|", bound=0.02, null=max(abs(1 / v - p) for _, p, v in cells),
      measure=_worst_cell(lambda rows: (rows["cycle_probability"] - rows["p"]).abs()), must_not_hold=("untrained",),
      presets=("standard", "paper"),
    ),
    claim(
      name="proposition_one_invalid_mass", description="The student gives nothing to invalid moves.",
      condition=f"{condition}: invalid mass", bound=0.02, null=max(1 - (n + 1) / v for n, _, v in cells),
      measure=_worst_cell(lambda rows: rows["invalid_mass"]), must_not_hold=("untrained",),
      presets=("standard", "paper"),
    ),
    claim(
      name="proposition_one_total_variation", description="The student is the solution, prompt by prompt.",
      condition=f"{condition}: mean total variation per prompt", bound=0.05,
      null=max((1 - p) * (1 - 1 / n) for n, p, _ in cells),
      measure=_worst_cell(lambda rows: rows["total_variation"]), must_not_hold=knows_no_solution,
      presets=("standard", "paper"),
    ),
    claim(
      name="proposition_one_phase", description="The cycle is the argmax exactly above p = 1/(n + 1).",
      condition=f"{condition} further than {NEAR_LINE} from the line: share of prompts with the wrong argmax",
      bound=0.1, null=max(map(_greedy_teacher_is_wrong, cells)), measure=lambda frame: of_phase(_off_the_line(frame)),
      must_not_hold=knows_no_solution,
      presets=("quick", "standard", "paper"),
    ),
  ]  # fmt: skip


PRESETS = {
  "quick": PropositionOne(
    task=StarGraph(chain_length=1, goal_hidden=True, max_steps=16),
    num_children=(3,),
    cycle_probs=(0.1, 0.5),
    model=small_student(1),
    training=Training(num_steps=600, rows_per_step=16, learning_rate=8e-3),
    num_visits=4,
    num_seeds=6,
    num_graphs=256,
  ),
  "standard": PropositionOne(
    task=StarGraph(chain_length=1, goal_hidden=True, max_steps=24),
    num_children=(2, 3, 5, 8),
    cycle_probs=(0.1, 0.15, 0.3, 0.5),
    model=Transformer(num_layers=1, num_heads=4, width=64),
    training=Training(num_steps=10_000, rows_per_step=4, learning_rate=6e-3),
    num_visits=9,
    num_seeds=16,
    num_graphs=1_024,
  ),
  "paper": PropositionOne(
    task=StarGraph(chain_length=1, goal_hidden=True, max_steps=24),
    model=PAPER_STUDENT,
    training=Training(num_steps=5_000, rows_per_step=128, learning_rate=3e-4, warmup_steps=500),
    num_seeds=6,
  ),
}

EXPERIMENT = Experiment(NAME, __doc__, PRESETS, measure, show, requests, claims)

if __name__ == "__main__":
  main(EXPERIMENT)
