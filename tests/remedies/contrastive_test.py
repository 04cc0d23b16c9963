"""The contrastive loss: by hand, against plain Python pair by pair, its gradient's sign, and what the head reads."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.models import transformer
from loopjax.models.transformer import Transformer
from loopjax.remedies import contrastive
from loopjax.remedies.contrastive import Contrastive
from loopjax.star_graph.graph import StarGraph
from tests.models.students import random_batch, random_params
from tests.remedies import cases


def cosine(a: np.ndarray, b: np.ndarray) -> float:
  return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


def random_hidden(batch) -> np.ndarray:
  """[B, R, L, 3], float32."""
  return np.random.default_rng(0).normal(size=(*batch.nodes.shape, 3)).astype(np.float32)


class PenaltyTest(parameterized.TestCase):
  def test_by_hand(self):
    """States (1, 0), (0, 2), (1, 1): cosines 0, 0.7071 and 0.7071; with margin 0.5 two pairs cost 0.2071 each."""
    batch = cases.by_hand(StarGraph(3, 1, max_steps=10), [0, 1, 2, 0])
    total, num_pairs = contrastive.penalty(batch, jnp.array([[[[1.0, 0], [0, 2], [1, 1]]]]), jnp.float32(0.5))
    np.testing.assert_allclose(total, 2 * (np.sqrt(0.5) - 0.5), rtol=1e-6)
    self.assertEqual(num_pairs, 3)

  @parameterized.product(task=(cases.SHORT, cases.LONG), margin=(0.5, 1.5))
  def test_plain_python(self, task, margin):
    batch = cases.packed_batch(task)
    hidden = random_hidden(batch)
    total, weight = 0.0, 0.0
    for walk in cases.walks_of(batch):
      for early, late in itertools.combinations(walk, 2):
        total += batch.weights[late] * max(0.0, margin - 1 + cosine(hidden[early], hidden[late]))
        weight += batch.weights[late]
    found = cases.jit(contrastive.penalty)(batch, hidden, jnp.float32(margin))
    np.testing.assert_allclose(found, [total, weight], rtol=1e-4)

  def test_a_step_against_the_gradient_turns_states_apart_and_zero_has_a_gradient(self):
    batch = cases.by_hand(StarGraph(3, 1, max_steps=10), [0, 1, 2])
    pull = jax.grad(lambda x: contrastive.penalty(batch, x, jnp.float32(0.5))[0])
    states = np.array([[1.0, 0.2], [1.0, -0.1]], np.float32)
    after = states - 0.1 * np.asarray(pull(states[None, None]))[0, 0]
    self.assertLess(cosine(*after), cosine(*states))
    self.assertTrue(np.isfinite(pull(jnp.zeros((1, 1, 2, 2)))).all())

  def test_the_head_makes_the_logits_from_the_hidden_states(self):
    model = Transformer(num_layers=1, num_heads=1, width=4)
    params = random_params(model, cases.SHORT)
    output = cases.jit(lambda x: transformer.apply(model, cases.SHORT, params, x))(random_batch(cases.SHORT, 2, 1))
    expected = output.hidden @ params["head"]["kernel"]
    np.testing.assert_allclose(output.logits, expected, rtol=1e-5, atol=1e-5)

  def test_validation(self):
    with self.assertRaisesRegex(ValueError, r"^objective\.contrastive_weight=-1 .* at least 0$"):
      Contrastive(-1)
    with self.assertRaisesRegex(ValueError, r"^objective\.margin=3 .* in \[0, 2\]"):
      Contrastive(1, 3)


if __name__ == "__main__":
  absltest.main()
