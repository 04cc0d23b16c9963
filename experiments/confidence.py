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
from experiments.injected_loops import MAIN, InjectedLoops, condition_name
from loopjax import plotting, results, statistics
from loopjax.claims import Claim, Measure, NotRun, seed_values
from loopjax.statistics import Interval

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
  """Figures and tables of the main students, from the results of `injected_loops`; a row per repetition."""
  walks = injected_loops.computed(config, output_dir)
  frame = results.read_frame(output_dir / "results" / f"{injected_loops.NAME}_confidence.parquet")
  walks, frame = (x[x["part"] == MAIN] for x in (walks, frame))
  folder = output_dir / "figures"
  plotting.save(plotting.confidence_by_repetition(frame), folder / f"{NAME}_by_repetition")
  plotting.save(plotting.confidence_quantiles(frame), folder / f"{NAME}_quantiles")
  print(loops_table(walks), table(config, frame), sep="\n\n")
  return frame


def _growth(condition: str) -> Measure:
  """The measure: greedy cohort confidence at its last repetition over that at its first, paired by seed."""

  def measure(frame: pd.DataFrame) -> Interval:
    where = {"condition": condition, "temperature": 0.0}
    known = frame[frame["cohort_confidence"].notna() & (frame["condition"] == condition) & (frame["temperature"] == 0)]
    if known.empty:
      raise NotRun(f"no cohort of loops with {where}")
    ends = (known["repetition"].max(), 1)
    last, first = (seed_values(frame, "cohort_confidence", where | {"repetition": end}) for end in ends)
    return statistics.ratio_interval(np.asarray(last), np.asarray(first.reindex(last.index)), paired=True)

  return measure


def claims() -> list[Claim]:
  """What is asserted of this experiment; registered before it was run at any size."""
  paper, large, every = "arXiv 2512.12895", ("standard", "paper"), ("quick", "standard", "paper")
  registered = []
  for name, share, presets in (("clean", 0.0, every), ("injected", 1e-3, large)):
    condition = condition_name(share)
    registered.append(
      Claim(
        name=f"confidence_grows_{name}", description="Inside a loop confidence grows with repetition.", source=paper,
        condition=f"no hardness, {condition}, T = 0, last over first repetition of the same loops",
        measure=_growth(condition), bound=1.0, direction="above", presets=presets,
      )
    )  # fmt: skip
  return registered


if __name__ == "__main__":
  binary.run_experiment(NAME, InjectedLoops(), run)
