"""Does a seed in the prompt do more than a temperature that is as random (arXiv 2504.15266)?

Students are told a random seed, once a walk or once a return to s, and walk greedily. Plain students draw at
temperatures. A seed is randomness too. So each seeded student is held against the plain student of the same training
seed, at the temperature at which its first choice at r has the same entropy. Two bases, one for each mechanism of
loops: students that turn back because they cannot find the goal (risk aversion), and one graph for all examples (errors
that repeat).

  python -m experiments.seed_conditioning --output_dir=/tmp/seed_conditioning
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.experiment import Experiment, Tables, main
from experiments.fit import fit_for, with_losses
from experiments.remedies import BASES, Remedies
from loopjax import plotting, statistics
from loopjax.analysis.looping import evaluate_looping
from loopjax.analysis.root_entropy import evaluate_root_entropy
from loopjax.claim_measures import ratio_measure
from loopjax.claims import Claim
from loopjax.generation.settings import at_temperatures
from loopjax.models.transformer import Transformer
from loopjax.remedies.seed_conditioning import EverySeed, SeedConditioned, SeededWalks, with_seeds
from loopjax.runtime import seeds
from loopjax.runtime.config import check_fields, require, require_temperatures
from loopjax.star_graph import fitness, null_worlds, theory
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import row_length
from loopjax.star_graph.sharing import Obtain, Request
from loopjax.training.step import Training

NAME = "seed_conditioning"
PLAIN = "no seed"
SEEDED = {"a seed a walk": "walk", "a seed a return": "return"}
MEASURES = [
  "reached", "broken", "cut", "locked_cycle_share", "root_loop_share", "capped_length", "excess_length", "persistence",
  "root_kl",
]  # fmt: skip
_ENTROPY = "root_entropy"
_COMPARISON = Remedies()  # the same bases and students
_TOGETHER = {BASES[0]: "memoryless", BASES[1]: "teacher"}  # the exact learner that plain students of a base are near


@dataclasses.dataclass(frozen=True)
class SeedConditioning:
  """Settings of the experiment.

  Attributes:
    risk_aversion: the base of that name.
    fixed_graph: the base `one fixed graph`.
    model: the students' architecture.
    training: how they are trained.
    temperatures: of seeded students.
    sweep: temperatures of plain students, in rising order from 0; between two of them measures are interpolated.
    num_seeds: students per kind and base.
    first_seed: their first seed.
    num_graphs: graphs that each student walks.
  """

  risk_aversion: StarGraph = _COMPARISON.risk_aversion
  fixed_graph: StarGraph = _COMPARISON.fixed_graph
  model: Transformer = _COMPARISON.model
  training: Training = _COMPARISON.training
  temperatures: tuple[float, ...] = (0.0, 0.5, 1.0)
  sweep: tuple[float, ...] = (
    0.0,
    0.001,
    0.003,
    0.01,
    0.02,
    0.05,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
    0.8,
    0.9,
    1.0,
  )
  num_seeds: int = 16
  first_seed: int = 3_000
  num_graphs: int = 128

  def __post_init__(self) -> None:
    check_fields(self)
    require_temperatures(self.temperatures)
    require_temperatures(self.sweep, "sweep")
    require(0.0 in self.temperatures, "temperatures", self.temperatures, "with 0, at which students are compared")
    rises = self.sweep[0] == 0 and list(self.sweep) == sorted(self.sweep) and len(self.sweep) > 1
    require(rises, "sweep", self.sweep, "two or more temperatures in rising order, the first of them 0")
    seeds.block(self.first_seed, self.num_seeds)
    require(self.num_graphs >= 1, "num_graphs", self.num_graphs, "at least 1")
    for task in self.tasks().values():
      task.check_prefers_forward()
      row_length(task, self.training)

  def tasks(self) -> dict[str, StarGraph]:
    """Base -> its task."""
    return {BASES[0]: self.risk_aversion, BASES[1]: self.fixed_graph}


def matched_name(kind: str) -> str:
  """Of plain students at the temperature that is as random as this kind of seeded students at T = 0."""
  return f"temperature as random as {kind}"


def _request(config: SeedConditioning, base: str, kind: str) -> Request:
  objectives = None if kind == PLAIN else [SeededWalks(once=SEEDED[kind])]
  name, task = f"{NAME}_{base}_{kind}".replace(" ", "_"), config.tasks()[base]
  numbers = seeds.block(config.first_seed, config.num_seeds)
  columns = {"base": [base], "condition": [kind]}
  model = with_seeds(config.model, task)  # plain students too, so that all begin with the same parameters
  return Request(name, [task], model, config.training, numbers, columns, objectives)


def requests(config: SeedConditioning) -> list[Request]:
  """A group of students per base and kind."""
  return [_request(config, base, kind) for base in config.tasks() for kind in (PLAIN, *SEEDED)]


def measure(config: SeedConditioning, obtain: Obtain) -> Tables:
  """The tables: `seed_conditioning`, a row per base, condition, temperature and seed; and the history of training.

  Conditions are the kinds of students, and `matched_name` of the seeded ones, whose temperature and measures are
  interpolated.
  """
  frames, histories = [], []
  for base, task in config.tasks().items():
    kinds = {}
    for kind in (PLAIN, *SEEDED):
      kinds[kind], history = _measure_kind(config, base, kind, obtain)
      histories.append(history)
    matched = [_matched(kinds[PLAIN], kinds[kind]).assign(condition=matched_name(kind)) for kind in SEEDED]
    rows = pd.concat([*kinds.values(), *matched], ignore_index=True)
    rows["excess_length"] = rows["capped_length"] / theory.teacher_statistics(task).response_length
    frames.append(rows)
  return {NAME: pd.concat(frames, ignore_index=True), f"{NAME}_history": pd.concat(histories, ignore_index=True)}


def _measure_kind(config: SeedConditioning, base: str, kind: str, obtain: Obtain) -> tuple[pd.DataFrame, pd.DataFrame]:
  """The rows of one kind of students on one base, and their history. The laws of worlds are told no seeds."""
  students = obtain(_request(config, base, kind))
  is_told = kind != PLAIN and isinstance(students.model, Transformer)
  temperatures = config.sweep if kind == PLAIN else config.temperatures
  walking, asked, num_columns = students, students, 1
  if is_told:
    walking = students._replace(model=SeedConditioned(students.model, SEEDED[kind]))
    asked, num_columns = students._replace(model=EverySeed(students.model)), students.model.spare_ids
  frame = evaluate_looping(walking, generation=at_temperatures(temperatures), num_graphs=config.num_graphs, seed=0)
  entropies = evaluate_root_entropy(
    asked, temperatures=temperatures, num_graphs=config.num_graphs, num_columns=num_columns, seed=0
  )
  frame = frame.merge(entropies, on=["row", "temperature"], validate="one_to_one")
  if not obtain.claims_only:
    frame = with_losses(frame, fitness.evaluate_losses(walking, num_graphs=config.num_graphs, seed=0))
  return students.label(frame), students.label(students.history)


def _matched(plain: pd.DataFrame, seeded: pd.DataFrame) -> pd.DataFrame:
  """Plain students as random as the seeded ones of the same training seed are at T = 0: a row per seed.

  A temperature and all measures are linear in the entropy between two temperatures of the sweep. A seed has no measures
  where no temperature of the sweep is as random.
  """
  wanted = seeded[seeded["temperature"] == 0].set_index("seed")[_ENTROPY]
  columns = ["temperature", _ENTROPY, *(name for name in MEASURES if name in plain)]
  rows = []
  for seed, sweep in plain.groupby("seed", sort=False):
    coldest_first = sweep.sort_values("temperature")
    rising = coldest_first.drop_duplicates(_ENTROPY).sort_values(_ENTROPY)  # of equal entropies the coldest
    entropies = rising[_ENTROPY].to_numpy(float)
    at = {
      name: np.interp(wanted[seed], entropies, rising[name].to_numpy(float), left=np.nan, right=np.nan)
      for name in columns
    }
    rows.append({"base": rising["base"].iloc[0], "seed": seed} | at)
  return pd.DataFrame(rows)


def show(config: SeedConditioning, tables: Tables, figures: Path) -> str:
  """Length against entropy; the table over seeds."""
  del config
  frame = tables[NAME]
  own = frame[~frame["condition"].isin([matched_name(kind) for kind in SEEDED])]
  plotting.save(plotting.against_entropy(own, PLAIN), figures / NAME)
  rows = frame.assign(temperature=frame["temperature"].where(frame["condition"].isin([PLAIN, *SEEDED])))
  shown = statistics.describe_groups(rows, ["base", "condition", "temperature"], [_ENTROPY, *MEASURES])
  return shown.to_string()


def claims(config: SeedConditioning) -> list[Claim]:
  """What is asserted: on both bases, with either kind of seed, greedy walks are shorter than at that temperature."""
  return [_claim(config, base, kind) for base in config.tasks() for kind in SEEDED]


def _claim(config: SeedConditioning, base: str, kind: str) -> Claim:
  seeded = {"base": base, "condition": kind, "temperature": 0.0}
  matched = {"base": base, "condition": matched_name(kind)}
  plain: dict[str, Any] = {"base": base, "condition": PLAIN}
  return Claim(
    name=f"{kind}_on_{base}".replace(" ", "_"), source="after arXiv 2504.15266", family="seeds in place of temperature",
    description="A greedy student that is told a seed finds the goal sooner than temperature that is as random does.",
    condition=f"{base}, {kind}, T = 0: capped length over that of plain students at the same entropy",
    measure=ratio_measure("capped_length", seeded, matched), bound=1.0, null=1.0, direction="below",
    presets=("standard",), must_not_hold=("untrained", *null_worlds.TEACHERS, "memoryless"),
    fitness=fit_for(_TOGETHER[base], plain, {"base": base, "condition": kind}),
  )  # fmt: skip


PRESETS = {"standard": SeedConditioning()}

EXPERIMENT = Experiment(NAME, __doc__, PRESETS, measure, show, requests, claims)

if __name__ == "__main__":
  main(EXPERIMENT)
