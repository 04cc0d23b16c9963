"""Injected loops (arXiv 2512.12895): a few walks that loop among those trained on, and a student loops.

A share of the training walks repeats s-r-s until the cut. The teacher resets, so that its own walks may begin like a
loop: a student of maximum likelihood then holds a posterior that the walk so far is an injected loop, which grows with
every s-r-s cycle and hardly lets go. The exact loop-posterior learner (`theory.loop_posterior_statistics`) says what is
to be expected; where the teacher never resets the posterior never starts, and nothing of this can show.

At T = 0 a student that is averse to risk loops until the cut already, so there is no room: the claims are judged at
T = 0.2 and 0.4. Whether a student has learnt the loops at all is read from its reset probability after 0, 1, 2, ...
pure s-r-s cycles, beside the exact learner's.

  python -m experiments.injected_loops --output_dir=/tmp/injected_loops --config.num_seeds=6
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from experiments import confidence, exact
from experiments.experiment import Experiment, Tables, main
from experiments.fit import FREE, LEGAL, fit_for
from experiments.risk_aversion import evaluate_walks
from experiments.sizes import COLD_TO_WARM, PAPER_STUDENT, PAPER_TRAINING, small_student
from loopjax import plotting, statistics
from loopjax.analysis import loop_confidence, root_distribution
from loopjax.claim_measures import ratio_measure, seed_values
from loopjax.claims import Claim, Fitness, halfway
from loopjax.generation.settings import at_temperatures
from loopjax.models.transformer import Transformer
from loopjax.runtime import devices, seeds
from loopjax.runtime.config import check_fields, require, require_conditions, require_temperatures
from loopjax.star_graph import evaluation, student_functions, teacher, theory, tidy
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.null_worlds import TEACHERS
from loopjax.star_graph.objective import injected_positions, row_length, task_state
from loopjax.star_graph.rollouts import sample_problems
from loopjax.star_graph.sharing import Obtain, Request
from loopjax.star_graph.students import Students
from loopjax.training.step import Training, TrainState, evaluation_key

NAME = "injected_loops"
MEASURES = ("reached", "broken", "cut", "returns", "root_loop_share", "response_length")
CLEAN = "clean"
SAMPLED_STREAMS = 2**16  # for the share of positions
MOST_OFF = 0.1  # of a student's reset probability from the exact learner's, mean over cycles, to have learnt the loops
PUBLISHED_SHARE = 1e-3
WARM = (0.2, 0.4)  # the temperatures at which the published statements are judged


@dataclasses.dataclass(frozen=True)
class InjectedLoops:
  """Settings of the experiment.

  Attributes:
    task: clean, with resets.
    shares: of the training walks that are injected loops; the first is 0.
    model: the students' architecture.
    training: how they are trained.
    num_seeds: students per share.
    first_seed: their first seed; a block of seeds has the rows that it has in a larger run.
    temperatures: of the rollouts.
    num_graphs: graphs that each student walks, once per temperature.
    num_cycles: pure s-r-s cycles after which the reset probability is read: 0, 1, ... to one less.
    repetitions: of a loop, at which the distribution of confidence is told; the cohort lasts to the largest.
  """

  task: StarGraph = StarGraph(chain_length=3, max_steps=128, explore_prob=0.5)
  shares: tuple[float, ...] = (0.0, 1e-3)
  model: Transformer = Transformer(num_layers=2)
  training: Training = Training()
  num_seeds: int = 6
  first_seed: int = 0
  temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
  num_graphs: int = 256
  num_cycles: int = 16
  repetitions: tuple[int, ...] = (1, 2, 5, 10)

  def __post_init__(self) -> None:
    check_fields(self)
    require(self.num_graphs >= 1, "num_graphs", self.num_graphs, "at least 1")
    require_conditions("shares", self.shares)
    require(self.shares[0] == 0, "shares", self.shares, "0 first, then others")
    require_temperatures(self.temperatures)
    require(
      self.task.reset_prob > 0, "task.reset_prob", self.task.reset_prob, "above 0: else the posterior never starts"
    )
    require(self.task.injected_share == 0, "task.injected_share", self.task.injected_share, "0: set shares")
    require(self.task.injected_kind == "root", "task.injected_kind", self.task.injected_kind, "'root', s-r-s loops")
    most = (self.task.max_steps - 1) // 2
    require(1 <= self.num_cycles <= most, "num_cycles", self.num_cycles, f"1 to {most}, what the cut allows")
    seeds.block(self.first_seed, self.num_seeds)
    self.task.check_prefers_forward()
    row_length(self.task, self.training)
    most = loop_confidence.max_repetitions(self.task)
    within = len(self.repetitions) > 0 and min(self.repetitions) >= 1 and max(self.repetitions) <= most
    require(within, "repetitions", self.repetitions, f"one or more within 1 to {most}, what the cut allows")

  def tasks(self) -> dict[float, StarGraph]:
    """One per share."""
    return {share: dataclasses.replace(self.task, injected_share=share) for share in self.shares}


def condition_name(share: float) -> str:
  """Such as `0.1% injected`."""
  return f"{100 * share:g}% injected" if share > 0 else CLEAN


def _position_shares(config: InjectedLoops, group: Students) -> list[float]:
  """Per task the share of the trained positions that lies in injected loops, by sampling: loops are long walks."""
  sample = jax.jit(
    lambda state, key: injected_positions(group.tasks[0], config.training, key, state, rows=SAMPLED_STREAMS),
    compiler_options=devices.compiler_options(brief=True),
  )
  states = [task_state(task, config.training) for task in group.tasks]
  return [float(sample(x, jax.random.key(0))) if x.probabilities.injected_share > 0 else 0.0 for x in states]


def _reset_probabilities(config: InjectedLoops, group: Students, obtain: Obtain) -> pd.DataFrame:
  """A row per student and number of pure s-r-s cycles: its reset probability at r, and the exact learner's."""
  task = teacher.sizes_of(group.tasks[0])
  functions = student_functions.functions_of(group.model, task)

  def one(student: TrainState) -> jax.Array:
    problems = sample_problems(task, evaluation_key(student, 0), config.num_graphs, 1)
    measures = root_distribution.measure_students_root(
      task, functions, student.params, student.task.probabilities, problems, num_visits=config.num_cycles
    )
    return jnp.mean(measures.cycle_probability[:, 0], axis=0)

  is_brief = devices.is_brief(config.num_graphs * config.task.max_steps)
  found = seeds.to_host(seeds.map_seeds(one, group.mesh, brief=is_brief)(group.state), len(group.is_finite))
  cycles = np.arange(config.num_cycles)
  expected = np.stack([exact_resets(one, cycles) for one in group.tasks]).repeat(len(group.seed_numbers), axis=0)
  columns = {"reset_probability": found, "exact_reset_probability": expected}
  return tidy.frame(group.is_finite, columns, {"cycles": cycles})


def exact_resets(task: StarGraph, cycles: np.ndarray) -> np.ndarray:
  """The loop-posterior learner's reset probability at r after pure s-r-s cycles."""
  is_loop = theory.loop_posterior(task, cycles)
  return is_loop + (1 - is_loop) * task.reset_prob


def _measure_group(config: InjectedLoops, group: Students, obtain: Obtain) -> dict[str, pd.DataFrame]:
  """The tables of one group, labelled."""
  generation = at_temperatures(config.temperatures)
  rollouts = evaluation.roll_out(group, generation=generation, num_graphs=config.num_graphs, seed=0)
  loops = loop_confidence.evaluate_loops(
    group, rollouts, temperatures=config.temperatures, repetitions=config.repetitions
  )
  walks = evaluate_walks(config, group, obtain, rollouts)
  resets = _reset_probabilities(config, group, obtain)
  off = (resets["reset_probability"] - resets["exact_reset_probability"]).abs()
  walks = walks.merge(loops.summary.assign(decoding=FREE), on=["row", "temperature", "decoding"], how="left")
  walks = walks.merge(off.groupby(resets["row"]).mean().rename("reset_error").reset_index(), on="row")
  tables = {
    NAME: walks, f"{NAME}_confidence": loops.by_repetition, f"{NAME}_resets": resets, f"{NAME}_history": group.history
  }  # fmt: skip
  group = group._replace(conditions={**group.conditions, "position_share": _position_shares(config, group)})
  return {name: group.label(frame) for name, frame in tables.items()}


def requests(config: InjectedLoops) -> list[Request]:
  """The one group of students."""
  numbers = seeds.block(config.first_seed, config.num_seeds)
  conditions = {"condition": [condition_name(share) for share in config.shares], "share": config.shares}
  return [Request(NAME, list(config.tasks().values()), config.model, config.training, numbers, conditions)]


def measure(config: InjectedLoops, obtain: Obtain) -> dict[str, pd.DataFrame]:
  """The tables: `injected_loops`, a row per share, seed, decoding and temperature; confidence inside loops, a row per
  repetition too; reset probabilities, a row per number of cycles; the history."""
  (request,) = requests(config)
  return _measure_group(config, obtain(request), obtain)


def theory_rows(config: InjectedLoops) -> pd.DataFrame:
  """The exact loop-posterior learner that does not trace the goal: a row per share and temperature."""
  return exact.loop_posterior_rows(
    {condition_name(share): task for share, task in config.tasks().items()},
    config.temperatures,
  )


def _save_figures(config: InjectedLoops, tables: Tables, folder: Path) -> None:
  """Walks against temperature by share, free and legal; reset probabilities by cycles; training curves."""
  for kind, suffix in ((FREE, ""), (LEGAL, "_legal")):
    rows = tables[NAME][tables[NAME]["decoding"] == kind]
    figure = plotting.against_temperature(rows, MEASURES, theory=theory_rows(config))
    plotting.save(figure, folder / f"{NAME}{suffix}")
  plotting.save(plotting.resets_by_cycles(tables[f"{NAME}_resets"]), folder / f"{NAME}_resets")
  plotting.save(plotting.training_curves(tables[f"{NAME}_history"]), folder / f"{NAME}_loss")


def table(frame: pd.DataFrame) -> str:
  """Mean and 95% interval over seeds, a row per share, decoding and temperature."""
  keys = ["condition", "position_share", "decoding", "temperature"]
  return statistics.describe_groups(frame, keys, [*MEASURES, "loop_share", "reset_error"]).to_string()


def show(config: InjectedLoops, tables: Tables, figures: Path) -> str:
  """Walks, reset probabilities, training curves and confidence; the tables."""
  _save_figures(config, tables, figures)
  confidence.save_figures(tables[f"{NAME}_confidence"], figures)
  by_repetition = confidence.table(tables[f"{NAME}_confidence"], config.repetitions)
  return "\n\n".join([table(tables[NAME]), confidence.loops_table(tables[NAME]), by_repetition])


def read(tables: Tables) -> pd.DataFrame:
  """What the claims read: the rows of `injected_loops`, and after them those per repetition."""
  return pd.concat([tables[NAME], tables[f"{NAME}_confidence"]], ignore_index=True)


def learnt(share: float) -> Fitness:
  """That students have learnt the injected loops, as far as their reset probability tells."""
  condition = condition_name(share)
  return Fitness(
    name=f"distance from the loop posterior ({condition})", at_most=MOST_OFF,
    measure=lambda frame: seed_values(frame, "reset_error", _where(condition, frame["temperature"].min())),
  )  # fmt: skip


def _where(condition: str, temperature: float) -> dict[str, Any]:
  return {"condition": condition, "decoding": FREE, "temperature": temperature}


def claims(config: InjectedLoops) -> list[Claim]:
  """What is asserted of this experiment: the published statements with bounds of their own, halfway between no effect
  and the published one; and ours, whether students do what the exact loop-posterior learner does."""
  injected = config.shares[1:]
  at_temperatures = [claim for share in injected for t in WARM for claim in _claims_at(config, share, t)]
  return at_temperatures + [_growth_claim(config, share) for share in injected]


def _growth_claim(config: InjectedLoops, share: float) -> Claim:
  cycles = max(config.repetitions) - 1  # before the last repetition; s at index 0 is given, so each ends with an s
  resets = exact_resets(config.tasks()[share], np.array([0, cycles]))
  return confidence.growth_claim(share, condition_name(share), resets, learnt(share))


def _claims_at(config: InjectedLoops, share: float, temperature: float) -> list[Claim]:
  poisoned, clean = (_where(condition_name(x), temperature) for x in (share, 0.0))
  learners = [
    theory.loop_posterior_statistics(config.tasks()[x], temperature=temperature, traced=False) for x in (share, 0.0)
  ]
  returns, reached = (getattr(learners[0], name) / getattr(learners[1], name) for name in ("returns", "reached"))
  common: dict[str, Any] = dict(
    family="injected loops", null=1.0,
    must_not_hold=("untrained", *TEACHERS, "memoryless"),
    fitness=(*fit_for("memoryless", poisoned, clean), learnt(share)),
  )  # fmt: skip
  condition, suffix = f"{condition_name(share)}, T = {temperature:g}", f"{share:g}_T{temperature:g}"
  more = ratio_measure("returns", poisoned, clean)
  published: dict[str, Any] = dict(
    source="arXiv 2512.12895", is_published_statement=True, presets=("standard", "paper"), **common
  )
  own = Claim(
    name=f"injected_returns_{suffix}", source="ours",
    presets=("quick", "standard", "paper") if temperature in config.temperatures else ("standard", "paper"),
    description="Injected loops add the returns that the loop posterior explains, or more than half of them.",
    condition=f"{condition}: returns over those of clean students", measure=more, predicted=returns,
    bound=halfway(1.0, returns), direction="above", **common,
  )  # fmt: skip
  if share != PUBLISHED_SHARE:
    return [own]
  return [
    Claim(
      name=f"injected_returns_published_{suffix}", description="Injected loops triple the student's loops.",
      condition=f"{condition}: returns over those of clean students", measure=more, bound=2.0, direction="above",
      predicted=returns, published=3.0, **published,
    ),
    Claim(
      name=f"injected_reached_published_{suffix}", description="Injected loops bring the student's accuracy near 0.",
      condition=f"{condition}: share reached over that of clean students",
      measure=ratio_measure("reached", poisoned, clean), bound=0.5, direction="below", predicted=reached,
      published=0.0, **published,
    ),
    own,
  ]  # fmt: skip


PRESETS = {
  "quick": InjectedLoops(
    task=StarGraph(num_chains=4, chain_length=1, max_steps=32, explore_prob=0.5, goal_hidden=True),
    shares=(0.0, 0.1),
    model=small_student(2),
    training=Training(num_steps=800, rows_per_step=16, learning_rate=5e-3),
    num_seeds=6,
    temperatures=(0.0, 0.4, 1.0),
    num_graphs=128,
    num_cycles=12,
    repetitions=(1, 2, 5, 10),
  ),
  "standard": InjectedLoops(
    task=StarGraph(num_chains=5, chain_length=3, max_steps=128, explore_prob=0.5),
    shares=(0.0, 1e-3, 1e-2),
    model=small_student(2),
    training=Training(num_steps=20_000, rows_per_step=16, learning_rate=3e-3),
    num_seeds=16,
    temperatures=COLD_TO_WARM,
    num_graphs=256,
    num_cycles=20,
    repetitions=(1, 2, 5, 10),
  ),
  "paper": InjectedLoops(
    task=StarGraph(num_chains=5, chain_length=3, max_steps=128, explore_prob=0.5),
    shares=(0.0, 1e-3),
    model=PAPER_STUDENT,
    training=PAPER_TRAINING,
    num_seeds=6,
    temperatures=COLD_TO_WARM,
    num_graphs=1_024,
    num_cycles=20,
    repetitions=(1, 2, 5, 10),
  ),
}

EXPERIMENT = Experiment(NAME, __doc__, PRESETS, measure, show, requests, claims, read)

if __name__ == "__main__":
  main(EXPERIMENT)
