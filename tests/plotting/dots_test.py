"""A dot per student, where its two measures are."""

from __future__ import annotations

import numpy as np
import pandas as pd
from absl.testing import absltest

from loopjax import plotting
from tests.plotting.plotting_test import PlottingTestCase, legend_texts

FRAME = pd.DataFrame({
  "condition": ["small"] * 3 + ["large"] * 3, "seed": [0, 1, 2] * 2, "root_kl": [0.2, 0.3, np.nan, 0.01, 0.02, 0.1],
  "locked_cycle_share": [0.9, 0.8, np.nan, 0.1, 0.0, 0.5],
})  # fmt: skip


class StudentDotsTest(PlottingTestCase):
  def test_every_student_is_a_dot(self):
    figure = plotting.student_dots(FRAME, "root_kl", "locked_cycle_share")
    (axes,) = figure.axes
    self.assert_line(axes, "large", [0.01, 0.02, 0.1], [0.1, 0.0, 0.5])
    self.assert_line(axes, "small (2 of 3 seeds)", [0.2, 0.3, np.nan], [0.9, 0.8, np.nan])
    self.assertEqual(axes.get_xlabel(), "nats from the teacher at r")
    self.assertContainsSubset(["large", "small (2 of 3 seeds)"], legend_texts(figure))

  def test_what_is_refused(self):
    with self.assertRaisesRegex(ValueError, "^measure='seed'"):
      plotting.student_dots(FRAME, "seed", "locked_cycle_share")
    with self.assertRaisesRegex(ValueError, "several rows of one condition, seed"):
      plotting.student_dots(pd.concat([FRAME, FRAME]), "root_kl", "locked_cycle_share")
    with self.assertRaisesRegex(ValueError, "^conditions="):
      plotting.student_dots(
        pd.concat([FRAME[:3].assign(condition=c) for c in "abcdefgh"]), "root_kl", "locked_cycle_share"
      )


if __name__ == "__main__":
  absltest.main()
