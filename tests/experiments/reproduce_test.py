"""The road from preset to claims table, small; folders of other configs and bad flags are refused."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

import jax
import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized

from experiments import (
  binary,
  experiment,
  fixed_graph,
  injected_loops,
  plan,
  proposition_one,
  registry,
  reproduce,
  risk_aversion,
  temporal_errors,
)
from experiments.experiment import PRESETS
from experiments.injected_loop_conditions import InjectedLoops
from experiments.risk_aversion_conditions import RiskAversion
from experiments.temporal_error_conditions import TemporalErrors
from loopjax.models.transformer import Transformer
from loopjax.report import traces
from loopjax.runtime import files
from loopjax.star_graph import null_worlds
from loopjax.star_graph.graph import StarGraph
from loopjax.training import checkpoints
from loopjax.training.step import Training

MODEL = Transformer(num_layers=1, num_heads=2, width=16)
TRAINING = Training(num_steps=60, rows_per_step=4, learning_rate=1e-2, warmup_steps=5)  # enough to loop
HARD = StarGraph(num_chains=3, chain_length=2, max_steps=8, explore_prob=0.5)
NO_HARDNESS = StarGraph(num_chains=3, chain_length=1, max_steps=8, reset_prob=0.0, explore_prob=1.0)
# Everywhere two seeds: one condition and two both fill the four devices, so that one program trains either. Walks are
# as many as those of the report's viewer where one program can then serve both.
ERRORS = TemporalErrors(
  task=NO_HARDNESS, visited_margins=(0.0, 0.1), model=MODEL, training=TRAINING, temperatures=(0.0, 1.0), num_seeds=2,
  num_graphs=8, walks_per_graph=2, num_lags=2,
)  # fmt: skip
RISK = RiskAversion(
  easy=dataclasses.replace(HARD, reset_prob=0.2), hard=HARD, easy_goal_first=True,
  model=MODEL, training=TRAINING, temperatures=traces.TEMPERATURES, num_seeds=2, num_graphs=traces.NUM_GRAPHS,
)  # fmt: skip
TINY = [
  (risk_aversion.EXPERIMENT, RISK),
  (proposition_one.EXPERIMENT, proposition_one.PropositionOne(
    task=StarGraph(num_chains=3, chain_length=1, goal_hidden=True, max_steps=8),
    num_children=(3,), cycle_probs=(0.1, 0.5), model=MODEL, training=TRAINING, num_visits=2, num_seeds=2, num_graphs=4,
  )),
  (temporal_errors.EXPERIMENT, ERRORS),
  (fixed_graph.EXPERIMENT, dataclasses.replace(
    ERRORS, task=dataclasses.replace(NO_HARDNESS, graph_fixed=True), drawings=(0,)
  )),
  (injected_loops.EXPERIMENT, InjectedLoops(
    task=HARD, shares=(0.0, 0.5), model=MODEL, training=TRAINING, num_seeds=2, temperatures=traces.TEMPERATURES,
    num_graphs=traces.NUM_GRAPHS, num_cycles=3, repetitions=(1, 2),
  )),
]  # fmt: skip


FIGURES = [
  *(f"risk_aversion{suffix}" for suffix in ("", "_legal", "_loss")), "proposition_one", "proposition_one_phase_diagram",
  *(f"{name}{suffix}" for name in ("temporal_errors", "fixed_graph")
    for suffix in ("", "_legal", "_by_lag", "_by_visit", "_loss")),
  *(f"injected_loops{suffix}" for suffix in ("", "_legal", "_resets", "_loss")),
  "injected_loops_confidence", "injected_loops_confidence_quantiles",
]  # fmt: skip


class ReproduceTest(parameterized.TestCase):
  def test_everything_is_written_and_nothing_is_run_twice_or_under_another_config(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    table = reproduce.run("tiny", folder, TINY)
    written = pd.read_csv(folder / "claims.csv")
    self.assertEqual(list(written["claim"]), list(table["claim"]))
    self.assertEqual(set(written["verdict"]), {"not run"})  # the preset is in no claim's list
    self.assertLen(table, sum(len(one.claims(config)) for one, config in TINY))
    for name in FIGURES:
      for suffix in (".png", ".svg"):
        self.assertGreater((folder / "figures" / f"{name}{suffix}").stat().st_size, 2_000, name)

    page = (folder / "report.html").read_text(encoding="utf-8")
    for one, _ in TINY:
      self.assertIn(f'id="of-{one.name}"', page)
    self.assertNotIn("Not read", page)
    self.assertGreater(files.read_json(folder / "results" / "risk_aversion.json")["wall_seconds"], 0)
    self.check_tables(folder / "results")
    (poisoned,) = checkpoints.load_config(folder / "checkpoints" / "injected_loops")["tasks"].values()
    self.assertEqual(poisoned["injected_share"], 0.5)  # the clean ones are students of risk aversion

    with mock.patch.object(reproduce.report, "write") as write:  # it would say the same again
      again = reproduce.run("tiny", folder, TINY[:1])  # as with --only: the other verdicts stay
    write.assert_called_once_with(folder, folder / "report.html", reproduce.descriptions())
    self.assertCountEqual(again["claim"], table["claim"])
    self.assertCountEqual(pd.read_csv(folder / "claims.csv")["claim"], table["claim"])
    walks = pd.read_parquet(folder / "results" / "risk_aversion.parquet")
    # Its figures were drawn again by the run before.
    once = dataclasses.replace(
      risk_aversion.EXPERIMENT, measure=mock.Mock(side_effect=AssertionError("ran again")), show=lambda *given: ""
    )
    pd.testing.assert_frame_equal(experiment.run(once, RISK, folder)[0]["risk_aversion"], walks)
    with self.assertRaisesRegex(ValueError, "num_graphs=4 there, 5 asked for"):
      experiment.run(once, dataclasses.replace(RISK, num_graphs=5), folder)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "results" / "risk_aversion.parquet"), walks)

  def check_tables(self, folder: pathlib.Path) -> None:
    """Each has its rows, once; walks end in one of three ways."""
    condition = ["condition", "seed", "temperature"]
    tables = {
      "risk_aversion": (4 * 2 * 3 * 2, [*condition, "decoding"]),
      "proposition_one": (2 * 2 * 2, ["n", "p", "seed", "visit"]),
      "temporal_errors": (2 * 2 * (2 + 2 + 1), [*condition, "walks"]),
      "fixed_graph": (2 * 2 * (2 + 2 + 1), [*condition, "walks"]),
      "injected_loops": (2 * 2 * 3 * 2, [*condition, "decoding"]),
      "injected_loops_confidence": (2 * 2 * 3 * 4, [*condition, "repetition"]),
      "injected_loops_resets": (2 * 2 * 3, ["condition", "seed", "cycles"]),
    }
    for name, (rows, keys) in tables.items():
      frame = pd.read_parquet(folder / f"{name}.parquet")
      self.assertLen(frame, rows, name)
      self.assertFalse(frame.duplicated(keys).any(), name)
      if "reached" in frame:
        np.testing.assert_allclose(frame["reached"] + frame["broken"] + frame["cut"], 1, atol=1e-6)
      for column in frame.columns.intersection(["total_variation", "persistence"]):
        self.assertTrue(frame[column].dropna().between(0, 1).all(), (name, column))

  def test_the_plan_counts_a_student_once(self):
    asked = plan.requests(TINY).set_index(["experiment", "group"])
    new = asked["new_students"]
    self.assertEqual(new["injected_loops"].sum(), 2)
    self.assertEqual(new.sum(), (4 + 2 + 2 + 2 + 1) * 2)
    np.testing.assert_array_equal(asked["seed_steps"], new * TRAINING.num_steps)

  @parameterized.parameters(*PRESETS)
  def test_presets_have_seeds_enough_for_verdicts(self, preset):
    fewest = 16 if preset == "standard" else 6
    for one, config in reproduce.chosen(preset):
      self.assertGreaterEqual(config.num_seeds, fewest, one.name)

  def test_only_some_experiments_and_other_seeds(self):
    pairs = reproduce.chosen("quick", ["margin_readings", "risk_aversion"], num_seeds=2)
    self.assertEqual([config.num_seeds for _, config in pairs], [2, 2])
    self.assertEqual([one.name for one, _ in pairs], ["margin_readings", "risk_aversion"])
    with self.assertRaisesRegex(ValueError, "^only='loops' .* some of "):
      reproduce.chosen("quick", ["loops"])
    with self.assertRaisesRegex(ValueError, "^preset='paper' .* for margin_readings$"):
      reproduce.chosen("paper", ["margin_readings"])
    self.assertContainsSubset([one.name for one, _ in reproduce.chosen("paper")], registry.EXPERIMENTS)

  @parameterized.parameters(*PRESETS)
  def test_claims_have_names_of_their_own_and_worlds_where_they_must_not_hold(self, preset):
    registered = [claim for one, config in reproduce.chosen(preset) for claim in one.claims(config)]
    names = [claim.name for claim in registered]
    self.assertLen(set(names), len(names))
    for claim in registered:
      self.assertNotEmpty(claim.fitness, claim.name)
      self.assertContainsSubset(claim.must_not_hold, null_worlds.WORLDS)
      self.assertIn("untrained", claim.must_not_hold, claim.name)


class HoldingTest(absltest.TestCase):
  def test_of_several_processes_the_first_holds_the_folder_for_all(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    with binary.holding(folder):
      with self.assertRaisesRegex(files.Locked, "another process works there"):
        binary.holding(folder).__enter__()
      with mock.patch.object(jax, "process_index", return_value=1), binary.holding(folder):
        pass


# Runs binaries, each in a fork of a process that has imported what they import: a process of its own, which need not
# wait seconds for jax. Reads the words of one, a line of JSON; answers with its exit status and what stderr has.
BINARIES = """
import json, os, runpy, signal, sys, tempfile, traceback

import experiments.registry, experiments.report

for line in sys.stdin:
  module, *arguments = json.loads(line)
  with tempfile.TemporaryFile() as errors:
    child = os.fork()
    if child == 0:
      os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
      os.dup2(2, 1)
      os.dup2(errors.fileno(), 2)
      signal.alarm(120)
      sys.argv = [module, *arguments]
      for name in [name for name in sys.modules if name.split(".")[0] == "experiments"]:
        del sys.modules[name]
      status = 0
      try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
      except SystemExit as end:
        status = end.code
      except BaseException:
        traceback.print_exc()
        status = 1
      os._exit(status)  # Python's own end takes eight times as long as all that went before
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    errors.seek(0)
    print(json.dumps([status, errors.read().decode()]), flush=True)
"""


class BadInputTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    pipe = subprocess.PIPE
    cls.binaries = subprocess.Popen([sys.executable, "-c", BINARIES], stdin=pipe, stdout=pipe, text=True)

  @classmethod
  def tearDownClass(cls):
    cls.binaries.communicate()
    super().tearDownClass()

  @parameterized.parameters(
    ("experiments.risk_aversion", "--config.hard.num_chains=0", "num_chains=0"),
    ("experiments.risk_aversion", "--config.hard.reset_prob=0.6", "the teacher prefers the reset"),
    ("experiments.risk_aversion", "--config.training.learning_rate=inf", "training.learning_rate=inf"),
    ("experiments.risk_aversion", "--config.model.num_heads=3", "divisible by model.num_heads=3"),
    ("experiments.risk_aversion", "--config.training.stream_length=5", "for the longest walk"),
    ("experiments.proposition_one", "--config.num_visits=100", "num_visits=100"),
    ("experiments.temporal_errors", "--config.visited_margins=0,0.4", "task.visited_margin=0.4"),
    ("experiments.temporal_errors", "--config.walks_per_graph=1", "walks_per_graph=1"),
    ("experiments.injected_loops", "--config.shares=0.001", "shares=(0.001,)"),
    ("experiments.injected_loops", "--config.task.injected_kind=spiral", "task.injected_kind='spiral'"),
    ("experiments.injected_loops", "--config.task.reset_prob=0", "task.reset_prob=0.0"),
    ("experiments.injected_loops", "--config.repetitions=1,65", "repetitions=(1, 65)"),
    ("experiments.reproduce", "--preset=huge", "huge"),
  )
  def test_one_line_and_a_non_zero_exit(self, module, flag, message):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.refused([module, flag, f"--output_dir={folder}/out"], message)
    self.assertFalse(pathlib.Path(folder, "out").exists())

  def refused(self, arguments: list[str], message: str) -> None:
    self.binaries.stdin.write(json.dumps(arguments) + "\n")
    self.binaries.stdin.flush()
    status, errors = json.loads(self.binaries.stdout.readline())
    self.assertEqual(status, 2, errors)
    self.assertLen(errors.strip().splitlines(), 1, errors)
    self.assertIn(message, errors)

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
