"""What programs take of memory, and the one line where it is too much."""

from __future__ import annotations

from unittest import mock

import jax
import jax.numpy as jnp
from absl.testing import absltest

from loopjax.runtime import memory


def compiled(size: int):
  x = jax.ShapeDtypeStruct((size, size), jnp.float32)
  return jax.jit(lambda x: jnp.sin(x @ x) @ x).lower(x).compile()


class MemoryTest(absltest.TestCase):
  def test_arguments_results_and_temporaries_count(self):
    matrix = 4 * 512**2
    self.assertBetween(memory.needed(compiled(512)), 3 * matrix, 5 * matrix)

  def test_donated_memory_counts_once(self):
    x = jax.ShapeDtypeStruct((512, 512), jnp.float32)
    program = jax.jit(lambda x: x + 1, donate_argnums=0).lower(x).compile()
    self.assertBetween(memory.needed(program), 4 * 512**2, 4 * 512**2 + 1000)

  def test_too_much_is_refused_with_the_advice(self):
    program = compiled(512)
    self.assertRegex(memory.estimate(program, "lower it"), r"^memory: 0\.00 GiB of \d+\.\d GiB on each device$")
    self.enterContext(mock.patch.object(memory, "available", return_value=1000))
    with self.assertRaisesRegex(ValueError, r"^memory: 0\.00 GiB of 0\.0 GiB on each device; lower it$"):
      memory.estimate(program, "lower it")

  def test_out_of_memory_becomes_one_line(self):
    message = "^a device ran out of memory; lower it$"
    with self.assertRaisesRegex(ValueError, message), memory.named_when_exhausted("lower it"):
      jnp.zeros(2**44).block_until_ready()

  def test_other_errors_pass(self):
    with self.assertRaisesRegex(jax.errors.JaxRuntimeError, "INTERNAL"), memory.named_when_exhausted("lower it"):
      raise jax.errors.JaxRuntimeError("INTERNAL: something else")


if __name__ == "__main__":
  absltest.main()
