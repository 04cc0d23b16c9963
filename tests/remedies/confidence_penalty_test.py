"""The confidence penalty: the entropy by hand and in plain Python, and that certainty falls along its gradient."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from loopjax.remedies.confidence_penalty import ConfidencePenalty, entropy
from loopjax.training.step import cross_entropy
from tests.remedies import cases


class EntropyTest(absltest.TestCase):
  def test_by_hand(self):
    found = entropy(jnp.log(jnp.array([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]])))
    np.testing.assert_allclose(found, [1.5 * math.log(2), math.log(3)], rtol=1e-6)

  def test_plain_python(self):
    batch = cases.packed_batch(cases.SHORT)
    logits = cases.random_logits(cases.SHORT, batch)
    found = np.asarray(entropy(jnp.asarray(logits)))
    for place in np.ndindex(batch.targets.shape):
      q = cases.softmax(logits[place])
      np.testing.assert_allclose(found[place], -sum(x * math.log(x) for x in q), rtol=1e-4, atol=1e-5)

  def test_a_step_against_the_gradient_of_its_negative_lowers_the_largest_probability(self):
    logits = jnp.array([2.0, 1.0, 0.0, -1.0])
    pull = jax.grad(lambda x: -entropy(x))(logits)
    self.assertLess(cases.softmax(logits - 0.1 * pull).max(), cases.softmax(logits).max())

  def test_the_uniform_distribution_beats_certainty_from_weight_one_on(self):
    sure, even = jnp.array([40.0, 0.0, 0.0]), jnp.zeros(3)
    loss = lambda logits, weight: float(cross_entropy(logits, jnp.int32(0)) - weight * entropy(logits))
    self.assertLess(loss(sure, 0.99), loss(even, 0.99))
    self.assertGreater(loss(sure, 1.01), loss(even, 1.01))

  def test_validation(self):
    with self.assertRaisesRegex(ValueError, r"^objective\.entropy_weight=-1 .* at least 0$"):
      ConfidencePenalty(-1)


if __name__ == "__main__":
  absltest.main()
