"""The map of the correlation: its cells, their order, resumption cell by cell, and students read on their way."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from unittest import mock

import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized

from experiments import correlation_map, experiment
from experiments.correlation_map import Cell, CorrelationMap
from loopjax import results
from loopjax.analysis import repetition
from loopjax.models.transformer import Transformer
from loopjax.remedies.label_noise import LabelNoise
from loopjax.runtime import config as configs
from loopjax.runtime import devices
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.sharing import Trainer
from loopjax.training import checkpoints
from loopjax.training.step import Training

TINY = dataclasses.replace(
  correlation_map.PRESETS["quick"],
  task=StarGraph(num_chains=2, chain_length=1, max_steps=8, reset_prob=0.0, explore_prob=1.0),
  model=Transformer(num_layers=1, num_heads=2, width=8), training=Training(num_steps=4, rows_per_step=2),
  taken=(0.5, 1.0), num_seeds=2, num_graphs=4,
)  # fmt: skip


def said(config: CorrelationMap, cell: Cell) -> pd.DataFrame:
  """What a cell may have shown: a row per seed and temperature, numbers that tell the cell."""
  number = list(correlation_map.names(config)).index(cell) / 10
  frame = pd.DataFrame({"seed": [0, 0, 1, 1], "temperature": [0.0, 1.0] * 2, "walks": "rollouts"})
  for pairs in ("", "own_walk_matched_", "other_walks_", "other_graphs_"):
    for measure in ("persistence", "correlation", "persistence_ratio"):
      frame[pairs + measure] = number + 0.01 * frame["seed"]
  return frame.assign(chance=0.5, reached=number, broken=0.0, cut=1 - number, returns=10 * number)


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
    ({"positions": ("rotary", "rotary")}, r"^positions=.* rotary comes more than once"),
    ({"positions": ("rotary", "sine")}, r"^model\.positions='sine' "),
    ({"noises": (0.0, 2.0)}, r"^noise=2\.0 .* in \[0, 1\]"),
    ({"taken": (1.0, 0.5)}, r"^taken=\(1\.0, 0\.5\) .* ascending"),
    ({"taken": (0.01, 1.0)}, r"^taken=0\.01 .* one step or more of training\.num_steps=4"),
    ({"temperatures": (1.0,)}, r"^temperatures=\(1\.0,\) .* 0, then others"),
    ({"temperatures": (0.0, 1.0, 1.0)}, r"^temperatures=.* 1 comes more than once"),
    ({"task": dataclasses.replace(TINY.task, visited_margin=0.1)}, r"^task\.visited_margin=0\.1 .* must be 0: chance"),
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

    def run_cell(config, cell, student, result, obtain):
      if len(done) == 2 and cell not in done[2:] and not resumed:
        raise KeyboardInterrupt
      done.append(cell)
      return {result: said(config, cell)}

    resumed = False
    with mock.patch.object(correlation_map, "_measure_cell", run_cell):
      with self.assertRaises(KeyboardInterrupt):
        experiment.run(correlation_map.EXPERIMENT, TINY, self.folder)[0]["correlation_map"]
      resumed = True
      frame = experiment.run(correlation_map.EXPERIMENT, TINY, self.folder)[0]["correlation_map"]
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
    with mock.patch.object(repetition, "evaluate_repetition", wraps=repetition.evaluate_repetition) as evaluate:
      trainer = Trainer(self.folder, devices.device_mesh())
      frame = correlation_map._measure_cell(TINY, cell, "half", "cell", trainer)["cell"]
    (group,), _ = evaluate.call_args
    self.assertEqual((group.tasks, group.objectives), ([task], [LabelNoise(0.5)]))
    np.testing.assert_array_equal(group.state.step[:2], 2)
    self.assertLen(frame, 2 * (2 + 1))
    self.assertEqual(set(frame["seed"]), {0, 1})
    of_teacher = frame[frame["walks"] == repetition.TEACHER]
    np.testing.assert_allclose(of_teacher["chance"], 1 / task.num_chains)
    for pairs in ("own_walk_matched_", "other_walks_"):
      expected = of_teacher[f"{pairs}persistence"] * task.num_chains
      np.testing.assert_allclose(of_teacher[f"{pairs}persistence_ratio"], expected)
    run_config = checkpoints.load_config(self.folder / "checkpoints" / "correlation_map" / "half")
    self.assertEqual((run_config["objective"], run_config["objectives"]["0"]), ("LabelNoise", {"share": 0.5}))
    self.assertTrue(run_config["tasks"]["0"]["graph_fixed"])
    with self.assertRaisesRegex(ValueError, "until=1 .* at least 2"):
      correlation_map._measure_cell(TINY, dataclasses.replace(cell, taken=0.25), "half", "back", trainer)


if __name__ == "__main__":
  absltest.main()
