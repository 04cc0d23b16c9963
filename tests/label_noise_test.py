"""Label noise: the share and the distribution of what is replaced; everything else stays as it is."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from absl.testing import absltest

from loopjax import label_noise
from loopjax.star_graph import StarGraph
from loopjax.training import Objective
from tests.transformer_test import random_batch

TASK = StarGraph(num_chains=2, chain_length=2, max_steps=40, spare_labels=1)
SMALLEST_P = 1e-3  # keys are fixed: a test passes always or never


def clean_objective() -> Objective:
  """Always one row; its loss is the targets' sum, its extra counts the batches."""
  row = jax.tree.map(lambda field: field[0], random_batch(TASK, 1, 200))
  loss = lambda params, batch, key, extra: (jnp.sum(batch.targets), jnp.float32(1), extra + 1)
  return Objective(lambda key, extra: row, loss)


class LabelNoiseTest(absltest.TestCase):
  def sample(self, share: float):
    noisy = label_noise.with_label_noise(TASK, clean_objective())
    return jax.tree.map(np.asarray, noisy.sample(jax.random.key(0), label_noise.noisy_state(share, 0)))

  def test_targets_alone_are_replaced_in_the_share_asked_for_by_uniform_labels(self):
    clean = jax.tree.map(np.asarray, clean_objective().sample(None, None))
    self.assertTrue((clean.targets == 0).all())
    noisy = self.sample(0.3)
    for name in set(clean._fields) - {"targets"}:
      np.testing.assert_array_equal(getattr(noisy, name), getattr(clean, name))
    counts = np.bincount(noisy.targets.ravel(), minlength=TASK.vocabulary_size)
    expected = np.full(TASK.vocabulary_size, 0.3 / TASK.vocabulary_size)
    expected[0] += 0.7
    self.assertGreater(scipy.stats.chisquare(counts, expected * counts.sum()).pvalue, SMALLEST_P)
    replaced = (noisy.targets != 0).ravel()  # neighbours are replaced independently
    self.assertLess(abs(np.corrcoef(replaced[1:], replaced[:-1])[0, 1]), 4 / np.sqrt(replaced.size))

  def test_without_noise_nothing_changes_and_with_all_of_it_nothing_is_left(self):
    np.testing.assert_array_equal(self.sample(0.0).targets, clean_objective().sample(None, None).targets)
    share = np.mean(self.sample(1.0).targets != 0)
    self.assertAlmostEqual(share, 1 - 1 / TASK.vocabulary_size, delta=0.02)

  def test_the_loss_and_its_state_are_the_clean_ones(self):
    noisy = label_noise.with_label_noise(TASK, clean_objective())
    batch = jax.tree.map(lambda field: field[None], self.sample(0.3))
    total, weight, state = noisy.loss((), batch, jax.random.key(1), label_noise.noisy_state(0.3, 7))
    self.assertEqual((int(total), float(weight), state.clean), (batch.targets.sum(), 1, 8))

  def test_a_share_that_is_none(self):
    with self.assertRaisesRegex(ValueError, r"^share=1\.5 .* in \[0, 1\]$"):
      label_noise.noisy_state(1.5, ())


if __name__ == "__main__":
  absltest.main()
