"""Policy gradient: rewards and advantages in plain Python, the loss by hand, signs, how walks are drawn."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from jax.sharding import AxisType, PartitionSpec

from loopjax.remedies import own_walks, policy_gradient
from loopjax.remedies.policy_gradient import Asked, PolicyGradient
from loopjax.star_graph.graph import START, StarGraph
from loopjax.star_graph.objective import task_state
from loopjax.star_graph.teacher import teacher_probabilities
from loopjax.training import step
from tests.models.students import random_params, sample_packed
from tests.remedies import cases
from tests.remedies.groups_test import MODEL, TASK, TRAINING

KEY = jax.random.key(0)
SPARE = StarGraph(2, 1, max_steps=6, reset_prob=0.3, explore_prob=0.5, spare_labels=2)


class LossTest(absltest.TestCase):
  def test_rewards_are_for_valid_ways_to_the_goal(self):
    """Two problems on G(2, 1), with goals 2 and 3: each reached, cut, and leapt to from s."""
    walks = np.array([
      [[0, 1, 0, 1, 2, -1], [0, 1, 0, 1, 0, 1], [0, 2, -1, -1, -1, -1]],
      [[0, 1, 2, 0, 1, 3], [0, 1, 2, 0, 1, 2], [0, 3, -1, -1, -1, -1]],
    ])  # fmt: skip
    probabilities = jax.tree.map(lambda leaf: leaf[None].repeat(2), teacher_probabilities(SPARE))
    problems = own_walks.Problem(None, jnp.array([0, 1]), probabilities)
    found = policy_gradient.rewards(SPARE, problems, walks)
    np.testing.assert_array_equal(found, [[1, 0, 0], [1, 0, 0]])

  def test_advantages(self):
    found = policy_gradient.advantages(jnp.array([[1.0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]]))
    deviation = math.sqrt(3) / 4
    expected = [[0.75 / deviation, *[-0.25 / deviation] * 3], [1, 1, -1, -1], [0] * 4, [0] * 4]
    np.testing.assert_allclose(found, expected, rtol=1e-4)

  def test_by_hand(self):
    """A move with q = 1/2, which the reference gives 1/4: b/q = 1/2."""
    nats, reference = jnp.log(jnp.array([[2.0]])), jnp.log(jnp.array([[4.0]]))
    found = policy_gradient.policy_loss(nats, reference, jnp.array([-3.0]), jnp.float32(0.1))
    np.testing.assert_allclose(found, [[-3 * math.log(2) + 0.1 * (0.5 + math.log(2) - 1)]], rtol=1e-5)

  def test_signs(self):
    """Moves of good walks become likelier, of bad ones less so; the divergence alone pulls back to the reference."""
    slope = jax.grad(lambda nats, advantage, weight: policy_gradient.policy_loss(nats, 1.0, advantage, weight).sum())
    self.assertGreater(slope(jnp.ones((1, 1)), jnp.ones(1), 0.0), 0)  # -log q falls
    self.assertLess(slope(jnp.ones((1, 1)), -jnp.ones(1), 0.0), 0)
    self.assertGreater(slope(jnp.full((1, 1), 2.0), jnp.zeros(1), 0.1), 0)
    self.assertLess(slope(jnp.full((1, 1), 0.5), jnp.zeros(1), 0.1), 0)
    np.testing.assert_array_equal(slope(jnp.ones((1, 1)), jnp.zeros(1), 0.1), 0)


class DrawTest(absltest.TestCase):
  def test_walks_have_the_frequencies_that_the_student_says(self):
    """The first move of 4,000 walks on one graph, also to labels off the graph; each label is known."""
    params, size = random_params(MODEL, SPARE), 4_000
    problem = own_walks.sample_problem(SPARE, KEY, task_state(SPARE, TRAINING))

    def draw(key):
      goals = jnp.full(size, problem.goal_chain)
      return own_walks.drawn_walks(
        SPARE, MODEL, params, problem.probabilities, problem.graph, goals, jnp.float32(1.0), key
      )

    walks = cases.jit(draw)(KEY)
    batch = jax.tree.map(lambda leaf: leaf[None], problem)
    said = cases.jit(lambda walks: own_walks.read(SPARE, MODEL, params, batch, walks))(walks.nodes[:1])[0, 0]
    counts = np.bincount(np.asarray(walks.labels[:, 1]), minlength=SPARE.vocabulary_size) / size
    np.testing.assert_allclose(counts, jax.nn.softmax(said), atol=4 * 0.5 / math.sqrt(size))
    self.assertTrue((np.asarray(walks.nodes[:, 0]) == START).all())
    labels, nodes = np.asarray(walks.labels), np.asarray(walks.nodes)
    on_graph = (nodes >= 0) & (nodes < SPARE.num_nodes)
    np.testing.assert_array_equal(labels[on_graph], np.asarray(problem.graph.labels)[nodes[on_graph]])
    off = nodes == SPARE.num_nodes
    self.assertGreater(off.sum(), 100)
    self.assertFalse(np.isin(labels[off], problem.graph.labels).any())


class ObjectiveTest(absltest.TestCase):
  def test_at_share_0_loss_and_gradient_are_those_of_maximum_likelihood_bit_for_bit(self):
    params, rows, keys = random_params(MODEL, TASK), sample_packed(TASK, 4, 1, 16), jax.random.split(KEY, 4)
    problems = jax.vmap(lambda key: own_walks.sample_problem(TASK, key, task_state(TASK, TRAINING)))(keys)
    config, batch = PolicyGradient(0.0, group_size=2), Asked(rows, problems, keys)
    cases.assert_maximum_likelihood(TASK, MODEL, TRAINING, config, params, rows, batch)

  def test_a_batch_over_four_devices_gives_the_step_of_one(self):
    """Each row has draws of its own, so devices draw the walks that one device would."""
    config, training = PolicyGradient(0.5, group_size=2), dataclasses.replace(TRAINING, rows_per_step=4)
    built, params = config.build(TASK, MODEL, training), random_params(MODEL, TASK)
    extra = built.begin(random_params(MODEL, TASK, 1), config.init(KEY, TASK, training))
    opt_state = step.make_optimizer(training).init(params)
    start = step.TrainState(jnp.int32(0), params, opt_state, KEY, task_state(TASK, training), extra)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    split = jax.shard_map(
      lambda state: step.train_step(built, training, state, data_axis="data"), mesh=mesh, in_specs=PartitionSpec(),
      out_specs=PartitionSpec(), check_vma=False,
    )  # fmt: skip
    expected, metrics = cases.jit(lambda state: step.train_step(built, training, state))(start)
    found, split_metrics = cases.jit(split)(start)
    np.testing.assert_allclose(np.array(split_metrics), np.array(metrics), rtol=1e-4)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), found.params, expected.params)

  def test_validation(self):
    with self.assertRaisesRegex(ValueError, r"^objective\.share=1\.5 .* in \[0, 1\]$"):
      PolicyGradient(1.5)
    with self.assertRaisesRegex(ValueError, r"^objective\.kl_weight=-1 .* at least 0$"):
      PolicyGradient(kl_weight=-1)
    with self.assertRaisesRegex(ValueError, r"^objective\.group_size=1 .* at least 2"):
      PolicyGradient(group_size=1)


if __name__ == "__main__":
  absltest.main()
