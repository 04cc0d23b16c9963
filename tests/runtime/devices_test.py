from unittest import mock

import jax
from absl.testing import absltest

from loopjax.runtime import devices


class CompilerOptionsTest(absltest.TestCase):
  def test_options_that_this_compiler_does_not_have_are_left_out(self):
    known = devices.compiler_options(brief=True)
    self.assertContainsSubset({"xla_backend_optimization_level": 0}, known)
    gone = {"xla_an_option_of_yesterday": True}
    with mock.patch.object(devices, "_BRIEF_OPTIONS", devices._BRIEF_OPTIONS | gone):
      asked = devices.compiler_options(brief=True)
    self.assertEqual(asked, known)
    self.assertEqual(jax.jit(lambda x: x + 1, compiler_options=asked)(1), 2)


if __name__ == "__main__":
  absltest.main()
