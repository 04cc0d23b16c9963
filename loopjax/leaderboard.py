"""Which remedies help: settings chosen on some seeds, judged on others, against the best temperature.

The score of a setting is its *excess length*: nodes to the goal over the exact teacher's, where a walk that does not
reach the goal counts as long as the cut. Loops, broken walks and detours all make it larger. Smaller is better.

- `choose` takes, for each remedy, the one setting with the lowest score over all bases. It sees the screening alone.
- `judge` holds the chosen settings against plain students at their best temperature, seed by seed, on fresh seeds. That
  temperature is chosen on the very seeds that judge, which favours it, so that a remedy that wins wins against more.
- `error_ratios` asks whether the students' own error is smaller, which decoding cannot make it.

Frames have a row per base, remedy, trial, temperature and seed, as `experiments.remedy_units` makes them.

Shapes: S seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from loopjax import statistics
from loopjax.runtime.config import require

SCORE, LOOPS, ERROR = "excess_length", "locked_cycle_share", "root_kl"
SETTING = ["remedy", "trial", "temperature"]
KEYS = ["base", *SETTING]
BETTER, WORSE, UNDECIDED = "better", "worse", "undecided"
REFERENCE = "reference"  # in place of a verdict, and of a kind of remedy: plain students at their best temperature
LEVEL = 0.05


def scores(frame: pd.DataFrame) -> pd.DataFrame:
  """The score of every setting: remedy, trial, temperature, score; lowest first.

  It is the mean over bases of the mean over seeds of log excess length: bases count alike, whatever their lengths. A
  setting in which some student diverged has no score, and stands last.
  """
  logs = frame.assign(score=np.log(frame[SCORE]))
  by_base = logs.groupby(KEYS, sort=False)["score"].agg(lambda values: values.mean(skipna=False))
  by_setting = by_base.groupby(SETTING, sort=False).agg(lambda values: values.mean(skipna=False))
  return by_setting.reset_index().sort_values("score", kind="stable", ignore_index=True)


def choose(frame: pd.DataFrame, remedies: Sequence[str], count: int) -> pd.DataFrame:
  """The best setting of the `count` best of these remedies: remedy, trial, temperature, score; the best first."""
  ranked = scores(frame[frame["remedy"].isin(list(remedies))])
  return ranked.drop_duplicates("remedy").head(count).reset_index(drop=True)


def best_temperatures(plain: pd.DataFrame) -> dict[Any, float]:
  """For each base the temperature at which plain students have the lowest mean log excess length."""
  logs = plain.assign(score=np.log(plain[SCORE])).groupby(["base", "temperature"])["score"].mean()
  return {base: float(one.droplevel(0).idxmin()) for base, one in logs.groupby(level=0)}


def judge(frame: pd.DataFrame, plain: pd.DataFrame) -> pd.DataFrame:
  """A row per base and setting of `frame`: its effect against the best temperature, with a verdict.

  Args:
    frame: the settings to judge, several seeds each.
    plain: students without a remedy at several temperatures, on the same seeds.

  Returns:
    Columns base, remedy, trial, temperature; best_temperature; ratio, ratio_low, ratio_high: the median over seeds of
    the excess length over that at the best temperature, with its 95% interval by order statistics; p_value of the sign
    test and holm, adjusted for all rows; verdict: `better` or `worse` where holm is below 0.05, else `undecided`; and
    loops_at_equal_success, its ends and equal_temperature, as `_at_equal_success` has them.
  """
  best, rows = best_temperatures(plain), []
  for key, one in frame.groupby(KEYS, sort=False):
    base, *setting = key
    of_base = plain[plain["base"] == base]
    against = _by_seed(of_base[of_base["temperature"] == best[base]], SCORE)
    logs = _log_ratios(_by_seed(one, SCORE), against)
    test = statistics.sign_test(logs, 0.0)
    rows.append({
      "base": base, **dict(zip(SETTING, setting, strict=True)), "best_temperature": best[base],
      **_median_ratio("ratio", logs), "p_value": test.p_value, "is_below": test.direction == "below",
      **_at_equal_success(one, of_base),
    })  # fmt: skip
  judged = pd.DataFrame(rows)
  judged["holm"] = statistics.holm(judged["p_value"].to_numpy())
  is_sure = judged["holm"] < LEVEL
  judged["verdict"] = np.where(~is_sure, UNDECIDED, np.where(judged.pop("is_below"), BETTER, WORSE))
  return judged


def error_ratios(frame: pd.DataFrame, plain: pd.DataFrame) -> pd.DataFrame:
  """A row per base and setting of `frame`: how far its students are from the teacher, against plain students.

  The distance is root_kl, which no decoding and no temperature changes.

  Args:
    frame: as in `judge`, with the column root_kl.
    plain: as in `judge`, with that column.

  Returns:
    Columns base, remedy, trial, temperature; root_kl_ratio, root_kl_ratio_low, root_kl_ratio_high: the median over
    seeds of root_kl over that of the plain student of the same seed, with its 95% interval by order statistics. The
    intervals are not adjusted for how many there are.
  """
  own = plain.drop_duplicates(["base", "seed"])
  rows = []
  for key, one in frame.groupby(KEYS, sort=False):
    logs = _log_ratios(_by_seed(one, ERROR), _by_seed(own[own["base"] == key[0]], ERROR))
    rows.append(dict(zip(KEYS, key, strict=True)) | _median_ratio(f"{ERROR}_ratio", logs))
  return pd.DataFrame(rows)


def references(plain: pd.DataFrame) -> pd.DataFrame:
  """A row per base as those of `judge`: plain students at their best temperature, which have ratio 1 and no test."""
  best = best_temperatures(plain)
  rows = plain[KEYS].drop_duplicates()
  at_best = rows[rows["temperature"] == rows["base"].map(best)]
  return at_best.assign(
    best_temperature=at_best["temperature"], ratio=1.0, root_kl_ratio=1.0, verdict=REFERENCE
  ).reset_index(drop=True)


def _log_ratios(values: pd.Series, against: pd.Series) -> np.ndarray:
  """log(values / against) [S], seed by seed; NaN where either is zero or missing."""
  with np.errstate(divide="ignore", invalid="ignore"):
    logs = np.log((values / against).to_numpy(float))
  return np.where(np.isfinite(logs), logs, np.nan)


def _median_ratio(name: str, logs: np.ndarray) -> dict[str, float]:
  """The median ratio and the ends of its interval, from its logarithms [S]."""
  interval = statistics.median_interval(logs)
  ends = {name: interval.median, f"{name}_low": interval.low, f"{name}_high": interval.high}
  return {key: float(np.exp(value)) for key, value in ends.items()}


def _by_seed(rows: pd.DataFrame, column: str) -> pd.Series:
  """The column [S] by seed, in the order of seeds."""
  require(not rows["seed"].duplicated().any(), "frame", "several rows of one seed", "one row per setting and seed")
  return rows.set_index("seed")[column].sort_index()


def _at_equal_success(one: pd.DataFrame, plain: pd.DataFrame) -> dict[str, float]:
  """Locked cycles of a setting minus those of plain students that succeed as often: median and interval over seeds.

  Of the temperatures at which plain students reach the goal at least as often in the mean, it is the one with the
  fewest locked cycles. All is NaN where there is none: then the remedy succeeds where no temperature does.
  """
  means = plain.groupby("temperature")[["reached", LOOPS]].mean()
  as_good = means[means["reached"] >= one["reached"].mean()]
  names = ("loops_at_equal_success", "loops_at_equal_success_low", "loops_at_equal_success_high", "equal_temperature")
  if as_good.empty:
    return dict.fromkeys(names, np.nan)
  temperature = float(as_good[LOOPS].idxmin())
  against = _by_seed(plain[plain["temperature"] == temperature], LOOPS)
  interval = statistics.median_interval((_by_seed(one, LOOPS) - against).to_numpy())
  values = (interval.median, interval.low, interval.high, temperature)
  return dict(zip(names, map(float, values), strict=True))
