"""Traces say what decoding said, along the walk that was taken; students come back from the folder that they fill."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import pathlib
import shutil
import tempfile
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized
from jax.sharding import AxisType, Mesh

from loopjax.analysis import walk_traces
from loopjax.generation.settings import at_temperatures
from loopjax.models.transformer import Transformer
from loopjax.runtime import devices, files, seeds
from loopjax.star_graph import evaluation, null_worlds, students
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.null_worlds import Law
from loopjax.star_graph.objective import MaximumLikelihood, task_state
from loopjax.star_graph.students import Students
from loopjax.star_graph.teacher import PADDING
from loopjax.training.step import Training, TrainState
from tests.models.students import random_params
from tests.star_graph import brute_force

TASK = StarGraph(num_chains=2, chain_length=1, spare_labels=1, max_steps=12, explore_prob=0.5)  # one label on no node
MODEL = Transformer(num_layers=1, num_heads=2, width=16)
TRAINING = Training(num_steps=3, rows_per_step=2)
TEMPERATURES = (0.0, 0.7, 2.0)


def mesh_of(num_devices: int):
  return jax.make_mesh(
    (num_devices, 1), (devices.SEED, devices.DATA), (AxisType.Auto, AxisType.Auto), devices=jax.devices()[:num_devices]
  )


def networks(mesh: Mesh) -> Students:
  """Two random networks, which leave the graph soon."""
  keys = jax.random.split(jax.random.key(0), 2)
  params = jax.tree.map(lambda *x: jnp.stack(x), *(random_params(MODEL, TASK, seed) for seed in (3, 4)))
  stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), task_state(TASK, TRAINING))
  state = seeds.place(TrainState(jnp.zeros(2, jnp.int32), params, (), keys, stacked, ()), mesh)
  return Students([TASK], MODEL, TRAINING, [0, 1], [MaximumLikelihood()], mesh, state, np.ones(2, bool), pd.DataFrame())


def laws(mesh: Mesh) -> Students:
  """Two that keep to the rules, so that their walks are long and hold loops."""
  return null_worlds.law_students(Law("memoryless", error_size=0.5), [TASK], TRAINING, (0, 1), mesh)


@functools.cache
def traced(kind: Callable[[Mesh], Students]) -> tuple[walk_traces.WalkTraces, evaluation.Rollouts]:
  """Two students on 8 graphs, read, and the rollouts that were read."""
  mesh = mesh_of(2)
  group, asked = kind(mesh), dict(generation=at_temperatures(TEMPERATURES), num_graphs=8, seed=5)
  traces = walk_traces.trace_students(group, **asked)
  return traces, jax.tree.map(np.asarray, seeds.to_host(evaluation.roll_out(group, **asked), 2))


@parameterized.named_parameters(("networks", networks), ("laws", laws))
class WalkTracesTest(parameterized.TestCase):
  def test_the_walk_is_the_rollouts_and_the_largest_probability_its_confidence(self, kind):
    traces, rollouts = traced(kind)
    np.testing.assert_array_equal(traces.nodes, rollouts.nodes)
    np.testing.assert_array_equal(traces.goal_chain, rollouts.problems.goal_chain)
    asked = ~np.isnan(traces.off_graph)
    self.assertGreater(np.sum(asked), 100 if kind is laws else 48)
    largest = np.maximum(traces.student.max(axis=-1), traces.off_graph)  # one label is off the graph
    np.testing.assert_allclose(largest[asked], rollouts.confidence[..., 1:][asked], atol=1e-5)

  def test_rows_sum_to_one_and_are_asked_where_the_walk_can_be_read(self, kind):
    traces, _ = traced(kind)
    walk = traces.nodes
    off_graph = np.maximum.accumulate(walk >= TASK.num_nodes, axis=-1)[..., :-1]
    self.assertEqual(off_graph.any(), kind is networks)  # else what follows has not been tried
    expected = (walk[..., 1:] != PADDING) & ~off_graph
    for values in (traces.student, traces.teacher):
      np.testing.assert_array_equal(~np.isnan(values).any(axis=-1), expected)
      np.testing.assert_array_equal(np.isnan(values).all(axis=-1), ~expected)
    np.testing.assert_allclose((traces.student.sum(axis=-1) + traces.off_graph)[expected], 1, atol=1e-5)
    np.testing.assert_allclose(traces.teacher.sum(axis=-1)[expected], 1, atol=1e-5)

  def test_greedy_walks_go_where_the_student_gives_most(self, kind):
    traces, _ = traced(kind)
    student, off_graph, walk = traces.student[:, :, 0], traces.off_graph[:, :, 0], traces.nodes[:, :, 0, 1:]
    asked = ~np.isnan(off_graph)
    everything = np.concatenate([student, off_graph[..., None]], axis=-1)
    np.testing.assert_array_equal(everything.argmax(axis=-1)[asked], walk[asked])

  def test_the_teacher_is_brute_forces(self, kind):
    traces, _ = traced(kind)
    for index in np.argwhere(~np.isnan(traces.off_graph))[::7]:
      *which, step = map(int, index)
      walk = traces.nodes[tuple(which)][: step + 1].tolist()
      goal = int(traces.goal_chain[tuple(which)])
      distribution = brute_force.teacher_distribution(TASK, goal, walk)
      expected = [distribution.get(node, 0.0) for node in range(TASK.num_nodes)]
      np.testing.assert_allclose(traces.teacher[tuple(index)], expected, atol=1e-6, err_msg=str(walk))

  def test_an_invalid_move_is_the_last_one(self, kind):
    traces, _ = traced(kind)
    for which in np.ndindex(traces.nodes.shape[:-1]):
      walk = traces.nodes[which][traces.nodes[which] != PADDING].tolist()
      expected = [b in brute_force.valid_successors(TASK, a) for a, b in itertools.pairwise(walk)]
      self.assertEqual(traces.is_valid[which][: len(walk) - 1].tolist(), expected)
      self.assertTrue(all(expected[:-1]))
    self.assertEqual(traces.is_valid.all(), kind is laws)

  def test_loops_repeat_from_their_onset(self, kind):
    traces, _ = traced(kind)
    self.assertEqual((traces.loop.period > 0).any(), kind is laws)  # what is broken soon has no time for one
    for which in np.argwhere(traces.loop.period > 0):
      walk = traces.nodes[tuple(which)]
      onset, period, repetitions, length = (int(field[tuple(which)]) for field in traces.loop)
      part = walk[onset : onset + length]
      np.testing.assert_array_equal(part[period:], part[:-period])
      self.assertEqual(repetitions, length // period)


class LoadStudentsTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.root = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
    cls.tasks = [TASK, dataclasses.replace(TASK, explore_prob=0.0)]
    cls.trained = students.train_students(
      cls.tasks, MODEL, TRAINING, (0, 7, 9), mesh_of(4), folder=cls.root / "run"
    )  # six students on four devices: saved with padding

  def test_all_comes_back_on_other_devices(self):
    for num_devices in (1, 4):
      group = students.load_students(self.root / "run", mesh_of(num_devices))
      self.assertEqual(group.tasks, self.tasks)
      self.assertEqual((group.model, group.training, group.seed_numbers), (MODEL, TRAINING, [0, 7, 9]))
      host = seeds.to_host((group.state.params, group.state.task), 6)
      expected = seeds.to_host((self.trained.state.params, self.trained.state.task), 6)
      jax.tree.map(np.testing.assert_array_equal, host, expected)
      np.testing.assert_array_equal(group.is_finite, [True] * 6)
      self.assertEqual(group.history["step"].max(), 3)

  def copy_of_config(self, name: str, **changes) -> pathlib.Path:
    """A folder with the checkpoint and another config."""
    folder = self.root / name
    folder.mkdir()
    for path in (self.root / "run").iterdir():
      if path.name != "config.json":
        (folder / path.name).symlink_to(path)
    files.write_json(files.read_json(self.root / "run" / "config.json") | changes, folder / "config.json")
    return folder

  def test_what_does_not_fit_is_named_in_one_line(self):
    wide = dataclasses.asdict(dataclasses.replace(MODEL, width=32))
    empty = self.root / "empty"
    files.write_json(files.read_json(self.root / "run" / "config.json"), empty / "config.json")
    for folder, message in (
      (self.copy_of_config("wide", model=wide), r"wide/3: params\S+ is float32\[8, .*expected float32\[8, "),
      (self.copy_of_config("more", seeds=[0, 1, 2, 3, 4]), "rows=8 .* 10 at least"),
      (self.copy_of_config("unknown", model=wide | {"depth": 3}), "config.json: model.depth=3"),
      (self.copy_of_config("other", tasks=None), "tasks=None is not allowed: must be a dict"),
      (empty, "the run had saved nothing"),
    ):
      with self.subTest(folder.name):
        with self.assertRaisesRegex(ValueError, message) as caught:
          students.load_students(folder, mesh_of(1))
        self.assertNotIn("\n", str(caught.exception))
        self.assertIn(str(folder), str(caught.exception))
    self.check_damage()
    with self.assertRaises(FileNotFoundError):
      students.load_students(self.root / "none", mesh_of(1))

  def check_damage(self) -> None:
    """A checkpoint some of whose files are gone is named in one line as well."""
    folder = self.root / "damaged"
    shutil.copytree(self.root / "run", folder)
    for path in (folder / "3" / "state").rglob("d/*"):
      path.unlink()
    with self.assertRaisesRegex(ValueError, f"^checkpoint {folder}/3: cannot be read: "):
      students.load_students(folder, mesh_of(1))


if __name__ == "__main__":
  absltest.main()
