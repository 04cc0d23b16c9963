"""Length against entropy: the curve of temperatures, and marks of other ways of being random."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from absl.testing import absltest

from loopjax import plotting
from tests.plotting.plotting_test import PlottingTestCase, labels

CURVE = "plain, from T = 0 to 1"


def entropy_frame() -> pd.DataFrame:
  keys = itertools.product(["base a", "base b"], ["plain", "seeded"], [1.0, 0.0, 0.5], range(4))
  frame = pd.DataFrame(keys, columns=["base", "condition", "temperature", "seed"])
  noise = 0.01 * np.random.default_rng(0).random(len(frame))
  return frame.assign(root_entropy=frame["temperature"] + noise, excess_length=2 - frame["temperature"] + noise)


class AgainstEntropyTest(PlottingTestCase):
  def test_means_over_seeds(self):
    frame = entropy_frame()
    axes = plotting.against_entropy(frame, "plain").axes[1]
    rows = frame[frame["base"] == "base b"]
    means = rows.groupby(["condition", "temperature"])[["root_entropy", "excess_length"]].mean()
    self.assert_line(axes, CURVE, *(means.loc["plain"][name] for name in ("root_entropy", "excess_length")))
    self.assert_line(axes, "seeded, T = 0", *([means.loc[("seeded", 0.0), name]] for name in means))
    self.assertNotIn("seeded, T = 1", labels(axes))

  def test_what_is_refused(self):
    frame = entropy_frame()
    with self.assertRaisesRegex(ValueError, "base a.*'plain'"):
      plotting.against_entropy(frame[frame["condition"] == "seeded"], "plain")
    with self.assertRaisesRegex(ValueError, "excess_length"):
      plotting.against_entropy(frame.drop(columns="excess_length"), "plain")
    one = frame[frame["condition"] == "plain"]
    many = pd.concat([one.assign(condition=name) for name in ["plain", *"abcdefgh"]])
    with self.assertRaisesRegex(ValueError, "^conditions="):
      plotting.against_entropy(many, "plain")


if __name__ == "__main__":
  absltest.main()
