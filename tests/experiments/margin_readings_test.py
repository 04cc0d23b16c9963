"""The readings of the margin: conditions, their students, and that the figure and the table are made."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import tempfile
from unittest import mock

import numpy as np
from absl.testing import absltest, parameterized

from experiments import experiment, margin_readings, published
from experiments.margin_readings import MarginReadings
from loopjax.analysis import repetition
from loopjax.models.transformer import Transformer
from loopjax.remedies.margin_loss import MarginLoss
from loopjax.runtime import devices
from loopjax.star_graph import null_worlds, sharing
from loopjax.star_graph.graph import StarGraph
from loopjax.training.step import Training

TINY = dataclasses.replace(
  margin_readings.PRESETS["quick"],
  task=StarGraph(num_chains=3, chain_length=1, max_steps=8, reset_prob=0.0, explore_prob=1.0),
  model=Transformer(num_layers=1, num_heads=2, width=8), training=Training(num_steps=3, rows_per_step=2),
  temperatures=(0.0, 1.0), num_seeds=2, num_graphs=16,
)  # fmt: skip


class MeasureTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def test_every_condition_has_students_of_its_own_teacher_and_weight(self):
    with mock.patch.object(sharing, "train_students", wraps=sharing.train_students) as train:
      tables = margin_readings.measure(TINY, sharing.Trainer(self.folder, devices.device_mesh()))
    (tasks, *_), objectives = train.call_args.args, train.call_args.kwargs["objectives"]
    self.assertEqual([(x.visited_margin, x.goal_margin) for x in tasks], [(0, 0), (0.1, 0), (0, 0.1), (0, 0)])
    self.assertEqual(objectives, [MarginLoss(weight, TINY.loss_margin) for weight in (0, 0, 0, 0.3)])

    frame, history = tables["margin_readings"], tables["margin_readings_history"]
    self.assertLen(frame, 4 * 2 * (2 + 1))
    names = ["no margin", "visited 0.1", "goal 0.1", "loss, weight 0.3"]
    self.assertEqual((list(frame["condition"].unique()), list(history["condition"].unique())), (names, names))
    self.assertFalse(frame.duplicated(["condition", "seed", "walks", "temperature"]).any())
    np.testing.assert_allclose(frame["reached"] + frame["broken"] + frame["cut"], 1, atol=1e-6)
    chance = frame[frame["walks"] == repetition.TEACHER].groupby("reading")["chance"].mean()
    self.assertAlmostEqual(chance["goal"], 1, places=5)  # this teacher's top child is the goal's at every visit
    self.assertAlmostEqual(chance["loss"], 1 / 3, places=5)  # this one's walks are uniform

  def test_exact_teachers_persist_as_chance_says(self):
    """The goal's teacher repeats its top child, the others draw theirs afresh; figure and table show them."""
    config = dataclasses.replace(TINY, num_graphs=64, walks_per_graph=4)
    ran = functools.partial(experiment.run, margin_readings.EXPERIMENT, config, self.folder)
    with mock.patch.object(experiment, "Trainer", lambda _, mesh: null_worlds.Pretender("exact teacher", mesh)):
      frame = ran()[0]["margin_readings"]
    warm = frame[(frame["walks"] == repetition.ROLLOUTS) & (frame["temperature"] == 1)]
    means = warm.groupby("reading", sort=False)[["persistence", "chance", "broken"]].mean()
    np.testing.assert_array_equal(means["broken"], 0)
    np.testing.assert_allclose(means["persistence"], means["chance"], atol=0.08)
    self.assertEqual(means.loc["goal", "persistence"], 1)
    self.assertGreater((self.folder / "figures" / "margin_readings.png").stat().st_size, 2_000)
    again = mock.Mock(side_effect=AssertionError("measured again"))
    experiment.run(dataclasses.replace(margin_readings.EXPERIMENT, measure=again), config, self.folder)


class ConfigTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"temperatures": (0.0, 1.0, 1.0)}, r"^temperatures=.* 1 comes more than once"),
    ({"visited_margins": ()}, r"^visited_margins=\(\) "),
    ({"goal_margins": (0.1, 0.1)}, r"^goal_margins=\(0\.1, 0\.1\) .* 0\.1 comes more than once"),
    ({"loss_weights": (0.0, 1.0)}, r"^loss_weights=\(0\.0, 1\.0\) .* above 0"),
    ({"loss_margin": 0.0}, r"^loss_margin=0\.0 .* above 0"),
    ({"task": StarGraph(3, 1, explore_prob=1.0, goal_margin=0.1)}, r"^task\.goal_margin=0\.1 .* set goal_margins"),
    ({"visited_margins": (0.6,)}, r"^task\.visited_margin=0\.6 .* below 0\.5"),
    ({"walks_per_graph": 1}, r"^walks_per_graph=1 .* at least 2"),
  )
  def test_errors(self, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      dataclasses.replace(TINY, **changes)

  def test_published_points_stand_beside_both_teachers_and_not_beside_the_loss(self):
    points = margin_readings._published(MarginReadings())
    self.assertEqual(set(points["condition"]), {"no margin", "visited 0.05", "visited 0.1", "goal 0.05", "goal 0.1"})
    self.assertEqual(points["persistence"].dropna().tolist(), [published.PERSISTENCE])
    self.assertEmpty(margin_readings._published(TINY))  # another number of children

  def test_the_default_loss_margin_is_near_a_visited_margin_of_a_tenth(self):
    """Of five children u = (1 + m k)/n, and the visited ones share the rest."""
    gaps = []
    for k in range(1, 5):
      unvisited = (1 + 0.1 * k) / 5
      gaps.append(np.log(unvisited) - np.log((1 - (5 - k) * unvisited) / k))
    self.assertBetween(MarginReadings().loss_margin, min(gaps), max(gaps))


if __name__ == "__main__":
  absltest.main()
