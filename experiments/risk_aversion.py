"""Risk aversion (arXiv 2512.12895): walks of students on an easy and a hard star graph against temperature.

Four conditions, {easy, hard} x {without, with exploration}: on the hard graph a student cannot tell the goal's child
from its look-alikes, smears its probability over them, and the easy cyclic action, back to s, wins the argmax. The
exact form of that student is the memoryless learner of Proposition 1. Claims stand between it and the exact teacher.

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
from experiments.fit import FREE, LEGAL, fit_for, with_losses
from experiments.sizes import COLD_TO_WARM, PAPER_STUDENT, PAPER_TRAINING, small_student
from loopjax import plotting, statistics
from loopjax.claim_measures import ratio_measure, value_measure, worst_measure
from loopjax.claims import Claim, halfway
from loopjax.generation.settings import at_temperatures
from loopjax.models.transformer import Transformer
from loopjax.runtime import devices, seeds
from loopjax.runtime.config import check_fields, require, require_temperatures
from loopjax.star_graph import evaluation, fitness, teacher, theory
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.null_worlds import TEACHERS
from loopjax.star_graph.objective import position_histogram, row_length, task_state
from loopjax.star_graph.rollouts import LegalMoves
from loopjax.star_graph.sharing import Obtain, Request
from loopjax.star_graph.students import Students
from loopjax.training.step import Training

NAME = "risk_aversion"
MEASURES = ("reached", "broken", "cut", "returns", "root_loop_share", "response_length")


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


def _training(config: RiskAversion, hardness: str) -> Training:
  """How students of this hardness are trained."""
  if hardness == "easy" or config.hard_steps == 0:
    return config.training
  return dataclasses.replace(config.training, num_steps=config.hard_steps)


def condition_name(hardness: str, exploration: bool) -> str:
  """Such as `hard, with exploration`."""
  return f"{hardness}, {'with' if exploration else 'without'} exploration"


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
  task, how = request.tasks[0], request.training
  histogram = jax.jit(
    lambda state: position_histogram(task, how, jax.random.key(0), state, rows=1_024),
    compiler_options=devices.compiler_options(brief=True),
  )
  for one in request.tasks:
    cumulative = np.cumsum(histogram(task_state(one, how)))
    reached = ", ".join(f"{q:.0%} before {1 + np.searchsorted(cumulative, q)}" for q in (0.5, 0.9, 0.99))
    logging.info("%s, exploration %g: of the trained walk positions %s", request.name, one.explore_prob, reached)


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


_NOT_RISK_AVERSE = ("untrained", *TEACHERS)
_PAPER, _LARGE, _EVERY = "arXiv 2512.12895", ("standard", "paper"), ("quick", "standard", "paper")


def claims(config: RiskAversion) -> list[Claim]:
  """What is asserted of this experiment, at its graphs and cut.

  The bound of an effect lies halfway between what it is without the mechanism and what the memoryless learner has.
  """
  explored = condition_name("hard", True)
  greedy = {"condition": explored, "decoding": FREE, "temperature": 0.0}
  teacher_walks = theory.teacher_statistics(config.hard, temperature=0.0)
  memoryless = theory.memoryless_statistics(config.hard, temperature=0.0)
  common: dict[str, Any] = dict(
    source=_PAPER, direction="above", presets=_EVERY, family="risk aversion", must_not_hold=_NOT_RISK_AVERSE,
    fitness=fit_for("memoryless", greedy),
  )  # fmt: skip
  null, predicted = 1 - teacher_walks.reached, 1 - memoryless.reached
  registered = [
    Claim(
      name="hard_greedy_cut", description="Hard, with exploration: greedy walks do not find the goal until the cut.",
      condition=f"{explored}, T = 0: share of walks that are cut", measure=value_measure("cut", greedy),
      null=null, predicted=predicted, bound=halfway(null, predicted), **common,
    ),
    Claim(
      name="hard_greedy_root_loops", description="Hard, with exploration: greedy walks lie in s-r-s loops.",
      condition=f"{explored}, T = 0: share of nodes in s-r-s loops", measure=value_measure("root_loop_share", greedy),
      null=teacher_walks.root_loop_share, predicted=memoryless.root_loop_share,
      bound=halfway(teacher_walks.root_loop_share, memoryless.root_loop_share), **common,
    ),
  ]  # fmt: skip
  for exploration in (False, True):
    registered += _claims_of(config, exploration)
  return registered


def _claims_of(config: RiskAversion, exploration: bool) -> list[Claim]:
  """The claims made with exploration and without."""
  easy, hard = condition_name("easy", exploration), condition_name("hard", exploration)
  suffix = "with_exploration" if exploration else "without_exploration"
  cold, warm = ({"condition": hard, "decoding": FREE, "temperature": t} for t in (0.0, 1.0))
  of_easy = {"condition": easy, "decoding": FREE}
  task, easy_task = (config.tasks()[hardness][exploration] for hardness in ("hard", "easy"))
  ratio = _memoryless(task, 0.0).returns / _memoryless(task, 1.0).returns
  length = _memoryless(task, 1.0).response_length / theory.teacher_statistics(task).response_length
  worst = min(theory.teacher_statistics(easy_task, temperature=t).reached for t in config.temperatures)
  lost = min(_memoryless(easy_task, t).reached for t in config.temperatures)
  common: dict[str, Any] = dict(source=_PAPER, direction="above", family="risk aversion")
  smeared: dict[str, Any] = dict(
    must_not_hold=_NOT_RISK_AVERSE, fitness=fit_for("memoryless", cold, warm), presets=_EVERY
  )
  return [
    Claim(
      name=f"easy_reached_{suffix}", description="Easy: students find the goal at every temperature.",
      condition=f"{easy}, share of walks that reach the goal at the worst T of each seed",
      measure=worst_measure("reached", of_easy, "min"), null=lost, predicted=worst, bound=0.95 * worst,
      presets=_EVERY, must_not_hold=("untrained", "memoryless"), fitness=fit_for("teacher", of_easy), published=0.98,
      **common,
    ),
    Claim(
      name=f"hard_returns_cold_over_warm_{suffix}", description="Hard: temperature cuts returns to s.",
      condition=f"{hard}, returns at T = 0 over those at T = 1", measure=ratio_measure("returns", cold, warm),
      null=1.0, predicted=ratio, bound=halfway(1.0, ratio), published=63.8 / 9.2 if exploration else 33 / 6.0,
      **smeared, **common,
    ),
    Claim(
      name=f"hard_warm_length_over_teacher_{suffix}",
      description="Hard: temperature is no substitute for learning; walks stay longer than the teacher's.",
      condition=f"{hard}, T = 1, length over the exact teacher's", measure=value_measure("length_ratio", warm),
      null=1.0, predicted=length, bound=halfway(1.0, length), **smeared, **common,
    ),
  ]  # fmt: skip


def _memoryless(task: StarGraph, temperature: float) -> theory.WalkStatistics:
  return theory.memoryless_statistics(task, temperature=temperature)


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
