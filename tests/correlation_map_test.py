"""The map of the correlation: its cells, their order, resumption cell by cell, and students read on their way."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from unittest import mock

import jax
import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized

from experiments import correlation_map
from experiments.correlation_map import Cell, CorrelationMap
from loopjax import checkpoints, repetition, results, teacher
from loopjax import config as configs
from loopjax.star_graph import StarGraph
from loopjax.training import Training
from loopjax.transformer import Transformer

TINY = dataclasses.replace(
  correlation_map.QUICK,
  task=StarGraph(num_chains=2, chain_length=1, max_steps=8, reset_prob=0.0, explore_prob=1.0),
  model=Transformer(num_layers=1, num_heads=2, width=8), training=Training(num_steps=4, rows_per_step=2),
  taken=(0.5, 1.0), num_seeds=2, num_graphs=4,
)  # fmt: skip


def setUpModule():
  jax.config.update("jax_disable_most_optimizations", True)  # compiling takes most of the time


def tearDownModule():
  jax.config.update("jax_disable_most_optimizations", False)


def said(config: CorrelationMap, cell: Cell) -> pd.DataFrame:
  """What a cell may have shown: a row per seed and temperature, numbers that tell the cell."""
  number = list(correlation_map.names(config)).index(cell) / 10
  frame = pd.DataFrame({"seed": [0, 0, 1, 1], "temperature": [0.0, 1.0] * 2, "walks": "rollouts"})
  for pairs in ("", "other_walks_", "other_graphs_"):
    for measure in ("persistence", "chance", "correlation", "persistence_ratio"):
      frame[pairs + measure] = number + 0.01 * frame["seed"]
  return frame.assign(reached=number, returns=10 * number)


class CellsTest(parameterized.TestCase):
  def test_cells_differ_from_the_base_in_one_field(self):
    config = CorrelationMap()
    named = correlation_map.names(config)
    self.assertEqual(named[config.base()], "base")
    self.assertLen(set(named.values()), len(named))
    self.assertLen(named, 1 + 2 + 1 + 2 + 2 + 2 + 1 + 2 + 2 + 1 + 5)  # the base is every factor's, once
    base = results.flatten(configs.to_json(config.base()))
    for cell in named:
      changed = results.flatten(configs.to_json(cell))
      self.assertEqual(sum(changed[name] != base[name] for name in base), cell != config.base())

  def test_a_student_is_read_earlier_first(self):
    order = list(correlation_map.names(CorrelationMap()))
    steps = [cell.steps for cell in order if dataclasses.replace(cell, taken=1.0) == CorrelationMap().base()]
    self.assertEqual(steps, [125, 250, 500, 1_000, 1_500, 2_000])

  @parameterized.parameters(
    ({"depths": (2, 4)}, r"^depths=\(2, 4\) .* the base's 1 among them"),
    ({"positions": ("rotary", "rotary")}, r"^positions=.* each once"),
    ({"positions": ("rotary", "sine")}, r"^model\.positions='sine' "),
    ({"noises": (0.0, 2.0)}, r"^noise=2\.0 .* in \[0, 1\]"),
    ({"taken": (1.0, 0.5)}, r"^taken=\(1\.0, 0\.5\) .* ascending"),
    ({"taken": (0.01, 1.0)}, r"^taken=0\.01 .* one step or more of training\.num_steps=4"),
    ({"temperatures": (1.0,)}, r"^temperatures=\(1\.0,\) .* 0, then others"),
    ({"num_graphs": 1}, r"^num_graphs=1 .* at least 2"),
  )
  def test_errors(self, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      dataclasses.replace(TINY, **changes)


class RunTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def test_a_run_that_was_stopped_goes_on_with_the_next_cell(self):
    order, done = list(correlation_map.names(TINY)), []

    def run_cell(config, cell, folder, description):
      if len(done) == 2 and cell not in done[2:] and not resumed:
        raise KeyboardInterrupt
      done.append(cell)
      return said(config, cell)

    resumed = False
    with mock.patch.object(correlation_map, "_run_cell", run_cell):
      with self.assertRaises(KeyboardInterrupt):
        correlation_map.run(TINY, self.folder)
      resumed = True
      frame = correlation_map.run(TINY, self.folder)
    self.assertEqual(done, order)
    self.assertLen(frame, 4 * len(list(TINY.cells())))
    self.assertFalse(frame.duplicated(["factor", "value", "seed", "temperature"]).any())
    for factor, value, cell in TINY.cells():
      rows = frame[(frame["factor"] == factor.name) & (frame["value"] == correlation_map._text(factor, value))]
      self.assertAlmostEqual(rows["reached"].iloc[0], order.index(cell) / 10)
      self.assertEqual(rows["is_base"].all(), cell == TINY.base())
    for name in ("correlation_map", "correlation_map_by_step"):
      self.assertGreater((self.folder / "figures" / f"{name}.png").stat().st_size, 2_000)

  def test_students_of_a_cell(self):
    """They train on its noise and its graph as far as it says, and are measured on the task that they learnt."""
    task = dataclasses.replace(TINY.task, graph_fixed=True)
    cell = dataclasses.replace(TINY.base(), noise=0.5, taken=0.5, task=task)
    told = said(TINY, TINY.base()).drop(columns=[f"{p}_persistence_ratio" for p in ("other_walks", "other_graphs")])
    summary = told.assign(other_walks_persistence=0.6, other_walks_chance=0.2).rename(columns={"seed": "row"})
    with mock.patch.object(repetition, "evaluate_repetition") as evaluate:
      evaluate.return_value.summary = summary
      frame = correlation_map._run_cell(TINY, cell, self.folder, "half")
    (measured_task, _, state, is_finite, _), _ = evaluate.call_args
    self.assertEqual(measured_task, task)
    np.testing.assert_array_equal(state.step[:2], 2)
    self.assertIsInstance(state.extra, teacher.TeacherProbabilities)
    self.assertTrue(is_finite.all())
    np.testing.assert_allclose(frame["other_walks_persistence_ratio"], 3)
    self.assertIn("seed", frame)
    run_config = checkpoints.load_config(self.folder)
    self.assertEqual(run_config["extras"]["0"][0], 0.5)
    self.assertTrue(run_config["tasks"]["0"]["graph_fixed"])
    with self.assertRaisesRegex(ValueError, "until=1 .* at least 2"):
      correlation_map._run_cell(TINY, dataclasses.replace(cell, taken=0.25), self.folder, "back")


if __name__ == "__main__":
  absltest.main()
