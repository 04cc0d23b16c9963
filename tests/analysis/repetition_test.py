"""Groups of walks: whose they are, which other walks null (ii) takes, and the frames."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from loopjax.analysis import repetition
from loopjax.analysis.repetition import PAIRS, Chance, Repetition
from loopjax.star_graph import teacher, theory
from loopjax.star_graph.graph import ROOT, START, StarGraph
from loopjax.star_graph.rollouts import sample_problems
from loopjax.star_graph.streams import teacher_walks
from loopjax.star_graph.teacher import PADDING
from loopjax.star_graph.walks import WalkMeasures
from tests.analysis import temporal_errors_test as models

NUM_LAGS = 2


class TeacherWalksTest(absltest.TestCase):
  def test_valid_walks_to_the_goals_as_long_as_exact_theory_says(self):
    task = StarGraph(num_chains=3, chain_length=2, max_steps=20, reset_prob=0.1, explore_prob=0.8, visited_margin=0.1)
    probabilities = teacher.teacher_probabilities(dataclasses.replace(task, injected_share=0.5))
    goals = jnp.tile(jnp.arange(3)[:, None], (1, 400))
    walks = jax.jit(functools.partial(teacher_walks, task))(probabilities, jax.random.key(0), goals)
    self.assertTrue(teacher.valid_moves(task, probabilities, walks).all())

    lengths = np.sum(walks != PADDING, axis=-1)
    last = np.take_along_axis(np.asarray(walks), lengths[..., None] - 1, axis=-1)[..., 0]
    at_goal = last == task.goal_node(goals)
    self.assertTrue(np.all(at_goal | (lengths == task.max_steps)))
    self.assertTrue(np.all(np.sum(walks == task.goal_node(goals)[..., None], axis=-1) == at_goal))
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
  measure = functools.partial(repetition.measure_groups, models.MODEL_TASK, num_lags=NUM_LAGS)
  return graphs, visits, jax.device_get(jax.jit(measure)(visits, graphs))


class GroupsTest(absltest.TestCase):
  def test_groups_are_measured_each_and_other_walks_are_the_teachers_at_every_temperature(self):
    graphs, visits, got = measured_groups()
    alone = models.jitted_measures(models.MODEL_TASK, num_lags=NUM_LAGS)
    cold, warm, taught = (jax.tree.map(lambda field, group=group: field[group], visits) for group in range(3))
    expected = [alone(cold, taught, graphs), alone(warm, taught, graphs)]
    expected.append(alone(taught, models.next_walks(taught), graphs))
    expected = jax.tree.map(lambda *fields: np.stack(fields), *jax.device_get(expected))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), got, expected)
    self.assertLess(np.max(got.other_walks.persistence.pooled), 0.5)  # a greedy walk with itself has 1

  def test_frames(self):
    errors = measured_groups()[2]
    walks = WalkMeasures(*(np.full(3, i, np.float32) for i in range(len(WalkMeasures._fields))))
    two = jax.tree.map(lambda field: np.stack([field, field]), Repetition(walks, errors))
    by_visit = np.linspace(0.1, 0.2, 3 * (models.K - 1)).reshape(3, -1)
    chance = Chance(np.array([[0.25, 0.0, 0.5]] * 2), np.stack([by_visit] * 2))
    summary, by_lag, by_visit_frame = repetition.to_frames(two, chance, (0.0, 1.0), np.array([True, False]))

    self.assertEqual(list(summary["walks"]), ["rollouts", "rollouts", "teacher"] * 2)
    np.testing.assert_array_equal(summary["temperature"], [0, 1, np.nan] * 2)
    first = summary[summary["row"] == 0]
    for place, name in enumerate(WalkMeasures._fields):
      np.testing.assert_array_equal(first[name], place)
    np.testing.assert_allclose(first["chance"], [0.25, 0, 0.5])
    ratios = errors.own_walk.persistence.pooled / [0.25, np.nan, 0.5]
    np.testing.assert_allclose(first["persistence_ratio"], ratios, rtol=1e-6)
    for pairs in PAIRS:
      prefix, of_pairs = "" if pairs == "own_walk" else f"{pairs}_", getattr(errors, pairs)
      np.testing.assert_allclose(first[f"{prefix}persistence"], of_pairs.persistence.pooled, rtol=1e-6)
      np.testing.assert_allclose(first[f"{prefix}correlation"], of_pairs.correlation, rtol=1e-6)
      np.testing.assert_array_equal(first[f"{prefix}num_pairs"], of_pairs.num_pairs)

      rows = by_lag[(by_lag["row"] == 0) & (by_lag["pairs"] == pairs)]
      np.testing.assert_array_equal(rows["lag"], [1, 2] * 3)
      np.testing.assert_allclose(rows["correlation"], of_pairs.correlation_by_lag.ravel(), rtol=1e-6)
      np.testing.assert_array_equal(rows["num_pairs"], of_pairs.num_pairs_by_lag.ravel())

      rows = by_visit_frame[
        (by_visit_frame["row"] == 0) & (by_visit_frame["pairs"] == pairs) & (by_visit_frame["temperature"] == 1)
      ]
      for by, begin in (("visit", 1), ("distance", 0)):
        there = rows[rows["by"] == by].set_index("index")
        sums, counts = (getattr(of_pairs.persistence, f"{by}_{x}")[1] for x in ("sums", "counts"))
        np.testing.assert_array_equal(there.index - begin, np.flatnonzero(counts))
        np.testing.assert_allclose(there["persistence"], (sums / np.maximum(counts, 1))[counts > 0], rtol=1e-6)
        is_known = (pairs, by) == ("own_walk", "visit")
        expected = by_visit[1][counts > 0] if is_known else np.full(len(there), np.nan)
        np.testing.assert_allclose(there["chance"], expected)
      self.assertEqual(rows.loc[rows["by"] == "visit", "num_pairs"].sum(), of_pairs.num_pairs[1])

    frames = ((summary, ["reached", "persistence", "chance"]), (by_lag, ["correlation"]), (by_visit_frame, ["chance"]))
    for frame, columns in frames:
      self.assertTrue(frame.loc[frame["row"] == 1, columns].isna().all(axis=None))
      self.assertGreater(frame.loc[frame["row"] == 1, "num_pairs"].sum(), 0)


class StudentTest(absltest.TestCase):
  def test_walks_are_grouped_by_temperature_and_have_their_own_logits(self):
    """Three temperatures of two walks: cut ones, successes, one of each; a teacher's that are cut."""
    task = StarGraph(num_chains=2, chain_length=1, max_steps=6, reset_prob=0.0, explore_prob=1.0)
    problems = sample_problems(task, jax.random.key(0), 5, 6)
    problems = problems._replace(goal_chain=jnp.zeros((5, 6), jnp.int32))
    cut, success = [START, ROOT, 3, START, ROOT, 3], [START, ROOT, 2, PADDING, PADDING, PADDING]
    nodes = jnp.tile(jnp.array([cut, cut, success, success, cut, success])[None], (5, 1, 1))
    taught = jnp.tile(jnp.array([cut, cut])[None], (5, 1, 1))

    # Child 0 is on top where the sign is positive: the same at both visits but for the first walk of the last group.
    signs = jnp.ones((8, 5)).at[4, 4].set(-1)
    logits = jnp.stack([signs, -signs], axis=-1)
    logits = jnp.tile(logits[None], (5, 1, 1, 1))
    measure = jax.jit(functools.partial(repetition.measure_student, task, num_lags=1))
    got = measure(teacher.teacher_probabilities(task), problems, nodes, logits[:, :6], taught, logits[:, 6:])
    np.testing.assert_allclose(got.walks.reached, [0, 1, 0.5, 0])
    np.testing.assert_allclose(got.walks.response_length, [6, 3, 4.5, 6])
    np.testing.assert_array_equal(got.errors.own_walk.num_pairs, [10, 0, 5, 10])
    np.testing.assert_array_equal(got.errors.own_walk.persistence.pooled, [1, np.nan, 0, 1])
    np.testing.assert_array_equal(got.errors.other_walks.num_pairs, 0)  # all that are cut are one


if __name__ == "__main__":
  absltest.main()
