"""Metric sinks: every student's curve as in the history, whatever was killed, and no sink hurts the training."""

from __future__ import annotations

import importlib.util
import logging as python_logging
import os
import struct
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized

from loopjax.models.transformer import Transformer
from loopjax.remedies.label_noise import LabelNoise
from loopjax.runtime import devices, files
from loopjax.star_graph import students
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import MaximumLikelihood
from loopjax.training import metric_sinks, runner
from loopjax.training.metric_sinks import METRICS
from loopjax.training.step import Training

MODEL, NUM_STEPS, SEEDS = Transformer(num_layers=1, num_heads=1, width=4), 6, (3, 20_000_000)
TASKS = [StarGraph(num_chains=2, chain_length=1, max_steps=4, explore_prob=e) for e in (0.1, 0.9)]
NAMES = [f"explore_prob={e},seed={seed}" for e in (0.1, 0.9) for seed in SEEDS]


def needs(package: str):
  is_here = importlib.util.find_spec(package) is not None
  return absltest.skipUnless(is_here, f"needs {package}: pip install loopjax[{package}]")


class SinkTest(parameterized.TestCase):
  """Chunks of a step each."""

  def setUp(self):
    super().setUp()
    self.folder = Path(self.enterContext(tempfile.TemporaryDirectory())) / "run"
    self.addCleanup(metric_sinks.enable, [])
    self.enterContext(mock.patch.object(runner, "SECONDS_PER_CHUNK", 0.0))

  def save_every_step(self):
    self.enterContext(mock.patch.object(runner, "SECONDS_PER_SAVE", -1.0))

  def train(self, **settings) -> students.Students:
    config = Training(num_steps=NUM_STEPS, rows_per_step=8)
    settings = {"folder": self.folder} | settings
    return students.train_students(TASKS, MODEL, config, SEEDS, devices.device_mesh(), **settings)

  def lose_last_checkpoint(self):
    """As a process killed before it could save: its last step has gone to the sinks, and is trained again."""
    os.rename(self.folder / str(NUM_STEPS), self.folder.parent / "lost")

  def expected(self, history: pd.DataFrame, row: int, metric: str) -> list[tuple[int, float]]:
    """[(step, value)] of one student."""
    of_row = history[history["row"] == row]
    self.assertLen(of_row, NUM_STEPS)
    return list(zip(of_row["step"], of_row[metric], strict=True))


@needs("tensorboard")
class TensorBoardTest(SinkTest):
  def scalars(self, name: str) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run."""
    from tensorboard.backend.event_processing import event_accumulator

    guidance = {event_accumulator.SCALARS: 0}
    events = event_accumulator.EventAccumulator(str(self.folder / "tensorboard" / name), guidance).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}

  def check(self, history: pd.DataFrame):
    self.assertCountEqual([path.name for path in (self.folder / "tensorboard").iterdir()], NAMES)
    for row, name in enumerate(NAMES):
      expected = {metric: self.expected(history, row, metric) for metric in METRICS}
      self.assertEqual(self.scalars(name), expected)

  def test_a_run_per_student_with_the_values_of_the_history(self):
    metric_sinks.enable(["tensorboard"])
    history = self.train().history
    self.assertEqual(history.groupby("row")["loss"].agg(tuple).nunique(), len(NAMES))  # no curve passes for another
    self.check(history)

  def test_after_resuming_no_step_shows_twice(self):
    self.save_every_step()
    metric_sinks.enable(["tensorboard"])
    self.train()
    self.lose_last_checkpoint()
    (half,) = (self.folder / "tensorboard" / NAMES[1]).iterdir()
    os.truncate(half, half.stat().st_size - 5)  # killed in the middle of a write
    for row, name in enumerate(NAMES):
      self.assertLen(self.scalars(name)["loss"], NUM_STEPS - (row == 1))
    history = self.train().history
    self.assertLen(list((self.folder / "tensorboard" / NAMES[0]).iterdir()), 2)
    self.check(history)

  def test_a_run_killed_before_its_first_checkpoint_begins_anew(self):
    metric_sinks.enable(["tensorboard"])
    self.train(until=3)
    for path in self.folder.iterdir():
      if path.name != "tensorboard":
        os.rename(path, self.folder.parent / f"lost {path.name}")
    self.check(self.train().history)


class FakeRun(list):
  """What a W&B run was given: [(step, values)]."""

  is_finished = False

  def log(self, values, step):
    self.append((step, values))

  def finish(self):
    self.is_finished = True


class FakeWandb(types.ModuleType):
  def __init__(self):
    super().__init__("wandb")
    self.settings, self.runs, self.Settings = [], [], dict

  def init(self, **settings):
    self.settings.append(settings)
    self.runs.append(FakeRun())
    return self.runs[-1]


class WeightsAndBiasesTest(SinkTest):
  def test_a_run_per_student_in_a_group_without_a_step_twice(self):
    self.save_every_step()
    wandb = FakeWandb()
    self.enterContext(mock.patch.dict(sys.modules, wandb=wandb))
    metric_sinks.enable(["wandb"])
    self.train(until=4)
    self.assertEqual([settings["name"] for settings in wandb.settings], NAMES)
    self.assertLen({settings["group"] for settings in wandb.settings}, 1)
    self.assertLen({settings["id"] for settings in wandb.settings}, len(NAMES))
    config = wandb.settings[1]["config"]
    self.assertEqual((config["explore_prob"], config["seed"], config["model"]["width"]), (0.1, SEEDS[1], 4))
    self.assertTrue(all(run.is_finished for run in wandb.runs))

    os.rename(self.folder / "4", self.folder.parent / "lost")  # step 4 has gone to W&B, and is trained again
    history = self.train().history
    first, again = wandb.settings[: len(NAMES)], wandb.settings[len(NAMES) :]
    self.assertEqual([settings["id"] for settings in again], [settings["id"] for settings in first])
    for row, (before, after) in enumerate(zip(wandb.runs[: len(NAMES)], wandb.runs[len(NAMES) :], strict=True)):
      self.assertEqual([step for step, _ in after], [5, 6])
      for metric in METRICS:
        found = [(step, values[metric]) for step, values in before + after]
        self.assertEqual(found, self.expected(history, row, metric))

  @needs("wandb")
  def test_offline(self):
    self.enterContext(mock.patch.dict(os.environ, WANDB_MODE="offline"))
    metric_sinks.enable(["wandb"])
    self.train(until=4)
    history = self.train().history
    identity = files.read_json(self.folder / "wandb.json")["id"]
    for row in range(len(NAMES)):
      before, after = sorted(self.folder.glob(f"wandb/offline-run-*-{identity}-{row}/*.wandb"))
      found = offline_history(before) + offline_history(after)
      self.assertEqual([int(values["_step"]) for values in found], list(range(1, NUM_STEPS + 1)))
      for metric in METRICS:
        np.testing.assert_allclose(
          [values[metric] for values in found], [value for _, value in self.expected(history, row, metric)], rtol=1e-6
        )


def offline_history(path: Path) -> list[dict[str, float]]:
  """What a run on W&B's disk has logged: after 7 bytes of header, records of (crc, size, kind) and a message."""
  from wandb.proto import wandb_internal_pb2

  data, place, logged = path.read_bytes(), 7, []
  while place < len(data):
    _, size, _ = struct.unpack_from("<IHB", data, place)
    record = wandb_internal_pb2.Record.FromString(data[place + 7 : place + 7 + size])
    place += 7 + size
    if record.WhichOneof("record_type") == "history":
      items = {item.key or item.nested_key[0]: float(item.value_json) for item in record.history.item}
      logged.append(items)
  assert len(data) < 2**15, "records of larger files are cut at blocks"
  return logged


class Broken:
  """Fails where it is told to, and counts what it is given."""

  def __init__(self, fails_at: str):
    self.fails_at, self.calls = fails_at, []

  def __call__(self, run):
    return self._do("open") or self

  def write(self, frame):
    self._do("write")

  def close(self):
    self._do("close")

  def _do(self, what):
    self.calls.append(what)
    if what == self.fails_at:
      raise OSError(28, "No space\nleft on device")


class FailingSinkTest(SinkTest):
  @parameterized.parameters(
    ("open", ["open"]),
    ("write", ["open", "write"]),
    ("close", ["open", *["write"] * NUM_STEPS, "close"]),
  )
  def test_costs_one_warning_and_no_result(self, fails_at, calls):
    clean = self.train(folder=None)
    broken, whole = Broken(fails_at), Broken("nowhere")
    kinds = {name: metric_sinks._Kind("os", sink) for name, sink in (("broken", broken), ("whole", whole))}
    self.enterContext(mock.patch.dict(metric_sinks.SINKS, kinds))
    metric_sinks.enable(["broken", "whole"])
    with self.assertLogs(level=python_logging.WARNING) as logs:
      trained = self.train()
    self.assertLen(logs.output, 1)
    self.assertRegex(logs.output[0], r"sink broken stopped, and training goes on .*: OSError: .* No space left")
    self.assertEqual(broken.calls, calls)
    self.assertEqual(whole.calls, ["open", *["write"] * NUM_STEPS, "close"])
    self.assertEqual(trained.history.to_dict("list"), clean.history.to_dict("list"))
    for a, b in zip(jax.tree.leaves(trained.state.params), jax.tree.leaves(clean.state.params), strict=True):
      np.testing.assert_array_equal(a, b)

  def test_other_processes_than_the_first_open_none(self):
    broken = Broken("nowhere")
    self.enterContext(mock.patch.dict(metric_sinks.SINKS, broken=metric_sinks._Kind("os", broken)))
    metric_sinks.enable(["broken"])
    for process, calls in ((1, []), (0, ["open", "close"])):
      with mock.patch.object(jax, "process_index", return_value=process), metric_sinks.writing("/x", [], {}, 0):
        pass
      self.assertEqual(broken.calls, calls)


class EnableTest(SinkTest):
  def test_mistakes(self):
    with self.assertRaisesRegex(ValueError, r"^sinks='tensorbord' is not allowed: must be one of tensorboard, wandb$"):
      metric_sinks.enable(["tensorbord"])
    with (
      mock.patch.dict(sys.modules, wandb=None),
      self.assertRaisesRegex(ValueError, r"^sinks=wandb needs .*pip install loopjax\[wandb\]$"),
    ):
      metric_sinks.enable(["wandb"])
    self.assertEqual(metric_sinks.enabled(), [])

  def test_without_a_folder(self):
    with mock.patch.dict(metric_sinks.SINKS, broken=metric_sinks._Kind("os", Broken("nowhere"))):
      metric_sinks.enable(["broken"])
      with self.assertRaisesRegex(ValueError, r"^folder=None .* given for the sinks broken$"):
        self.train(folder=None)

  def test_what_is_not_enabled_is_not_imported(self):
    code = "import sys, experiments.sweep as _; print({'tensorboard', 'wandb'} & set(sys.modules))"
    done = subprocess.run(
      [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    self.assertEqual(done.stdout, "set()\n")

  def test_the_flag_of_a_binary(self):
    command = [sys.executable, "-m", "experiments.risk_aversion", f"--output_dir={self.folder}", "--sinks=a,wandb"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    self.assertEqual(done.returncode, 2)
    self.assertEqual(done.stderr, "error: sinks='a' is not allowed: must be one of tensorboard, wandb\n")


class LabelsTest(absltest.TestCase):
  def test_what_differs_and_the_seed(self):
    objectives = [LabelNoise(share) for share in (0.0, 0.3)]
    expected = [{"share": 0.0, "seed": 7}, {"share": 0.3, "seed": 7}]
    self.assertEqual(students._labels(TASKS[:1] * 2, objectives, [7]), expected)
    self.assertEqual(students._labels(TASKS[:1], objectives[:1], [7, 8]), [{"seed": 7}, {"seed": 8}])
    both = students._labels(TASKS, objectives, [7])
    self.assertEqual(both[1], {"explore_prob": 0.9, "share": 0.3, "seed": 7})

  def test_conditions_alike_are_told_apart_by_number(self):
    labels = students._labels([TASKS[0], TASKS[1], TASKS[0]], [MaximumLikelihood()] * 3, [0])
    self.assertEqual([label["task"] for label in labels], [0, 1, 2])


if __name__ == "__main__":
  absltest.main()
