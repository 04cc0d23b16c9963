"""The losses by which a student is fit: by hand, along the teacher's walks alone, NaN where there is no student."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from loopjax.runtime import devices
from loopjax.star_graph import fitness, null_worlds, teacher, theory
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.null_worlds import Law
from loopjax.star_graph.rollouts import sample_problems
from loopjax.star_graph.streams import teacher_walks
from loopjax.star_graph.teacher import PADDING
from loopjax.training.step import Training

TASK = StarGraph(num_chains=2, chain_length=2, spare_labels=1, max_steps=14, reset_prob=0.2, explore_prob=0.6)


class MeanLossTest(absltest.TestCase):
  def test_by_hand(self):
    """Over the moves of all walks alike: a long walk counts for more."""
    probabilities = teacher.teacher_probabilities(TASK)
    problems = jax.jit(lambda key: sample_problems(TASK, key, 3, 2))(jax.random.key(0))
    make = jax.jit(lambda key: teacher_walks(TASK, probabilities, key, problems.goal_chain))
    walks = np.asarray(make(jax.random.key(1)))
    self.assertGreater(np.ptp(np.sum(walks != PADDING, axis=-1)), 3)
    logits = np.random.default_rng(0).normal(size=(3, 2, TASK.max_steps - 1, TASK.vocabulary_size))
    nats = []
    for graph, rollout in np.ndindex(3, 2):
      for place, node in enumerate(walks[graph, rollout, 1:].tolist()):
        if node != PADDING:
          q = np.exp(logits[graph, rollout, place])
          nats.append(-np.log(q[problems.graphs.labels[graph, node]] / q.sum()))
    found = fitness.mean_loss(TASK, problems, jnp.asarray(walks), jnp.asarray(logits, jnp.float32))
    np.testing.assert_allclose(found, np.mean(nats), rtol=1e-5)


class EvaluateLossesTest(absltest.TestCase):
  def test_errors_cost_what_they_should_and_no_student_is_nan(self):
    mesh = devices.device_mesh()
    students = null_worlds.law_students(Law(error_size=1.0), [TASK], Training(), range(4), mesh)
    students = students._replace(is_finite=np.array([True, True, False, True]))
    frame = fitness.evaluate_losses(students, num_graphs=400, seed=0)
    self.assertCountEqual(frame.columns, ["row", "loss", "loss_above_teacher", "loss_above_memoryless"])
    self.assertEqual(frame["row"].tolist(), [0, 1, 2, 3])
    self.assertEqual(frame.drop(columns="row").isna().all(axis=1).tolist(), [False, False, True, False])
    left = frame[frame["row"] != 2]
    self.assertGreater(left["loss_above_teacher"].min(), 0.01)
    np.testing.assert_allclose(left["loss"] - left["loss_above_teacher"], theory.teacher_loss(TASK), atol=0.05)
    difference = left["loss_above_teacher"] - left["loss_above_memoryless"]
    np.testing.assert_allclose(difference, theory.memoryless_loss(TASK) - theory.teacher_loss(TASK), atol=0.03)

  def test_injected_loops_are_not_among_the_walks(self):
    """A student is held against the clean teacher, whatever it was trained on."""
    mesh, poisoned = devices.device_mesh(), [StarGraph(2, 2, spare_labels=1, max_steps=14, injected_share=1.0)]
    students = null_worlds.law_students(Law(loop_posterior=False), poisoned, Training(), range(4), mesh)
    loss = fitness.evaluate_losses(students, num_graphs=400, seed=0)["loss"]
    clean = StarGraph(2, 2, spare_labels=1, max_steps=14)
    np.testing.assert_allclose(loss, theory.teacher_loss(clean), atol=0.05)


if __name__ == "__main__":
  absltest.main()
