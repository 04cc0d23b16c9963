"""ScaleGrad: by hand, against plain Python visit by visit, its optimum, and which targets it learns harder."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.remedies.scale_grad import ScaleGrad, scaled
from loopjax.star_graph.graph import StarGraph
from loopjax.training.step import cross_entropy
from tests.remedies import cases


def losses(task, batch, logits, gamma):
  """[B, R, L]."""
  loss = lambda x, gamma: cross_entropy(scaled(task, batch, x, gamma), batch.targets)
  return cases.jit(loss)(logits, jnp.float32(gamma))


def novel_targets(batch):
  """Every place of a walk, with its novel labels' complement: those that the walk has shown, visit by visit."""
  for walk in cases.walks_of(batch):
    for i, place in enumerate(walk):
      yield place, {int(batch.inputs[p][0]) for p in walk[: i + 1]}


class LossTest(parameterized.TestCase):
  def test_by_hand(self):
    """s r c1 s, five labels equally likely, gamma 1/2. At s the targets of weight 1/2 are four of five, and so on."""
    task = StarGraph(3, 1, max_steps=10)
    found = losses(task, cases.by_hand(task, [0, 1, 2, 0]), jnp.zeros((1, 1, 3, 5)), 0.5)
    # s is shown: 1 + 4/2 = 3, target r is novel. r: 2 + 3/2, c1 is novel. c1: 3 + 2/2, s is not.
    np.testing.assert_allclose(found[0, 0], [-math.log(0.5 / 3), -math.log(0.5 / 3.5), -math.log(1 / 4)], rtol=1e-6)

  @parameterized.product(task=(cases.SHORT, cases.LONG), gamma=(0.2, 0.8))
  def test_plain_python(self, task, gamma):
    batch = cases.packed_batch(task)
    logits = cases.random_logits(task, batch)
    found = np.asarray(losses(task, batch, logits, gamma))
    for place, shown in novel_targets(batch):
      q = [x * (1 if v in shown else gamma) for v, x in enumerate(cases.softmax(logits[place]))]
      np.testing.assert_allclose(found[place], -math.log(q[batch.targets[place]] / sum(q)), rtol=1e-4, atol=1e-5)

  def test_novel_targets_are_pushed_up_harder_and_shown_ones_less(self):
    task, batch = cases.SHORT, cases.packed_batch(cases.SHORT)
    logits = jnp.asarray(cases.random_logits(task, batch))
    loss = lambda x, gamma: jnp.sum(cross_entropy(scaled(task, batch, x, gamma), batch.targets))
    pull_at = cases.jit(jax.grad(loss))
    pull = {gamma: np.asarray(pull_at(logits, jnp.float32(gamma))) for gamma in (0.3, 1.0)}
    counts = {True: 0, False: 0}
    for place, shown in novel_targets(batch):
      target = batch.targets[place]
      stronger = pull[0.3][place][target] < pull[1.0][place][target]
      self.assertEqual(stronger, target not in shown)
      counts[bool(stronger)] += 1
    self.assertGreater(min(counts.values()), 10)

  def test_at_the_optimum_the_odds_of_novel_labels_are_multiplied(self):
    """The teacher says the shown label 0 and the novel label 1 with 1/2 each; the student's odds are then 1 to 4."""
    gamma, optimum = jnp.float32(0.25), jnp.log(jnp.array([0.2, 0.8]))
    seen = lambda x: x + jnp.array([0.0, 1.0]) * jnp.log(gamma)
    pull = jax.grad(lambda x: sum(0.5 * cross_entropy(seen(x), jnp.int32(target)) for target in (0, 1)))(optimum)
    np.testing.assert_allclose(pull, 0, atol=1e-6)

  def test_validation(self):
    with self.assertRaisesRegex(ValueError, r"^objective\.gamma=0 .* in \(0, 1\]$"):
      ScaleGrad(0)


if __name__ == "__main__":
  absltest.main()
