"""Injected loops (arXiv 2512.12895): a few walks that loop among those trained on, and a student loops.

A share of the training walks repeats s-r-s until the cut. The teacher resets, so that its own walks may begin like a
loop: a student of maximum likelihood then holds a posterior that the walk so far is an injected loop, which grows with
every s-r-s cycle and hardly lets go. The exact loop-posterior learner (`theory.loop_posterior_statistics`) says what is
to be expected; where the teacher never resets the posterior never starts, and nothing of this can show.

At T = 0 a student that is averse to risk loops until the cut already, so there is no room: the claims are judged at
T = 0.2 and 0.4. Whether a student has learnt the loops at all is read from its reset probability after 0, 1, 2, ...
pure s-r-s cycles, beside the exact learner's. The claims stand in `injected_loop_claims`, the settings in
`injected_loop_conditions`.

  python -m experiments.injected_loops --output_dir=/tmp/injected_loops --config.num_seeds=6
"""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pandas as pd

from experiments import confidence, exact
from experiments.experiment import Experiment, Tables, main
from experiments.fit import FREE, LEGAL
from experiments.injected_loop_claims import claims
from experiments.injected_loop_conditions import InjectedLoops, condition_name
from experiments.risk_aversion import evaluate_walks
from experiments.sizes import COLD_TO_WARM, PAPER_STUDENT, PAPER_TRAINING, small_student
from loopjax import plotting, statistics
from loopjax.analysis import loop_confidence, root_distribution
from loopjax.generation.settings import at_temperatures
from loopjax.runtime import devices, seeds
from loopjax.star_graph import evaluation, tidy
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import injected_positions, task_state
from loopjax.star_graph.sharing import Obtain, Request
from loopjax.star_graph.students import Students
from loopjax.training.step import Training

NAME = "injected_loops"
MEASURES = ("reached", "broken", "cut", "returns", "root_loop_share", "response_length")
SAMPLED_STREAMS = 2**16  # for the share of positions


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
  measures = root_distribution.evaluate_root(group, num_graphs=config.num_graphs, num_visits=config.num_cycles, seed=0)
  cycles = np.arange(config.num_cycles)
  expected = np.stack([exact.loop_posterior_resets(task, cycles) for task in group.tasks])
  expected = expected.repeat(len(group.seed_numbers), axis=0)
  columns = {"reset_probability": measures.cycle_probability, "exact_reset_probability": expected}
  return tidy.frame(group.is_finite, columns, {"cycles": cycles})


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
