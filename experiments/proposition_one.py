"""Proposition 1 (arXiv 2512.12895): the student's next-node distribution at the root against the predicted one.

Chains of length 1, the goal hidden: the right child is indistinguishable from its look-alikes by construction. The
teacher goes back to s with probability p; the maximum-likelihood student should give p to s, (1 - p)/n to each child,
and s is its argmax iff p > 1/(n + 1).

  python -m experiments.proposition_one --output_dir=/tmp/proposition_one
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.sharding import Mesh

from experiments import binary
from loopjax import decoding, plotting, results, seeds, statistics, students, theory, training
from loopjax.analysis import risk_aversion
from loopjax.claims import Claim, Measure
from loopjax.config import require
from loopjax.runner import Students
from loopjax.star_graph import StarGraph
from loopjax.training import Training
from loopjax.transformer import Transformer

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
      self.training.length(self.tasks(n)[0])

  def tasks(self, num_children: int) -> list[StarGraph]:
    """The tasks of one n, one per p."""
    return [dataclasses.replace(self.task, num_chains=num_children, reset_prob=p) for p in self.cycle_probs]


def measure_students(
  config: PropositionOne, task: StarGraph, trained: Students, mesh: Mesh, num_rows: int
) -> risk_aversion.RootMeasures:
  """Measures averaged over prompts, on the host, fields [S, K]."""

  def one(student):
    problems = decoding.sample_problems(task, training.evaluation_key(student, 0), config.num_graphs, 1)
    measures = risk_aversion.measure_students_root(
      task, config.model, student.params, problems, student.extra.reset_prob, num_visits=config.num_visits
    )
    return jax.tree.map(lambda field: jnp.mean(field[:, 0], axis=0), measures)

  is_brief = seeds.is_brief(config.num_graphs * task.max_steps)
  return seeds.to_host(seeds.map_seeds(one, mesh, brief=is_brief)(trained.state), num_rows)


def _run_num_children(config: PropositionOne, num_children: int, output_dir: Path) -> pd.DataFrame:
  """Trains and measures the students of one n, all p and seeds in one program."""
  tasks, mesh = config.tasks(num_children), seeds.device_mesh()
  seed_numbers = seeds.block(config.first_seed, config.num_seeds)
  trained = students.train_students(
    tasks, config.model, config.training, seed_numbers, mesh,
    folder=output_dir / "checkpoints" / f"{NAME}_{num_children}", description=f"{NAME}, n = {num_children}",
  )  # fmt: skip
  task_index, seed = students.rows_of(len(tasks), seed_numbers)
  measures = measure_students(config, tasks[0], trained, mesh, len(seed))
  visits = np.arange(1, config.num_visits + 1)
  frame = pd.DataFrame(
    {
      "n": num_children,
      "p": np.repeat(np.asarray(config.cycle_probs)[task_index], len(visits)),
      "seed": np.repeat(seed, len(visits)),
      "visit": np.tile(visits, len(seed)),
    }
  )
  for name, values in measures._asdict().items():
    frame[name] = np.where(trained.is_finite[:, None], values, np.nan).ravel()
  return frame


def compute(config: PropositionOne, output_dir: Path) -> pd.DataFrame:
  """One row per n, p, seed and visit: measures averaged over prompts."""
  parts = [_run_num_children(config, n, output_dir) for n in config.num_children]
  return pd.concat(parts, ignore_index=True)


def table(frame: pd.DataFrame) -> str:
  """Mean and 95% interval over seeds at visit 1, a row per cell, with the predicted phase."""
  first = frame[frame["visit"] == 1]
  columns = ["cycle_probability", "invalid_mass", "total_variation", "cycle_is_argmax"]
  rows = statistics.describe_groups(first, ["n", "p"], columns, ".4f")
  rows["predicted"] = [str(theory.argmax_phase(p, n)) for n, p in rows.index]
  return rows.to_string()


def run(config: PropositionOne, output_dir: Path) -> pd.DataFrame:
  """Results (computed once per folder), figures and printed table."""
  frame = results.compute_once(output_dir, NAME, config, lambda: compute(config, output_dir))
  plotting.save(plotting.proposition_panels(frame), output_dir / "figures" / NAME)
  plotting.save(plotting.phase_diagram(frame), output_dir / "figures" / f"{NAME}_phase_diagram")
  print(table(frame))
  return frame


def _worst_cell(error) -> Measure:
  """The measure: a seed's worst cell at visit 1 under `error` (rows -> values, larger is worse)."""

  def measure(frame: pd.DataFrame) -> statistics.Interval:
    first = frame[frame["visit"] == 1]
    return statistics.mean_interval(error(first).groupby(first["seed"]).max().to_numpy())

  return measure


def _phase_error(rows: pd.DataFrame) -> pd.Series:
  """The share of prompts with the wrong argmax; NaN near the line."""
  line = 1 / (rows["n"] + 1)
  wrong = (rows["cycle_is_argmax"] - (rows["p"] > line)).abs()
  return wrong.where((rows["p"] - line).abs() > NEAR_LINE)


def claims() -> list[Claim]:
  """What is asserted of this experiment; registered before it was run at any size."""
  cells, presets = "visit 1, the worst cell (p, n) of each seed", ("standard", "paper")
  claim = functools.partial(Claim, source="arXiv 2512.12895, Proposition 1", direction="below", presets=presets)
  return [
    claim(
      name="proposition_one_cycle_probability", description="The student gives p to the cycle.",
      condition=f"{cells}: |cycle probability - p|", bound=0.02,
      measure=_worst_cell(lambda rows: (rows["cycle_probability"] - rows["p"]).abs()),
    ),
    claim(
      name="proposition_one_invalid_mass", description="The student gives nothing to invalid moves.",
      condition=f"{cells}: invalid mass", bound=0.02,
      measure=_worst_cell(lambda rows: rows["invalid_mass"]),
    ),
    claim(
      name="proposition_one_total_variation", description="The student is the solution, prompt by prompt.",
      condition=f"{cells}: mean total variation per prompt", bound=0.05,
      measure=_worst_cell(lambda rows: rows["total_variation"]),
    ),
    claim(
      name="proposition_one_phase", description="The cycle is the argmax exactly above p = 1/(n + 1).",
      condition=f"{cells} further than {NEAR_LINE} from the line: share of prompts with the wrong argmax",
      bound=0.5, measure=_worst_cell(_phase_error),
    ),
  ]  # fmt: skip


if __name__ == "__main__":
  binary.run_experiment(NAME, PropositionOne(), run)
