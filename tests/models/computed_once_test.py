"""Tests of what is computed once."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from loopjax.models.computed_once import computed_once


def double(x):
  return computed_once(x[0] >= 0, {"doubled": 2 * x})["doubled"]


class ComputedOnceTest(absltest.TestCase):
  def test_changes_nothing(self):
    x = jnp.arange(5)
    np.testing.assert_array_equal(double(x), 2 * x)
    np.testing.assert_array_equal(jax.jit(jax.vmap(double))(x[None]), 2 * x[None])

  def test_stays_in_the_compiled_program(self):
    # Were it optimised away, every reader would compute the tree again.
    program = jax.jit(lambda x: jnp.exp(double(x))).lower(jnp.arange(5)).compile().as_text()
    self.assertIn("conditional(", program)

  def test_lowers_to_a_barrier_where_no_conditional_is_needed(self):
    for platform in ("cuda", "tpu"):
      program = jax.export.export(jax.jit(double), platforms=[platform])(jnp.arange(5)).mlir_module()
      self.assertIn("optimization_barrier", program)
      self.assertNotIn("stablehlo.compare", program)  # nothing depends on the data


if __name__ == "__main__":
  absltest.main()
