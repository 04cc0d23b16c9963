"""Risk aversion (arXiv 2512.12895): walks of students on an easy and a hard star graph against temperature.

Four conditions, {easy, hard} x {without, with exploration}: on the hard graph a student cannot tell the goal's child
from its look-alikes, smears its probability over them, and the easy cyclic action, back to s, wins the argmax. The
exact form of that student is the memoryless learner of Proposition 1. Claims stand between it and the exact teacher;
they are in `risk_aversion_claims`, and the settings in `risk_aversion_conditions`.

  python -m experiments.risk_aversion --output_dir=/tmp/risk_aversion --config.num_seeds=6
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from absl import logging

from experiments import exact, published
from experiments.experiment import Experiment, Tables, main
from experiments.fit import FREE, LEGAL, with_losses
from experiments.risk_aversion_claims import claims
from experiments.risk_aversion_conditions import RiskAversion, condition_name
from experiments.sizes import COLD_TO_WARM, PAPER_STUDENT, PAPER_TRAINING, small_student
from loopjax import plotting, statistics
from loopjax.generation.settings import at_temperatures
from loopjax.runtime import devices, seeds
from loopjax.star_graph import evaluation, fitness, teacher
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import position_histogram, task_state
from loopjax.star_graph.rollouts import LegalMoves
from loopjax.star_graph.sharing import Obtain, Request
from loopjax.star_graph.students import Students
from loopjax.training.step import Training

NAME = "risk_aversion"
MEASURES = ("reached", "broken", "cut", "returns", "root_loop_share", "response_length")


def _training(config: RiskAversion, hardness: str) -> Training:
  """How students of this hardness are trained."""
  if hardness == "easy" or config.hard_steps == 0:
    return config.training
  return dataclasses.replace(config.training, num_steps=config.hard_steps)


def _theory_rows(config: RiskAversion) -> pd.DataFrame:
  """The exact teacher's and the memoryless learner's walks: one row per learner, condition and temperature."""
  tasks = {
    condition_name(hardness, bool(exploration)): task
    for hardness, both in config.tasks().items()
    for exploration, task in enumerate(both)
  }
  hard = {name: task for name, task in tasks.items() if name.startswith("hard")}
  return pd.concat([
    exact.teacher_rows(tasks, config.temperatures), exact.memoryless_rows(hard, config.temperatures),
  ], ignore_index=True)  # fmt: skip


def _report_positions(request: Request) -> None:
  """Logs how the trained positions spread over the walk: late positions are seldom trained."""
  histogram = _position_histogram(teacher.sizes_of(request.tasks[0]), request.training)
  for one in request.tasks:
    cumulative = np.cumsum(histogram(task_state(one, request.training)))
    reached = ", ".join(f"{q:.0%} before {1 + np.searchsorted(cumulative, q)}" for q in (0.5, 0.9, 0.99))
    logging.info("%s, exploration %g: of the trained walk positions %s", request.name, one.explore_prob, reached)


@functools.lru_cache(maxsize=seeds.PROGRAMS)
def _position_histogram(task: StarGraph, training: Training) -> jax.stages.Wrapped:
  return jax.jit(
    lambda state: position_histogram(task, training, jax.random.key(0), state, rows=1_024),
    compiler_options=devices.compiler_options(brief=True),
  )


def _conditions(hardness: str, tasks: Sequence[StarGraph]) -> dict[str, list[Any]]:
  """Condition, graph and exploration of tasks."""
  return {
    "condition": [condition_name(hardness, task.explore_prob > 0) for task in tasks],
    "graph": [f"G({task.num_chains},{task.chain_length})" for task in tasks],
    "explore_prob": [task.explore_prob for task in tasks],
  }


def requests(config: RiskAversion) -> list[Request]:
  """The groups of students: those of one graph train together, unless some begin where others have ended."""
  numbers, asked = seeds.block(config.first_seed, config.num_seeds), []
  for hardness, tasks in config.tasks().items():
    is_apart = hardness == "easy" and config.easy_goal_first
    for suffix, part in (("", tasks[:1]), ("_goal_first", tasks[1:])) if is_apart else (("", tasks),):
      name, training = f"{NAME}_{hardness}{suffix}", _training(config, hardness)
      asked.append(Request(name, part, config.model, training, numbers, _conditions(hardness, part)))
  return asked


def _walk_rows(config: Any, group: Students, rollouts: evaluation.Rollouts, kind: str) -> pd.DataFrame:
  """Walk measures of rollouts, a row per student and temperature."""
  measures = evaluation.mean_measures(group, rollouts)
  return evaluation.measures_frame(measures, at_temperatures(config.temperatures), group.is_finite).assign(
    decoding=kind
  )


def evaluate_walks(
  config: Any, group: Students, obtain: Obtain, free: evaluation.Rollouts | None = None
) -> pd.DataFrame:
  """Walk measures of a group, free and with invalid moves masked (column decoding), and losses beside.

  Args:
    config: its fields temperatures and num_graphs.
    group: the students.
    obtain: says whether claims alone read the rows.
    free: their rollouts, where they are there already.
  """
  roll_out = functools.partial(evaluation.roll_out, group, num_graphs=config.num_graphs, seed=0)
  free = free or roll_out(generation=at_temperatures(config.temperatures))
  if obtain.claims_only:
    return _walk_rows(config, group, free, FREE)
  legal = LegalMoves(teacher.sizes_of(group.tasks[0]))
  masked = roll_out(generation=at_temperatures(config.temperatures, legal))
  kinds = {FREE: free, LEGAL: masked}
  walks = [_walk_rows(config, group, rollouts, kind) for kind, rollouts in kinds.items()]
  losses = fitness.evaluate_losses(group, num_graphs=config.num_graphs, seed=0)
  return with_losses(pd.concat(walks, ignore_index=True), losses)


def measure(config: RiskAversion, obtain: Obtain) -> dict[str, pd.DataFrame]:
  """The tables: `risk_aversion`, a row per condition, seed, decoding and temperature, with the exact teacher's length
  beside; and the history of training."""
  frames, histories, params = [], [], None
  for request in requests(config):
    _report_positions(request)
    group = obtain(request, params=params if request.name.endswith("goal_first") else None)
    frames.append(group.label(evaluate_walks(config, group, obtain)))
    histories.append(group.label(group.history))
    params = group.state.params
  lengths = _theory_rows(config).query("learner == 'exact teacher'")
  lengths = lengths[["condition", "temperature", "response_length", "successful_length"]]
  lengths = lengths.rename(columns=lambda name: name if name in ("condition", "temperature") else f"teacher_{name}")
  frame = pd.concat(frames, ignore_index=True).merge(lengths, on=["condition", "temperature"], validate="many_to_one")
  frame["length_ratio"] = frame["response_length"] / frame["teacher_response_length"]
  frame["successful_length_ratio"] = frame["successful_length"] / frame["teacher_successful_length"]
  return {NAME: frame, f"{NAME}_history": pd.concat(histories, ignore_index=True)}


def table(frame: pd.DataFrame) -> str:
  """Mean and 95% interval over seeds of every measure, a row per condition, decoding and temperature."""
  keys = ["condition", "decoding", "temperature"]
  return statistics.describe_groups(frame, keys, [*MEASURES, "length_ratio", "loss_above_memoryless"]).to_string()


def show(config: RiskAversion, tables: Tables, figures: Path) -> str:
  """Walks against temperature, free and legal; training curves; the table."""
  frame = tables[NAME]
  for kind, suffix in ((FREE, ""), (LEGAL, "_legal")):
    rows = frame[frame["decoding"] == kind]
    shown = _published(config) if kind == FREE else None
    figure = plotting.against_temperature(rows, MEASURES, theory=_theory_rows(config), published=shown)
    plotting.save(figure, figures / f"{NAME}{suffix}")
  plotting.save(plotting.training_curves(tables[f"{NAME}_history"]), figures / f"{NAME}_loss")
  return table(frame)


def _published(config: RiskAversion) -> pd.DataFrame:
  """The paper's points on graphs that are as hard here as there, by our names of the conditions; column same_cut."""
  points, shown = published.graph_task(), []
  for hardness, (task, _) in config.tasks().items():
    name = f"G({task.num_chains},{task.chain_length})"
    rows = points[(points["graph"] == name) & (points["hardness"] == hardness)]
    conditions = [condition_name(hardness, bool(exploration)) for exploration in rows["exploration"]]
    shown.append(rows.assign(condition=conditions, same_cut=task.max_steps == published.CUT))
  return pd.concat(shown, ignore_index=True)


_GOAL_HIDDEN = StarGraph(num_chains=4, chain_length=2, max_steps=32, explore_prob=0.5, goal_hidden=True)

PRESETS = {
  "quick": RiskAversion(  # the hard task does not tell the goal: it stays hard however long a student trains
    easy=StarGraph(num_chains=4, chain_length=1, max_steps=32, explore_prob=0.5),
    hard=_GOAL_HIDDEN,
    model=small_student(1),
    training=Training(num_steps=1_000, rows_per_step=16, learning_rate=8e-3),
    temperatures=(0.0, 0.4, 1.0),
    num_seeds=6,
    num_graphs=128,
  ),
  "standard": RiskAversion(
    easy=StarGraph(num_chains=5, chain_length=3, max_steps=64, explore_prob=0.5),
    hard=StarGraph(num_chains=5, chain_length=5, max_steps=64, explore_prob=0.5),
    model=small_student(4),
    training=Training(num_steps=4_500, rows_per_step=16, learning_rate=3e-3),
    hard_steps=12_000,
    easy_goal_first=True,
    temperatures=COLD_TO_WARM,
    num_seeds=16,
    num_graphs=256,
  ),
  "paper": RiskAversion(
    easy=StarGraph(num_chains=5, chain_length=3, max_steps=128, explore_prob=0.5),
    hard=StarGraph(num_chains=5, chain_length=5, max_steps=128, explore_prob=0.5),
    model=PAPER_STUDENT,
    training=PAPER_TRAINING,
    temperatures=COLD_TO_WARM,
    num_seeds=6,
    num_graphs=1_024,
  ),
}

EXPERIMENT = Experiment(NAME, __doc__, PRESETS, measure, show, requests, claims)

if __name__ == "__main__":
  main(EXPERIMENT)
