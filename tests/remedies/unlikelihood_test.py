"""Unlikelihood: by hand, against plain Python visit by visit, what it pushes where, and certainty."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.remedies import parts, unlikelihood
from loopjax.remedies.unlikelihood import Unlikelihood
from loopjax.star_graph import encoding
from loopjax.star_graph.graph import StarGraph
from tests.remedies import cases


def candidates_of(batch: encoding.Row):
  """For every place of a walk the labels that the walk has shown but for the target, visit by visit."""
  for walk in cases.walks_of(batch):
    for i, place in enumerate(walk):
      yield place, {int(batch.inputs[p][0]) for p in walk[: i + 1]} - {int(batch.targets[place])}


class PenaltyTest(parameterized.TestCase):
  def test_by_hand(self):
    """s r c1 s r, labels as nodes, all five labels equally likely: 1, 2, 2, 2 candidates with -log(4/5) each."""
    task = StarGraph(3, 1, max_steps=10)
    batch = cases.by_hand(task, [0, 1, 2, 0, 1])
    found = cases.jit(lambda x: unlikelihood.penalty(task, batch, x))(jnp.zeros((1, 1, 4, 5)))
    # At the first s: {s}. At r: {s, r}. At c1, target s: {r, c1}. At the second s, target r: {s, c1}.
    np.testing.assert_allclose(found[0, 0], -np.array([1, 2, 2, 2]) * math.log(0.8), rtol=1e-6)

  @parameterized.parameters(cases.SHORT, cases.LONG)
  def test_plain_python(self, task):
    batch = cases.packed_batch(task)
    logits = cases.random_logits(task, batch)
    found = np.asarray(cases.jit(lambda x: unlikelihood.penalty(task, batch, x))(logits))
    sizes = set()
    for place, candidates in candidates_of(batch):
      q = cases.softmax(logits[place])
      np.testing.assert_allclose(found[place], -sum(math.log(1 - q[c]) for c in candidates), rtol=1e-5, atol=1e-6)
      sizes.add(len(candidates))
    self.assertGreater(len(sizes), 2)

  def test_a_step_against_the_gradient_makes_shown_labels_unlikely_and_no_other(self):
    task, batch = cases.SHORT, cases.packed_batch(cases.SHORT)
    logits = cases.random_logits(task, batch)
    pull = np.asarray(cases.jit(jax.grad(lambda x: jnp.sum(unlikelihood.penalty(task, batch, x))))(logits))
    for place, candidates in candidates_of(batch):
      before, after = cases.softmax(logits[place]), cases.softmax(logits[place] - 1e-3 * pull[place])
      self.assertLess(sum(after[c] for c in candidates), sum(before[c] for c in candidates))
      others = [v for v in range(task.vocabulary_size) if v not in candidates]
      self.assertTrue((pull[place][others] <= 0).all())  # the target and new labels rise


class LogComplementTest(absltest.TestCase):
  def test_certainty(self):
    """q rounds to 1 in float32 from logits 20 apart on; log(1 - q) is log 2 - 40 here, and its gradient is finite."""
    logits = jnp.array([40.0, 0.0, 0.0])
    found, pull = cases.jit(jax.value_and_grad(lambda x: parts.log_complement(x)[0]))(logits)
    np.testing.assert_allclose(found, math.log(2) - 40, rtol=1e-6)
    np.testing.assert_allclose(pull, [-1, 0.5, 0.5], rtol=1e-6)
    each = cases.jit(jax.jacobian(parts.log_complement))(logits)
    self.assertTrue(np.isfinite(each).all())

  def test_plain_python(self):
    logits = 3 * np.random.default_rng(0).normal(size=(50, 6))
    expected = [np.log1p(-cases.softmax(one)) for one in logits]
    np.testing.assert_allclose(cases.jit(parts.log_complement)(logits.astype(np.float32)), expected, rtol=1e-4)


class ConfigTest(absltest.TestCase):
  def test_validation(self):
    with self.assertRaisesRegex(ValueError, r"^objective\.unlikelihood_weight=-1 .* at least 0$"):
      Unlikelihood(-1)


if __name__ == "__main__":
  absltest.main()
