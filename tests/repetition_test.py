"""Groups of walks: whose they are, what null (ii) is at temperature 0, and the frames."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from loopjax import decoding, repetition, star_graph, teacher, theory
from loopjax.analysis import temporal_errors
from loopjax.analysis.walks import WalkMeasures
from loopjax.repetition import Repetition
from loopjax.star_graph import ROOT, START, StarGraph
from loopjax.teacher import PADDING
from loopjax.transformer import Transformer
from tests import temporal_errors_test as models
from tests.transformer_test import random_params

NUM_LAGS = 2


def setUpModule():
  jax.config.update("jax_disable_most_optimizations", True)  # compiling takes most of the time


def tearDownModule():
  jax.config.update("jax_disable_most_optimizations", False)


class TeacherWalksTest(absltest.TestCase):
  def test_valid_walks_to_the_goals_as_long_as_exact_theory_says(self):
    task = StarGraph(num_chains=3, chain_length=2, max_steps=20, reset_prob=0.1, explore_prob=0.8, visited_margin=0.1)
    probabilities = teacher.teacher_probabilities(dataclasses.replace(task, injected_share=0.5))
    goals = jnp.tile(jnp.arange(3)[:, None], (1, 400))
    walks = jax.jit(functools.partial(repetition.teacher_walks, task))(probabilities, jax.random.key(0), goals)
    self.assertTrue(teacher.valid_moves(task, probabilities, walks).all())

    lengths = np.sum(walks != PADDING, axis=-1)
    last = np.take_along_axis(np.asarray(walks), lengths[..., None] - 1, axis=-1)[..., 0]
    at_goal = last == star_graph.goal_node(task, goals)
    self.assertTrue(np.all(at_goal | (lengths == task.max_steps)))
    self.assertTrue(np.all(np.sum(walks == star_graph.goal_node(task, goals)[..., None], axis=-1) == at_goal))
    exact = theory.teacher_statistics(task)
    for values, expected in ((lengths, exact.response_length), (at_goal, exact.reached)):
      self.assertLess(abs(np.mean(values) - expected), 4 * np.std(values) / np.sqrt(values.size))


@functools.cache
def measured_groups():
  """Visits at temperature 0 (frozen errors, one and the same walk R times), 1 and of a teacher; and their measures."""
  rng = np.random.default_rng(0)
  graphs = models.random_graphs(models.MODEL_TASK, rng)
  cold = models.visits_with(models.frozen(rng, None), rng)
  cold = jax.tree.map(lambda field: jnp.broadcast_to(field[:, :1], field.shape), cold)
  others = [models.visits_with(model(rng, None), rng) for model in (models.autoregressive, models.independent)]
  visits = jax.tree.map(lambda *fields: jnp.stack(fields), cold, *others)
  measure = functools.partial(repetition.measure_groups, models.MODEL_TASK, temperatures=(0.0, 1.0), num_lags=NUM_LAGS)
  return graphs, visits, jax.device_get(jax.jit(measure)(visits, graphs))


class GroupsTest(absltest.TestCase):
  def test_groups_are_measured_each_and_null_two_is_the_teachers_at_temperature_0(self):
    graphs, visits, got = measured_groups()
    alone = models.jitted_measures(models.MODEL_TASK, num_lags=NUM_LAGS)
    of_group = [jax.tree.map(lambda field, group=group: field[group], visits) for group in range(3)]
    expected = [jax.device_get(alone(group, graphs)) for group in of_group]
    self.assertEqual(expected[0].other_walks.persistence.pooled, 1)  # of one walk with itself: no null
    compare = functools.partial(temporal_errors.compare, models.MODEL_TASK, num_lags=NUM_LAGS)
    expected[0] = expected[0]._replace(other_walks=jax.jit(compare)(of_group[0], of_group[2]))
    expected = jax.tree.map(lambda *fields: np.stack(fields), *expected)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), got, expected)
    self.assertLess(got.other_walks.persistence.pooled[0], 0.5)

  def test_frames(self):
    errors = measured_groups()[2]
    walks = WalkMeasures(*(np.full(3, i, np.float32) for i in range(len(WalkMeasures._fields))))
    two = jax.tree.map(lambda field: np.stack([field, field]), Repetition(walks, errors))
    summary, by_lag, by_visit = repetition.to_frames(two, (0.0, 1.0), np.array([True, False]))

    self.assertEqual(list(summary["walks"]), ["rollouts", "rollouts", "teacher"] * 2)
    np.testing.assert_array_equal(summary["temperature"], [0, 1, np.nan] * 2)
    first = summary[summary["row"] == 0]
    np.testing.assert_array_equal(first["reached"], 0)
    np.testing.assert_array_equal(first["response_length"], 2)
    own, other = errors.own_walk, errors.other_walks
    np.testing.assert_allclose(first["persistence_ratio"], own.persistence.pooled * models.C, rtol=1e-6)
    np.testing.assert_allclose(first["other_walks_correlation"], other.correlation[:, 0], rtol=1e-6)

    rows = by_lag[(by_lag["row"] == 0) & (by_lag["pairs"] == "other_walks")]
    np.testing.assert_array_equal(rows["lag"], [1, 2] * 3)
    np.testing.assert_allclose(rows["correlation"], other.correlation.ravel(), rtol=1e-6)

    rows = by_visit[(by_visit["row"] == 0) & (by_visit["pairs"] == "own_walk") & (by_visit["temperature"] == 1)]
    for by, begin in (("visit", 1), ("distance", 0)):
      there = rows[rows["by"] == by].set_index("index")
      sums, counts = (getattr(own.persistence, f"{by}_{x}")[1] for x in ("sums", "counts"))
      np.testing.assert_array_equal(there.index - begin, np.flatnonzero(counts))
      np.testing.assert_allclose(there["persistence"], (sums / np.maximum(counts, 1))[counts > 0], rtol=1e-6)
      self.assertEqual(there["num_pairs"].sum(), own.correlation_counts[1, 0])

    for frame, columns in ((summary, ["reached", "persistence"]), (by_lag, ["correlation"]), (by_visit, ["chance"])):
      self.assertTrue(frame.loc[frame["row"] == 1, columns].isna().all(axis=None))
      self.assertGreater(frame.loc[frame["row"] == 1, "num_pairs"].sum(), 0)


class StudentTest(absltest.TestCase):
  def test_walks_are_grouped_by_temperature(self):
    """Three temperatures of two walks: cut ones, successes, one of each."""
    task = StarGraph(num_chains=2, chain_length=1, max_steps=6, reset_prob=0.0, explore_prob=1.0)
    model = Transformer(num_layers=1, num_heads=1, width=4)
    problems = decoding.sample_problems(task, jax.random.key(0), 5, 6)
    problems = problems._replace(goal_chain=jnp.zeros((5, 6), jnp.int32))
    cut, success = [START, ROOT, 3, START, ROOT, 3], [START, ROOT, 2, PADDING, PADDING, PADDING]
    nodes = jnp.tile(jnp.array([cut, cut, success, success, cut, success])[None], (5, 1, 1))

    @jax.jit
    def measure(params, probabilities, key):
      return repetition.measure_student(
        task, model, params, probabilities, problems, nodes, key, temperatures=(0.0, 0.5, 1.0), num_lags=1
      )

    probabilities = teacher.teacher_probabilities(task)
    got = measure(random_params(model, task), probabilities, jax.random.key(1))
    np.testing.assert_allclose(got.walks.reached[:3], [0, 1, 0.5])
    np.testing.assert_allclose(got.walks.response_length[:3], [6, 3, 4.5])
    np.testing.assert_array_equal(got.errors.own_walk.correlation_counts[:3, 0], [10, 0, 5])


if __name__ == "__main__":
  absltest.main()
