"""Arrays of measures as tidy frames."""

from __future__ import annotations

import numpy as np
from absl.testing import absltest

from loopjax.star_graph import tidy


class FrameTest(absltest.TestCase):
  def test_a_row_for_each_place_and_nan_where_a_student_is_not_finite(self):
    values, counts = np.arange(12.0).reshape(2, 2, 3), np.arange(12).reshape(2, 2, 3)
    axes = {"temperature": [0.0, 1.0], "walks": ["a", "b"]}, {"lag": [1, 2, 3]}
    frame = tidy.frame(np.array([True, False]), {"value": values, "num_pairs": counts}, *axes)
    self.assertEqual(frame.columns.tolist(), ["row", "temperature", "walks", "lag", "value", "num_pairs"])
    self.assertEqual(frame.iloc[4].tolist(), [0, 1.0, "b", 2, 4.0, 4])
    self.assertTrue(frame["value"][6:].isna().all())
    self.assertEqual(frame["num_pairs"].tolist(), list(range(12)))

  def test_what_is_the_same_along_an_axis_is_repeated(self):
    frame = tidy.frame(np.array([True] * 2), {"value": [[1.0], [2.0]]}, {"lag": [1, 2, 3]})
    self.assertEqual(frame["value"].tolist(), [1, 1, 1, 2, 2, 2])


if __name__ == "__main__":
  absltest.main()
