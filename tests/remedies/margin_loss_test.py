"""The loss margin: against plain Python, its gradient's sign, and weight 0 against maximum likelihood."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from jax.sharding import AxisType, PartitionSpec

from loopjax.models.transformer import Transformer
from loopjax.remedies import margin_loss
from loopjax.remedies.margin_loss import MarginLoss
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import MaximumLikelihood, ObjectiveConfig, task_state
from loopjax.star_graph.streams import stream_length
from loopjax.training.step import Training, TrainState, make_optimizer, train_step
from tests.models.students import random_params, sample_packed
from tests.star_graph import brute_force

# A goal that is a child too (chain_length = 1) is told before the walk, and not entered by that.
SHORT = StarGraph(3, 1, max_steps=10, reset_prob=0.3, explore_prob=1.0, spare_labels=2)
LONG = StarGraph(2, 2, max_steps=12, reset_prob=0.3, explore_prob=1.0, spare_labels=1, goal_hidden=True)
MODEL = Transformer(num_layers=1, num_heads=2, width=16)
TRAINING = Training(num_steps=4, rows_per_step=8, learning_rate=0.01, warmup_steps=0)


def walks_of(batch: encoding.Row):
  """Every walk of a batch as a list of (row, stream, position, node), without its goal token and the padding."""
  for row, stream in np.ndindex(batch.nodes.shape[:2]):
    for number in np.unique(batch.segments[row, stream]):
      places = np.flatnonzero((batch.segments[row, stream] == number) & (batch.weights[row, stream] > 0))
      yield [(row, stream, place, int(batch.nodes[row, stream, place])) for place in places]


def plain_penalty(task: StarGraph, batch: encoding.Row, logits: np.ndarray, margin: float) -> tuple[float, int]:
  """Sum of the hinges and their number, visit by visit."""
  kids, total, number = brute_force.children_of_root(task), 0.0, 0
  for walk in walks_of(batch):
    for i, (row, stream, place, node) in enumerate(walk):
      if node != brute_force.R:
        continue
      visited = set(brute_force.entered_children(task, [n for *_, n in walk[: i + 1]]))
      q = {kid: math.exp(logits[row, stream, place, batch.labels[row, kid]]) for kid in kids}
      q = {kid: value / sum(q.values()) for kid, value in q.items()}
      unvisited = [q[kid] for kid in kids if kid not in visited]
      for kid in visited if unvisited else ():
        total += max(0.0, margin - (math.log(sum(unvisited) / len(unvisited)) - math.log(q[kid])))
        number += 1
  return total, number


@functools.cache
def batch_and_logits(task: StarGraph) -> tuple[encoding.Row, jax.Array]:
  batch = sample_packed(task, 6, 2, 3 * stream_length(task))
  shape = (*batch.nodes.shape, task.vocabulary_size)
  return batch, jnp.asarray(2 * np.random.default_rng(0).normal(size=shape), jnp.float32)


class PenaltyTest(parameterized.TestCase):
  @parameterized.product(task=(SHORT, LONG), margin=(0.0, 0.7, 5.0))
  def test_plain_python(self, task, margin):
    batch, logits = batch_and_logits(task)
    expected, number = plain_penalty(task, jax.tree.map(np.asarray, batch), np.asarray(logits, np.float64), margin)
    found, pairs = margin_loss.penalty(task, batch, logits, jnp.float32(margin))
    self.assertGreater(number, 30)
    self.assertEqual(int(pairs), number)
    np.testing.assert_allclose(found, expected, rtol=1e-5)

  def test_gradient_lowers_visited_children_and_raises_unvisited_ones_at_r_alone(self):
    batch, logits = batch_and_logits(LONG)
    pull = jax.grad(lambda x: margin_loss.penalty(LONG, batch, x, jnp.float32(20.0))[0])(logits)  # all hinges bind
    self.assertTrue(np.isfinite(pull).all())  # also where every child is visited
    visited = np.asarray(margin_loss.visited_before(LONG, batch))
    kids = np.asarray(batch.labels)[:, brute_force.children_of_root(LONG)]
    at_r = np.asarray((batch.nodes == brute_force.R) & (batch.weights > 0))
    binds = at_r & visited.any(axis=-1) & ~visited.all(axis=-1)
    self.assertTrue(binds.any() and (at_r & visited.all(axis=-1)).any())
    np.testing.assert_array_equal(pull[~binds], 0)
    for row, stream, place in zip(*np.nonzero(binds), strict=True):
      of_children = pull[row, stream, place, kids[row]]
      self.assertTrue(((of_children > 0) == visited[row, stream, place]).all())
      self.assertAlmostEqual(float(pull[row, stream, place].sum()), 0, delta=1e-4)


@functools.cache
def jitted_step(name: str, on_devices: bool = False):
  config: ObjectiveConfig = {"margin": MarginLoss(), "likelihood": MaximumLikelihood()}[name]
  objective = config.build(SHORT, MODEL, TRAINING)
  if not on_devices:
    return jax.jit(lambda state: train_step(objective, TRAINING, state))
  mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
  step = lambda state: train_step(objective, TRAINING, state, data_axis="data")
  replicated = PartitionSpec()
  return jax.jit(jax.shard_map(step, mesh=mesh, in_specs=replicated, out_specs=replicated, check_vma=False))


def initial(config: ObjectiveConfig) -> TrainState:
  params = random_params(MODEL, SHORT)
  opt_state = make_optimizer(TRAINING).init(params)
  carried = task_state(SHORT, TRAINING), config.init(jax.random.key(0), SHORT, TRAINING)
  return TrainState(jnp.int32(0), params, opt_state, jax.random.key(3), *carried)


class ObjectiveTest(absltest.TestCase):
  def test_weight_zero_is_maximum_likelihood(self):
    plain, expected = jitted_step("likelihood")(initial(MaximumLikelihood()))
    state, found = jitted_step("margin")(initial(MarginLoss(0.0, 1.0)))
    np.testing.assert_array_equal(np.array(found), np.array(expected))
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(plain.params), strict=True):
      np.testing.assert_array_equal(a, b)

  def test_the_loss_grows_by_the_weighted_mean_hinge(self):
    losses = [float(jitted_step("margin")(initial(MarginLoss(weight, 1.0)))[1].loss) for weight in (0.0, 1.0, 3.0)]
    self.assertGreater(losses[1], losses[0] + 0.1)
    self.assertAlmostEqual(losses[2] - losses[0], 3 * (losses[1] - losses[0]), places=4)

  def test_a_batch_over_four_devices_gives_the_step_of_one(self):
    """Devices see different numbers of visits: the mean is over those of all."""
    start = initial(MarginLoss(2.0, 1.0))
    expected, expected_metrics = jitted_step("margin")(start)
    found, metrics = jitted_step("margin", on_devices=True)(start)
    np.testing.assert_allclose(np.array(metrics), np.array(expected_metrics), rtol=1e-4)
    for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(expected.params), strict=True):
      np.testing.assert_allclose(a, b, atol=1e-5)

  def test_validation(self):
    with self.assertRaisesRegex(ValueError, r"^objective\.margin_weight=-1 .* at least 0$"):
      MarginLoss(-1, 1.0)
    with self.assertRaisesRegex(ValueError, r"^objective\.margin=-0\.5 .* at least 0$"):
      MarginLoss(1, -0.5)


if __name__ == "__main__":
  absltest.main()
