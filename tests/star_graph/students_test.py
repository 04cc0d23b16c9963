"""Groups of students: what makes one, what is refused, what is shared, what comes back from a folder."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import shutil
import tempfile
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized

from loopjax.models.transformer import Transformer
from loopjax.remedies.label_noise import LabelNoise
from loopjax.remedies.margin_loss import MarginLoss
from loopjax.runtime import devices
from loopjax.star_graph import students
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.identity import identity
from loopjax.star_graph.objective import OBJECTIVES, MaximumLikelihood, ObjectiveConfig
from loopjax.star_graph.sharing import Request, Trainer
from loopjax.star_graph.students import Students
from loopjax.training import runner
from loopjax.training.step import Training, make_optimizer

TASKS = [StarGraph(num_chains=2, chain_length=1, max_steps=6, explore_prob=e) for e in (0.1, 0.5, 0.9)]
MODEL, TRAINING, SEEDS = Transformer(num_layers=1, num_heads=1, width=4), Training(num_steps=3, rows_per_step=2), (4, 7)
GROUPS = {
  "likelihood": [MaximumLikelihood(), MaximumLikelihood()],
  "margin": [MarginLoss(0.5, 0.1), MarginLoss(3.0, 2.0)],
  "noise": [LabelNoise(0.0), LabelNoise(0.3)],
}


def train(tasks=TASKS[:2], **settings) -> Students:
  arguments = {"model": MODEL, "config": TRAINING, "seed_numbers": SEEDS, "mesh": devices.device_mesh()} | settings
  return students.train_students(tasks, **arguments)


def parameters(group: Students, task: int) -> list[np.ndarray]:
  """Of the students of one task."""
  rows = slice(task * len(SEEDS), (task + 1) * len(SEEDS))
  return [np.asarray(leaf)[rows] for leaf in jax.tree.leaves(group.state.params)]


def assert_same_students(found: Students, task: int, expected: Students, expected_task: int) -> None:
  """The same parameters, bit for bit, the same keys, and the same values of the task."""
  for a, b in zip(parameters(found, task), parameters(expected, expected_task), strict=True):
    np.testing.assert_array_equal(a, b)
  count = len(SEEDS)
  for read in (lambda s: jax.random.key_data(s.key), lambda s: s.task.probabilities.explore_prob, lambda s: s.step):
    a, b = np.asarray(read(found.state)), np.asarray(read(expected.state))
    np.testing.assert_array_equal(a[task * count :][:count], b[expected_task * count :][:count])


class FolderTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))


class IdentityTest(FolderTest):
  def test_a_folder_of_other_students_is_refused_by_what_differs(self):
    own = self.folder / "run"
    trained = train(folder=own, objectives=GROUPS["margin"])
    other_start = jax.tree.map(lambda leaf: 2 * leaf, trained.state.params)
    for settings, message in (
      ({"objectives": GROUPS["noise"]}, r"another run: objective='MarginLoss' there, 'LabelNoise' "),
      ({"objectives": None}, r"another run: objective='MarginLoss' there, 'MaximumLikelihood' "),
      ({"objectives": [MarginLoss(0.5, 0.1), MarginLoss(3.0, 2.5)]}, r"objectives\.1\.margin=2\.0 there, 2\.5 "),
      ({"params": other_start}, r"another run: initial_parameters=None there, '[0-9a-f]{16}' "),
      ({"tasks": [TASKS[0], TASKS[2]]}, r"another run: tasks\.1\.explore_prob=0\.5 there, 0\.9 "),
      ({"seed_numbers": (4, 8)}, r"another run: seeds=\[4, 7\] there, \[4, 8\] "),
      ({"model": dataclasses.replace(MODEL, num_heads=2)}, r"another run: model\.num_heads=1 there, 2 "),
      ({"config": dataclasses.replace(TRAINING, learning_rate=0.1)}, r"training\.learning_rate=0\.003 there, 0\.1 "),
    ):
      with self.subTest(message), self.assertRaisesRegex(ValueError, message) as caught:
        train(**{"folder": own, "objectives": GROUPS["margin"]} | settings)
      self.assertNotIn("\n", str(caught.exception))
    with mock.patch.object(runner, "_compile", side_effect=AssertionError("trained again")):
      again = train(folder=own, objectives=GROUPS["margin"])
    for task in range(2):
      assert_same_students(again, task, trained, task)

  def test_initial_parameters_count_by_their_values(self):
    fresh = train().state.params
    digest = functools.partial(identity, TASKS, MODEL, TRAINING, SEEDS, GROUPS["likelihood"])
    found = [digest(params)["initial_parameters"] for params in (None, fresh, jax.tree.map(jnp.array, fresh))]
    self.assertIsNone(found[0])
    self.assertEqual(found[1], found[2])
    nudged = jax.tree.map(lambda leaf: leaf.at[-1].add(1e-6), fresh)
    self.assertNotEqual(digest(nudged)["initial_parameters"], found[1])

  def test_tasks_and_objectives_of_one_program(self):
    with self.assertRaisesRegex(ValueError, r"^task\.chain_length=2 .* 1 as in the other tasks"):
      train([TASKS[0], dataclasses.replace(TASKS[0], chain_length=2)])
    with self.assertRaisesRegex(ValueError, r"^objectives=.* one for each of 2 tasks$"):
      train(objectives=[MaximumLikelihood()])
    with self.assertRaisesRegex(ValueError, r"^objectives=.* of one kind, different in traced strengths alone"):
      train(objectives=[MaximumLikelihood(), LabelNoise(0.1)])


class LoadTest(FolderTest):
  @parameterized.parameters(*GROUPS)
  def test_students_of_every_objective_come_back(self, name):
    objectives = GROUPS[name]
    trained = train(folder=self.folder / name, objectives=objectives)
    loaded = students.load_students(self.folder / name, devices.device_mesh())
    for field in ("tasks", "model", "training", "objectives"):
      self.assertEqual(getattr(loaded, field), getattr(trained, field), field)
    self.assertEqual(loaded.seed_numbers, list(SEEDS))
    for a, b in zip(
      jax.tree.leaves((loaded.state.params, loaded.state.extra, loaded.state.task, loaded.state.opt_state)),
      jax.tree.leaves((trained.state.params, trained.state.extra, trained.state.task, trained.state.opt_state)),
      strict=True,
    ):
      np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(loaded.is_finite, trained.is_finite)
    pd.testing.assert_frame_equal(loaded.history, trained.history)
    carried = [one.init(jax.random.key(0), task, TRAINING) for one, task in zip(objectives, TASKS[:2], strict=True)]
    for number, leaf in enumerate(jax.tree.leaves(trained.state.extra)):
      expected = [jax.tree.leaves(one)[number] for one in carried for _ in SEEDS]
      np.testing.assert_array_equal(leaf, np.array(expected))

  def test_objectives_change_what_is_learnt(self):
    """Else the test above could not tell them apart. A share of 0 is maximum likelihood, but for rounding."""
    trained = {name: train(objectives=objectives) for name, objectives in GROUPS.items()}
    is_close = functools.partial(np.allclose, rtol=1e-5, atol=1e-6)
    for name, task, is_same in (("noise", 0, True), ("noise", 1, False), ("margin", 1, False)):
      same = all(map(is_close, parameters(trained[name], task), parameters(trained["likelihood"], task)))
      self.assertEqual(same, is_same, (name, task))

  def test_an_objective_that_is_not_known(self):
    train(folder=self.folder / "run", objectives=GROUPS["noise"])
    with (
      mock.patch.dict(OBJECTIVES),
      self.assertRaisesRegex(ValueError, r"config.json: objective='LabelNoise' .* one of \[.*'MarginLoss', 'Max"),
    ):
      del OBJECTIVES["LabelNoise"]
      students.load_students(self.folder / "run", devices.device_mesh())


class TrainerTest(FolderTest):
  def trainer(self) -> Trainer:
    return Trainer(self.folder, devices.device_mesh())

  def call(self, name: str, tasks: list[StarGraph], objectives: list[ObjectiveConfig] | None = None) -> Students:
    return self.trainer()(Request(name, tasks, MODEL, TRAINING, SEEDS, objectives=objectives))

  def rows_trained(self, folder: str) -> int:
    """How many students a folder of its own holds."""
    return students.load_students(self.folder / "checkpoints" / folder, devices.device_mesh()).is_finite.size

  def test_a_task_is_trained_once_for_two_groups(self):
    first = self.call("first", TASKS[:2])
    second = self.call("second", [TASKS[2], TASKS[1]])
    self.assertEqual(self.rows_trained("second"), 2)
    self.assertEqual(second.tasks, [TASKS[2], TASKS[1]])
    assert_same_students(second, 1, first, 1)
    for place, task in enumerate(second.tasks):
      assert_same_students(second, place, train([task]), 0)  # as trained apart
    apart = pd.concat(
      [train([task]).history.assign(row=lambda x, i=i: x["row"] + 2 * i) for i, task in enumerate(second.tasks)]
    )
    columns = ["step", "row", "loss"]
    found, expected = (h[h["step"] == 3].sort_values("row")[columns] for h in (second.history, apart))
    np.testing.assert_array_equal(found.to_numpy(), expected.to_numpy())
    np.testing.assert_array_equal(second.is_finite, [True] * 4)

    self.assertEqual(self.call("third", TASKS).is_finite.size, 6)  # of two folders, and nothing to train
    self.assertFalse((self.folder / "checkpoints" / "third").exists())
    with mock.patch.object(runner, "_compile", side_effect=AssertionError("trained again")):
      again = self.call("second", [TASKS[2], TASKS[1]])
    for task in range(2):
      assert_same_students(again, task, second, task)

  def test_what_differs_in_anything_else_is_not_shared(self):
    self.call("first", TASKS[:1])
    same = Request("first", TASKS[:1], MODEL, TRAINING, SEEDS)
    for other in (
      same._replace(name="noise", objectives=[LabelNoise(0.0)]),
      same._replace(name="seeds", seed_numbers=(4, 8)),
      same._replace(name="steps", training=dataclasses.replace(TRAINING, num_steps=2)),
    ):
      self.trainer()(other)
      self.assertEqual(self.rows_trained(other.name), 2)

  def test_a_damaged_folder_of_another_group_is_passed_over(self):
    """What lies in it is trained again; the group that owns it still says what is wrong."""
    self.call("first", TASKS[:1])
    path = self.folder / "checkpoints" / "first" / "config.json"
    for damaged in ("{", "[]", "{}"):
      path.write_text(damaged)
      shutil.rmtree(self.folder / "checkpoints" / "second", ignore_errors=True)
      with self.assertLogs(level="WARNING") as logged:
        self.call("second", TASKS[:1])
      self.assertIn(str(path), logged.output[0])
      self.assertEqual(self.rows_trained("second"), 2)
      with self.assertRaisesRegex(ValueError, "config.json"):
        self.call("first", TASKS[:1])

  def test_a_group_that_was_stopped_goes_on_and_is_not_shared_before_its_end(self):
    train(TASKS[:2], folder=self.folder / "checkpoints" / "first", until=1)
    self.call("second", TASKS[1:])  # before the first is complete: both of its tasks are its own
    self.assertEqual(self.rows_trained("second"), 4)
    resumed, whole = self.call("first", TASKS[:2]), train(TASKS[:2])
    self.assertIn(1, resumed.history["step"].to_list())
    self.assertEqual(self.rows_trained("first"), 4)
    for task in range(2):
      assert_same_students(resumed, task, whole, task)

  def test_a_group_stopped_beside_a_shared_task_goes_on(self):
    self.call("first", TASKS[:1])
    train(TASKS[1:2], folder=self.folder / "checkpoints" / "second", until=2)  # what the trainer had begun of [0, 1]
    both = self.call("second", TASKS[:2])
    self.assertEqual(self.rows_trained("second"), 2)
    self.assertIn(2, both.history.loc[both.history["row"] >= 2, "step"].to_list())
    for task in range(2):
      assert_same_students(both, task, train(TASKS[:2]), task)

  def test_a_stopped_group_goes_on_though_another_has_trained_a_task_of_its_own_since(self):
    """What a folder has begun stays in it: else the rest of the group would find the folder of another one."""
    self.call("first", TASKS[:1])
    train(TASKS[1:], folder=self.folder / "checkpoints" / "second", until=1)  # what the trainer had begun of [0, 1, 2]
    self.call("third", TASKS[1:2])
    resumed = self.call("second", TASKS)
    self.assertEqual(self.rows_trained("second"), 4)
    for task in range(3):
      assert_same_students(resumed, task, train(TASKS[task : task + 1]), 0)

  def test_other_initial_parameters_are_a_group_of_their_own(self):
    first = self.call("first", TASKS[:1])
    start = jax.tree.map(lambda leaf: 1.5 * leaf, first.state.params)
    other = self.trainer()(Request("second", TASKS[:1], MODEL, TRAINING, SEEDS), params=start)
    self.assertEqual(self.rows_trained("second"), 2)
    self.assertFalse(all(map(np.array_equal, parameters(other, 0), parameters(first, 0))))


class InitialStatesTest(absltest.TestCase):
  def test_one_program_serves_all_trainings_and_objectives_and_each_carries_its_own(self):
    model = dataclasses.replace(MODEL, width=6)  # of no other test, which might have compiled the program already
    with mock.patch.object(students, "fresh_student", wraps=students.fresh_student) as traced:
      states = {
        name: students.initial_states(TASKS[:2], model, TRAINING, SEEDS, devices.device_mesh(), objectives)
        for name, objectives in GROUPS.items()
      }
      longer = dataclasses.replace(TRAINING, num_steps=9, weight_decay=0.0)
      other = students.initial_states(TASKS[:2], model, longer, SEEDS, devices.device_mesh())
    self.assertEqual(traced.call_count, 1)
    jax.tree.map(np.testing.assert_array_equal, other.opt_state, jax.vmap(make_optimizer(longer).init)(other.params))
    for state in states.values():
      jax.tree.map(np.testing.assert_array_equal, state.params, states["likelihood"].params)
      np.testing.assert_allclose(state.task.probabilities.explore_prob, [0.1, 0.1, 0.5, 0.5])
    self.assertEqual(states["likelihood"].extra, ())
    (noise,) = jax.tree.leaves(states["noise"].extra)
    np.testing.assert_allclose(noise, [0, 0, 0.3, 0.3])


class DivergedTest(absltest.TestCase):
  def start(self, lost: list[int]) -> dict:
    """Fresh parameters with a NaN in some rows of the four students."""
    fresh = students.initial_states(TASKS[:2], MODEL, TRAINING, SEEDS, devices.device_mesh()).params
    return jax.tree.map(lambda leaf: leaf.at[jnp.array(lost)].set(jnp.nan), fresh)

  def test_a_task_all_of_whose_students_diverged_ends_the_run_in_one_line(self):
    message = (
      r"^the pair: all 2 students of StarGraph\(.*explore_prob=0\.5.*\) diverged; lower training.learning_rate=0\.003$"
    )
    with self.assertRaisesRegex(ValueError, message) as caught:
      train(params=self.start([2, 3]), description="the pair")
    self.assertNotIn("\n", str(caught.exception))

  def test_nor_is_such_a_task_shared_in_silence(self):
    """It was trained to the end, and its folder is complete."""
    trainer = Trainer(self.enterContext(tempfile.TemporaryDirectory()), devices.device_mesh())
    with mock.patch.object(runner, "finite_rows", lambda history, params, num_rows: np.zeros(num_rows, bool)):
      for name in ("first", "second", "first"):
        with self.assertRaisesRegex(ValueError, rf"^{name}: all 2 students of StarGraph\(.*\) diverged; lower "):
          trainer(Request(name, TASKS[:1], MODEL, TRAINING, SEEDS))

  def test_single_students_that_diverged_are_marked(self):
    start = self.start([0, 3])
    trained = train(params=start)
    np.testing.assert_array_equal(trained.is_finite, [False, True, True, False])
    self.assertFalse(any(leaf.is_deleted() for leaf in jax.tree.leaves(start)))  # others may begin with them too


class LabelTest(absltest.TestCase):
  def test_labels_stand_in_place_of_the_row(self):
    group = train(TASKS[:2])._replace(conditions={"exploration": [0.1, 0.5]})
    frame = pd.DataFrame({"row": [3, 0, 1, 2], "temperature": [0.0, 1.0, 0.5, 0.2], "value": [10, 11, 12, 13]})
    labelled = group.label(frame)
    self.assertEqual(labelled.columns.tolist(), ["exploration", "seed", "temperature", "value"])
    self.assertEqual(labelled["exploration"].tolist(), [0.5, 0.1, 0.1, 0.5])
    self.assertEqual(labelled["seed"].tolist(), [7, 4, 7, 4])
    self.assertEqual(labelled["value"].tolist(), [10, 11, 12, 13])


if __name__ == "__main__":
  absltest.main()
