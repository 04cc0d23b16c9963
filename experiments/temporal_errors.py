"""Temporally correlated errors (arXiv 2512.12895): with nothing hard to learn, does a student repeat its own errors?

The teacher never resets at the root and enters a child at random, so the right distribution there is uniform, up to a
margin against children already visited. What the student adds is error, and it is asked at every visit whether it adds
the same again: on its own walks at each temperature, and on the teacher's. `docs/definitions.md` has the measures.

Two worlds stand beside: independent errors at every visit, which is the null of the claims, and a standing preference
among the children of a graph, which is their prediction. `experiments.fixed_graph` asks the same of students that learn
one graph in their weights.

  python -m experiments.temporal_errors --output_dir=/tmp/temporal_errors --config.num_seeds=6
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments import exact, published
from experiments.experiment import Experiment, Tables, main
from experiments.fit import MOST_ABOVE, fit_for, with_losses
from experiments.sizes import COLD_TO_WARM, PAPER_STUDENT, PAPER_TRAINING, ROTARY, small_student
from loopjax import plotting, statistics
from loopjax.analysis import repetition
from loopjax.analysis.repetition import ROLLOUTS, TEACHER
from loopjax.analysis.visits import check_errors_defined, max_visits
from loopjax.claim_measures import Measure, difference_measure, ratio_measure, seed_values, value_measure
from loopjax.claims import Claim, halfway
from loopjax.generation.settings import at_temperatures
from loopjax.models.transformer import Transformer
from loopjax.runtime import seeds
from loopjax.runtime.config import check_fields, require, require_conditions, require_temperatures
from loopjax.star_graph import evaluation, fitness, teacher, theory
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import row_length
from loopjax.star_graph.rollouts import LegalMoves
from loopjax.star_graph.sharing import Obtain, Request
from loopjax.star_graph.students import Students
from loopjax.training.step import Training

NAME = "temporal_errors"
MEASURES = ("persistence", "correlation", "reached", "broken", "cut", "returns", "response_length")
LEGAL = "legal rollouts"  # beside ROLLOUTS and TEACHER, in column walks: walk measures alone
PAIRS = {
  "own_walk_matched": "one walk", "other_walks": "two walks, one graph", "other_graphs": "two graphs"
}  # the first two over the same visits  # fmt: skip
REACHED_BY = 0.1  # a figure shows a visit that this share of a student's walks reach: else few pairs make the mean
SMALLEST_EFFECT = 0.05  # of rho(1): what its own past must add to a student's errors to count


@dataclasses.dataclass(frozen=True)
class TemporalErrors:
  """Settings of the experiment.

  Attributes:
    task: what all margins share.
    visited_margins: of the teacher, against children already visited; a condition each.
    drawings: of the fixed graph; seeds go round them. Empty where every prompt has a graph of its own.
    model: the students' architecture.
    training: how they are trained.
    temperatures: of the rollouts.
    num_seeds: students per margin, and per drawing.
    first_seed: their first seed; a block of seeds has the rows that it has in a larger run.
    num_graphs: graphs that each student walks.
    walks_per_graph: rollouts of each graph at each temperature, and teacher walks on it.
    num_lags: the largest lag of the error correlation, in visits.
  """

  task: StarGraph = StarGraph(chain_length=3, max_steps=64, reset_prob=0.0, explore_prob=1.0)
  visited_margins: tuple[float, ...] = (0.0, 0.05, 0.1)
  drawings: tuple[int, ...] = ()
  model: Transformer = Transformer(num_layers=2)
  training: Training = Training()
  temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
  num_seeds: int = 6
  first_seed: int = 0
  num_graphs: int = 128
  walks_per_graph: int = 4
  num_lags: int = 5

  def __post_init__(self) -> None:
    check_fields(self)
    margins = self.visited_margins
    require_conditions("visited_margins", margins)
    require(self.task.visited_margin == 0, "task.visited_margin", self.task.visited_margin, "0: set visited_margins")
    require_temperatures(self.temperatures)
    fixed = self.task.graph_fixed
    require(
      (len(self.drawings) > 0) == fixed, "drawings", self.drawings, f"given where task.graph_fixed={fixed} is set"
    )
    seeds.block(self.first_seed, self.num_seeds)
    require(self.num_graphs >= 2, "num_graphs", self.num_graphs, "at least 2: graphs are compared")
    require(self.walks_per_graph >= 2, "walks_per_graph", self.walks_per_graph, "at least 2: walks are compared")
    most = max_visits(self.task) - 1
    require(1 <= self.num_lags <= most, "num_lags", self.num_lags, f"1 to {most}, what the cut allows")
    row_length(self.task, self.training)
    for task in self.tasks():
      check_errors_defined(task)

  def tasks(self, drawing: int = 0) -> list[StarGraph]:
    """One per margin."""
    replace = dataclasses.replace
    return [replace(self.task, visited_margin=margin, graph_drawing=drawing) for margin in self.visited_margins]


def condition_name(visited_margin: float) -> str:
  """Such as `margin 0.05`."""
  return f"margin {visited_margin:g}"


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


def _beyond_the_prompt(where: Mapping[str, Any]) -> Measure:
  """The measure: rho(1) of pairs of one walk minus that of null (ii), both on the same visits."""

  def measure(frame: pd.DataFrame) -> pd.Series:
    own, prompt = (seed_values(frame, f"{pairs}_correlation", where) for pairs in ("own_walk_matched", "other_walks"))
    return own - prompt

  return measure


def _margin_learnt(config: TemporalErrors) -> float:
  """Half of what the largest margin is worth in nats: a student that is further off may not have learnt it."""
  task = config.tasks()[config.visited_margins.index(max(config.visited_margins))]
  worth = theory.memoryless_loss(task) - theory.teacher_loss(task)
  return min(MOST_ABOVE, worth / 2)


_PAPER = "arXiv 2512.12895"
_WITHOUT_MEMORY = ("untrained", "exact teacher", "independent errors", "memoryless")


def claims(config: TemporalErrors, name: str = NAME, base: str = "a graph in every prompt") -> list[Claim]:
  """What is asserted of this experiment, at its graph and cut; of margins only where there is one.

  The null is the exact teacher with ties broken afresh, the limit of small independent errors; the prediction is a
  standing preference that is as small. The bound of an effect lies halfway between.
  """
  plain, n = {"condition": condition_name(0), "walks": ROLLOUTS, "temperature": 0.0}, config.task.num_chains
  common: dict[str, Any] = dict(
    family=f"correlated errors, {base}", presets=("quick", "standard", "paper"), direction="above"
  )
  of_paper = common | dict(source=_PAPER, must_not_hold=_WITHOUT_MEMORY, fitness=fit_for("teacher", plain))
  registered = [
    Claim(
      name=f"{name}_persistence_over_chance", null=1.0, predicted=float(n), bound=halfway(1.0, n),
      description="Without a margin the same child stays on top at the next visit.",
      condition=f"{base}, margin 0, T = 0, top-child persistence over its chance",
      measure=value_measure("persistence_ratio", plain),
      published=published.PERSISTENCE / published.INDEPENDENT_PERSISTENCE, **of_paper,
    ),
    Claim(
      name=f"{name}_error_correlation", null=0.0, predicted=1.0, bound=halfway(0.0, 1.0),
      description="Errors at consecutive visits are correlated.",
      condition=f"{base}, margin 0, T = 0, rho(1) on own walks", measure=value_measure("correlation", plain),
      **of_paper,
    ),
    *(
      Claim(
        name=f"{name}_beyond_the_prompt_T{where['temperature']:g}", source="ours", null=0.0, bound=SMALLEST_EFFECT,
        description="Errors repeat within a walk beyond what the prompt drives in every walk on the graph.",
        condition=f"{base}, margin 0, T = {where['temperature']:g}, rho(1) on own walks minus that of null (ii)",
        measure=_beyond_the_prompt(where), fitness=fit_for("teacher", where),
        must_not_hold=(*_WITHOUT_MEMORY, "standing preference"), **common,
      )
      for where in (plain, plain | {"temperature": 1.0})
    ),
  ]  # fmt: skip
  return registered + (_margin_claims(config, name, base) if max(config.visited_margins) > 0 else [])


def _margin_claims(config: TemporalErrors, name: str, base: str) -> list[Claim]:
  """Greedy walks without a margin beside those at the largest margin."""
  largest = max(config.visited_margins)
  plain, margin = ({"condition": condition_name(m), "walks": ROLLOUTS, "temperature": 0.0} for m in (0, largest))
  null, standing = _greedy_worlds(config)
  greedy = published.margin().query("temperature == 0").set_index("margin")
  drop = (null[0] - null[3], standing[0] - standing[3])
  reached, returns = ((null[i] / null[i + 3], standing[i] / standing[i + 3]) for i in (1, 2))
  claim = functools.partial(
    Claim, source=_PAPER, must_not_hold=_WITHOUT_MEMORY, family=f"correlated errors, {base}",
    presets=("quick", "standard", "paper"),
    fitness=(*fit_for("teacher", plain), *fit_for("teacher", margin, most_above=_margin_learnt(config))),
  )  # fmt: skip
  return [
    claim(
      name=f"{name}_persistence_lost_by_margin", direction="above", null=drop[0], predicted=drop[1],
      bound=halfway(*drop), description="A margin in the training walks takes persistence away.",
      condition=f"{base}, T = 0, top-child persistence at margin 0 minus that at {margin['condition']}",
      measure=difference_measure("persistence", plain, margin),
      published=published.PERSISTENCE - published.PERSISTENCE_WITH_MARGIN,
    ),
    claim(
      name=f"{name}_greedy_reached_without_over_with_margin", direction="below", null=reached[0], predicted=reached[1],
      bound=halfway(*reached), description="Without a margin greedy decoding fails.",
      condition=f"{base}, T = 0, share reached at margin 0 over that at {margin['condition']}",
      measure=ratio_measure("reached", plain, margin), published=greedy["reached"][0.0] / greedy["reached"][0.1],
    ),
    claim(
      name=f"{name}_greedy_returns_without_over_with_margin", direction="above", null=returns[0], predicted=returns[1],
      bound=halfway(*returns), description="Without a margin greedy decoding loops.",
      condition=f"{base}, T = 0, returns at margin 0 over those at {margin['condition']}",
      measure=ratio_measure("returns", plain, margin), published=greedy["returns"][0.0] / greedy["returns"][0.1],
    ),
  ]  # fmt: skip


def _greedy_worlds(config: TemporalErrors) -> tuple[list[float], list[float]]:
  """Greedy persistence, share reached and returns at margin 0, then at the largest: null, and standing preference.

  With a margin a preference too small to outweigh it only breaks ties, and both worlds are the same.
  """
  plain, margin = (dataclasses.replace(config.task, visited_margin=m) for m in (0.0, max(config.visited_margins)))
  fresh, with_margin = (theory.teacher_statistics(task, temperature=0.0) for task in (plain, margin))
  frozen = theory.memoryless_statistics(plain, temperature=0.0, ties="frozen")  # uniform, like this teacher
  persistence = [theory.teacher_persistence(task, temperature=0.0) for task in (plain, margin)]
  at_margin = [persistence[1], with_margin.reached, with_margin.returns]
  return (
    [persistence[0], fresh.reached, fresh.returns, *at_margin], [1.0, frozen.reached, frozen.returns, *at_margin]
  )  # fmt: skip


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
