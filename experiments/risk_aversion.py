"""Risk aversion (arXiv 2512.12895): walks of students on an easy and a hard star graph against temperature.

Four conditions, {easy, hard} x {without, with exploration}: on the hard graph a student cannot tell the goal's child
from its look-alikes, smears its probability over them, and the easy cyclic action, back to s, wins the argmax.

  python -m experiments.risk_aversion --output_dir=/tmp/risk_aversion --config.num_seeds=4
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pandas as pd

from experiments import binary, exact, published
from loopjax import evaluation, files, plotting, results, seeds, statistics, students, teacher, training
from loopjax.claims import Claim, mean_measure, paired_ratio_measure
from loopjax.config import require
from loopjax.star_graph import StarGraph
from loopjax.training import Training
from loopjax.transformer import Transformer

NAME = "risk_aversion"
MEASURES = ("reached", "returns", "root_loop_share", "response_length")


@dataclasses.dataclass(frozen=True)
class RiskAversion:
  """Settings of the experiment.

  Attributes:
    easy: the easy task; its explore_prob is that of its condition with exploration.
    hard: the hard task, likewise.
    model: the students' architecture.
    training: how they are trained.
    temperatures: of the rollouts.
    num_seeds: students per condition.
    first_seed: their first seed; a block of seeds has the rows that it has in a larger run.
    num_graphs: graphs that each student walks, once per temperature.
  """

  easy: StarGraph = StarGraph(chain_length=3, explore_prob=0.5, max_steps=64)
  hard: StarGraph = StarGraph(chain_length=5, explore_prob=0.5, max_steps=64)
  model: Transformer = Transformer()
  training: Training = Training()
  temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
  num_seeds: int = 4
  first_seed: int = 0
  num_graphs: int = 256

  def __post_init__(self) -> None:
    seeds.block(self.first_seed, self.num_seeds)
    require(self.num_graphs >= 1, "num_graphs", self.num_graphs, "at least 1")
    require(min(self.temperatures, default=-1) >= 0, "temperatures", self.temperatures, "one or more, at least 0")
    for tasks in self.tasks().values():
      for task in tasks:
        task.check_prefers_forward()
        self.training.length(task)

  def tasks(self) -> dict[str, list[StarGraph]]:
    """Per hardness the tasks without and with exploration."""
    both = {"easy": self.easy, "hard": self.hard}
    return {name: [dataclasses.replace(task, explore_prob=0.0), task] for name, task in both.items()}


def condition_name(hardness: str, exploration: bool) -> str:
  """Such as `hard, with exploration`."""
  return f"{hardness}, {'with' if exploration else 'without'} exploration"


def _theory_rows(config: RiskAversion) -> pd.DataFrame:
  """The exact teacher's walks: one row per condition and temperature."""
  tasks = {
    condition_name(hardness, bool(exploration)): task
    for hardness, both in config.tasks().items()
    for exploration, task in enumerate(both)
  }
  return exact.teacher_rows(tasks, config.temperatures)


def _label(config: RiskAversion, hardness: str, frame: pd.DataFrame) -> pd.DataFrame:
  """The frame with condition, graph, explore_prob and seed in place of the student's row."""
  tasks = config.tasks()[hardness]
  task_index, seed = students.rows_of(len(tasks), seeds.block(config.first_seed, config.num_seeds))
  row = frame["row"].to_numpy()
  labels = pd.DataFrame(
    {
      "condition": [condition_name(hardness, bool(index)) for index in task_index[row]],
      "graph": f"G({tasks[0].num_chains},{tasks[0].chain_length})",
      "explore_prob": np.array([task.explore_prob for task in tasks])[task_index[row]],
      "seed": seed[row],
    }
  )
  return pd.concat([labels, frame.drop(columns="row").reset_index(drop=True)], axis=1)


def _report_positions(config: RiskAversion, hardness: str) -> None:
  """Prints how the trained positions spread over the walk: late positions are seldom trained."""
  tasks = config.tasks()[hardness]
  objective = training.teacher_forcing(tasks[0], config.model, config.training)
  histogram = jax.jit(
    lambda p: training.position_histogram(tasks[0], objective, jax.random.key(0), p, rows=1_024),
    compiler_options=seeds.compiler_options(brief=True),
  )
  for index, task in enumerate(tasks):
    cumulative = np.cumsum(histogram(teacher.teacher_probabilities(task)))
    reached = ", ".join(f"{q:.0%} before {1 + np.searchsorted(cumulative, q)}" for q in (0.5, 0.9, 0.99))
    print(f"{condition_name(hardness, bool(index))}: of the trained walk positions {reached}")


def _run_hardness(config: RiskAversion, hardness: str, output_dir: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
  """Trains and walks the students of one graph, without and with exploration in one program; results and history."""
  tasks, mesh = config.tasks()[hardness], seeds.device_mesh()
  _report_positions(config, hardness)
  trained = students.train_students(
    tasks, config.model, config.training, seeds.block(config.first_seed, config.num_seeds), mesh,
    folder=output_dir / "checkpoints" / f"{NAME}_{hardness}", description=f"{NAME}, {hardness}",
  )  # fmt: skip
  frame = evaluation.evaluate_students(
    tasks[0], config.model, trained.state, trained.is_finite, mesh,
    temperatures=config.temperatures, num_graphs=config.num_graphs, seed=0,
  )  # fmt: skip
  return _label(config, hardness, frame), _label(config, hardness, trained.history)


def compute(config: RiskAversion, output_dir: Path) -> pd.DataFrame:
  """One row per condition, seed and temperature, with the exact teacher's length at that temperature beside."""
  parts, histories = zip(*(_run_hardness(config, hardness, output_dir) for hardness in config.tasks()), strict=True)
  history = pd.concat(histories, ignore_index=True)
  files.write_parquet(history, output_dir / "results" / f"{NAME}_history.parquet")

  lengths = _theory_rows(config)[["condition", "temperature", "response_length", "successful_length"]]
  lengths = lengths.rename(columns=lambda name: name if name in ("condition", "temperature") else f"teacher_{name}")
  frame = pd.concat(parts, ignore_index=True).merge(lengths, on=["condition", "temperature"], validate="many_to_one")
  frame["length_ratio"] = frame["response_length"] / frame["teacher_response_length"]
  frame["successful_length_ratio"] = frame["successful_length"] / frame["teacher_successful_length"]
  return frame


def table(frame: pd.DataFrame) -> str:
  """Mean and 95% interval over seeds of every measure, a row per condition and temperature."""
  return statistics.describe_groups(frame, ["condition", "temperature"], [*MEASURES, "length_ratio"]).to_string()


def run(config: RiskAversion, output_dir: Path) -> pd.DataFrame:
  """Results (computed once per folder), figures and printed table."""
  frame = results.compute_once(output_dir, NAME, config, lambda: compute(config, output_dir))
  figure = plotting.against_temperature(frame, MEASURES, theory=_theory_rows(config), published=_published(frame))
  plotting.save(figure, output_dir / "figures" / NAME)
  history = results.read_frame(output_dir / "results" / f"{NAME}_history.parquet")
  plotting.save(plotting.training_curves(history), output_dir / "figures" / f"{NAME}_loss")
  print(table(frame))
  return frame


def _published(frame: pd.DataFrame) -> pd.DataFrame:
  """The paper's points on the graphs that were run, by our names of the conditions."""
  points = published.graph_task()
  hardness = dict(zip(frame["graph"], frame["condition"].str.split(",").str[0], strict=True))
  points = points[points["graph"].isin(list(hardness))]
  names = [condition_name(hardness[g], bool(e)) for g, e in zip(points["graph"], points["exploration"], strict=True)]
  return points.assign(condition=names)


def _worst_accuracy(condition: str):
  """The measure: a seed's lowest share reached over temperatures."""

  def measure(frame: pd.DataFrame) -> statistics.Interval | None:
    rows = frame[frame["condition"] == condition]
    if rows.empty:
      return None
    return statistics.mean_interval(rows.groupby("seed")["reached"].min().to_numpy())

  return measure


def claims() -> list[Claim]:
  """What is asserted of this experiment; registered before it was run at any size."""
  paper, large, every = "arXiv 2512.12895", ("standard", "paper"), ("quick", "standard", "paper")
  explored = condition_name("hard", True)
  greedy = {"condition": explored, "temperature": 0.0}
  registered = [
    Claim(
      name="hard_greedy_accuracy", description="Hard, with exploration: greedy decoding fails.", source=paper,
      condition=f"{explored}, T = 0", measure=mean_measure("reached", greedy), bound=0.1, direction="below",
      presets=every, published=0.0,
    ),
    Claim(
      name="hard_greedy_root_loops", description="Hard, with exploration: most nodes lie in s-r-s loops.",
      source=paper, condition=f"{explored}, T = 0", measure=mean_measure("root_loop_share", greedy), bound=0.5,
      direction="above", presets=every,
    ),
  ]  # fmt: skip
  for exploration in (False, True):
    easy, hard = condition_name("easy", exploration), condition_name("hard", exploration)
    suffix = "with_exploration" if exploration else "without_exploration"
    cold, warm = {"condition": hard, "temperature": 0.0}, {"condition": hard, "temperature": 1.0}
    registered += [
      Claim(
        name=f"easy_accuracy_{suffix}", description="Easy: accurate at every temperature.", source=paper,
        condition=f"{easy}, worst T of each seed", measure=_worst_accuracy(easy), bound=0.95, direction="above",
        presets=large, published=0.98,
      ),
      Claim(
        name=f"hard_loops_cold_over_warm_{suffix}", description="Hard: temperature cuts loops at least threefold.",
        source=paper, condition=f"{hard}, loop count at T = 0 over that at T = 1",
        measure=paired_ratio_measure("returns", cold, warm), bound=3.0, direction="above", presets=every,
        published=63.8 / 9.2 if exploration else 33 / 6.0,
      ),
      Claim(
        name=f"hard_warm_length_over_teacher_{suffix}",
        description="Hard: temperature is no substitute for learning; walks stay longer than the teacher's.",
        source=paper, condition=f"{hard}, T = 1, over the exact teacher's length",
        measure=mean_measure("length_ratio", warm), bound=1.2, direction="above", presets=every,
      ),
    ]  # fmt: skip
  return registered


if __name__ == "__main__":
  binary.run_experiment(NAME, RiskAversion(), run)
