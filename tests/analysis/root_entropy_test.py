"""The entropy of the first choice at r: by plain Python, and of learners whose law is known."""

from __future__ import annotations

import jax
import numpy as np
from absl.testing import absltest, parameterized
from scipy import stats

from loopjax.analysis import root_entropy
from loopjax.runtime import devices
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.null_worlds import Law, law_students
from loopjax.training.step import Training

TASK = StarGraph(num_chains=3, chain_length=1, max_steps=8, reset_prob=0.3, explore_prob=0.5)
TEMPERATURES = (0.0, 0.3, 1.0, 2.0)


class ChoiceTest(parameterized.TestCase):
  def test_plain_python(self):
    nodes = np.random.default_rng(0).dirichlet(np.ones(5), size=4)
    found = np.asarray(jax.jit(root_entropy.choice_entropy)(nodes, np.float32(TEMPERATURES)))
    for value, temperature in zip(found, TEMPERATURES, strict=True):
      if temperature == 0:
        laws = np.eye(5)[nodes.argmax(axis=1)]
      else:
        powers = nodes ** (1 / temperature)
        laws = powers / powers.sum(axis=1, keepdims=True)
      self.assertAlmostEqual(value, stats.entropy(laws.mean(axis=0)), places=5)

  @parameterized.parameters(0.0, 1.0)
  def test_columns_that_are_sure_of_different_nodes(self, temperature):
    found = root_entropy.choice_entropy(np.eye(4, dtype=np.float32), np.float32([temperature]))
    self.assertAlmostEqual(float(found[0]), np.log(4), places=5)


class StudentsTest(absltest.TestCase):
  def test_a_memoryless_learner(self):
    """Its law at r is known: p for s, and (1 - p)/n for each child."""
    students = law_students(
      Law("memoryless", loop_posterior=False), [TASK], Training(num_steps=1), [0, 1], devices.device_mesh()
    )
    found = root_entropy.evaluate_root_entropy(students, temperatures=TEMPERATURES, num_graphs=4, num_columns=2, seed=0)
    self.assertEqual(found["row"].tolist(), [0] * 4 + [1] * 4)
    law = np.array([0.3, 0.7 / 3, 0.7 / 3, 0.7 / 3])
    for temperature, rows in found.groupby("temperature"):
      exact = 0.0 if temperature == 0 else stats.entropy(law ** (1 / temperature))
      np.testing.assert_allclose(rows["root_entropy"], exact, atol=1e-3)  # ties are broken by errors of 1e-4 nats


if __name__ == "__main__":
  absltest.main()
