"""Six observations of real models (arXiv 2512.12895), made again with students of the star graph.

1. `temperature`: students of every size loop when greedy, and less at T = 1.
2. `size`: larger students loop less, at equal steps.
3. `teachers`: a student loops more than its teacher. The teacher is the deepest student, and teaches by its walks.
4. `hardness`: students loop more where chains are longer, and where there are more of them.
5. `resets`: students whose teacher never goes back to s by itself do not loop (the paper's models trained on
   instructions).
6. `light_rl`: a few steps of reinforcement learning change little.

A loop is a locked cycle where nothing else is said. Greedy walks that are cut are endless loops, and for these there is
exact theory. The claims stand in `observation_claims`, the conditions in `observation_conditions`.

  python -m experiments.observations --preset=standard --output_dir=/tmp/observations

What is done is kept for each group of students, so a run that was stopped goes on there.
"""

from __future__ import annotations

import functools
from pathlib import Path

import pandas as pd

from experiments import exact
from experiments.experiment import Experiment, Tables, main
from experiments.fit import with_losses
from experiments.observation_claims import claims
from experiments.observation_conditions import (
  FOLDER,
  HARDNESS,
  SIZE,
  TEMPERATURE,
  Group,
  Observations,
  groups,
  students_of,
)
from experiments.risk_aversion import PRESETS as RISK_AVERSION
from loopjax import plotting, statistics
from loopjax.analysis.looping import evaluate_looping
from loopjax.generation.settings import at_temperatures
from loopjax.star_graph import fitness, theory
from loopjax.star_graph.sharing import Obtain, Request

NAME = FOLDER
MEASURES = ("locked_cycle_share", "root_loop_share", "excess_length", "reached", "cut", "broken")
SHOWN = [*MEASURES, "returns", "root_kl", "persistence", "loss_above_memoryless", "loss_above_teacher"]


def requests(config: Observations) -> list[Request]:
  """All groups of students, each after those with which it begins."""
  return [group.request() for group in groups(config)]


def measure(config: Observations, obtain: Obtain) -> Tables:
  """The tables: `observations`, a row per condition, seed and temperature, and the history of training."""
  found = []
  for group in groups(config):
    name = f"{FOLDER}/{group.name}"
    tables = obtain.once(name, group, functools.partial(_measure_group, config, group, name, obtain))
    found.append((tables[name], tables[f"{name}_history"]))
  walks, histories = zip(*found, strict=True)
  return {NAME: pd.concat(walks, ignore_index=True), f"{NAME}_history": pd.concat(histories, ignore_index=True)}


def _measure_group(config: Observations, group: Group, name: str, obtain: Obtain) -> Tables:
  """What `evaluate_looping` gives of the students of one group, lengths over the exact teacher's, and losses."""
  students = students_of(config, group, obtain)
  frame = evaluate_looping(
    students, generation=at_temperatures(config.temperatures), num_graphs=config.num_graphs, seed=0
  )
  if not obtain.claims_only:
    frame = with_losses(frame, fitness.evaluate_losses(students, num_graphs=config.num_graphs, seed=0))
  frame = students.label(frame)
  lengths = {
    condition: theory.teacher_statistics(task).response_length
    for condition, task in zip(group.conditions, group.tasks, strict=True)
  }
  frame["excess_length"] = frame["capped_length"] / frame["condition"].map(lengths)
  return {name: frame, f"{name}_history": students.label(students.history)}


def theory_rows(config: Observations, conditions: list[str]) -> pd.DataFrame:
  """The exact teacher and the memoryless learner on the tasks of some conditions, each task once."""
  tasks = config.tasks()
  chosen = {name: tasks[name] for name in conditions if name in tasks}
  return pd.concat(
    [exact.teacher_rows(chosen, config.temperatures), exact.memoryless_rows(chosen, config.temperatures)],
    ignore_index=True,
  )


def table(frame: pd.DataFrame) -> str:
  """Mean and 95% interval over seeds, a row per condition and temperature."""
  columns = [column for column in SHOWN if column in frame]
  return statistics.describe_groups(frame, ["condition", "temperature"], columns).to_string()


def show(config: Observations, tables: Tables, figures: Path) -> str:
  """Walks against temperature, a figure per observation; for sizes, greedy loops against errors; the table over
  seeds."""
  frame = tables[NAME]
  for observation, conditions in config.shown().items():
    rows = frame[frame["condition"].isin(conditions)]
    if observation == SIZE:  # its students stand against temperature in the figure of the first observation
      greedy = rows[rows["temperature"] == 0].sort_values("condition", key=lambda x: x.map(conditions.index))
      figure = plotting.student_dots(greedy, "root_kl", "locked_cycle_share")
    else:
      learners = theory_rows(config, conditions)
      figure = plotting.against_temperature(rows, MEASURES, conditions=conditions, theory=learners)
    plotting.save(figure, figures / f"{NAME}_{observation}")
  return table(frame)


_QUICK = RISK_AVERSION["quick"]

PRESETS = {
  "quick": Observations(  # its students are those of risk aversion: nothing more is trained
    which=(TEMPERATURE, HARDNESS), task=_QUICK.hard, easy=_QUICK.easy, chain_lengths=(), num_chains=(),
    model=_QUICK.model, depths=(), widths=(), training=_QUICK.training, temperatures=_QUICK.temperatures,
    num_seeds=_QUICK.num_seeds, first_seed=_QUICK.first_seed, num_graphs=_QUICK.num_graphs,
  ),
  "standard": Observations(),
}  # fmt: skip

EXPERIMENT = Experiment(NAME, __doc__, PRESETS, measure, show, requests, claims)

if __name__ == "__main__":
  main(EXPERIMENT)
