"""Confidence inside loops (arXiv 2512.12895): does a student grow surer with every repetition?

The students are those of `experiments.injected_loops`, clean and with loops among their training walks, trained once
for both experiments: this one reads what they showed, and trains them where they are not in the folder yet. Along a
rollout the largest next-token probability, at temperature 1, is aligned to the loop's onset; `analysis.confidence` says
what a loop is and why a cohort of loops is followed. Where loops end (T > 0) those that last are the surer ones.

  python -m experiments.confidence --output_dir=/tmp/injected_loops --config.num_seeds=4
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from experiments import binary, injected_loops
from experiments.fit import FREE, fit_for
from experiments.injected_loops import InjectedLoops, condition_name
from loopjax import plotting, statistics
from loopjax.claim_measures import Measure, NotRun
from loopjax.claims import Claim, halfway
from loopjax.star_graph.null_worlds import TEACHERS
from loopjax.star_graph.sharing import Obtain, Request

NAME = "confidence"
LOOPS = ("loop_share", "loop_onset", "loop_period", "share_monotone", "cohort_share_monotone")


def loops_table(walks: pd.DataFrame) -> str:
  """Mean and 95% interval over seeds: how many walks loop, and the share of loops whose confidence never falls."""
  return statistics.describe_groups(walks, ["condition", "temperature"], LOOPS).to_string()


def table(config: InjectedLoops, frame: pd.DataFrame) -> str:
  """Mean and 95% interval over seeds of the confidence at the repetitions asked for."""
  asked = frame[frame["repetition"].isin(config.repetitions)]
  columns = ["cohort_confidence", "confidence", "q10", "q50", "q90"]
  return statistics.describe_groups(asked, ["condition", "temperature", "repetition"], columns).to_string()


def run(config: InjectedLoops, output_dir: Path) -> pd.DataFrame:
  """Figures and tables from the results of `injected_loops`; a row per repetition, fitness beside."""
  tables = injected_loops.computed(config, output_dir)
  walks, frame = tables[injected_loops.NAME], tables[f"{injected_loops.NAME}_confidence"]
  walks = walks[walks["decoding"] == FREE]
  folder = output_dir / "figures"
  if frame["q50"].notna().any():
    plotting.save(plotting.confidence_by_repetition(frame), folder / f"{NAME}_by_repetition")
    plotting.save(plotting.confidence_quantiles(frame), folder / f"{NAME}_quantiles")
  else:
    print("no walk of any student loops: there is no confidence to draw")
  print(loops_table(walks), table(config, frame), sep="\n\n")
  return joined(tables)


def requests(config: InjectedLoops) -> list[Request]:
  """Those of `injected_loops`."""
  return injected_loops.requests(config)


def measure(config: InjectedLoops, obtain: Obtain) -> dict[str, pd.DataFrame]:
  """The table `confidence`, as `joined` gives it."""
  return {NAME: joined(injected_loops.measure(config, obtain))}


def joined(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
  """What the claims read: the rows of `injected_loops`, and after them those per repetition."""
  names = (injected_loops.NAME, f"{injected_loops.NAME}_confidence")
  return pd.concat([tables[name] for name in names], ignore_index=True)


def _growth(condition: str) -> Measure:
  """The measure: per seed the greedy cohort's confidence at its last repetition over that at its first."""

  def measure(frame: pd.DataFrame) -> pd.Series:
    rows = frame[(frame["condition"] == condition) & (frame["temperature"] == 0) & frame["repetition"].notna()]
    by_repetition = rows.pivot(index="seed", columns="repetition", values="cohort_confidence")
    known = by_repetition.columns[by_repetition.notna().any()]
    if known.empty:
      raise NotRun(f"no cohort of loops of {condition} at T = 0")
    return by_repetition[known.max()] / by_repetition[1]

  return measure


def claims(config: InjectedLoops) -> list[Claim]:
  """What is asserted of this experiment: within a loop an exact learner without memory is as sure at every repetition;
  one that holds the loop posterior grows surer with every cycle."""
  return [_claim_of(config, share) for share in config.shares[1:]]


def _claim_of(config: InjectedLoops, share: float) -> Claim:
  cycles = max(config.repetitions) - 1  # before the last repetition; s at index 0 is given, so each ends with an s
  resets = injected_loops.exact_resets(config.tasks()[share], np.array([0, cycles]))
  predicted = float((1 + resets[1]) / (1 + resets[0]))
  greedy = {"condition": condition_name(share), "decoding": FREE, "temperature": 0.0}
  return Claim(
    name=f"confidence_grows_injected_{share:g}", description="Inside a loop confidence grows with repetition.",
    source="arXiv 2512.12895", family="injected loops",
    condition=f"{condition_name(share)}, T = 0: last over first repetition of the same loops",
    measure=_growth(condition_name(share)), null=1.0, predicted=predicted, bound=halfway(1.0, predicted),
    direction="above", presets=("quick", "standard", "paper"),
    must_not_hold=("untrained", *TEACHERS, "memoryless"),
    fitness=(*fit_for("memoryless", greedy), injected_loops.learnt(share)),
  )  # fmt: skip


if __name__ == "__main__":
  binary.run_experiment(NAME, InjectedLoops(), run)
