"""Where does the correlation of errors come from? One thing about the student or its training changed at a time.

The base is a student of `temporal_errors` without a margin, at fewer steps. Beside it stand students that differ in one
factor: how positions are told, how the prompt is written, depth, width, the length of training, the type of products,
the learning rate, noise on the targets, and whether the graph is read from the prompt or is one, learnt in the weights.
And the base itself is read on its way: its schedule is that of all its steps, so that one run shows how persistence and
correlation come about.

Every cell of the map is kept when it is done; a run that was stopped goes on there.

  python -m experiments.correlation_map --output_dir=/tmp/correlation_map
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from experiments.experiment import Experiment, Tables, main
from loopjax import plotting, results, statistics
from loopjax.analysis import repetition
from loopjax.analysis.repetition import ROLLOUTS
from loopjax.analysis.visits import check_errors_defined
from loopjax.models.transformer import Transformer
from loopjax.remedies.label_noise import LabelNoise
from loopjax.runtime import config as configs
from loopjax.runtime import seeds
from loopjax.runtime.config import check_fields, require, require_temperatures
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import row_length
from loopjax.star_graph.sharing import Obtain, Request
from loopjax.training.step import Training

NAME = "correlation_map"
# Which visits are compared. The first has all pairs of one walk; the second and third are over one set of visits.
PAIRS = {
  "own_walk": "one walk", "own_walk_matched": "one walk, visits that two have", "other_walks": "two walks, one graph",
  "other_graphs": "two graphs",
}  # fmt: skip
OUTCOMES = ("reached", "broken", "cut")
BASE = "base"
STEP = "training step"


class Factor(NamedTuple):
  """One thing that is changed: its name in figures, its field of `Cell`, and the config's field with its values."""

  name: str
  field: str
  values: str


FACTORS = (
  Factor("positions", "model.positions", "positions"),
  Factor("encoding", "task.encoding", "encodings"),
  Factor("layers", "model.num_layers", "depths"),
  Factor("width", "model.width", "widths"),
  Factor("training steps", "training.num_steps", "lengths"),
  Factor("products", "model.matmul_dtype", "matmul_dtypes"),
  Factor("learning rate", "training.learning_rate", "learning_rates"),
  Factor("label noise", "noise", "noises"),
  Factor("graph", "task.graph_fixed", "graphs_fixed"),
  Factor(STEP, "taken", "taken"),
)


@dataclasses.dataclass(frozen=True)
class Cell:
  """One kind of student, and when it is read.

  Attributes:
    task: the task.
    model: the student's architecture.
    training: how it is trained.
    noise: the share of its targets that are replaced (`label_noise`).
    taken: the share of the schedule's steps that it has taken when it is read.
  """

  task: StarGraph
  model: Transformer
  training: Training
  noise: float = 0.0
  taken: float = 1.0

  def __post_init__(self) -> None:
    check_fields(self)
    require(0 <= self.noise <= 1, "noise", self.noise, "in [0, 1]")
    require(0 < self.taken <= 1, "taken", self.taken, "in (0, 1]")
    for name in ("visited_margin", "goal_margin"):
      require(getattr(self.task, name) == 0, f"task.{name}", getattr(self.task, name), "0: chance is 1/n for all pairs")
    require(self.steps >= 1, "taken", self.taken, f"one step or more of training.num_steps={self.training.num_steps}")
    row_length(self.task, self.training)
    check_errors_defined(self.task)

  @property
  def steps(self) -> int:
    return round(self.taken * self.training.num_steps)


def _value(cell: Cell, factor: Factor) -> Any:
  return results.flatten(configs.to_json(cell))[factor.field]


@dataclasses.dataclass(frozen=True)
class CorrelationMap:
  """Settings of the experiment; by default those of `standard`. An empty tuple leaves its factor out.

  Attributes:
    task: of the base.
    model: of the base.
    training: of the base.
    positions: kinds of positions; like those of every other factor, they hold the base's.
    encodings: of the prompt.
    depths: numbers of layers.
    widths: of the residual stream.
    lengths: steps of training, each with a schedule of its own.
    matmul_dtypes: operands of matrix products.
    learning_rates: the peaks.
    noises: shares of targets that are replaced; the base's is 0.
    graphs_fixed: false: graphs in the prompt; true: one graph for all examples, in training and evaluation.
    taken: shares of the base's schedule after which it is read; the last is 1.
    temperatures: of the rollouts; figures show the first, 0.
    num_seeds: students per cell.
    first_seed: their first seed; a block of seeds has the rows that it has in a larger run.
    num_graphs: graphs that each student walks.
    walks_per_graph: rollouts of each graph at each temperature, and teacher walks on it.
  """

  task: StarGraph = StarGraph(num_chains=5, chain_length=3, max_steps=64, reset_prob=0.0, explore_prob=1.0)
  model: Transformer = Transformer(num_layers=2, num_heads=4, width=64)
  training: Training = Training(num_steps=2_000, rows_per_step=16, learning_rate=3e-3)
  positions: tuple[str, ...] = ("rotary", "learned", "none")
  encodings: tuple[str, ...] = ("edge", "flat")
  depths: tuple[int, ...] = (1, 2, 4)
  widths: tuple[int, ...] = (32, 64, 128)
  lengths: tuple[int, ...] = (500, 2_000, 8_000)
  matmul_dtypes: tuple[str, ...] = ("float32", "bfloat16")
  learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
  noises: tuple[float, ...] = (0.0, 0.05, 0.2)
  graphs_fixed: tuple[bool, ...] = (False, True)
  taken: tuple[float, ...] = (0.0625, 0.125, 0.25, 0.5, 0.75, 1.0)
  temperatures: tuple[float, ...] = (0.0, 1.0)
  num_seeds: int = 4
  first_seed: int = 0
  num_graphs: int = 128
  walks_per_graph: int = 4

  def __post_init__(self) -> None:
    check_fields(self)
    for name, least in (("num_seeds", 1), ("num_graphs", 2), ("walks_per_graph", 2)):
      require(getattr(self, name) >= least, name, getattr(self, name), f"at least {least}")
    require_temperatures(self.temperatures)
    seeds.block(self.first_seed, self.num_seeds)
    require(self.temperatures[0] == 0, "temperatures", self.temperatures, "0, then others")
    for factor in FACTORS:
      values, own = getattr(self, factor.values), _value(self.base(), factor)
      require(not values or own in values, factor.values, values, f"some, the base's {own!r} among them; or none")
    require(list(self.taken) == sorted(self.taken), "taken", self.taken, "ascending")
    list(self.cells())  # validates each

  def base(self) -> Cell:
    return Cell(self.task, self.model, self.training)

  def cells(self) -> Iterator[tuple[Factor, Any, Cell]]:
    """Every factor with every value of it and the cell that has it; the base comes once per factor."""
    for factor in FACTORS:
      for value in getattr(self, factor.values):
        yield factor, value, configs.replace(self.base(), {factor.field: value})


def _text(factor: Factor, value: Any) -> str:
  """A value as figures and tables name it."""
  if factor.field == "task.graph_fixed":
    return "one, in the weights" if value else "in the prompt"
  return value if isinstance(value, str) else f"{value:g}"


def names(config: CorrelationMap) -> dict[Cell, str]:
  """A name per different cell, in the order to be run: each student's earlier readings before its later ones."""
  found = {config.base(): BASE}
  for factor, value, cell in config.cells():
    found.setdefault(cell, f"{factor.field.split('.')[-1]}_{value}")
  return {cell: found[cell] for cell in sorted(found, key=lambda cell: cell.taken)}


def _measure_cell(config: CorrelationMap, cell: Cell, student: str, result: str, obtain: Obtain) -> Tables:
  """Trains the cell's students as far as it says and measures them: the table `result`, a row per seed and group of
  walks."""
  numbers = seeds.block(config.first_seed, config.num_seeds)
  noise = [LabelNoise(cell.noise)]
  request = Request(
    f"{NAME}/{student}", [cell.task], cell.model, cell.training, numbers, objectives=noise, until=cell.steps
  )
  group = obtain(request)
  frame = repetition.evaluate_repetition(
    group, temperatures=config.temperatures, num_graphs=config.num_graphs,
    walks_per_graph=config.walks_per_graph, num_lags=1, seed=0,
  ).summary  # fmt: skip
  for pairs in list(PAIRS)[1:]:
    frame[f"{pairs}_persistence_ratio"] = frame[f"{pairs}_persistence"] / frame["chance"]
  return {result: group.label(frame)}


def measure(config: CorrelationMap, obtain: Obtain) -> Tables:
  """The table: a row per factor, value, seed and group of walks; the base's rows are there once per factor.

  Each cell is a result of its own, `correlation_map/<name>`, from which it is read if it is there. Its students are its
  own: they may be read on their way, and later readings leave no earlier checkpoint.
  """
  named, frames = names(config), {}
  for cell, name in named.items():
    student, result = named[dataclasses.replace(cell, taken=1.0)], f"{NAME}/{name}"
    measure_cell = functools.partial(_measure_cell, config, cell, student, result, obtain)
    frames[cell] = obtain.once(result, cell, measure_cell)[result]
  rows = [
    frames[cell].assign(factor=factor.name, value=_text(factor, value), is_base=cell == config.base(), step=cell.steps)
    for factor, value, cell in config.cells()
  ]
  return {NAME: pd.concat(rows, ignore_index=True)}


def _of_pairs(measure: str) -> dict[str, str]:
  """Which visits are compared -> the column of the measure."""
  return {text: measure if pairs == "own_walk" else f"{pairs}_{measure}" for pairs, text in PAIRS.items()}


def _by_step(greedy: pd.DataFrame) -> pd.DataFrame:
  """The base on its way, a row per kind of pairs, seed and step."""
  rows = greedy[greedy["factor"] == STEP]
  columns = {measure: _of_pairs(measure) for measure in ("persistence", "correlation")}
  return pd.concat(
    rows[["seed", "step", "chance"]].assign(
      pairs=pairs, **{name: rows[column[pairs]] for name, column in columns.items()}
    )
    for pairs in PAIRS.values()
  )


def _save_figures(frame: pd.DataFrame, folder: Path) -> None:
  """Greedy walks: by factor, and by training step."""
  greedy = frame[(frame["walks"] == ROLLOUTS) & (frame["temperature"] == 0)]
  columns = [
    plotting.Column("Persistence", "times chance", _of_pairs("persistence_ratio"), reference=1.0),
    plotting.Column("Error correlation", "rho(1)", _of_pairs("correlation"), reference=0.0),
    plotting.Column("Outcome", "share of walks", {name: name for name in OUTCOMES}),
    plotting.Column("Loops", "returns to s", {"returns": "returns"}),
  ]
  by_factor = greedy[greedy["factor"] != STEP]
  if len(by_factor):
    plotting.save(plotting.factor_chart(by_factor, columns), folder / NAME)
  if (greedy["factor"] == STEP).any():
    plotting.save(plotting.pairs_by_step(_by_step(greedy)), folder / f"{NAME}_by_step")


def table(frame: pd.DataFrame) -> str:
  """Mean and 95% interval over seeds of the rollouts, a row per factor, value and temperature."""
  columns = [*_of_pairs("persistence_ratio").values(), *_of_pairs("correlation").values(), *OUTCOMES, "returns"]
  rollouts = frame[frame["walks"] == ROLLOUTS]
  return statistics.describe_groups(rollouts, ["factor", "value", "temperature"], columns).to_string()


def show(config: CorrelationMap, tables: Tables, figures: Path) -> str:
  """Figures and the table."""
  del config
  _save_figures(tables[NAME], figures)
  return table(tables[NAME])


PRESETS = {
  "quick": CorrelationMap(
    task=StarGraph(num_chains=4, chain_length=2, max_steps=24, reset_prob=0.0, explore_prob=1.0),
    training=Training(num_steps=400, rows_per_step=16, learning_rate=3e-3),
    positions=("rotary", "none"),
    depths=(1, 2),
    noises=(0.0, 0.2),
    taken=(0.25, 0.5, 1.0),
    encodings=(),
    widths=(),
    lengths=(),
    matmul_dtypes=(),
    learning_rates=(),
    num_graphs=64,
    walks_per_graph=2,
  ),  # fmt: skip
  "standard": CorrelationMap(),
}

EXPERIMENT = Experiment(NAME, __doc__, PRESETS, measure, show)

if __name__ == "__main__":
  main(EXPERIMENT)
