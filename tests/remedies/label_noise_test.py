"""Label noise: the share and the distribution of what is replaced; everything else stays as it is."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from absl.testing import absltest

from loopjax.models.transformer import Transformer
from loopjax.remedies.label_noise import LabelNoise
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import MaximumLikelihood, task_state
from loopjax.training.step import Training
from tests.models.students import random_params

TASK = StarGraph(num_chains=2, chain_length=2, max_steps=40, spare_labels=1)
MODEL = Transformer(num_layers=1, num_heads=1, width=4)
TRAINING = Training(streams_per_row=200)
SMALLEST_P = 1e-3  # keys are fixed: a test passes always or never


@functools.cache
def clean_row() -> encoding.Row:
  """Maximum likelihood's row of the key that `sample` draws with."""
  clean = MaximumLikelihood().build(TASK, MODEL, TRAINING)
  return jax.tree.map(np.asarray, jax.jit(clean.sample)(jax.random.key(0), task_state(TASK, TRAINING), ()))


@functools.cache
def jitted_sample():
  return jax.jit(LabelNoise().build(TASK, MODEL, TRAINING).sample)


def sample(share: float) -> encoding.Row:
  """A row with noise; one program for every share, which is traced."""
  state = task_state(TASK, TRAINING)
  return jax.tree.map(
    np.asarray, jitted_sample()(jax.random.key(0), state, LabelNoise(share).init(jax.random.key(0), TASK, TRAINING))
  )


class LabelNoiseTest(absltest.TestCase):
  def test_targets_alone_are_replaced_in_the_share_asked_for_by_uniform_labels(self):
    clean, noisy = clean_row(), sample(0.3)
    for name in set(clean._fields) - {"targets"}:
      np.testing.assert_array_equal(getattr(noisy, name), getattr(clean, name))
    # Counted from the clean target, so that all targets count alike: 0 is the target itself.
    offsets = ((noisy.targets - clean.targets) % TASK.vocabulary_size).ravel()
    counts = np.bincount(offsets, minlength=TASK.vocabulary_size)
    expected = np.full(TASK.vocabulary_size, 0.3 / TASK.vocabulary_size)
    expected[0] += 0.7
    self.assertGreater(scipy.stats.chisquare(counts, expected * counts.sum()).pvalue, SMALLEST_P)
    replaced = offsets != 0  # neighbours are replaced independently
    self.assertLess(abs(np.corrcoef(replaced[1:], replaced[:-1])[0, 1]), 4 / np.sqrt(replaced.size))

  def test_without_noise_nothing_changes_and_with_all_of_it_nothing_is_left(self):
    np.testing.assert_array_equal(sample(0.0).targets, clean_row().targets)
    share = np.mean(sample(1.0).targets != clean_row().targets)
    self.assertAlmostEqual(share, 1 - 1 / TASK.vocabulary_size, delta=0.02)

  def test_the_loss_is_the_clean_one_of_the_noisy_targets_and_the_share_is_carried(self):
    noisy, clean = (kind.build(TASK, MODEL, TRAINING) for kind in (LabelNoise(0.3), MaximumLikelihood()))
    batch = jax.tree.map(lambda field: jnp.asarray(field[None]), sample(0.3))
    params, key = random_params(MODEL, TASK), jax.random.key(1)
    found = jax.jit(noisy.loss)(params, batch, key, LabelNoise(0.3).init(jax.random.key(0), TASK, TRAINING))
    expected = jax.jit(clean.loss)(params, batch, key, ())
    np.testing.assert_array_equal(found[:2], expected[:2])
    self.assertEqual(found[2], np.float32(0.3))

  def test_one_objective_serves_every_share(self):
    builds = [LabelNoise(share).build(TASK, MODEL, TRAINING) for share in (0.0, 0.3)]
    self.assertIs(builds[0], builds[1])

  def test_a_share_that_is_none(self):
    with self.assertRaisesRegex(ValueError, r"^objective\.share=1\.5 .* in \[0, 1\]$"):
      LabelNoise(1.5)


if __name__ == "__main__":
  absltest.main()
