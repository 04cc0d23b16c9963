"""Temporally correlated errors (arXiv 2512.12895): with nothing hard to learn, does a student repeat its own errors?

The teacher never resets at the root and enters a child at random, so the right distribution there is uniform, up to a
margin against children already visited. What the student adds is error, and it is asked at every visit whether it adds
the same again: on its own walks at each temperature, and on the teacher's. `docs/definitions.md` has the measures.

Two worlds stand beside: independent errors at every visit, which is the null of the claims, and a standing preference
among the children of a graph, which is their prediction. `experiments.fixed_graph` asks the same of students that learn
one graph in their weights. The claims of both stand in `temporal_error_claims`, the settings in
`temporal_error_conditions`.

  python -m experiments.temporal_errors --output_dir=/tmp/temporal_errors --config.num_seeds=6
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from experiments import exact, published
from experiments.experiment import Experiment, Tables, main
from experiments.fit import with_losses
from experiments.sizes import COLD_TO_WARM, PAPER_STUDENT, PAPER_TRAINING, ROTARY, small_student
from experiments.temporal_error_claims import claims
from experiments.temporal_error_conditions import NAME, TemporalErrors, condition_name
from loopjax import plotting, statistics
from loopjax.analysis import repetition
from loopjax.analysis.repetition import ROLLOUTS, TEACHER
from loopjax.generation.settings import at_temperatures
from loopjax.runtime import seeds
from loopjax.star_graph import evaluation, fitness, teacher
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.rollouts import LegalMoves
from loopjax.star_graph.sharing import Obtain, Request
from loopjax.star_graph.students import Students
from loopjax.training.step import Training

MEASURES = ("persistence", "correlation", "reached", "broken", "cut", "returns", "response_length")
LEGAL = "legal rollouts"  # beside ROLLOUTS and TEACHER, in column walks: walk measures alone
PAIRS = {
  "own_walk_matched": "one walk", "other_walks": "two walks, one graph", "other_graphs": "two graphs"
}  # the first two over the same visits  # fmt: skip
REACHED_BY = 0.1  # a figure shows a visit that this share of a student's walks reach: else few pairs make the mean


def _legal_rows(config: TemporalErrors, group: Students, obtain: Obtain) -> pd.DataFrame:
  """Walk measures with invalid moves masked."""
  generation = at_temperatures(config.temperatures, LegalMoves(teacher.sizes_of(group.tasks[0])))
  walks = evaluation.evaluate_students(group, generation=generation, num_graphs=config.num_graphs, seed=0)
  return walks.assign(walks=LEGAL)


def requests(config: TemporalErrors, name: str = NAME) -> list[Request]:
  """The groups of students: one, or one per drawing of the fixed graph. Seeds go round the drawings."""
  block, drawings, asked = seeds.block(config.first_seed, config.num_seeds), config.drawings or (0,), []
  for place, drawing in enumerate(drawings):
    group = f"{name}_drawing_{drawing}" if config.drawings else name
    numbers = [seed for seed in block if seed % len(drawings) == place]
    if numbers:
      conditions = {
        "condition": [condition_name(margin) for margin in config.visited_margins],
        "visited_margin": config.visited_margins,
        "drawing": [drawing] * len(config.visited_margins),
      }  # fmt: skip
      asked.append(Request(group, config.tasks(drawing), config.model, config.training, numbers, conditions))
  return asked


def _measure_group(config: TemporalErrors, group: Students, obtain: Obtain) -> dict[str, pd.DataFrame]:
  """The tables of one group, by the end of their name."""
  frames = repetition.evaluate_repetition(
    group, temperatures=config.temperatures, num_graphs=config.num_graphs,
    walks_per_graph=config.walks_per_graph, num_lags=config.num_lags, seed=0,
  )  # fmt: skip
  walks = frames.summary
  if not obtain.claims_only:
    losses = fitness.evaluate_losses(group, num_graphs=config.num_graphs, seed=0)
    walks = with_losses(pd.concat([walks, _legal_rows(config, group, obtain)], ignore_index=True), losses)
  tables = {
    "": walks, "_by_lag": frames.by_lag, "_by_visit": frames.by_visit, "_history": group.history
  }  # fmt: skip
  return {suffix: group.label(frame) for suffix, frame in tables.items()}


def measure(config: TemporalErrors, obtain: Obtain, name: str = NAME) -> dict[str, pd.DataFrame]:
  """The tables: `name`, a row per margin, seed and group of walks (rollouts at a temperature, legal rollouts, or the
  teacher's walks); `_by_lag` and `_by_visit`, as `repetition.RepetitionFrames` describes them; and the history."""
  parts = [_measure_group(config, obtain(request), obtain) for request in requests(config, name)]
  return {f"{name}{suffix}": pd.concat([part[suffix] for part in parts], ignore_index=True) for suffix in parts[0]}


def theory_rows(config: TemporalErrors) -> pd.DataFrame:
  """The exact teacher's walks, and the persistence of its own, ties broken afresh."""
  tasks = {condition_name(task.visited_margin): task for task in config.tasks()}
  return exact.teacher_rows(tasks, config.temperatures, persistence=True)


def published_rows(config: TemporalErrors) -> pd.DataFrame:
  """The paper's points for the margins that were run, by our names of the conditions; none but for five children."""
  points = published.margin()
  is_shown = points["margin"].isin(config.visited_margins) & (config.task.num_chains == 5)
  is_said = (points["margin"] == 0) & (points["temperature"] == 0)
  points = points.assign(
    condition=points["margin"].map(condition_name), persistence=np.where(is_said, published.PERSISTENCE, np.nan)
  )
  return points[is_shown].assign(same_cut=config.task.max_steps == published.CUT)


def _panels(config: TemporalErrors, frame: pd.DataFrame) -> pd.DataFrame:
  """The rows of the coldest rollouts and of the teacher's walks, with a name for their panel; readable pairs."""
  coldest = min(config.temperatures)
  cold = frame[(frame["walks"] == ROLLOUTS) & (frame["temperature"] == coldest)]
  of_teacher = frame[frame["walks"] == TEACHER]
  parts = [
    cold.assign(panel=cold["condition"] + f", T = {coldest:g}"),
    of_teacher.assign(panel=of_teacher["condition"] + ", teacher's walks"),
  ]
  together = pd.concat(parts, ignore_index=True)
  shown = together[together["pairs"].isin(PAIRS)]
  return shown.assign(pairs=shown["pairs"].map(PAIRS))


def _visit_panels(config: TemporalErrors, by_visit: pd.DataFrame) -> pd.DataFrame:
  """`_panels` of the visits that enough walks reach."""
  fewest = REACHED_BY * config.num_graphs * config.walks_per_graph
  enough = by_visit[(by_visit["by"] == "visit") & (by_visit["num_pairs"] >= fewest)]
  return _panels(config, enough.rename(columns={"index": "visit"}))


def _save_figures(config: TemporalErrors, tables: Tables, folder: Path, name: str) -> None:
  """Against temperature, against lag and by visit; training curves."""
  frame, by_lag = tables[name], _panels(config, tables[f"{name}_by_lag"])
  by_visit = _visit_panels(config, tables[f"{name}_by_visit"])
  figures = {
    name: plotting.against_temperature(
      frame[frame["walks"] == ROLLOUTS], MEASURES, theory=theory_rows(config), published=published_rows(config)
    ),
    f"{name}_legal": plotting.against_temperature(
      frame[frame["walks"] == LEGAL], MEASURES[2:], theory=theory_rows(config)
    ),
    f"{name}_by_lag": plotting.correlation_by_lag(by_lag),
    f"{name}_loss": plotting.training_curves(tables[f"{name}_history"]),
  }
  if len(by_visit) > 0:  # none where walks break before their second visit
    figures[f"{name}_by_visit"] = plotting.persistence_by_visit(by_visit)
  for figure_name, figure in figures.items():
    plotting.save(figure, folder / figure_name)


COLUMNS = ["persistence", "chance", "correlation", "other_walks_correlation", *MEASURES[2:], "loss_above_teacher"]


def table(frame: pd.DataFrame) -> str:
  """Mean and 95% interval over seeds, a row per margin and group of walks."""
  return statistics.describe_groups(frame, ["condition", "walks", "temperature"], COLUMNS).to_string()


def show(config: TemporalErrors, tables: Tables, figures: Path, name: str = NAME) -> str:
  """Figures and the table."""
  _save_figures(config, tables, figures, name)
  return table(tables[name])


NO_HARDNESS = StarGraph(num_chains=5, chain_length=3, max_steps=64, reset_prob=0.0, explore_prob=1.0)

PRESETS = {
  "quick": TemporalErrors(  # without a margin: students take longer than minutes to learn one
    task=StarGraph(num_chains=4, chain_length=1, max_steps=24, reset_prob=0.0, explore_prob=1.0),
    visited_margins=(0.0,),
    model=small_student(1),
    training=Training(num_steps=1_200, rows_per_step=16, learning_rate=8e-3),
    temperatures=(0.0, 0.4, 1.0),
    num_seeds=6,
    num_graphs=64,
    walks_per_graph=2,
    num_lags=3,
  ),
  "standard": TemporalErrors(
    task=NO_HARDNESS,
    visited_margins=(0.0, 0.1),
    model=ROTARY,
    training=Training(num_steps=9_500, rows_per_step=16, learning_rate=3e-3),
    temperatures=COLD_TO_WARM,
    num_seeds=16,
    num_graphs=128,
    walks_per_graph=4,
    num_lags=10,
  ),
  "paper": TemporalErrors(
    task=dataclasses.replace(NO_HARDNESS, max_steps=128),
    visited_margins=(0.0, 0.05, 0.1),
    model=PAPER_STUDENT,
    training=PAPER_TRAINING,
    temperatures=COLD_TO_WARM,
    num_seeds=6,
    num_graphs=128,
    walks_per_graph=2,
    num_lags=10,
  ),
}

EXPERIMENT = Experiment(NAME, __doc__, PRESETS, measure, show, requests, claims)

if __name__ == "__main__":
  main(EXPERIMENT)
