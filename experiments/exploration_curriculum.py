"""Is it the task or its learning that a teacher's exploration makes hard? Two roads to the same teacher.

`from scratch`: walks of a teacher that explores, all along. `goal first`: half of the steps without exploration, where
the way to the goal shows in every walk, then the other half with it. Steps, students and final teacher are the same, so
that a student of the second road shows what the first could hold. The halves are two runs: the second begins with
fresh optimiser and learning-rate schedule, and sees the graphs of the first again. Easy students of `risk_aversion` may
be trained in this way too (`easy_goal_first`).

  python -m experiments.exploration_curriculum --output_dir=/tmp/exploration_curriculum
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd

from experiments import exact, risk_aversion
from experiments.experiment import Experiment, Tables, main
from experiments.sizes import small_student
from loopjax import plotting, statistics
from loopjax.generation.settings import at_temperatures
from loopjax.models.transformer import Transformer
from loopjax.runtime import seeds
from loopjax.runtime.config import check_fields, require, require_temperatures
from loopjax.star_graph import evaluation
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import row_length
from loopjax.star_graph.sharing import Obtain, Request
from loopjax.star_graph.students import Students
from loopjax.training.step import Training

NAME = "exploration_curriculum"
SCRATCH, GOAL_FIRST = "from scratch", "goal first"
MEASURES = ("reached", "broken", "cut", "returns", "root_loop_share", "response_length")


_STANDARD = risk_aversion.PRESETS["standard"]


@dataclasses.dataclass(frozen=True)
class ExplorationCurriculum:
  """Settings of the experiment.

  Attributes:
    task: the task, with exploration.
    model: the students' architecture.
    training: of each half; `from scratch` takes twice its steps at once.
    temperatures: of the rollouts.
    num_seeds: students per road.
    first_seed: their first seed; a block of seeds has the rows that it has in a larger run.
    num_graphs: graphs that each student walks, once per temperature.
  """

  task: StarGraph = _STANDARD.easy
  model: Transformer = _STANDARD.model
  training: Training = _STANDARD.training
  temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
  num_seeds: int = 4
  first_seed: int = 0
  num_graphs: int = 256

  def __post_init__(self) -> None:
    check_fields(self)
    require(self.task.explore_prob > 0, "task.explore_prob", self.task.explore_prob, "above 0: what is compared")
    seeds.block(self.first_seed, self.num_seeds)
    require(self.num_graphs >= 1, "num_graphs", self.num_graphs, "at least 1")
    require_temperatures(self.temperatures)
    self.task.check_prefers_forward()
    row_length(self.task, self.training)


def _roads(config: ExplorationCurriculum, obtain: Obtain) -> list[tuple[Students, pd.DataFrame]]:
  """For each road its final students and the history of all its steps."""
  half, numbers = config.training, seeds.block(config.first_seed, config.num_seeds)
  whole = dataclasses.replace(half, num_steps=2 * half.num_steps)
  plain = dataclasses.replace(config.task, explore_prob=0.0)
  first = obtain(Request(f"{NAME}_first_half", [plain], config.model, half, numbers))
  goal_first = Request(f"{NAME}_goal_first", [config.task], config.model, half, numbers, {"condition": [GOAL_FIRST]})
  second = obtain(goal_first, params=first.state.params)
  from_scratch = Request(f"{NAME}_from_scratch", [config.task], config.model, whole, numbers, {"condition": [SCRATCH]})
  scratch = obtain(from_scratch)
  later = second.history.assign(step=second.history["step"] + half.num_steps)
  return [(scratch, scratch.history), (second, pd.concat([first.history, later], ignore_index=True))]


def measure(config: ExplorationCurriculum, obtain: Obtain) -> dict[str, pd.DataFrame]:
  """The tables: `exploration_curriculum`, a row per road, seed and temperature; and the history of training."""
  frames, histories = [], []
  for group, history in _roads(config, obtain):
    generation = at_temperatures(config.temperatures)
    walks = evaluation.evaluate_students(group, generation=generation, num_graphs=config.num_graphs, seed=0)
    frames.append(group.label(walks))
    histories.append(group.label(history))
  return {NAME: pd.concat(frames, ignore_index=True), f"{NAME}_history": pd.concat(histories, ignore_index=True)}


def table(frame: pd.DataFrame) -> str:
  """Mean and 95% interval over seeds of every measure, a row per road and temperature."""
  return statistics.describe_groups(frame, ["condition", "temperature"], MEASURES).to_string()


def show(config: ExplorationCurriculum, tables: Tables, figures: Path) -> str:
  """Walks against temperature, training curves, the table."""
  frame = tables[NAME]
  beside = exact.teacher_rows(dict.fromkeys((SCRATCH, GOAL_FIRST), config.task), config.temperatures)
  plotting.save(plotting.against_temperature(frame, MEASURES, theory=beside), figures / NAME)
  plotting.save(plotting.training_curves(tables[f"{NAME}_history"]), figures / f"{NAME}_loss")
  return table(frame)


PRESETS = {
  "quick": ExplorationCurriculum(
    task=StarGraph(num_chains=4, chain_length=1, max_steps=32, explore_prob=0.5),
    model=small_student(1),
    training=Training(num_steps=500, rows_per_step=16, learning_rate=8e-3),
    temperatures=(0.0, 1.0),
    num_seeds=2,
    num_graphs=64,
  ),
  "standard": ExplorationCurriculum(),
}

EXPERIMENT = Experiment(NAME, __doc__, PRESETS, measure, show)

if __name__ == "__main__":
  main(EXPERIMENT)
