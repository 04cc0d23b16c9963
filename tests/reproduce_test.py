"""The road from preset to claims table, small; folders of other configs and bad flags are refused."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

import jax
import pandas as pd
from absl.testing import absltest, parameterized

from experiments import binary, injected_loops, presets, proposition_one, reproduce, risk_aversion, temporal_errors
from loopjax import files
from loopjax.star_graph import StarGraph
from loopjax.training import Training
from loopjax.transformer import Transformer

MODEL = Transformer(num_layers=1, num_heads=2, width=16)
TRAINING = Training(num_steps=3, rows_per_step=2)
TINY = presets.Preset(
  risk_aversion=risk_aversion.RiskAversion(
    easy=StarGraph(num_chains=2, chain_length=1, max_steps=8, explore_prob=0.5),
    hard=StarGraph(num_chains=2, chain_length=2, max_steps=8, explore_prob=0.5),
    model=MODEL, training=TRAINING, temperatures=(0.0, 1.0), num_seeds=3, num_graphs=4,
  ),
  proposition_one=proposition_one.PropositionOne(
    task=StarGraph(num_chains=3, chain_length=1, goal_hidden=True, max_steps=8),
    num_children=(3,), cycle_probs=(0.1, 0.5), model=MODEL, training=TRAINING, num_visits=2, num_seeds=3, num_graphs=4,
  ),
  temporal_errors=temporal_errors.TemporalErrors(
    task=StarGraph(num_chains=2, chain_length=1, max_steps=8, reset_prob=0.0, explore_prob=1.0),
    visited_margins=(0.0, 0.1), model=MODEL, training=TRAINING, temperatures=(0.0, 1.0), num_seeds=3, num_graphs=4,
    walks_per_graph=2, num_lags=2,
  ),
  injected_loops=injected_loops.InjectedLoops(
    task=StarGraph(num_chains=2, chain_length=1, max_steps=8, reset_prob=0.0, explore_prob=1.0, injected_kind="child"),
    easy=StarGraph(num_chains=2, chain_length=1, max_steps=8, explore_prob=0.5), shares=(0.0, 0.5), model=MODEL,
    training=TRAINING, num_seeds=3, map_kinds=("root",), map_shares=(0.0, 0.1), map_training=TRAINING, map_seeds=2,
    temperatures=(0.0, 1.0), num_graphs=4, repetitions=(1, 2),
  ),
)  # fmt: skip


def setUpModule():
  jax.config.update("jax_disable_most_optimizations", True)  # compiling takes most of the time


def tearDownModule():
  jax.config.update("jax_disable_most_optimizations", False)


class ReproduceTest(absltest.TestCase):
  def test_everything_is_written_and_nothing_is_run_twice_or_under_another_config(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.enterContext(mock.patch.dict(presets.PRESETS, tiny=TINY))
    table = reproduce.run("tiny", folder)
    written = pd.read_csv(folder / "claims.csv")
    self.assertEqual(list(written.columns[:6]), ["claim", "value", "low", "high", "published", "verdict"])
    self.assertEqual(set(written["verdict"]), {"not run"})  # the preset is in no claim's list
    self.assertLen(table, sum(len(experiment.claims()) for experiment in reproduce.EXPERIMENTS.values()))
    errors = [f"temporal_errors{suffix}" for suffix in ("", "_by_lag", "_by_visit", "_loss")]
    injected = [f"injected_loops{suffix}" for suffix in ("", "_no_hardness_root", "_easy_root", "_map", "_loss")]
    inside = [f"confidence_{suffix}" for suffix in ("by_repetition", "quantiles")]
    for name in ("risk_aversion", "proposition_one", "proposition_one_phase_diagram", *errors, *injected, *inside):
      for suffix in (".png", ".svg"):
        self.assertGreater((folder / "figures" / f"{name}{suffix}").stat().st_size, 2_000)

    page = (folder / "report.html").read_text(encoding="utf-8")
    for name in reproduce.EXPERIMENTS:
      self.assertIn(f'id="of-{name}"', page)
    self.assertNotIn("Not read", page)
    self.assertGreater(files.read_json(folder / "results" / "risk_aversion.json")["wall_seconds"], 0)

    walks = pd.read_parquet(folder / "results" / "risk_aversion.parquet")
    self.assertLen(walks, 4 * 3 * 2)
    self.assertFalse(walks.duplicated(["condition", "seed", "temperature"]).any())
    self.assertTrue(walks["response_length"].between(2, 8).all())
    root = pd.read_parquet(folder / "results" / "proposition_one.parquet")
    self.assertLen(root, 2 * 3 * 2)
    self.assertTrue(root["total_variation"].between(0, 1).all())
    visits = pd.read_parquet(folder / "results" / "temporal_errors.parquet")
    self.assertLen(visits, 2 * 3 * (2 + 1))
    self.assertFalse(visits.duplicated(["condition", "seed", "walks", "temperature"]).any())
    self.assertTrue(visits["persistence"].dropna().between(0, 1).all())
    self.check_injected_loops(folder / "results")

    with mock.patch.object(risk_aversion, "compute", side_effect=AssertionError("ran again")):
      pd.testing.assert_frame_equal(risk_aversion.run(TINY.risk_aversion, folder), walks)
      other = dataclasses.replace(TINY.risk_aversion, num_graphs=5)
      with self.assertRaisesRegex(ValueError, "num_graphs=4 there, 5 asked for"):
        risk_aversion.run(other, folder)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "results" / "risk_aversion.parquet"), walks)

  def check_injected_loops(self, folder: pathlib.Path) -> None:
    walks = pd.read_parquet(folder / "injected_loops.parquet")
    self.assertLen(walks, (2 * 3 + 2 * 2 * 2) * 2)
    students = ["part", "base", "kind", "share", "seed", "temperature"]
    self.assertFalse(walks.duplicated(students).any())
    is_clean = walks["share"] == 0
    self.assertTrue((walks["position_share"][is_clean] == 0).all())
    self.assertTrue((walks["position_share"] >= walks["share"]).all())  # loops are long walks
    repetitions = pd.read_parquet(folder / "injected_loops_confidence.parquet")
    self.assertLen(repetitions, len(walks) * 8 // 2)
    self.assertFalse(repetitions.duplicated([*students, "repetition"]).any())

  def test_presets_keep_their_promises(self):
    standard = presets.PRESETS["standard"]
    runs = [(tasks[0], standard.risk_aversion.training) for tasks in standard.risk_aversion.tasks().values()]
    runs += [(group.tasks[0], group.training) for group in standard.injected_loops.groups()]
    for task, training in [*runs, (standard.temporal_errors.task, standard.temporal_errors.training)]:
      self.assertLessEqual(training.num_steps * training.rows_per_step * training.length(task), 10_000_000)
    for preset in presets.PRESETS.values():
      self.assertGreaterEqual(min(preset.risk_aversion.num_seeds, preset.temporal_errors.num_seeds), 4)
      self.assertGreaterEqual(min(preset.injected_loops.num_seeds, preset.injected_loops.map_seeds), 4)

  def test_claims_have_names_of_their_own(self):
    names = [claim.name for experiment in reproduce.EXPERIMENTS.values() for claim in experiment.claims()]
    self.assertLen(set(names), len(names))


class HoldingTest(absltest.TestCase):
  def test_of_several_processes_the_first_holds_the_folder_for_all(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    with binary.holding(folder):
      with self.assertRaisesRegex(files.Locked, "another process works there"):
        binary.holding(folder).__enter__()
      with mock.patch.object(jax, "process_index", return_value=1), binary.holding(folder):
        pass


class BadInputTest(parameterized.TestCase):
  @parameterized.parameters(
    ("experiments.risk_aversion", "--config.hard.num_chains=0", "num_chains=0"),
    ("experiments.risk_aversion", "--config.hard.reset_prob=0.6", "the teacher prefers the reset"),
    ("experiments.risk_aversion", "--config.training.learning_rate=inf", "training.learning_rate=inf"),
    ("experiments.risk_aversion", "--config.model.num_heads=3", "divisible by model.num_heads=3"),
    ("experiments.risk_aversion", "--config.training.stream_length=5", "for the longest walk"),
    ("experiments.proposition_one", "--config.num_visits=100", "num_visits=100"),
    ("experiments.temporal_errors", "--config.visited_margins=0,0.3", "task.visited_margin=0.3"),
    ("experiments.temporal_errors", "--config.walks_per_graph=1", "walks_per_graph=1"),
    ("experiments.injected_loops", "--config.shares=0.001", "shares=(0.001,)"),
    ("experiments.injected_loops", "--config.map_kinds=spiral", "task.injected_kind='spiral'"),
    ("experiments.confidence", "--config.repetitions=1,50", "repetitions=(1, 50)"),
    ("experiments.reproduce", "--preset=huge", "huge"),
  )
  def test_one_line_and_a_non_zero_exit(self, module, flag, message):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.refused([module, flag, f"--output_dir={folder}/out"], message)
    self.assertFalse(pathlib.Path(folder, "out").exists())

  def refused(self, arguments: list[str], message: str) -> None:
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=False, timeout=120)
    self.assertEqual(done.returncode, 2)
    self.assertLen(done.stderr.strip().splitlines(), 1, done.stderr)
    self.assertIn(message, done.stderr)

  @parameterized.parameters("experiments.risk_aversion", "experiments.reproduce")
  def test_a_folder_where_a_run_works_and_a_file_are_refused(self, module):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    with files.locked(folder / "run"):
      self.refused([module, f"--output_dir={folder}/run"], f"{folder}/run: another process works there")
    self.assertEqual([path.name for path in (folder / "run").iterdir()], ["lock"])
    (folder / "file").write_text("mine")
    self.refused([module, f"--output_dir={folder}/file"], f"{folder}/file: cannot be a folder")


if __name__ == "__main__":
  absltest.main()
