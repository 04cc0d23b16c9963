"""What stops loops: remedies at decoding and in training, on the same tasks, seeds and graphs, with equal trials.

First all are screened: three settings each, three temperatures, on seeds that are not used again. The best setting of
the best remedies, and their default settings, then walk with fresh seeds, beside plain students at many temperatures.
What counts is whether a remedy beats the best temperature (`loopjax.leaderboard`). Bases: students that cannot find the
goal and turn back (risk aversion), one graph for all examples (errors that repeat), and injected loops.

  python -m experiments.remedies --preset=standard --output_dir=/tmp/remedies

What is done is kept for each remedy and base, so a run that was stopped goes on there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd
import tqdm

from experiments import remedy_units
from experiments.experiment import Experiment, Tables, main
from experiments.fit import fit_for
from experiments.remedy_catalogue import DECODING, TRAINING, TRIALS
from experiments.remedy_units import PLAIN, Unit
from experiments.risk_aversion import PRESETS as RISK_AVERSION
from experiments.sizes import small_student
from loopjax import leaderboard, plotting, statistics
from loopjax.claim_measures import ratio_measure
from loopjax.claims import Claim
from loopjax.models.transformer import Transformer
from loopjax.report import remedy_sentences
from loopjax.runtime import seeds
from loopjax.runtime.config import check_fields, require, require_distinct, require_temperatures
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.null_worlds import TEACHERS
from loopjax.star_graph.objective import row_length
from loopjax.star_graph.sharing import Obtain, Request
from loopjax.training.step import Training

NAME = "remedies"
BASES = ("risk aversion", "one fixed graph", "injected loops")
KINDS: Mapping[str, Collection[str]] = {"decoding": DECODING, "training": TRAINING, leaderboard.REFERENCE: (PLAIN,)}
SHOWN = [
  "reached", "broken", "cut", "root_loop_share", "locked_cycle_share", "excess_length", "persistence", "root_kl",
  "divergence", "teacher_divergence", "teacher_capped_length", "forward_passes", "trained_positions", "train_seconds",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Remedies:
  """Settings of the experiment.

  Attributes:
    risk_aversion: the base of that name.
    fixed_graph: the base `one fixed graph`.
    injected_loops: the base of that name.
    screened: the bases of the screening; none: there is no screening, and all remedies of `only` go on as they are by
      default.
    bases: those of the comparison.
    only: the remedies, by their names in the catalogue; all where none is named.
    model: the students' architecture.
    training: how they are trained.
    temperatures: at which every remedy is tried.
    sweep: the temperatures of plain students in the comparison.
    num_best: remedies of each kind, decoding and training, that the comparison takes from the screening.
    screening_seeds: students per setting in the screening.
    screening_first_seed: their first seed; none of theirs may be of the comparison.
    num_seeds: students per setting in the comparison.
    first_seed: their first seed.
    num_graphs: graphs that each student walks.
  """

  risk_aversion: StarGraph = StarGraph(num_chains=4, chain_length=2, max_steps=32, explore_prob=0.5)
  fixed_graph: StarGraph = StarGraph(
    num_chains=4, chain_length=2, max_steps=32, reset_prob=0.0, explore_prob=1.0, graph_fixed=True
  )
  injected_loops: StarGraph = StarGraph(
    num_chains=4, chain_length=2, max_steps=32, explore_prob=0.5, injected_share=0.1
  )
  screened: tuple[str, ...] = BASES[:2]
  bases: tuple[str, ...] = BASES
  only: tuple[str, ...] = ()
  model: Transformer = small_student(1)
  training: Training = Training(num_steps=2_000, rows_per_step=16, learning_rate=8e-3)
  temperatures: tuple[float, ...] = (0.0, 0.5, 1.0)
  sweep: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
  num_best: int = 5
  screening_seeds: int = 4
  screening_first_seed: int = 1_000
  num_seeds: int = 16
  first_seed: int = 2_000
  num_graphs: int = 128

  def __post_init__(self) -> None:
    check_fields(self)
    for field, least in (("screened", 0), ("bases", 1)):
      values = getattr(self, field)
      require(len(values) >= least and set(values) <= set(BASES), field, values, f"{least} or more of {BASES}")
      require_distinct(field, values)
    known = [*DECODING, *TRAINING]
    require(set(self.only) <= set(known), "only", self.only, f"some of {known}")
    require_temperatures(self.temperatures)
    require_temperatures(self.sweep, "sweep")
    require(self.num_best >= 1, "num_best", self.num_best, "at least 1")
    require(self.num_graphs >= 1, "num_graphs", self.num_graphs, "at least 1")
    ours = set(seeds.block(self.first_seed, self.num_seeds))
    theirs = set(seeds.block(self.screening_first_seed, self.screening_seeds))
    is_apart = not self.screened or not ours & theirs
    require(is_apart, "screening_first_seed", self.screening_first_seed, "such that no seed is of both parts")
    for base in BASES:
      self.task(base).check_prefers_forward()
      row_length(self.task(base), self.training)

  def task(self, base: str) -> StarGraph:
    """The task of a base."""
    return {BASES[0]: self.risk_aversion, BASES[1]: self.fixed_graph, BASES[2]: self.injected_loops}[base]

  def names(self) -> list[str]:
    """The remedies, those of decoding first."""
    return [name for name in (*DECODING, *TRAINING) if not self.only or name in self.only]


def _unit(config: Remedies, base: str, remedy: str, trials: Sequence[int], *, is_screening: bool) -> Unit:
  trials = tuple(trials)
  first, count = (
    (config.screening_first_seed, config.screening_seeds) if is_screening else (config.first_seed, config.num_seeds)
  )
  temperatures = config.sweep if remedy == PLAIN else config.temperatures
  return Unit(
    remedy, trials, remedy_units.settings_of(remedy, trials), base, config.task(base), config.model, config.training,
    temperatures, first, count, config.num_graphs,
  )  # fmt: skip


def _trials(remedy: str) -> range:
  return range(len(TRAINING[remedy].settings())) if remedy in TRAINING else range(TRIALS)


def _measured(units: Sequence[Unit], obtain: Obtain) -> pd.DataFrame:
  """The rows of all units, each computed once and kept."""
  bar = tqdm.tqdm(units, desc="remedies", unit="unit", disable=obtain.claims_only)
  return pd.concat([_measured_once(unit, obtain) for unit in bar], ignore_index=True)


def _measured_once(unit: Unit, obtain: Obtain) -> pd.DataFrame:
  name = f"{remedy_units.FOLDER}/{unit.name}"
  return obtain.once(name, unit, lambda: {name: remedy_units.measure_unit(unit, obtain)})[name]


def _screen(config: Remedies, obtain: Obtain) -> pd.DataFrame:
  """The rows of the screening: plain students, then every remedy with all of its trials."""
  units = [
    _unit(config, base, remedy, [0] if remedy == PLAIN else _trials(remedy), is_screening=True)
    for remedy in (PLAIN, *config.names())
    for base in config.screened
  ]
  return _measured(units, obtain)


def chosen(config: Remedies, screening: pd.DataFrame) -> pd.DataFrame:
  """The settings of the comparison: remedy, trial, temperature, as `leaderboard.choose` finds them, kind by kind."""
  kinds = [[name for name in config.names() if name in kind] for kind in (DECODING, TRAINING)]
  return pd.concat([leaderboard.choose(screening, kind, config.num_best) for kind in kinds if kind], ignore_index=True)


def _compare(config: Remedies, settings: dict[str, list[int]], obtain: Obtain) -> pd.DataFrame:
  """The rows of the comparison: plain students, then each remedy with its trials, at all temperatures."""
  trials = {PLAIN: [0], **settings}
  units = [
    _unit(config, base, remedy, numbers, is_screening=False)
    for remedy, numbers in trials.items()
    for base in config.bases
  ]
  return _measured(units, obtain)


def measure(config: Remedies, obtain: Obtain) -> Tables:
  """The tables: `remedies`, a row per base, remedy, trial, temperature and seed of the comparison; where there was a
  screening, `remedies_screening` likewise, and `remedies_leaderboard`, a row per base and chosen setting."""
  if not config.screened:
    return {NAME: _compare(config, {name: [0] for name in config.names()}, obtain)}
  screening = _screen(config, obtain)
  best = chosen(config, screening)
  trials = {remedy: sorted({0, trial}) for remedy, trial in zip(best["remedy"], best["trial"], strict=True)}
  frame = _compare(config, trials, obtain)
  board = judged(frame, best)
  return {NAME: frame, f"{NAME}_screening": screening, f"{NAME}_leaderboard": board}


def compared(best: pd.DataFrame) -> pd.DataFrame:
  """The settings to judge: those of `best`, and each remedy's default at the same temperature where it is another.

  Columns remedy, trial, temperature; is_chosen: it is of `best`; is_default: it is the remedy's default.
  """
  both = pd.concat([best.assign(is_chosen=True), best.assign(is_chosen=False, trial=0)])
  settings = both.drop_duplicates(leaderboard.SETTING)[[*leaderboard.SETTING, "is_chosen"]]
  return settings.assign(is_default=settings["trial"] == 0).reset_index(drop=True)


def judged(frame: pd.DataFrame, best: pd.DataFrame) -> pd.DataFrame:
  """The leaderboard: a row per base and setting of `compared`, and per base one of plain students at their best.

  Columns are those of `leaderboard.judge` and `leaderboard.error_ratios`, is_chosen, is_default, kind, setting, the
  means of `SHOWN` over seeds, and teacher_excess_length: what excess length the exact teacher has under the remedy.
  """
  keys, settings = leaderboard.KEYS, compared(best)
  plain = frame[frame["remedy"] == PLAIN]
  rows = frame.merge(settings, on=leaderboard.SETTING)
  effects = leaderboard.judge(rows, plain).merge(leaderboard.error_ratios(rows, plain), on=keys)
  references = leaderboard.references(plain).assign(is_chosen=False, is_default=False)
  board = pd.concat([effects.merge(settings, on=leaderboard.SETTING), references], ignore_index=True)
  kinds = {name: kind for kind, names in KINDS.items() for name in names}
  return board.assign(kind=board["remedy"].map(kinds)).merge(_means(frame), on=keys, validate="one_to_one")


def _means(frame: pd.DataFrame) -> pd.DataFrame:
  """The means over seeds of `SHOWN` and of teacher_excess_length; NaN where no remedy of the frame has them."""
  names = [*leaderboard.KEYS, "setting"]
  known = frame.reindex(columns=[*names, *SHOWN, "capped_length"])
  known["teacher_excess_length"] = known["teacher_capped_length"] * known["excess_length"] / known.pop("capped_length")
  return known.groupby(names, sort=False).mean().reset_index()


def requests(config: Remedies) -> list[Request]:
  """Plain students of the comparison; those of remedies follow from the screening."""
  return [remedy_units.plain_request(_unit(config, base, PLAIN, [0], is_screening=False)) for base in config.bases]


def table(frame: pd.DataFrame) -> str:
  """Mean and 95% interval over seeds, a row per base, remedy, trial and temperature."""
  columns = [column for column in SHOWN if column in frame]
  return statistics.describe_groups(frame, ["base", *leaderboard.SETTING], columns).to_string()


def show(config: Remedies, tables: Tables, figures: Path) -> str:
  """Locked cycles against excess length; the table over seeds, and the leaderboard where there is one.

  The figure has the chosen settings; where nothing was chosen, all.
  """
  del config
  frame, board = tables[NAME], tables.get(f"{NAME}_leaderboard")
  kinds = {name: kind for kind, names in KINDS.items() for name in names}
  if board is None:
    plotting.save(plotting.remedy_plane(frame, PLAIN, kinds), figures / NAME)
    return table(frame)
  chosen = board.loc[board["is_chosen"], leaderboard.SETTING].drop_duplicates()
  shown = pd.concat([frame[frame["remedy"] == PLAIN], frame.merge(chosen, on=leaderboard.SETTING)])
  plotting.save(plotting.remedy_plane(shown, PLAIN, kinds), figures / NAME)
  return f"{remedy_sentences.as_text(board)}\n\n{board.to_string()}\n\n{table(frame)}"


def _greedy(remedy: str) -> dict[str, object]:
  return {"base": BASES[0], "remedy": remedy, "trial": 0, "temperature": 0.0}


def claims(config: Remedies) -> list[Claim]:
  """What is asserted: two decoding remedies, at their defaults, help greedy students that turn back."""
  if BASES[0] not in config.bases or 0.0 not in (*config.temperatures, *config.sweep):
    return []
  described = {
    "DRY": "Greedy decoding with DRY finds the goal sooner than without.",
    "loop-triggered temperature": "Heat where a walk has locked finds the goal sooner than greedy decoding.",
  }
  return [
    Claim(
      name=f"{remedy.lower().replace(' ', '_').replace('-', '_')}_helps_greedy", description=text, source="ours",
      condition=f"{BASES[0]}, T = 0: capped length over that without the remedy",
      measure=ratio_measure("capped_length", _greedy(remedy), _greedy(PLAIN)), bound=1.0, null=1.0, direction="below",
      presets=("quick", "standard"), family="remedies", must_not_hold=("untrained", *TEACHERS),
      fitness=fit_for("memoryless", _greedy(PLAIN)),
    )
    for remedy, text in described.items()
  ]  # fmt: skip


_QUICK = RISK_AVERSION["quick"]

PRESETS = {
  "quick": Remedies(
    risk_aversion=_QUICK.hard, screened=(), bases=BASES[:1], only=("DRY", "loop-triggered temperature"),
    model=_QUICK.model, training=_QUICK.training, temperatures=(0.0,), sweep=(0.0, 0.5, 1.0),
    num_seeds=_QUICK.num_seeds, first_seed=_QUICK.first_seed,
  ),
  "standard": Remedies(),
}  # fmt: skip

EXPERIMENT = Experiment(NAME, __doc__, PRESETS, measure, show, requests, claims)

if __name__ == "__main__":
  main(EXPERIMENT)
