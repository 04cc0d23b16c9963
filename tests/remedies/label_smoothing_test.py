"""Label smoothing: by hand, against plain Python and optax's loss, its optimum, and which probabilities it moves."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import absltest

from loopjax.remedies.label_smoothing import LabelSmoothing, smoothed_cross_entropy
from loopjax.training.step import cross_entropy
from tests.remedies import cases


class LossTest(absltest.TestCase):
  def test_by_hand(self):
    """Probabilities 1/2, 1/4, 1/4; the target, the first, has 0.7 + 0.1 in the loss, the others 0.1."""
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25]]))
    found = smoothed_cross_entropy(logits, jnp.array([0]), jnp.float32(0.3))
    np.testing.assert_allclose(found, 0.8 * math.log(2) + 2 * 0.1 * math.log(4), rtol=1e-6)

  def test_plain_python_and_optax(self):
    batch = cases.packed_batch(cases.SHORT)
    logits, size = cases.random_logits(cases.SHORT, batch), cases.SHORT.vocabulary_size
    found = np.asarray(smoothed_cross_entropy(logits, batch.targets, jnp.float32(0.3)))
    for place in np.ndindex(batch.targets.shape):
      log_q = np.log(cases.softmax(logits[place]))
      expected = -0.7 * log_q[batch.targets[place]] - 0.3 * np.mean(log_q)
      np.testing.assert_allclose(found[place], expected, rtol=1e-4)
    smoothed = optax.losses.smooth_labels(jax.nn.one_hot(batch.targets, size), 0.3)
    np.testing.assert_allclose(found, optax.losses.softmax_cross_entropy(jnp.asarray(logits), smoothed), rtol=1e-4)

  def test_without_smoothing_it_is_the_cross_entropy_bit_for_bit(self):
    batch = cases.packed_batch(cases.SHORT)
    logits = jnp.asarray(cases.random_logits(cases.SHORT, batch))
    found = smoothed_cross_entropy(logits, batch.targets, jnp.float32(0.0))
    np.testing.assert_array_equal(found, cross_entropy(logits, batch.targets))

  def test_at_its_optimum_the_gradient_vanishes_and_above_it_the_target_falls(self):
    optimum = jnp.log(jnp.array([0.8, 0.1, 0.1]))
    pull = jax.grad(lambda x: smoothed_cross_entropy(x, jnp.int32(0), jnp.float32(0.3)))
    np.testing.assert_allclose(pull(optimum), 0, atol=1e-6)
    surer = pull(optimum + jnp.array([1.0, 0.0, 0.0]))
    self.assertGreater(float(surer[0]), 0)
    self.assertTrue((surer[1:] < 0).all())

  def test_validation(self):
    with self.assertRaisesRegex(ValueError, r"^objective\.smoothing=1\.5 .* in \[0, 1\]$"):
      LabelSmoothing(1.5)


if __name__ == "__main__":
  absltest.main()
