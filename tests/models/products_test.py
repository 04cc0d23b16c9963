"""Products with operands in a chosen type, and their gradients, against plain einsum."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.models.products import product
from tests.compiling import jit_well

DENSE, SCORES, MIXED = "...d,de->...e", "bhrlf,bhpf->bhrlp", "bhrlp,bhpf->bhrlf"


class ProductTest(parameterized.TestCase):
  def operands(self, subscripts):
    """Two operands and a cotangent."""
    shapes = {
      DENSE: ((2, 3, 5, 16), (16, 24), (2, 3, 5, 24)),
      SCORES: ((3, 2, 2, 5, 8), (3, 2, 7, 8), (3, 2, 2, 5, 7)),
      MIXED: ((3, 2, 2, 5, 7), (3, 2, 7, 8), (3, 2, 2, 5, 8)),
    }
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes[subscripts]]

  @parameterized.product(
    subscripts=(DENSE, SCORES, MIXED),
    accuracy=(("float32", 1e-6), ("bfloat16", 1e-2)),
    compile_with=(jax.jit, jit_well),  # XLA can compile a product and refuse it when it is run, by either alone
  )
  def test_product_and_gradients_as_those_of_the_plain_product(self, subscripts, accuracy, compile_with):
    dtype, within = accuracy
    x, y, cotangent = self.operands(subscripts)

    @functools.partial(compile_with, static_argnums=0)
    def evaluate(function, x, y, cotangent):
      result, pull = jax.vjp(function, x, y)
      return result, *pull(cotangent)

    found = evaluate(lambda x, y: product(subscripts, jnp.dtype(dtype), x, y), x, y, cotangent)
    expected = evaluate(lambda x, y: jnp.einsum(subscripts, x, y), x, y, cotangent)
    for name, a, b in zip(("product", "gradient of x", "gradient of y"), found, expected, strict=True):
      self.assertEqual((a.dtype, a.shape), (jnp.float32, b.shape))
      error = np.linalg.norm(a - b) / np.linalg.norm(b)
      print(f"{subscripts} {dtype}: relative error, {name}: {error:.1e}")
      self.assertLess(error, within, name)
      if dtype == "bfloat16":
        self.assertGreater(error, 1e-4, name)  # operands were rounded


if __name__ == "__main__":
  absltest.main()
